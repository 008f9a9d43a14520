"""Metrics of music: errors of an encoding, properties of a piece, distances of histograms, bootstrap intervals.

muspy's metrics are used if they need no metre (`musical_metrics`). MAESTRO's 120 beats a minute are only
a clock, so nothing here counts beats or bars. Times are seconds, velocities MIDI steps.

[1] Dong et al. 2020, MusPy.  [2] Yang and Lerch 2020, On the evaluation of generative models in music.
[3] Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.  [4] Welleck et al. 2020, Neural text generation
with unlikelihood training, section 6.  [5] Foote 1999, Visualizing music and audio using self-similarity.

Left out: bits per note, which need a model (evaluation/likelihood.py), distances between sets of pieces (evaluation/mgeval.py),
and everything that needs beats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .notes import Performance

IOI_EDGES = np.concatenate([[0.0], np.geomspace(0.02, 4.0, 31), [np.inf]])  # s; the first bin holds chords
DURATION_EDGES = np.concatenate([[0.0], np.geomspace(0.03, 8.0, 23), [np.inf]])  # s
MUSPY_RESOLUTION = 50  # muspy time steps a second
REPEATED = 4  # notes of a run that `repetition` looks for
FRAME, BLOCK = 0.5, 8  # s, and frames of a passage that `self_similarity` compares


# Errors of an encoding


def round_trip_error(original: Performance, decoded: Performance) -> dict[str, float]:
    """Mean absolute errors over the notes that encoding and decoding kept, and the number of notes that it lost.

    {"onset_error_ms", "duration_error_ms", "velocity_error", "notes_lost", "notes"}. Notes of one pitch are paired in
    order of onset; if their numbers differ, the pairing with the nearest onsets is used.
    """
    errors = [np.empty((0, 3))]
    for pitch in np.unique(original.notes["pitch"]):
        mine = original.notes[original.notes["pitch"] == pitch]
        other = decoded.notes[decoded.notes["pitch"] == pitch]
        i, j = _pairs(mine["onset"], other["onset"])
        errors.append(
            np.stack(
                [np.abs(mine[name][i] - other[name][j]).astype(float) for name in ("onset", "duration", "velocity")], 1
            )
        )
    found = np.concatenate(errors)
    onset, duration, velocity = found.mean(0) if len(found) else (np.nan,) * 3
    return {
        "onset_error_ms": 1000 * float(onset),
        "duration_error_ms": 1000 * float(duration),
        "velocity_error": float(velocity),
        "notes_lost": len(original) - len(found),
        "notes": len(original),
    }


def pedal_error(original: Performance, decoded: Performance) -> dict[str, float | None]:
    """{"pedal_error_ms", "pedals_lost", "pedals"}: the mean error of presses and releases over the intervals of held pedal
    that encoding and decoding kept, and the number of lost ones. Intervals are paired like notes in `round_trip_error`;
    the error is None if no interval was kept."""
    mine, other = original.pedals, decoded.pedals
    i, j = _pairs(mine["onset"], other["onset"])
    ends = [p["onset"] + p["duration"] for p in (mine, other)]
    moved = [np.abs(mine["onset"][i] - other["onset"][j]), np.abs(ends[0][i] - ends[1][j])]
    mean = 1000 * float(np.mean(moved)) if len(i) else None
    return {"pedal_error_ms": mean, "pedals_lost": len(mine) - len(i), "pedals": len(mine)}


def _pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pairing with the least total distance of two rising series; the shorter one is paired completely."""
    if len(first) > len(second):
        longer, shorter = _pairs(second, first)
        return shorter, longer
    m, spare = len(first), len(second) - len(first)
    rows = np.arange(m)
    if spare == 0 or m == 0:
        return rows, rows
    shifted = rows[:, None] + np.arange(spare + 1)  # (m, spare + 1): partner of i after d were passed over
    cost = np.abs(first[:, None] - second[shifted])
    total, came_from = cost[0], np.zeros((m, spare + 1), np.int64)
    for i in range(1, m):
        best = np.minimum.accumulate(total)
        came_from[i] = np.maximum.accumulate(np.where(total == best, np.arange(spare + 1), 0))
        total = best + cost[i]
    passed = np.empty(m, np.int64)
    passed[-1] = int(total.argmin())
    for i in range(m - 1, 0, -1):
        passed[i - 1] = came_from[i, passed[i]]
    return rows, rows + passed


