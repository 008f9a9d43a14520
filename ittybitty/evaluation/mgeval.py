"""MGEval: the distance between two sets of pieces, feature by feature, from the distances between single pieces.

A feature is a number or histogram of a piece. Intra-set distances are those between the pieces of one set, inter-set distances
those between the pieces of two; all Euclidean, and both smoothed to densities [1] section 3.3. Where the two sets are
drawn from one population the two densities are the same: overlapped area 1, divergence 0.

    compare(generated, truth)     # feature -> overlapped area and Kullback-Leibler divergence, each density beside the other

Features that count bars are left out: MAESTRO has no metre. In their place stand duration and velocity histograms,
density, polyphony, repetition and self-similarity (metrics.py). The published program evaluates the two densities of its
divergence at different points each; here both are read on one grid.

[1] Yang and Lerch 2020, On the evaluation of generative models in music, Neural Computing and Applications 32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import metrics
from ..notes import Performance

GRID = 512  # points at which densities are compared
NARROWEST = 1e-3  # bandwidth, as a share of the largest distance, of distances that are all alike


def _pitches(performance: Performance) -> np.ndarray:
    return performance.notes["pitch"].astype(np.int64)


FEATURES: Mapping[str, Callable[[Performance], np.ndarray | float]] = {
    # [1] table 1, without its bars
    "pitch_count": lambda p: len(np.unique(_pitches(p))),
    "pitch_range": lambda p: np.ptp(_pitches(p)),
    "mean_interval": lambda p: np.abs(np.diff(_pitches(p))).mean(),
    "mean_ioi": lambda p: np.diff(p.notes["onset"]).mean(),
    "pitch_classes": metrics.pitch_class_histogram,
    "pitch_class_transitions": metrics.pitch_class_transitions,
    # for the rest of what a performance is
    "intervals": metrics.interval_histogram,
    "iois": metrics.ioi_histogram,
    "durations": metrics.duration_histogram,
    "velocities": metrics.velocity_histogram,
    "density": metrics.note_density,
    "polyphony": metrics.polyphony,
    "repetition": metrics.repetition,
    "self_similarity": metrics.self_similarity,
}
SHORTEST = metrics.REPEATED  # notes that a piece must have


def compare(pieces: Sequence[Performance], reference: Sequence[Performance]) -> dict[str, dict[str, float] | None]:
    """Feature -> {"overlap", "kl"} of inter-set against the reference's intra-set distances, and both sets' mean distances.

    "own_overlap" and "own_kl" are against the intra-set distances of `pieces`. Kullback-Leibler in bits. A feature that a
    piece does not have (NaN) is compared without it. ValueError for fewer than three pieces of a set.
    """
    if min(len(pieces), len(reference)) < 3:
        raise ValueError(f"{len(pieces)} pieces and {len(reference)} to compare with: give three or more of both")
    result: dict[str, dict[str, float] | None] = {}
    for name, feature in FEATURES.items():
        mine, theirs = _features(pieces, feature), _features(reference, feature)
        if min(len(mine), len(theirs)) < 3:
            result[name] = None
            continue
        inter, intra, own = distances(mine, theirs), distances(theirs), distances(mine)
        overlap, kl = overlap_and_kl(intra, inter)
        own_overlap, own_kl = overlap_and_kl(own, inter)
        result[name] = {
            "overlap": overlap,
            "kl": kl,
            "own_overlap": own_overlap,
            "own_kl": own_kl,
            "inter": float(inter.mean()),
            "reference_intra": float(intra.mean()),
            "own_intra": float(own.mean()),
        }
    return result


def _features(pieces: Sequence[Performance], feature: Callable) -> np.ndarray:
    values = np.array([np.atleast_1d(feature(piece)) for piece in pieces], float)  # (P, F)
    return values[np.isfinite(values).all(1)]


def distances(first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """Euclidean distances of each row of `first` (P, F) to each of `second`, or to each other row of its own set."""
    from scipy.spatial.distance import cdist, pdist

    return pdist(first) if second is None else cdist(first, second).ravel()


def overlap_and_kl(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Overlapped area and Kullback-Leibler divergence in bits of two samples smoothed by Gaussians."""
    spread = max(first.max(), second.max(), 1e-12)
    # the tails of the smoothed densities, so that both have all their mass on the grid
    margin = 4 * max(_bandwidth(first, spread), _bandwidth(second, spread))
    x = np.linspace(min(first.min(), second.min()) - margin, max(first.max(), second.max()) + margin, GRID)
    p, q = _density(first, x, spread), _density(second, x, spread)
    return metrics.overlapped_area(p, q), metrics.kl_divergence(p, q, floor=1e-9)


def _bandwidth(sample: np.ndarray, spread: float) -> float:
    """Bandwidth by Scott's rule, as in SciPy's gaussian_kde, but never zero."""
    return max(float(np.std(sample, ddof=1)) * len(sample) ** -0.2, NARROWEST * spread)


def _density(sample: np.ndarray, x: np.ndarray, spread: float) -> np.ndarray:
    """Shares (GRID,) that add up to one. SciPy's own refuses a sample of one value, which a model that repeats itself gives."""
    shares = np.exp(-0.5 * ((x[:, None] - sample) / _bandwidth(sample, spread)) ** 2).sum(1)
    return shares / shares.sum()
