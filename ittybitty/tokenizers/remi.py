"""PianoTokenizer: a performance <-> numbers for a language model, REMI with byte-pair encoding.

The vocabulary and its JSON are miditok's; the computation on arrays is done by grid.py (notes <-> base tokens) and bpe.py (base
tokens <-> ids), so that a whole corpus takes a minute and `ittybitty continue` need not import miditok (3 s).
Settings were chosen from a table of measured errors: tradeoffs.py and notebook 02.

[1] Huang and Yang 2020, Pop Music Transformer (REMI). [2] Fradet et al. 2023, BPE for Symbolic Music.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from ..config import nearest
from ..errors import ConfigError
from ..notes import Performance
from . import augment, bpe, grid, saved
from .grammar import Grammar
from .grid import BOS, EOS, Vocabulary
from .reader import Reader

SPECIALS = ("PAD", "BOS", "EOS")
LIBRARIES = ("miditok", "tokenizers", "symusic")

# What a base token represents, by its type: the bits of an id are divided among these.
SAYS = dict.fromkeys(("PAD", "BOS", "EOS"), "other")
SAYS |= dict.fromkeys(("Bar", "Position", "Tempo", "TimeSig"), "time") | dict.fromkeys(("Pedal", "PedalOff"), "pedal")
SAYS |= {"Pitch": "pitch", "Velocity": "velocity", "Duration": "duration"}


@dataclass(frozen=True)
class Settings:
    """What the tokens can say. `beat_res` lists (from beat, to beat, positions a beat) for durations; onsets use the finest.

    All fields are part of the content hash: one that is added must be left out of it where it has its default, or
    every tokenizer.json written before would be refused.
    """

    beat_res: tuple[tuple[int, int, int], ...] = ((0, 4, 24), (4, 12, 4))
    velocities: int = 32  # classes over 1..127
    pedal: bool = True
    tempos: bool = False
    time_signatures: bool = False

    def miditok(self) -> Any:
        """An untrained miditok.REMI of these settings."""
        from miditok import REMI, TokenizerConfig

        return REMI(
            TokenizerConfig(
                pitch_range=(21, 108),
                beat_res={(start, end): parts for start, end, parts in self.beat_res},
                num_velocities=self.velocities,
                special_tokens=list(SPECIALS),
                encode_ids_split="bar",
                use_rests=False,
                use_chords=False,
                use_programs=False,
                use_pitchdrum_tokens=False,
                use_sustain_pedals=self.pedal,
                use_tempos=self.tempos,
                use_time_signatures=self.time_signatures,
            )
        )


VARIANTS: dict[str, Settings] = {
    "remi": Settings(),
    # The published model card's: onsets 16 ms off, and a decoded piece drifts, because 120 beats a minute is not among
    # miditok's 32 tempos. Kept for the comparison.
    "remi-published": Settings(beat_res=((0, 4, 8), (4, 12, 4)), tempos=True, time_signatures=True),
}


class PianoTokenizer(saved.Saved):
    """REMI with pedal on a grid of 1/48 s, and byte-pair encoding once trained or loaded.

    >>> tokenizer = PianoTokenizer().load("tokenizer.json")
    >>> ids = tokenizer.encode(performance)          # [BOS … EOS], uint16
    >>> tokenizer.decode(ids)                        # a Performance in seconds
    """

    kind = "ittybitty tokenizer"
    pad_id, bos_id, eos_id = range(3)

    def __init__(self, variant: str | Settings = "remi"):
        """An untrained tokenizer of VARIANTS, or of settings of your own; ConfigError names the nearest for an unknown one."""
        if isinstance(variant, Settings):
            self.variant, self.settings = "own settings", variant
        elif variant in VARIANTS:
            self.variant, self.settings = variant, VARIANTS[variant]
        else:
            raise ConfigError(f"no tokenizer is called {variant!r}: {nearest(variant, VARIANTS)}")
        self._json: dict | None = None  # miditok's own, once there
        self._versions: dict | None = None  # of the libraries that made it
        self._vocabulary: Vocabulary | None = None
        self._merges: bpe.Merges | None = None

    # What it is

    @property
    def vocabulary(self) -> Vocabulary:
        """The base tokens."""
        if self._vocabulary is None:
            names = self.settings.miditok().vocab
            self._vocabulary = _vocabulary(names, self.settings)
        return self._vocabulary

    @property
    def merges(self) -> bpe.Merges:
        """The byte pairs; none before training."""
        if self._merges is None:
            base = [[i] for i in range(len(self.vocabulary.names))]
            self._merges = bpe.Merges(base, [], [], self.vocabulary.id("Bar_None"))
        return self._merges

    @property
    def vocab_size(self) -> int:
        """Ids in all, specials included."""
        return self.merges.size

    @property
    def keeps(self) -> tuple[str, ...]:
        """What of a performance its tokens keep."""
        return ("pitch", "onset", "duration", "velocity") + (("pedal",) if self.settings.pedal else ())

    @property
    def content_hash(self) -> str:
        """Of settings, vocabulary and merges: two tokenizers with the same hash write the same ids."""
        content = [
            dataclasses.asdict(self.settings),
            list(self.vocabulary.names),
            self.merges.pairs.tolist(),
            self.merges.results.tolist(),
        ]
        return saved.hash_of(content)

    @property
    def fingerprint(self) -> dict:
        """The settings, which with a corpus and a size decide the whole tokenizer."""
        return dataclasses.asdict(self.settings)

    @property
    def exact_clock(self) -> bool:
        """False where tempo tokens change the clock: then a decoded piece drifts away from the performance."""
        return not self.settings.tempos

    @property
    def notes_per_id(self) -> np.ndarray:
        """(V,) notes that begin in each id: its Pitch tokens."""
        starts = (self.vocabulary.types[self.merges.flat] == grid.PITCH).astype(np.int64)
        return np.add.reduceat(starts, self.merges.starts)

    def base_types(self, id: int) -> list[str]:
        """Type names of the base tokens that an id stands for."""
        return [grid.TYPES[t] for t in self.vocabulary.types[self.merges.spell(id)]]

    def attributes(self, id: int) -> list[str]:
        """What each of them represents: pitch, time, duration, velocity, pedal or other."""
        return [SAYS[kind] for kind in self.base_types(id)]

    def base_names(self, id: int) -> list[str]:
        """miditok's names of the base tokens that an id stands for, such as Pitch_60."""
        return [self.vocabulary.names[i] for i in self.merges.spell(id)]

    # Performances and ids

    def prepare(self, performance: Performance) -> Performance:
        """The performance unchanged: its encoding does not depend on the rest of the piece."""
        return performance

    def encode_base(self, performance: Performance) -> np.ndarray:
        """Base ids of a performance, without BOS and EOS."""
        ticks = grid.quantise(performance, self.vocabulary)
        return grid.to_tokens(ticks, self.vocabulary, self.settings.pedal, *self._constant_ids)

    @property
    def _constant_ids(self) -> tuple[int, int]:
        tempo = metre = -1
        if self.settings.tempos:
            tempos, ids = self.vocabulary.of_type(grid.TEMPO)
            # miditok compares microseconds a beat, not beats a minute
            tempo = int(ids[np.argmin(np.abs(60e6 / tempos - 500_000))])
        if self.settings.time_signatures:
            metre = self.vocabulary.id("TimeSig_4/4")
        return tempo, metre

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16 of a performance, [BOS … EOS] unless told otherwise."""
        ids = self.merges.merge(self.encode_base(performance))
        return np.concatenate([[BOS] * bos, ids, [EOS] * eos]).astype(np.uint16)

    def decode(self, ids: Iterable[int]) -> Performance:
        """The performance in seconds; specials are ignored, and a note cut off at the end is left out."""
        base = self.merges.expand(np.asarray(ids, np.int64))
        return grid.to_performance(base[base > EOS], self.vocabulary)

    def reader(self) -> Reader:
        """A reader of ids one at a time."""
        return Reader(self.vocabulary, self.merges.spell)

    def grammar(self, max_bars: int | None = 2) -> Grammar:
        """The rules for sampling: at most `max_bars` bar lines in a row (2 s each); None for no limit."""
        return Grammar(self.merges, self.vocabulary, max_bars)

    # Augmentation

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch among the notes of ids; None for no notes."""
        base = self.merges.expand(np.asarray(ids, np.int64))
        pitches = self.vocabulary.values[base[self.vocabulary.types[base] == grid.PITCH]]
        return (int(pitches.min()), int(pitches.max())) if len(pitches) else None

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music, transposed, velocities moved by classes, times multiplied by `stretch`.

        Of a whole piece or of a window; BOS and EOS stay at its ends. ValueError if a note would leave the keyboard.
        """
        base = self.merges.expand(np.asarray(ids, np.int64))
        body = augment.shift(base[base > EOS], self.vocabulary, semitones, velocity_steps)
        if stretch != 1.0:
            body = augment.stretch(body, self.vocabulary, stretch)
        before, after = base[:1][base[:1] == BOS], base[-1:][base[-1:] == EOS]
        return np.concatenate([before, self.merges.merge(body), after]).astype(np.uint16)

    # Learning, saving, loading

    def train(
        self, performances: Iterable[Performance], vocab_size: int = 2000, progress: bool = False
    ) -> PianoTokenizer:
        """Learn byte pairs until there are `vocab_size` ids (0: none); the same performances give the same ids. Returns itself."""
        if vocab_size == 0:
            return self
        miditok = self.settings.miditok()
        base_size = len(miditok.vocab)
        if not base_size < vocab_size <= 65_536:
            raise ConfigError(f"vocab_size is {vocab_size}: give more than {base_size} (base tokens) and at most 65536")
        self._vocabulary, self._merges, self._versions = _vocabulary(miditok.vocab, self.settings), None, None
        self.asked = vocab_size
        bar_id = self._vocabulary.id("Bar_None")
        words = (bpe.bars(self.encode_base(p), bar_id) for p in performances)
        model = bpe.learn(words, base_size, vocab_size, len(SPECIALS), progress)
        characters = {bpe.characters([i]): name for i, name in enumerate(self._vocabulary.names)}
        trained = {"_vocab_base": dict(miditok.vocab), "_model": model, "_vocab_base_byte_to_token": characters}
        self._json = json.loads(json.dumps(miditok.to_dict() | trained))  # as miditok itself saves a trained tokenizer
        self._merges = bpe.read_merges(model, base_size, bar_id)
        return self

    def document(self) -> dict:
        """Settings, library versions and miditok's own JSON."""
        if self._json is None:
            self._json = json.loads(json.dumps(self.settings.miditok().to_dict()))
        return {
            "settings": dataclasses.asdict(self.settings),
            "versions": self._versions or {name: version(name) for name in LIBRARIES},
            "names": list(self.vocabulary.names),
            "miditok": self._json,
        }

    @classmethod
    def from_document(cls, document: Mapping) -> PianoTokenizer:
        """The tokenizer that `document` wrote; miditok is not imported."""
        loaded = cls(_settings(document["settings"]))
        loaded.variant = document["variant"]
        loaded._json, loaded._versions = document["miditok"], document["versions"]
        loaded._vocabulary = Vocabulary(tuple(document["names"]), max(r for *_, r in loaded.settings.beat_res))
        if "_model" in loaded._json:
            base_size = len(loaded._vocabulary.names)
            loaded._merges = bpe.read_merges(loaded._json["_model"], base_size, loaded._vocabulary.id("Bar_None"))
        return loaded


def _vocabulary(names: dict[str, int], settings: Settings) -> Vocabulary:
    return Vocabulary(tuple(sorted(names, key=lambda name: names[name])), max(parts for *_, parts in settings.beat_res))


def _settings(values: dict) -> Settings:
    return Settings(**{**values, "beat_res": tuple(tuple(row) for row in values["beat_res"])})
