"""REMI as the published V6 writes it [1]: without byte pairs, and with tokens for silence, chords and the tempo.

V6's 362 ids are miditok's [2] REMI with its own defaults and chords, rests and tempos: 89 Pitch, 64 Duration, 62 PitchDrum,
32 Velocity, 32 Position, 32 Rest, 32 Tempo, 14 Chord, Bar, and PAD, BOS, EOS, MASK. `remi-rests` has 288: no drums (62) and no
MASK, 88 keys for 89, and 22 tempos, 40 to 250 by tens, for 32. Among miditok's 32 there is no 120, and 120 is the clock of
every MAESTRO file: with them a decoded piece runs 0.8% too fast or slow. So here seconds stay seconds.

What these tokens represent: a Rest is written wherever no key is held. It repeats the information of the Position after it,
except for the bars that it passes. The only Tempo is that of the clock. A Chord is written only for a known chord in root
position whose notes are struck within one step and released within half a beat: at 1 of 230 instants of MAESTRO's validation
pieces. Decoding ignores chords.

Vocabulary, order and rules are miditok's, and a test compares the ids. Arrays make it twenty times as fast as miditok.

[1] Eight models, 34 million parameters: V6. [2] Fradet et al. 2021, MidiTok.

Left out: the sustain pedal, which V6 does not have either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...config import nearest
from ...errors import ConfigError
from ...notes import Performance
from .. import augment, grid, saved
from ..grid import BAR, BEATS_PER_BAR, BOS, EOS, PITCH, POSITION, REST, TEMPO, Ticks, Vocabulary
from ..reader import Reader
from .grammar import RestGrammar
from .tokens import CHORDS, lengths, rest_ids, to_tokens

SPECIALS = ("PAD", "BOS", "EOS")
SAYS = {"Bar": "time", "Position": "time", "Rest": "time", "Tempo": "time", "Pitch": "pitch", "Chord": "pitch"}
SAYS |= {"Velocity": "velocity", "Duration": "duration"}


@dataclass(frozen=True)
class Settings:
    """Grids as (from beat, to beat, parts a beat), of durations and rests; onsets use the finest."""

    beat_res: tuple[tuple[int, int, int], ...] = ((0, 4, 8), (4, 12, 4))
    beat_res_rest: tuple[tuple[int, int, int], ...] = ((0, 1, 8), (1, 2, 4), (2, 12, 2))
    velocities: int = 32  # classes over 1..127
    tempos: tuple[int, int, int] = (40, 250, 22)  # lowest, highest, how many


VARIANTS: dict[str, Settings] = {"remi-rests": Settings()}


class RestTokenizer(saved.Saved):
    """REMI with rests, chords and a tempo; an id is a base token, and there is nothing to learn."""

    kind = "ittybitty remi with rests"
    pad_id, bos_id, eos_id = range(3)
    exact_clock = True
    keeps = ("pitch", "onset", "duration", "velocity")

    def __init__(self, variant: str | Settings = "remi-rests"):
        """A tokenizer of VARIANTS, or of settings of your own; ConfigError for an unknown name."""
        if isinstance(variant, Settings):
            self.variant, self.settings = "own settings", variant
        elif variant in VARIANTS:
            self.variant, self.settings = variant, VARIANTS[variant]
        else:
            raise ConfigError(f"no REMI with rests is called {variant!r}: {nearest(variant, VARIANTS)}")

    # What it is

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids, by miditok's names and in its order."""
        settings = self.settings
        finest = max(parts for *_, parts in settings.beat_res)
        velocities = np.linspace(0, 127, settings.velocities + 1)[1:].astype(int)
        names = [f"{special}_None" for special in SPECIALS] + ["Bar_None"]
        names += [f"Pitch_{p}" for p in range(21, 109)] + [f"Velocity_{v}" for v in velocities]
        names += [f"Duration_{d}" for d in lengths(settings.beat_res)] + [
            f"Position_{p}" for p in range(BEATS_PER_BAR * finest)
        ]
        names += [f"Chord_{c}" for c in CHORDS] + [f"Rest_{r}" for r in lengths(settings.beat_res_rest)]
        names += [f"Tempo_{t}" for t in np.linspace(*settings.tempos).round(2)]
        return Vocabulary(tuple(names), finest)

    @property
    def vocab_size(self) -> int:
        """Ids in all, specials included."""
        return len(self.vocabulary.names)

    @property
    def content_hash(self) -> str:
        """Of settings and names."""
        return saved.hash_of([self.kind, self.fingerprint, list(self.vocabulary.names)])

    @property
    def fingerprint(self) -> dict:
        """The settings."""
        return dataclasses.asdict(self.settings)

    @property
    def notes_per_id(self) -> np.ndarray:
        """(V,) 1 for a Pitch, else 0."""
        return (self.vocabulary.types == PITCH).astype(np.int64)

    def base_types(self, id: int) -> list[str]:
        """The type of an id, as a list of one."""
        return [grid.TYPES[self.vocabulary.types[id]]]

    def base_names(self, id: int) -> list[str]:
        """miditok's name of an id, such as Rest_1.0.8, as a list of one."""
        return [self.vocabulary.names[id]]

    def attributes(self, id: int) -> list[str]:
        """What it represents: pitch (chords too), time (rests and the tempo too), duration, velocity or other."""
        return [SAYS.get(kind, "other") for kind in self.base_types(id)]

    # Performances and ids

    def prepare(self, performance: Performance) -> Performance:
        """The performance as it is."""
        return performance

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16 of a performance, [BOS … EOS] unless told otherwise."""
        ids = to_tokens(grid.quantise(performance, self.vocabulary), self.vocabulary, self._rests, whole=True)
        return np.concatenate([[BOS] * bos, ids, [EOS] * eos]).astype(np.uint16)

    def decode(self, ids: Iterable[int]) -> Performance:
        """The notes in seconds; specials and chords are ignored, and a note cut off at the end is left out."""
        reader = self.reader()
        return Performance.of(note for id in np.asarray(ids, np.int64).tolist() for note in reader.feed(id))

    def reader(self) -> Reader:
        """A reader of ids one at a time."""
        return Reader(self.vocabulary)

    def grammar(self, max_bars: int | None = 2) -> RestGrammar:
        """The rules for sampling: at most `max_bars` bars of rest in a row (2 s each); None for no limit."""
        return RestGrammar(self.vocabulary, max_bars)

    @cached_property
    def _rests(self) -> list[list[int]]:
        """Ids of the rests that make up 0, 1, … ticks, to below the longest."""
        values, ids = self.vocabulary.of_type(REST)
        table: list[list[int]] = [[]]
        for gap in range(1, int(values[-1])):
            last = int(np.searchsorted(values, gap, side="right")) - 1  # the longest that fits, as miditok takes them
            table.append([int(ids[last]), *table[gap - int(values[last])]])
        return table

    # Augmentation

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch among the notes of ids; None for no notes."""
        ids = np.asarray(ids, np.int64)
        pitches = self.vocabulary.values[ids[self.vocabulary.types[ids] == PITCH]]
        return (int(pitches.min()), int(pitches.max())) if len(pitches) else None

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music, transposed, velocities moved by classes, times multiplied by `stretch`.

        Of a whole piece or of a window; BOS and EOS stay at its ends. ValueError if a note would leave the keyboard.
        """
        ids = np.asarray(ids, np.int64)
        body = augment.shift(ids[ids > EOS], self.vocabulary, semitones, velocity_steps)
        if stretch != 1.0:
            body = self._stretched(body, stretch)
        before, after = ids[:1][ids[:1] == BOS], ids[-1:][ids[-1:] == EOS]
        return np.concatenate([before, body, after]).astype(np.uint16)

    def _stretched(self, base: np.ndarray, factor: float) -> np.ndarray:
        """Up to the first position of a cut window time is unknown: durations and rests there are made longer by themselves."""
        types, values = self.vocabulary.types[base], self.vocabulary.values[base]
        first = np.flatnonzero((types == BAR) | (types == POSITION))
        head, body = np.split(base, [first[0] if len(first) else len(base)])
        start = augment.longer(head[self.vocabulary.types[head] != REST], self.vocabulary, factor)
        silence = int(np.floor(values[: len(head)][types[: len(head)] == REST].sum() * factor + 0.5))
        reader, notes = self.reader(), []
        for id in body.tolist():
            notes += reader.feed(id)
        rate = self.vocabulary.ticks_per_second
        onset, duration, pitch, velocity = (np.array([note[k] for note in notes]) for k in range(4))
        onset, duration = (np.floor(a * rate * factor + 0.5).astype(np.int64) for a in (onset, duration))
        onset, duration, pitch, velocity = grid.one_strike(
            onset, np.maximum(duration, 1), pitch.astype(np.int64), velocity.astype(np.int64)
        )
        none = np.empty(0, np.int64)
        whole = bool((self.vocabulary.types[body] == TEMPO).any())
        rest = to_tokens(Ticks(onset, duration, pitch, velocity, none, none), self.vocabulary, self._rests, whole)
        if len(body) and self.vocabulary.types[body[0]] == POSITION:  # cut within a bar, whose line is not ours
            rest = rest[1:]
        return np.concatenate([start, rest_ids(silence, self._rests, self.vocabulary), rest]).astype(np.int64)

    # Saving and loading

    def train(self, performances: Iterable[Performance], vocab_size: int = 0, progress: bool = False) -> RestTokenizer:
        """Itself: the vocabulary is fixed, whatever size is asked for, and no piece is read."""
        return self

    def document(self) -> dict:
        """Settings and names."""
        return {"settings": self.fingerprint, "names": list(self.vocabulary.names)}

    @classmethod
    def from_document(cls, document: Mapping) -> RestTokenizer:
        """The tokenizer that `document` wrote; a ValueError if its names are not those of its settings."""
        rows: dict[str, Any] = {
            key: value if key == "velocities" else tuple(map(_tuple, value))
            for key, value in document["settings"].items()
        }
        loaded = cls(Settings(**rows))
        loaded.variant = document["variant"]
        if list(loaded.vocabulary.names) != document["names"]:
            raise ValueError("its names are not those of its settings")
        return loaded


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value
