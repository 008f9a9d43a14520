"""What every tokenizer offers: the face that windows, training, generation and evaluation know, and all that they know.

A new kind of code is a class that keeps to `Tokenizer`, an entry in `VARIANTS` (tokenizers/__init__.py), and nothing else:
tests/test_tokenizer_protocol.py takes every name of VARIANTS through the same claims.

Left out: how a code spells its notes (its own module) and how it lies on disk (saved.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ..notes import Note, Performance

KEPT = ("pitch", "onset", "duration", "velocity", "pedal", "tempo")  # what `keeps` may name
ATTRIBUTES = ("pitch", "time", "duration", "velocity", "pedal", "other")  # what a base token may say


class Rules(Protocol):
    """Which ids may come next. States are values: advancing makes a new one and leaves the old one good."""

    def start(self, prompt_ids: Iterable[int] = ()) -> Hashable:
        """The state after a prompt, which is taken as it is: nothing in it is checked."""

    def mask(self, state) -> np.ndarray:
        """(V,) bool: True for each id that may come next; at least one until the end token, none after it."""

    def advance(self, state, id: int) -> Hashable:
        """The state after one more id."""


class NoteReader(Protocol):
    """Ids -> notes one id at a time, the same notes as `decode` gives.

    A code in which a note ends where it is no longer said gives it then, later than others that began after it; the end
    token gives all that still sounds.
    """

    @property
    def clock(self) -> float:
        """Second that the reading has come to: no later id gives a note before it."""

    def feed(self, id: int) -> list[Note]:
        """The notes that this id completes, in seconds from the beginning of the sequence."""


@runtime_checkable
class Tokenizer(Protocol):
    """A performance <-> ids below `vocab_size`; works untrained, and better once it has learnt from training pieces.

    `content_hash` decides what the ids mean: two tokenizers with the same hash write the same ids and read the same notes.
    """

    kind: str  # the class, as the saved JSON names it
    variant: str  # its name in VARIANTS
    pad_id: int
    bos_id: int
    eos_id: int
    asked: int | None  # the size that `train` was told, None for what is not learnt
    exact_clock: bool  # decoded seconds are the performance's own, up to the grid; otherwise a clock of the code's

    @property
    def vocab_size(self) -> int:
        """Ids in all, specials included."""

    @property
    def keeps(self) -> tuple[str, ...]:
        """What of a performance its tokens keep, out of KEPT."""

    @property
    def content_hash(self) -> str:
        """Of everything that decides what ids mean."""

    @property
    def fingerprint(self) -> object:
        """What decides the cache folder before training, as JSON has it: the settings, not what is learnt."""

    @property
    def notes_per_id(self) -> np.ndarray:
        """(V,) notes that each id begins; their sum over a sequence is the number of notes it decodes to."""

    def prepare(self, performance: Performance) -> Performance:
        """The performance with whatever `encode` must know of all of it (estimated beats, say), before it is cut."""

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16, [BOS … EOS] unless told otherwise."""

    def decode(self, ids: Iterable[int]) -> Performance:
        """The performance in seconds; specials are passed over, and a note cut off at the end is left out."""

    def reader(self) -> NoteReader:
        """A reader at the beginning of a sequence."""

    def grammar(self) -> Rules:
        """The rules for sampling."""

    def base_types(self, id: int) -> list[str]:
        """Type names of the base tokens that an id stands for."""

    def attributes(self, id: int) -> list[str]:
        """What each of those base tokens says, out of ATTRIBUTES: where the bits of an id go."""

    def train(self, performances: Iterable[Performance], vocab_size: int, progress: bool = False) -> Tokenizer:
        """Learn at most `vocab_size` ids (a code of fixed size learns nothing) and return itself; ConfigError for too few."""

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music transposed, louder, slower; what the code does not say is not changed."""

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch among the notes of ids; None for no notes."""

    def save(self, path: Path | str) -> None:
        """Write tokenizer.json, atomically."""

    def load(self, path: Path | str) -> Tokenizer:
        """Become the tokenizer saved at `path` and return itself; TokenizerError if it is damaged or of another kind."""
