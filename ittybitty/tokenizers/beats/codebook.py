"""The hierarchical codebook of patterns: 2,048 of full beats, 1,024 of half beats, 512 of quarter beats.

    book = learn(cache.patterns, cache.counts)
    ids, exact = book.encode(cells.states)          # (n, 12) ids, -1 where a cell needs fewer; and (n,) bool
    book.decode(ids)                                # (n, 48) states

A pattern is encoded at the coarsest level that is exact: one full-beat code, else two half-beat codes, else four quarter-beat
codes. Where a quarter has no exact code, the nearest one is taken, or with `escape` three ids that spell it out.

Each level is k-means [1] over different patterns as 96 bits (sustain, onset), weighted by how often they occur, that
starts from the most frequent ones. The code of a cluster is its most frequent pattern, so every code is a pattern that was
played. The next level learns from the halves of patterns that the level before does not encode exactly. The first level is
exact for 84% of ASAP's training cells. Started from k-means++ it would be exact for 47%; the upper bound, the 2,048 most
frequent patterns, is 87%.

[1] scikit-learn's MiniBatchKMeans: Sculley 2010, Web-scale k-means clustering.
Left out: velocity (velocity.py).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ... import paths
from ...errors import TokenizerError
from . import vocabulary as v
from .grid import FRAMES, HELD, SILENT, STRUCK

OFFSETS = (v.L1, v.L2, v.L3)
MOST_IDS = 4 * 3  # of a cell: four quarters, each spelt out
FIX = "take an undamaged copy, or make it again with `ittybitty beats codebook`"


@dataclass(frozen=True, eq=False)
class Codebook:
    """Three levels of patterns, (k, 48), (k, 24) and (k, 12) uint8 states with k at most the published sizes."""

    levels: tuple[np.ndarray, ...]
    source: dict[str, str] = field(default_factory=dict)  # corpus, split and hash of the cells it was learnt from

    def __post_init__(self):
        for book, span, size in zip(self.levels, v.SPANS, v.LEVELS, strict=True):
            if book.ndim != 2 or book.shape[1] != span or not 1 <= len(book) <= size or book.max(initial=0) > STRUCK:
                raise ValueError(f"a level is {book.shape}, not at most ({size}, {span}) of states 0, 1, 2")

    @functools.cached_property
    def content_hash(self) -> str:
        """Of the patterns in their order."""
        return hashlib.sha256(
            b"".join(np.ascontiguousarray(book, np.uint8).tobytes() for book in self.levels)
        ).hexdigest()[:16]

    @functools.cached_property
    def _index(self) -> list[dict[bytes, int]]:
        return [{row.tobytes(): offset + i for i, row in enumerate(book)} for book, offset in zip(self.levels, OFFSETS)]

    def encode(self, states: np.ndarray, escape: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Ids (n, 12) of patterns (n, 48), -1 after the last, and (n,) bool: whether they say the pattern exactly."""
        different, inverse = np.unique(
            np.ascontiguousarray(states, np.uint8).reshape(-1, FRAMES), axis=0, return_inverse=True
        )
        ids = np.full((len(different), MOST_IDS), -1)
        exact = np.ones(len(different), bool)
        for row, pattern in enumerate(different):
            codes = self._exact(pattern)
            if codes is None:
                exact[row], codes = escape, self._spelt(pattern) if escape else self._approximate(pattern)
            ids[row, : len(codes)] = codes
        inverse = inverse.ravel()
        return ids[inverse], exact[inverse]

    def _exact(self, pattern: np.ndarray) -> list[int] | None:
        """The codes of the coarsest level that represents a pattern (48,) exactly; None if no level does."""
        for level, span in enumerate(v.SPANS):
            codes = [self._index[level].get(part.tobytes(), -1) for part in pattern.reshape(-1, span)]
            if -1 not in codes:
                return codes
        return None

    def _spelt(self, pattern: np.ndarray) -> list[int]:
        """Quarter-beat codes, and three escape ids for each quarter that has none."""
        ids: list[int] = []
        for part in pattern.reshape(-1, v.SPANS[2]):
            code = self._index[2].get(part.tobytes())
            ids += v.escape_ids(part[None])[0].tolist() if code is None else [code]
        return ids

    def _approximate(self, pattern: np.ndarray) -> list[int]:
        """The codes of the pattern that the nearest quarter-beat codes make, at the coarsest level that represents it."""
        quarters = pattern.reshape(-1, v.SPANS[2])
        codes = [self._index[2].get(part.tobytes(), -1) for part in quarters]
        codes = [self._nearest(part) if code < 0 else code for part, code in zip(quarters, codes)]
        return self._exact(self.pattern(codes)) or codes

    def _nearest(self, quarter: np.ndarray) -> int:
        """The quarter-beat code that differs in the fewest bits of sustain and onset.

        Only codes that begin and end as the quarter does are considered (held over or not, sounding or not), and
        none that is silent: so no cell is left empty, and no key is held that was not struck.
        """
        book = self.levels[2]
        fits = (
            ((book[:, 0] == HELD) == (quarter[0] == HELD))
            & ((book[:, -1] > SILENT) == (quarter[-1] > SILENT))
            & book.any(1)
        )
        differ = (_bits(book) != _bits(quarter[None])).sum(1)
        return v.L3 + int(np.where(fits, differ, differ + 2 * len(quarter)).argmin())

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """States (n, 48) of pattern ids (n, m), -1 where a cell has no more; what is missing at the end is silent."""
        return np.array([self.pattern(row[row >= 0].tolist()) for row in np.asarray(ids)], np.uint8).reshape(-1, FRAMES)

    def pattern(self, ids: list[int]) -> np.ndarray:
        """(48,) states of one cell's ids, codes of any levels and escapes one after the other."""
        parts = [self.part(id) for id in ids] + [np.zeros(FRAMES, np.uint8)]
        return np.concatenate(parts)[:FRAMES]

    def part(self, id: int) -> np.ndarray:
        """States of the frames that one id represents: 48, 24, 12, or 4 for an escape."""
        if v.ESCAPE <= id < v.ESCAPE + v.ESCAPES:
            return v.escaped_states(np.array([id]))[0]
        level = 0 if id < v.L2 else 1 if id < v.L3 else 2
        row = id - OFFSETS[level]
        return self.levels[level][row] if row < len(self.levels[level]) else np.zeros(v.SPANS[level], np.uint8)

    def save(self, path: str | Path) -> None:
        """Write the npz with its hash, atomically."""
        named: dict[str, Any] = {f"l{i}": book for i, book in enumerate(self.levels, 1)} | dict(self.source)
        # given a path, NumPy would append .npz where the name has none
        with paths.atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **named, hash=self.content_hash)

    @classmethod
    def load(cls, path: str | Path, expected: str | None = None) -> Codebook:
        """The codebook in a file; TokenizerError when it is damaged, was changed, or is not the one of hash `expected`."""
        try:
            with np.load(path, allow_pickle=False) as file:
                source = {name: str(file[name]) for name in file.files if name not in ("l1", "l2", "l3", "hash")}
                book = cls((file["l1"], file["l2"], file["l3"]), source)
                written = str(file["hash"])
        except FileNotFoundError:
            raise TokenizerError(
                f"{path}: no such file; give a codebook that `ittybitty beats codebook` wrote"
            ) from None
        except Exception as error:  # numpy, zipfile and zlib each have their own errors for a damaged file
            raise TokenizerError(f"{path}: is not a codebook ({type(error).__name__}); {FIX}") from None
        if book.content_hash != written:
            raise TokenizerError(
                f"{path}: was changed after it was written (its hash is {book.content_hash}, not {written}); {FIX}"
            )
        if expected not in (None, written):
            raise TokenizerError(
                f"{path}: is codebook {written}, not {expected}; give the one these tokens were made with"
            )
        return book


