"""Piece and Corpus: the common interface of MAESTRO, ASAP, the embedded corpus and a folder of MIDI files.

A split consists of whole pieces, never of windows, so that no part of an evaluated piece is in the training set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UNREADABLE, CorpusError
from ..midi import read_midi
from ..notes import Performance

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Piece:
    """One performance: what it is, which split it belongs to, and how to load it."""

    name: str  # unique within its corpus
    composer: str
    title: str
    split: str  # one of SPLITS, or another name where a corpus's own table has one
    path: Path | None = None  # its MIDI file; None for a piece with a `source`
    source: Callable[[], Performance] | None = field(default=None, repr=False, compare=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the piece is read from."""
        return () if self.path is None else (self.path,)

    def load(self) -> Performance:
        """Notes and pedal; MidiError when the file cannot be read."""
        if self.source:
            return self.source()
        assert self.path is not None, "a piece has a path or a source"
        return read_midi(self.path)


@dataclass(frozen=True)
class Corpus:
    """Pieces under one licence."""

    name: str
    licence: str
    pieces: tuple[Piece, ...] = field(repr=False)
    version: str = ""  # version of the program that generates pieces with a `source`

    def __len__(self) -> int:
        return len(self.pieces)

    def split(self, name: str) -> tuple[Piece, ...]:
        """The pieces of "train", "validation", "test" or another split of the corpus; CorpusError for an unknown name."""
        chosen = tuple(piece for piece in self.pieces if piece.split == name)
        if not chosen and name not in SPLITS:
            names = dict.fromkeys([*SPLITS, *(piece.split for piece in self.pieces)])
            raise CorpusError(f"no split is called {name!r}: there is {', '.join(names)}")
        if not chosen:
            raise CorpusError(
                f"{self.name}: no piece of its {len(self)} is in the {name} split; add pieces, or use another"
            )
        return chosen

    def counts(self) -> dict[str, int]:
        """Pieces in each split."""
        names = dict.fromkeys([*SPLITS, *(piece.split for piece in self.pieces)])
        return {name: sum(piece.split == name for piece in self.pieces) for name in names}

    @property
    def stamp(self) -> str:
        """A hash that changes if a piece is added, removed, moved to another split, or a file of it changes."""
        pieces = [[piece.name, piece.split, [_stamp(path) for path in piece.files]] for piece in self.pieces]
        return hashlib.sha256(json.dumps([self.version, pieces]).encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[int]:
    """Size and modification time of a file; [] if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def statistics(corpus: Corpus, progress: bool = True) -> dict[str, dict[str, float]]:
    """{"train": {"pieces", "notes", "hours", "unreadable"}, ...}, read from every piece.

    Hours run from 0 to the release of the last key. Pieces that cannot be read are counted, and left out of the rest.
    """
    from tqdm.auto import tqdm

    result = {name: {"pieces": 0, "notes": 0, "hours": 0.0, "unreadable": 0} for name in corpus.counts()}
    for piece in tqdm(corpus.pieces, desc=f"reading {corpus.name}", unit="piece", disable=None if progress else True):
        row = result[piece.split]
        try:
            performance = piece.load()
        except UNREADABLE:
            row["unreadable"] += 1
            continue
        row["pieces"] += 1
        row["notes"] += len(performance)
        row["hours"] += performance.end / 3600
    return result
