"""Which opening does a continuation belong to? Features of an excerpt, a fixed distance between them, and how often it tells.

Each excerpt is six groups of numbers: notes per second, register, velocity, durations, pitch classes, gaps between onsets.
Every feature is divided by its standard deviation over held-out pianists, and every group counts the same:

    distance² = Σ over groups, mean over the group's features, of ((a - b) / sd)²

Of n openings, a continuation's own has the rank r by this distance (1: the nearest). Accuracy is the share with r = 1, the mean
reciprocal rank is the mean of 1 / r. The pianists' own continuations show how much of a piece these features know at all;
continuations dealt out to wrong openings show what chance gives.

Nothing here is fitted to any model. Left out: melody, harmony and form.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ... import metrics
from ...notes import Performance

CHORD = 0.03  # s: onsets nearer than this are one chord
GROUPS = {  # names of the features of each group, in the order of `features`
    "notes_per_second": ("log2",),
    "register": ("mean", "sd"),
    "velocity": ("mean", "sd"),
    "durations": ("mean_log2", "sd_log2"),
    "pitch_classes": tuple("C C# D D# E F F# G G# A A# B".split()),
    "gaps": ("mean_log2", "sd_log2", "in_chords"),
}
SIZES = [len(names) for names in GROUPS.values()]


def features(excerpt: Performance, seconds: float) -> np.ndarray:
    """(22,) features of an excerpt that lasts `seconds`, in the order of GROUPS; NaN for fewer than two notes."""
    if len(excerpt) < 2:
        return np.full(sum(SIZES), np.nan)
    notes = excerpt.notes
    lengths = np.log2(np.maximum(notes["duration"], 0.01))  # a key is held 10 ms at least
    apart = np.diff(notes["onset"])
    together = apart < CHORD
    gaps = np.log2(apart[~together] if not together.all() else [seconds])
    return np.array(
        [
            np.log2(len(notes) / seconds),
            *_mean_and_sd(notes["pitch"]),
            *_mean_and_sd(notes["velocity"]),
            *_mean_and_sd(lengths),
            *metrics.pitch_class_histogram(excerpt),
            *_mean_and_sd(gaps),
            together.mean(),
        ]
    )


def _mean_and_sd(values: np.ndarray) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values))


def scale_of(pianists: np.ndarray) -> np.ndarray:
    """(22,) what a difference of each feature is divided by: its spread over (n, 22) excerpts of pianists times the root of the group's size."""
    spread = np.nanstd(pianists, axis=0)
    spread[~(spread > 0)] = 1.0  # one that does not vary tells nothing: its differences are 0 among pianists
    return spread * np.sqrt(np.repeat(SIZES, SIZES))


def distances(continuations: np.ndarray, openings: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, m) distance of each of (n, 22) continuations to each of (m, 22) openings."""
    return np.sqrt((((continuations[:, None] - openings[None]) / scale) ** 2).sum(-1))


def ranks(apart: np.ndarray, own: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """(n,) rank of each continuation's own opening (by default the one with its number) among the columns of (n, m) distances.

    An opening that is as near counts as nearer. Without notes (NaN) it is the last.
    """
    own = np.arange(len(apart)) if own is None else np.asarray(own)
    mine = apart[np.arange(len(apart)), own]
    return np.where(np.isnan(mine), apart.shape[1], (apart <= mine[:, None]).sum(1))


def matching(apart: np.ndarray) -> dict:
    """Accuracy and mean reciprocal rank of (n, n) distances, with 95% intervals over continuations, and what chance gives.

    "shuffled": the same over all ways of moving the continuations on by 1 … n - 1 openings.
    """
    count = len(apart)
    found = ranks(apart)
    moved = [ranks(apart, (np.arange(count) + by) % count) for by in range(1, count)]
    shuffled = np.concatenate(moved) if moved else found
    return {
        **_figures(found),
        "accuracy_ci95": list(metrics.bootstrap_interval(found == 1)),
        "mean_reciprocal_rank_ci95": list(metrics.bootstrap_interval(1 / found)),
        "shuffled": _figures(shuffled),
        "openings": count,
    }


def _figures(found: np.ndarray) -> dict[str, float]:
    return {"accuracy": float(np.mean(found == 1)), "mean_reciprocal_rank": float(np.mean(1 / found))}