# Properties of a piece


def pitch_class_histogram(performance: Performance) -> np.ndarray:
    """(12,) share of notes of each pitch class from C on; zeros for no notes."""
    return _shares(np.bincount(performance.notes["pitch"] % 12, minlength=12))


def interval_histogram(performance: Performance, limit: int = 24) -> np.ndarray:
    """(2 limit + 1,) share of steps in semitones between one note and the next in (onset, pitch) order, clipped to ±limit."""
    steps = np.clip(np.diff(performance.notes["pitch"].astype(np.int64)), -limit, limit)
    return _shares(np.bincount(steps + limit, minlength=2 * limit + 1))


def ioi_histogram(performance: Performance) -> np.ndarray:
    """(32,) share of times between successive onsets in the bins of IOI_EDGES: below 20 ms, then logarithmic to 4 s."""
    gaps = np.diff(performance.notes["onset"])
    return _shares(np.histogram(gaps, IOI_EDGES)[0])


def duration_histogram(performance: Performance) -> np.ndarray:
    """(24,) share of key durations in the bins of DURATION_EDGES, logarithmic from 30 ms to 8 s."""
    return _shares(np.histogram(performance.notes["duration"], DURATION_EDGES)[0])


def velocity_histogram(performance: Performance) -> np.ndarray:
    """(16,) share of velocities in bins of eight MIDI steps."""
    return _shares(np.bincount(performance.notes["velocity"] // 8, minlength=16)[:16])


def pitch_class_transitions(performance: Performance) -> np.ndarray:
    """(144,) share of steps from each pitch class to each, between notes in (onset, pitch) order [2]."""
    classes = performance.notes["pitch"].astype(np.int64) % 12
    return _shares(np.bincount(12 * classes[:-1] + classes[1:], minlength=144))


def repetition(performance: Performance, length: int = REPEATED) -> float:
    """Share of runs of `length` pitches, in (onset, pitch) order, that occurred earlier in the piece: rep-n of [4]; NaN for none."""
    pitches = performance.notes["pitch"].astype(np.int64)
    runs = len(pitches) - length + 1
    if runs < 1:
        return float("nan")
    return 1 - len(np.unique(np.lib.stride_tricks.sliding_window_view(pitches, length), axis=0)) / runs


def self_similarity(performance: Performance) -> float:
    """Mean similarity of passages to earlier ones: 1 if every passage is a repetition, near 0 if none is; NaN if too short.

    A passage is BLOCK frames of FRAME seconds, each frame the time that each pitch class is held in it, centred on the
    piece's mean. In Foote's matrix of cosines [5] each passage has a largest value among earlier ones that do not overlap
    it; the result is the mean of these values.
    """
    chroma = _chroma(performance)  # (frames, 12)
    if len(chroma) < 2 * BLOCK:
        return float("nan")
    chroma = chroma - chroma.mean(0)
    passages = np.lib.stride_tricks.sliding_window_view(chroma, BLOCK, axis=0).reshape(len(chroma) - BLOCK + 1, -1)
    passages = passages / np.maximum(np.linalg.norm(passages, axis=1, keepdims=True), 1e-9)
    matrix = passages @ passages.T
    matrix[np.triu_indices(len(matrix), 1 - BLOCK)] = -np.inf  # the present and the future
    return float(matrix[BLOCK:].max(1).mean())


def _chroma(performance: Performance) -> np.ndarray:
    """(frames, 12) seconds that each pitch class is held in each frame from the first onset on."""
    notes = performance.notes
    if not len(notes):
        return np.zeros((0, 12))
    start = notes["onset"] - notes["onset"].min()
    edges = FRAME * np.arange(int(np.ceil((start + notes["duration"]).max() / FRAME)) + 1)
    held = np.clip(
        np.minimum((start + notes["duration"])[:, None], edges[1:]) - np.maximum(start[:, None], edges[:-1]), 0, None
    )  # (N, frames)
    return np.stack([held[notes["pitch"] % 12 == c].sum(0) for c in range(12)], 1)


def note_density(performance: Performance) -> float:
    """Notes a second, from the first onset to the last release; 0 for no notes."""
    span = performance.end - performance.notes["onset"].min() if len(performance) else 0.0
    return len(performance) / span if span > 0 else 0.0


def polyphony(performance: Performance) -> float:
    """Mean number of keys held while any is held, exactly in time [1] metrics.polyphony; 0 for no notes."""
    notes = performance.notes
    if not len(notes):
        return 0.0
    edges = np.concatenate([notes["onset"], notes["onset"] + notes["duration"]])
    change = np.concatenate([np.ones(len(notes)), -np.ones(len(notes))])
    order = np.argsort(edges, kind="stable")
    held, span = np.cumsum(change[order])[:-1], np.diff(edges[order])
    sounding = span[held > 0.5].sum()
    return float((held * span).sum() / sounding) if sounding > 0 else 0.0


def musical_metrics(performance: Performance) -> dict[str, float]:
    """muspy's metrics that need no metre [1]: pitch range and entropies, scale consistency, polyphony, and the share of time
    with two notes or more; NaN for no notes."""
    import muspy

    rate = MUSPY_RESOLUTION
    track = muspy.Track(program=0, is_drum=False)
    for onset, duration, pitch, velocity in performance:
        track.notes.append(muspy.Note(round(onset * rate), pitch, max(1, round(duration * rate)), velocity))
    music = muspy.Music(resolution=rate, tracks=[track])
    names = (
        "pitch_range",
        "n_pitches_used",
        "n_pitch_classes_used",
        "pitch_entropy",
        "pitch_class_entropy",
        "scale_consistency",
        "polyphony",
        "polyphony_rate",
    )
    return {name: float(getattr(muspy, name)(music)) if len(performance) else float("nan") for name in names}


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(1, counts.sum())


# Distances of histograms


def overlapped_area(first: np.ndarray, second: np.ndarray) -> float:
    """Shared area of two histograms that each sum to 1: 1 for the same, 0 for nothing in common [2]."""
    return float(np.minimum(first, second).sum())


def kl_divergence(first: np.ndarray, second: np.ndarray, floor: float = 1e-6) -> float:
    """Kullback-Leibler divergence of `first` from `second` in bits [2]; bins are raised to `floor`, so that it is finite."""
    p, q = (np.maximum(x, floor) / np.maximum(x, floor).sum() for x in (first, second))
    return float((p * np.log2(p / q)).sum())


# Bootstrap intervals


def bootstrap_interval(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of sum(values) / sum(weights) over pieces drawn with replacement [3]; seeded.

    With bits and notes of each piece these are the bounds of bits per note. For one piece both bounds are its
    own ratio. Without weights it is the interval of the mean.
    """
    above = np.asarray(values, float)
    below = np.ones(len(above)) if weights is None else np.asarray(weights, float)
    if len(above) == 0 or len(above) != len(below):
        raise ValueError(f"{len(above)} values and {len(below)} weights: give as many of both, at least one")
    rng = np.random.default_rng(seed)
    ratios = np.empty(draws)
    for at in range(0, draws, 1000):  # bounds memory for corpora of thousands of pieces
        drawn = rng.integers(0, len(above), (min(1000, draws - at), len(above)))
        ratios[at : at + len(drawn)] = above[drawn].sum(1) / below[drawn].sum(1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
