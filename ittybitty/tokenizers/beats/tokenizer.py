"""BeatTokenizer: a performance with beats <-> the 4,789 ids of the beat encoding, with or without velocity.

    tokenizer = BeatTokenizer("beat-velocity")
    ids = tokenizer.encode(performance)              # its beats, or estimated ones
    tokenizer.decode(ids)                            # a Performance with beats, at the tempo of each
    print(tokenizer.readable(ids[:40]))

Codebook and velocity network are those that ship with the package (learnt on ASAP's training split) unless others are
given; both are written into tokenizer.json, so that a run folder needs nothing else.

Decoding takes the time from the tempo tokens: a beat lasts as long as the middle of its 10-BPM bin gives. So a decoded piece keeps
every note on its beat and drifts away from the seconds of the performance (`exact_clock` is False).

Left out: learning the codebook, which `ittybitty beats` does, and the pedal, which the published encoding does not have.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import paths
from ...config import nearest
from ...errors import ConfigError
from ...notes import HIGHEST_PITCH, LOWEST_PITCH, Performance
from .. import saved
from . import vocabulary as v
from .codebook import MOST_IDS, Codebook
from .estimate import estimate_beats
from .grammar import USUAL_VELOCITY, Grammar, Reader
from .grid import FRAMES, SILENT, STRUCK, Cells, on_beats, to_cells

if TYPE_CHECKING:
    from ..protocol import Tokenizer
    from .velocity import VelocityVQ

VELOCITY_STEP = 4  # MIDI steps that augmentation moves velocity by, as REMI's 32 classes do


@dataclass(frozen=True)
class Settings:
    """What the sequences contain besides patterns."""

    velocity: bool = False  # a velocity code after each cell's patterns
    escape: bool = False  # patterns that no code is exact for are spelt out, in ids that are reserved otherwise


VARIANTS: dict[str, Settings] = {
    "beat-base": Settings(),
    "beat-velocity": Settings(velocity=True),
}


def shipped(name: str) -> Path:
    """A file of the beat encoding that comes with the package: codebook.npz or velocity.safetensors."""
    return paths.pretrained_dir() / "beats" / name


@functools.cache
def _shipped_codebook() -> Codebook:
    return Codebook.load(shipped("codebook.npz"))


@functools.cache
def _shipped_velocity():
    from .velocity import VelocityVQ

    return VelocityVQ.read(shipped("velocity.safetensors"))


class BeatTokenizer(saved.Saved):
    """The tokenizer of the beat encoding. `codebook` and `velocity` (a VelocityVQ) replace the shipped ones."""

    kind = "ittybitty beat tokenizer"
    pad_id, bos_id, eos_id = v.PAD, v.BOS, v.EOS
    vocab_size = v.SIZE
    exact_clock = False

    def __init__(
        self,
        variant: str | Settings = "beat-base",
        codebook: Codebook | None = None,
        velocity: VelocityVQ | None = None,
    ):
        """ConfigError names the nearest for an unknown variant."""
        if isinstance(variant, Settings):
            named = [name for name, settings in VARIANTS.items() if settings == variant]
            self.variant, self.settings = named[0] if named else "own settings", variant
        elif variant in VARIANTS:
            self.variant, self.settings = variant, VARIANTS[variant]
        else:
            raise ConfigError(f"no tokenizer is called {variant!r}: {nearest(variant, VARIANTS)}")
        self.codebook = codebook or _shipped_codebook()
        self._velocity = velocity

    # What it is

    @property
    def velocity(self) -> VelocityVQ:
        """The VelocityVQ, read when it is first needed: it takes torch."""
        if self._velocity is None:
            self._velocity = _shipped_velocity()
        return self._velocity

    @property
    def keeps(self) -> tuple[str, ...]:
        """What of a performance its tokens keep; onsets and durations within their beats, tempo in bins."""
        return ("pitch", "onset", "duration", *(("velocity",) if self.settings.velocity else ()), "tempo")

    @functools.cached_property
    def content_hash(self) -> str:
        """Of settings, codebook and, where it is used, velocity code."""
        return saved.hash_of(self.fingerprint)

    @property
    def fingerprint(self) -> list:
        """The same as text: nothing is learnt when a corpus is tokenized."""
        return [
            dataclasses.asdict(self.settings),
            self.codebook.content_hash,
            self.velocity.content_hash if self.settings.velocity else "",
        ]

    @property
    def extends(self) -> tuple[str, ...]:
        """Hashes of tokenizers whose ids all mean the same here, so that weights trained with them can be trained further."""
        without = dataclasses.replace(self.settings, velocity=False)
        return (BeatTokenizer(without, self.codebook).content_hash,) if self.settings.velocity else ()

    def grown_from(self, other: Tokenizer) -> BeatTokenizer:
        """This variant with the codebook of `other`: the tokenizer of a run that starts from other's weights."""
        if not isinstance(other, BeatTokenizer):
            raise ConfigError(
                f"{self.variant} cannot start from weights for {other.variant}: start from a run of beat-base"
            )
        return BeatTokenizer(self.settings, other.codebook, self._velocity or other._velocity)

    @functools.cached_property
    def notes_per_id(self) -> np.ndarray:
        """(4789,) strikes in each pattern code or escape."""
        counts = np.zeros(v.SIZE, np.int64)
        for offset, book in zip((v.L1, v.L2, v.L3), self.codebook.levels):
            counts[offset : offset + len(book)] = (book == STRUCK).sum(1)
        escapes = v.escaped_states(np.arange(v.ESCAPE, v.ESCAPE + v.ESCAPES))
        counts[v.ESCAPE : v.ESCAPE + v.ESCAPES] = (escapes == STRUCK).sum(1)
        return counts

    def base_types(self, id: int) -> list[str]:
        """The type of an id, alone in a list: nothing is merged."""
        return [v.TYPES[v.TYPE_OF[id]]]

    def attributes(self, id: int) -> list[str]:
        """What it represents; a pattern has the time within its beat and the length, and is counted as duration."""
        return [v.SAYS.get(kind, "other") for kind in self.base_types(id)]

    def readable(self, ids: Iterable[int]) -> str:
        """A sequence as text, one beat a line: its tempo, then each pitch with its pattern (x struck, - held, . silent)."""
        words = []
        for id in map(int, ids):
            kind = v.TYPES[v.TYPE_OF[id]]
            if kind in ("L1", "L2", "L3", "Escape"):
                words.append(f"{v.name(id)}[{v.picture(self.codebook.part(id))}]")
            else:
                words.append(
                    ("\n" if kind in ("Tempo", "EOS", "BOS") else "\n  " if kind == "Pitch" else "") + v.name(id)
                )
        return " ".join(words).replace(" \n", "\n").strip("\n")

    # Performances and ids

    def prepare(self, performance: Performance) -> Performance:
        """The performance with beats: its own where it has them, else estimated ones."""
        if performance.beats is not None or not len(performance):
            return performance
        return dataclasses.replace(performance, beats=estimate_beats(performance))

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16, [BOS … EOS] unless told otherwise; TokenizerError for beats that are not in order."""
        keys = performance.notes["pitch"]
        notes = performance.notes[(keys >= LOWEST_PITCH) & (keys <= HIGHEST_PITCH)]
        cells = to_cells(self.prepare(dataclasses.replace(performance, notes=notes)))
        return np.concatenate([[v.BOS] * bos, self.encode_cells(cells)[0], [v.EOS] * eos]).astype(np.uint16)

    def encode_cells(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """(ids without BOS and EOS, (n,) bool: whether the patterns of each cell are exact)."""
        parts, exact = self.codebook.encode(cells.states, self.settings.escape)
        columns = [(v.PITCH + cells.pitch)[:, None], parts]
        if self.settings.velocity and len(cells):
            rows, inverse = np.unique(cells.velocity, axis=0, return_inverse=True)
            columns.append(v.VELOCITY + self.velocity.codes(rows)[inverse.ravel()][:, None])
        table = np.concatenate(columns, 1)
        tempos = np.full((len(cells.times) - 1, table.shape[1]), -1)
        tempos[:, 0] = v.tempo_bins(cells.tempos)
        place = np.concatenate([np.arange(len(tempos)), cells.beat])  # a beat's tempo stands before its cells
        rows = np.concatenate([tempos, table])[np.argsort(place, kind="stable")]
        return rows[rows >= 0], exact

    def decode(self, ids: Iterable[int]) -> Performance:
        """The performance at the tempo of each beat, with its beats; what still sounds at the end is released there."""
        return on_beats(self.decode_cells(ids))

    def decode_cells(self, ids: Iterable[int]) -> Cells:
        """The cells that ids say; those before the first beat (the beginning of a cut) are left out."""
        beat, pitch, codes, tempos = [], [], [], []
        parts: list[list[int]] = []
        pitch_open = False  # whether patterns belong to a pitch of this beat
        for id in np.asarray(list(ids), np.int64).tolist():
            kind = v.TYPES[v.TYPE_OF[id]]
            if kind == "Tempo":
                tempos.append(id)
                pitch_open = False
            elif kind == "Pitch" and tempos:
                beat.append(len(tempos) - 1)
                pitch.append(id - v.PITCH)
                parts.append([])
                codes.append(-1)
                pitch_open = True
            elif kind == "Velocity" and tempos and pitch_open:
                codes[-1] = id - v.VELOCITY
            elif kind in ("L1", "L2", "L3", "Escape") and tempos and pitch_open:
                parts[-1].append(id)
        states, velocity = self.cell_content(parts, codes)
        times = np.concatenate([np.zeros(1), np.cumsum(v.seconds_of(np.array(tempos, int)))])
        last = {
            place: row for row, place in enumerate(zip(beat, pitch))
        }  # if a key is written twice in a beat, the last one counts
        rows = np.array([row for row in last.values() if parts[row]], int)
        rows = rows[np.lexsort((np.array(pitch)[rows], np.array(beat)[rows]))] if len(rows) else rows
        return Cells(np.array(beat, int)[rows], np.array(pitch, int)[rows], states[rows], velocity[rows], times)

    def cell_content(self, parts: list[list[int]], codes: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """States and velocities, both (n, 48) uint8, of cells' pattern ids and velocity codes (-1: none, so 64)."""
        states = np.array([self.codebook.pattern(row[:MOST_IDS]) for row in parts], np.uint8).reshape(-1, FRAMES)
        velocity = np.where(states != SILENT, USUAL_VELOCITY, 0).astype(np.uint8)
        said = np.flatnonzero(np.array(codes, int) >= 0)
        if self.settings.velocity and len(said):
            velocity[said] = np.rint(self.velocity.velocities(np.array(codes)[said], states[said] != SILENT))
        return states, velocity

    def grammar(self, max_empty: int | None = 16) -> Grammar:
        """The rules for sampling: at most `max_empty` beats without a note in a row."""
        return Grammar(self.codebook, self.settings.velocity, self.settings.escape, max_empty)

    def reader(self) -> Reader:
        """A reader that gives notes beat by beat."""
        return Reader(self)

    # Augmentation

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch among the cells of ids; None for none."""
        ids = np.asarray(ids, np.int64)
        pitches = ids[v.TYPE_OF[ids] == v.OF["Pitch"]] - v.PITCH
        return (int(pitches.min()), int(pitches.max())) if len(pitches) else None

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music: pitches moved, velocities moved by `velocity_steps` of 4, tempos divided by `stretch`.

        ValueError if a note would leave the keyboard. Velocity codes whose patterns are cut off stay as they are.
        """
        ids = np.array(ids, np.int64)
        kinds = v.TYPE_OF[ids]
        here = kinds == v.OF["Pitch"]
        moved = ids[here] - v.PITCH + semitones
        if len(moved) and semitones and not (moved.min() >= LOWEST_PITCH and moved.max() <= HIGHEST_PITCH):
            raise ValueError(f"a shift by {semitones} semitones leaves the keyboard: keep within pitch_range(ids)")
        ids[here] += semitones
        here = kinds == v.OF["Tempo"]
        if stretch != 1.0:
            ids[here] = v.tempo_bins(60 / v.seconds_of(ids[here]) / stretch)
        if velocity_steps and self.settings.velocity:
            self._louder(ids, kinds, velocity_steps * VELOCITY_STEP)
        return ids.astype(np.uint16)

    def _louder(self, ids: np.ndarray, kinds: np.ndarray, steps: int) -> None:
        starts = np.flatnonzero(kinds == v.OF["Pitch"])
        ends = [i for i in np.flatnonzero(kinds == v.OF["Velocity"]).tolist() if (starts < i).any()]
        if not ends:
            return
        begins = starts[np.searchsorted(starts, ends) - 1]
        parts = [ids[a + 1 : b].tolist() for a, b in zip(begins, ends)]
        _, rows = self.cell_content(parts, (ids[ends] - v.VELOCITY).tolist())
        sounding = rows > 0
        ids[ends] = v.VELOCITY + self.velocity.codes(
            np.where(sounding, np.clip(rows.astype(int) + steps, 1, 127), 0).astype(np.uint8)
        )

    # Saving and loading

    def train(
        self, performances: Iterable[Performance], vocab_size: int = v.SIZE, progress: bool = False
    ) -> BeatTokenizer:
        """Itself: the vocabulary has a fixed size, and `ittybitty beats codebook|velocity` make another one."""
        return self

    def unscored(self, ids: np.ndarray) -> np.ndarray:
        """(L,) bool: the velocity ids, which are not scored in a piece whose notes all have one velocity (label -100)."""
        return v.TYPE_OF[np.asarray(ids, np.int64)] == v.OF["Velocity"]

    def document(self) -> dict:
        """Settings, codebook as text, and the velocity code's safetensors in base64 where it is used."""
        levels = [["".join(map(str, row)) for row in book.tolist()] for book in self.codebook.levels]
        velocity = base64.b64encode(self.velocity.to_bytes()).decode() if self.settings.velocity else None
        return {
            "settings": dataclasses.asdict(self.settings),
            "levels": levels,
            "source": self.codebook.source,
            "velocity": velocity,
        }

    @classmethod
    def from_document(cls, document: Mapping) -> BeatTokenizer:
        """The tokenizer that `document` wrote."""
        settings = Settings(**document["settings"])
        levels = tuple(np.array([list(map(int, row)) for row in book], np.uint8) for book in document["levels"])
        codebook = Codebook(levels, dict(document["source"]))
        if not settings.velocity:
            return cls(settings, codebook)
        from .velocity import VelocityVQ

        return cls(settings, codebook, VelocityVQ.from_bytes(base64.b64decode(document["velocity"])))
