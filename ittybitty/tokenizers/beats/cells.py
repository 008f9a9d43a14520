"""Collects all cells of a split in one file, from which the codebook and the velocity codes are learnt.

    cells.npz       patterns (u, 48) uint8, the different patterns of states (grid.py)
                    pattern  (n,) int32, which of them each cell is
                    velocity (s,) uint8, of each run of each cell in turn: a run is one note's frames
                    pieces, ends (p,) names, and where the cells of each piece end; flat (p,) True where it has one velocity
                    split, corpus, hash
    cells.use.npz   ids (4789,) int64: how often each id is used for these cells, with the codebook that counted them

A cell's velocity is constant within a run, so runs hold all of it in a seventieth of the space of frames. Pieces are read one
after the other; only the different patterns and a few bytes a cell stay in memory.

Left out: which cells belong to which beat; a token store (store.py) has whole sequences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import paths
from ...errors import UNREADABLE, CorpusError, TokenizerError
from .grid import FRAMES, HELD, SILENT, STRUCK, Cells, to_cells
from .vocabulary import L2, L3, LEVELS, SIZE, VELOCITIES, VELOCITY

if TYPE_CHECKING:
    from .codebook import Codebook
    from .velocity import VelocityVQ

FIX = "make it again with `ittybitty beats cache`"


@dataclass(frozen=True, eq=False)
class CellCache:
    """Cells of a split; u different patterns, n cells, s runs, p pieces."""

    patterns: np.ndarray  # (u, 48) uint8
    pattern: np.ndarray  # (n,) int32
    velocity: np.ndarray  # (s,) uint8
    pieces: np.ndarray  # (p,) str
    ends: np.ndarray  # (p,) int64, cells
    flat: np.ndarray  # (p,) bool
    split: str
    corpus: str

    def __len__(self) -> int:
        return len(self.pattern)

    @property
    def counts(self) -> np.ndarray:
        """(u,) cells of each pattern."""
        return np.bincount(self.pattern, minlength=len(self.patterns))

    @property
    def content_hash(self) -> str:
        """Of the cells: the same pieces in the same order give the same hash."""
        content = hashlib.sha256()
        for array in (self.patterns, self.pattern, self.velocity, self.ends):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()[:16]

    def expressive(self) -> np.ndarray:
        """(n,) bool: cells of pieces with more than one velocity; an engraved score teaches nothing about velocity."""
        return ~np.repeat(self.flat, np.diff(self.ends, prepend=0))

    def velocity_rows(self, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(m, 48) uint8 different rows of velocity (0 in silence) among the chosen cells (bool (n,); all), and (m,) their counts."""
        starts = np.cumsum(runs_of(self.patterns)[self.pattern]) - runs_of(self.patterns)[self.pattern]
        cells = np.arange(len(self)) if chosen is None else np.flatnonzero(chosen)
        order = cells[np.argsort(self.pattern[cells], kind="stable")]
        rows, counts = [], []
        for pattern, group in _groups(order, self.pattern):
            runs = _run_index(self.patterns[pattern : pattern + 1])[0]  # (48,) run of each frame, -1 in silence
            values, times = np.unique(
                self.velocity[starts[group][:, None] + np.arange(runs.max() + 1)], axis=0, return_counts=True
            )
            rows.append(np.where(runs >= 0, values[:, runs], 0).astype(np.uint8))
            counts.append(times)
        return np.concatenate(rows or [np.empty((0, FRAMES), np.uint8)]), np.concatenate(counts or [np.empty(0, int)])

    def save(self, path: str | Path) -> None:
        """Write the npz, atomically."""
        # given a path, NumPy would append .npz where the name has none
        with paths.atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **self.__dict__, hash=self.content_hash)

    @classmethod
    def load(cls, path: str | Path) -> CellCache:
        """The cache in a file; TokenizerError when it is not one, or was changed."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in cls.__dataclass_fields__}
                expected = str(file["hash"])
            cache = cls(**arrays | {name: str(arrays[name]) for name in ("split", "corpus")})
        except FileNotFoundError:
            raise TokenizerError(f"{path}: no such file; {FIX}") from None
        except Exception as error:  # numpy, zipfile and zlib each have their own errors for a damaged file
            raise TokenizerError(f"{path}: is not a cell cache ({type(error).__name__}); {FIX}") from None
        if cache.content_hash != expected:
            raise TokenizerError(f"{path}: was changed after it was written (its hash differs); {FIX}")
        return cache


def build(pieces: Iterable, split: str, corpus: str) -> CellCache:
    """The cells of pieces (anything with .name and .load() of performances with beats), read one after the other.

    Pieces that cannot be read or have no beats are left out; CorpusError when that is all of them.
    """
    index: dict[bytes, int] = {}
    pattern, velocity, names, ends, flat, reason = [], [], [], [], [], ""
    total = 0
    for piece in pieces:
        try:
            cells = to_cells(piece.load())
        except UNREADABLE as error:
            reason = reason or f"{piece.name}: {error}"
            continue
        found, inverse = np.unique(cells.states, axis=0, return_inverse=True)
        known = np.array([index.setdefault(row.tobytes(), len(index)) for row in found], np.int32)
        pattern.append(known[inverse.ravel()])
        velocity.append(cells.velocity[_begins(cells.states)])
        total += len(cells)
        names.append(piece.name)
        ends.append(total)
        flat.append(is_flat(cells))
    if not total:
        raise CorpusError(
            f"{corpus}: no piece of {split} has notes and beats{f' ({reason})' if reason else ''}; give a corpus with annotated beats"
        )
    patterns = np.frombuffer(b"".join(index), np.uint8).reshape(-1, FRAMES)
    arrays = (
        patterns,
        np.concatenate(pattern),
        np.concatenate(velocity),
        np.array(names),
        np.array(ends),
        np.array(flat),
    )
    return CellCache(*arrays, split=split, corpus=corpus)


def is_flat(cells: Cells) -> bool:
    """True where all notes have one velocity: an engraved score, whose velocity carries no information."""
    return len(np.unique(cells.velocity[cells.velocity > 0])) <= 1


def count_use(cache: CellCache, codebook: Codebook, velocity: VelocityVQ) -> np.ndarray:
    """(4789,) how often each id stands for a cell of the cache: patterns of all cells, velocities of expressive ones."""
    ids, _ = codebook.encode(cache.patterns)
    use = np.bincount(ids[ids >= 0], np.repeat(cache.counts, (ids >= 0).sum(1)), minlength=SIZE).astype(np.int64)
    rows, counts = cache.velocity_rows(cache.expressive())
    if len(rows):
        use += np.bincount(VELOCITY + velocity.codes(rows), counts, minlength=SIZE).astype(np.int64)
    return use


def save_use(use: np.ndarray, cache_path: str | Path, cache: CellCache) -> None:
    """Write the histogram beside the cache, atomically."""
    with paths.atomic_path(use_path(cache_path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, ids=use, cells=cache.content_hash)


def usage(use: np.ndarray) -> dict[str, dict[str, float]]:
    """Of each kind of code: how many there are, how many are used, and their perplexity (the number of codes that, used equally often, would carry as much information)."""
    result = {}
    for name, start, size in (
        ("L1", 0, LEVELS[0]),
        ("L2", L2, LEVELS[1]),
        ("L3", L3, LEVELS[2]),
        ("velocity", VELOCITY, VELOCITIES),
    ):
        part = use[start : start + size]
        share = part[part > 0] / max(1, part.sum())
        perplexity = float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0
        result[name] = {"codes": size, "used": int((part > 0).sum()), "perplexity": perplexity}
    return result


def describe_use(use: np.ndarray) -> str:
    """`usage` as text."""
    return "\n".join(
        f"{name:<9}{row['used']:>5} of {row['codes']:,} codes used, as {row['perplexity']:,.0f} even ones would be"
        for name, row in usage(use).items()
    )


def use_path(cache: str | Path) -> Path:
    """Path of the histogram of the codes, beside the cache."""
    return Path(cache).with_suffix(".use.npz")


def _begins(states: np.ndarray) -> np.ndarray:
    """(n, 48) bool: frames at which a run begins, by a strike or held over from the beat before."""
    before = np.concatenate([np.full((len(states), 1), SILENT, states.dtype), states[:, :-1]], 1)
    return (states == STRUCK) | ((states == HELD) & (before == SILENT))


def runs_of(states: np.ndarray) -> np.ndarray:
    """(n,) runs in each pattern."""
    return _begins(states).sum(1)


def _run_index(states: np.ndarray) -> np.ndarray:
    """(n, 48) index of the run that each frame belongs to, -1 in silence."""
    return np.where(states == SILENT, -1, np.cumsum(_begins(states), 1) - 1)


def _groups(order: np.ndarray, pattern: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(pattern, its cells) of cells that are sorted by pattern."""
    bounds = np.flatnonzero(np.diff(pattern[order])) + 1
    for group in np.split(order, bounds) if len(order) else ():
        yield int(pattern[group[0]]), group
