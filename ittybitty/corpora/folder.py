"""A folder of a user's own MIDI files as a corpus.

A hash of a file's content decides its split, so the file stays in it when files are added, renamed or copied. Of files
with the same content only the first is used. In a folder too small to fill every split this way, a piece moves from
training to the empty split.

Left out: detecting several performances of one work, which may then be in different splits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from ..errors import CorpusError
from .pieces import Corpus, Piece

SUFFIXES = (".mid", ".midi", ".rmi")
HELD_OUT = {"validation": 0.1, "test": 0.1}  # share of the files, on average


def open(folder: str | Path) -> Corpus:
    """All MIDI files in `folder` and its subfolders, except hidden ones; CorpusError if there is none. Nothing is parsed yet."""
    folder = Path(folder)
    hashed: dict[str, Path] = {}
    for path in _midi_files(folder):
        try:
            hashed.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
        except OSError as error:
            raise CorpusError(
                f"{path}: cannot be read ({error.strerror}); fix its permissions, or move it away"
            ) from None
    if not hashed:
        raise CorpusError(
            f"{folder}: holds no MIDI files ({', '.join(SUFFIXES)}), no maestro-v3.0.0/ and no asap/; give another folder"
        )
    pieces = {digest: _piece(folder, path, _split(digest)) for digest, path in hashed.items()}
    _fill_splits(pieces)
    return Corpus(
        folder.resolve().name or "folder",
        "as the owner of the files decides",
        tuple(sorted(pieces.values(), key=lambda piece: piece.name)),
    )


def _midi_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, n) for n in sorted(names) if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
    return found


def _piece(folder: Path, path: Path, split: str) -> Piece:
    inside = path.relative_to(folder)
    return Piece(inside.as_posix(), inside.parent.name, path.stem, split, path)


def _split(digest: str) -> str:
    share = int(digest[:8], 16) / 2**32  # uniform in [0, 1)
    for name, size in HELD_OUT.items():
        if share < size:
            return name
        share -= size
    return "train"


def _fill_splits(pieces: dict[str, Piece]) -> None:
    """Move one piece of the largest split to each empty split, if another remains; the piece with the smallest hash first."""
    for split in ("train", *HELD_OUT):
        members = {name: sorted(d for d, p in pieces.items() if p.split == name) for name in ("train", *HELD_OUT)}
        fullest = max(members.values(), key=len)
        if not members[split] and len(fullest) > 1:
            pieces[fullest[0]] = dataclasses.replace(pieces[fullest[0]], split=split)
