"""The interface of a tokenizer: windows, training, generation and evaluation use these members and no others.

To add an encoding, write a class with the members of `Tokenizer` and enter its variants in tokenizers/__init__.py:
tests/tokenizers/test_tokenizer_protocol.py takes every name of VARIANTS through the same claims. The base class `Saved`
(saved.py) has defaults for what most tokenizers do not need.

Left out: how an encoding represents notes (its own module), and its file (saved.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..notes import Note, Performance

KEPT = ("pitch", "onset", "duration", "velocity", "pedal", "tempo")  # what `Tokenizer.keeps` may name
ATTRIBUTES = ("pitch", "time", "duration", "velocity", "pedal", "other")  # what a base token may represent


class Rules(Protocol):
    """A grammar: which ids may come next. A state is a value; `advance` returns a new one and does not change the old one."""

    def start(self, prompt_ids: Iterable[int] = ()) -> Any:
        """The state after a prompt. The prompt is not checked."""

    def mask(self, state: Any) -> np.ndarray:
        """(V,) bool: True for each id that may come next; at least one until the end token, none after it."""

    def advance(self, state: Any, id: int) -> Any:
        """The state after one more id."""

    def complete(self, state: Any) -> bool:
        """Whether a sequence can be cut here without losing an id; False if the rules cannot tell."""


class GrammarBase(ABC):
    """Base class of grammars whose state after a prompt is found by advancing id by id from the state `first`."""

    first: Any

    def start(self, prompt_ids: Iterable[int] = ()) -> Any:
        """The state after a prompt. The prompt is not checked."""
        state = self.first
        for id in prompt_ids:
            state = self.advance(state, int(id))
        return state

    @abstractmethod
    def advance(self, state: Any, id: int) -> Any:
        """The state after one more id."""

    def complete(self, state: Any) -> bool:
        """False: these rules do not tell whether a sequence can be cut."""
        return False


class NoteReader(Protocol):
    """Reads notes from ids, one id at a time; they are the same notes that `decode` returns.

    In an encoding without durations a note is returned when it ends, perhaps after notes that began later. The end token
    returns all notes that still sound.
    """

    @property
    def clock(self) -> float:
        """The second that was read up to: no later id returns a note that begins before it."""

    def feed(self, id: int) -> list[Note]:
        """The notes that this id completes, in seconds from the beginning of the sequence."""


@runtime_checkable
class Tokenizer(Protocol):
    """Converts performances to ids below `vocab_size` and back. It works untrained, and compresses better when trained.

    `content_hash` decides what the ids mean: two tokenizers with the same hash write the same ids and read the same notes.
    """

    kind: str  # the class, as the saved JSON names it
    variant: str  # its name in VARIANTS
    pad_id: int
    bos_id: int
    eos_id: int
    asked: int | None  # the size that was asked of `train`; None if nothing is learnt
    ids_per_event: int  # windows begin at a multiple of it; 1 unless an event always has several ids
    exact_clock: (
        bool  # decoded seconds are the performance's own, up to the grid; otherwise those of the encoding's own clock
    )

    @property
    def vocab_size(self) -> int:
        """Ids in all, specials included."""

    @property
    def keeps(self) -> tuple[str, ...]:
        """Which parts of a performance the ids keep, out of KEPT."""

    @property
    def content_hash(self) -> str:
        """Hash of everything that decides what the ids mean."""

    @property
    def extends(self) -> tuple[str, ...]:
        """Content hashes of other tokenizers whose ids mean the same here, so that their weights can be trained further."""

    @property
    def fingerprint(self) -> object:
        """What decides the cache folder before training, as JSON has it: the settings, not what is learnt."""

    @property
    def notes_per_id(self) -> np.ndarray:
        """(V,) notes that each id begins; their sum over a sequence is the number of notes it decodes to."""

    def prepare(self, performance: Performance) -> Performance:
        """The performance with what `encode` needs from all of it (estimated beats, for example), before it is cut."""

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16, [BOS … EOS] unless told otherwise."""

    def decode(self, ids: Iterable[int]) -> Performance:
        """The performance in seconds; specials are skipped, and a note cut off at the end is left out."""

    def reader(self) -> NoteReader:
        """A reader at the beginning of a sequence."""

    def grammar(self) -> Rules:
        """The rules for sampling."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Classes of each part of an event, for a model with one step per event; empty if its steps are single ids."""

    def base_names(self, id: int) -> list[str]:
        """Names of the base tokens that an id stands for; the id's own number for those that have no name."""

    def base_types(self, id: int) -> list[str]:
        """Type names of the base tokens that an id stands for."""

    def attributes(self, id: int) -> list[str]:
        """What each of those base tokens represents, out of ATTRIBUTES: the bits of an id are divided among these."""

    def train(self, performances: Iterable[Performance], vocab_size: int, progress: bool = False) -> Tokenizer:
        """Learn at most `vocab_size` ids (an encoding of fixed size learns nothing) and return itself; ConfigError for too few."""

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music transposed, louder, slower; what the encoding does not represent is not changed."""

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch among the notes of ids; None for no notes."""

    def unscored(self, ids: np.ndarray) -> np.ndarray | None:
        """(L,) bool: ids that are not scored, because all notes of the piece have one velocity (an engraved score); None if there are none."""

    def grown_from(self, other: Tokenizer) -> Tokenizer | None:
        """This tokenizer with what `other` has learnt, if its ids then mean the same as `other`'s; None otherwise."""

    def save(self, path: Path | str) -> None:
        """Write tokenizer.json, atomically."""

    def load(self, path: Path | str) -> Tokenizer:
        """Become the tokenizer saved at `path` and return itself; TokenizerError if it is damaged or of another kind."""