def level_of(first_ids: np.ndarray) -> np.ndarray:
    """0, 1 or 2 for the first pattern id of each cell."""
    return np.searchsorted([v.L2, v.L3], first_ids, side="right")


def exact_shares(book: Codebook, patterns: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Shares of cells that each level represents exactly, and that none does ("inexact"), of different patterns and their counts."""
    ids, exact = book.encode(patterns)
    level = level_of(ids[:, 0])
    shares = {f"exact_share_l{i + 1}": float(counts[exact & (level == i)].sum() / counts.sum()) for i in range(3)}
    return {**shares, "inexact": float(counts[~exact].sum() / counts.sum())}


def learn(
    patterns: np.ndarray,
    counts: np.ndarray,
    seed: int = 0,
    source: dict[str, str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Codebook:
    """A codebook from different patterns (u, 48) and how often each occurs; the same input gives the same codes.

    `progress` is called with each level's number when it is done. Where there are fewer different patterns than codes,
    each of them is one and the rest of the ids stay unused.
    """
    levels: list[np.ndarray] = []
    inexact = np.ones(len(patterns), bool)
    for level, (span, size) in enumerate(zip(v.SPANS, v.LEVELS)):
        parts = patterns[inexact].reshape(-1, span)
        weights = np.repeat(counts[inexact], FRAMES // span)
        if not len(parts):  # the level before was exact for all: silence, so that there is a code
            parts, weights = np.zeros((1, span), np.uint8), np.ones(1)
        parts, weights = _merged(parts, weights)
        levels.append(_cluster(parts, weights, size, seed))
        known = {row.tobytes() for row in levels[-1]}
        here = [all(part.tobytes() in known for part in pattern.reshape(-1, span)) for pattern in patterns[inexact]]
        inexact[inexact] = ~np.array(here, bool)
        if progress:
            progress(level + 1)
    return Codebook(tuple(levels), source or {})


def _merged(parts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different rows and the sums of their weights, the most frequent first."""
    different, inverse = np.unique(parts, axis=0, return_inverse=True)
    totals = np.bincount(inverse.ravel(), weights)
    order = np.argsort(-totals, kind="stable")
    return different[order], totals[order]


def _cluster(parts: np.ndarray, weights: np.ndarray, size: int, seed: int) -> np.ndarray:
    """(size, span) the most frequent member of each cluster, the heaviest cluster first."""
    if len(parts) <= size:
        return parts
    from sklearn.cluster import MiniBatchKMeans

    points = _bits(parts).astype(np.float32)
    means = MiniBatchKMeans(
        size, init=points[:size], n_init=1, batch_size=8192, max_iter=10, random_state=seed, reassignment_ratio=0
    )
    label = means.fit(points, sample_weight=weights).predict(points)
    members, first = np.unique(label, return_index=True)  # rows are in order of weight: the first is the most frequent
    heaviest = np.argsort(-np.bincount(label, weights, minlength=size)[members], kind="stable")
    return parts[first[heaviest]]


def _bits(states: np.ndarray) -> np.ndarray:
    """(n, span) states as (n, 2 span) bits: sustain, then onset."""
    return np.concatenate([states >= HELD, states == STRUCK], 1)


assert SILENT < HELD < STRUCK  # what _bits relies on
