"""A two-sample test: can a small classifier tell a model's continuations from what pianists played?

    result = two_sample("tiny", data)
    result["accuracy"], result["ci95"]        # 0.5: it cannot; 1.0: always

Each of n held-out pieces gives two excerpts, both of which follow the same opening: the model's continuation, and what the
pianist played, rounded to the model's encoding so that no grid gives it away. A classifier learns on some pieces to tell
which is which, and is asked about pieces that it has not seen (cross-validation in ten parts; the two excerpts of a piece are
always in the same part) [1]. Accuracy is the share of the 2 n excerpts that it gets right, with a bootstrap interval over pieces.

It sees the features of ears/matching.py (notes per second, register, velocity, durations, pitch classes, gaps between
onsets) and the measures of ears/faults.py (the largest share of one key, the longest silence); "fit" adds how far each
feature is from that of the opening. Every group is also tried alone: what gives a model away.

The control is the same test between two minutes of the same pianists: what this test finds where there is nothing to find
but the progress of a piece.

The classifier is logistic regression with a fixed penalty, fitted by Newton's method, on features that have mean 0 and
standard deviation 1 on the pieces it learns on. A classifier that reads notes could find more: accuracy near 0.5 does not mean that
people cannot tell.

[1] Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests. ICLR, arXiv:1610.06545.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .. import checkpoint, metrics
from ..corpora import Corpus
from ..errors import ConfigError, CorpusError
from ..notes import Performance, between, shift
from .bits import chosen_pieces, shown
from .ears import PIANISTS, Plan, faults, matching
from .ears.measure import Model, chosen_openings, read_performances
from .results import data_hash, header

PARTS = 10  # of the cross-validation
PENALTY = 1.0  # on the squares of the weights of standardized features
FEWEST = 10  # pieces
ALL_PIECES = Plan(pieces=137, long=0, whole_files=0)  # of MAESTRO's validation split
FAULTS = ("largest_share", "longest_silence")
GROUPS = {**matching.GROUPS, "faults": FAULTS}


def features(excerpt: Performance, seconds: float) -> np.ndarray:
    """(24,) features of an excerpt of `seconds`: those of ears/matching.py, then FAULTS; NaN for fewer than two notes."""
    if len(excerpt) < 2:
        return np.full(sum(map(len, GROUPS.values())), np.nan)
    silence = faults.longest_silence(excerpt, 0.0, seconds)
    own = [faults.largest_share(excerpt), np.log2(max(silence, 0.01))]
    return np.concatenate([matching.features(excerpt, seconds), own])


def fit_logistic(x: np.ndarray, y: np.ndarray, penalty: float = PENALTY, steps: int = 30) -> np.ndarray:
    """Weights (d + 1,), the last one the constant, of logistic regression of y (n,) in {0, 1} on x (n, d), by Newton's method.

    Minimises the sum of log losses + penalty / 2 times the squared weights; the constant is not penalised.
    """
    rows = np.column_stack([x, np.ones(len(x))])
    ridge = penalty * np.eye(rows.shape[1])
    ridge[-1, -1] = 1e-6  # keeps the matrix regular
    weights = np.zeros(rows.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (p - y) + ridge @ weights
        bend = (rows * (p * (1 - p))[:, None]).T @ rows + ridge
        change = np.linalg.solve(bend, slope)
        weights -= change
        if np.abs(change).max() < 1e-8:
            break
    return weights


def told_apart(first: np.ndarray, second: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, 2) bool: was each of n pairs' excerpts, (n, d) features each, recognised by a classifier of the other pieces?"""
    n = len(first)
    part = np.random.default_rng(seed).permutation(n) % min(PARTS, n)
    right = np.zeros((n, 2), bool)
    for held_out in range(part.max() + 1):
        out = part == held_out
        x = np.concatenate([first[~out], second[~out]])
        mean, spread = x.mean(0), x.std(0)
        spread[spread < 1e-12] = 1.0
        y = np.repeat([0.0, 1.0], (~out).sum())
        weights = fit_logistic((x - mean) / spread, y)
        for side, rows in enumerate((first, second)):
            score = (rows[out] - mean) / spread @ weights[:-1] + weights[-1]
            right[out, side] = (score > 0) == bool(side)
    return right


def accuracy(first: np.ndarray, second: np.ndarray, seed: int = 0) -> dict:
    """{"accuracy", "ci95", "pieces"} of telling (n, d) features of one kind from those of the other, pair by pair."""
    right = told_apart(first, second, seed).mean(1)
    return {
        "accuracy": float(right.mean()),
        "ci95": list(metrics.bootstrap_interval(right)),
        "pieces": len(right),
    }


def compare(played: np.ndarray, made: np.ndarray, openings: np.ndarray, seed: int = 0) -> dict:
    """Accuracy with all features, with their distances from the opening as well, and with each group alone.

    All three are (n, 24), of the same n pieces. CorpusError for fewer than FEWEST pieces.
    """
    if len(played) < FEWEST:
        raise CorpusError(f"{len(played)} pieces are too few for a classifier: give {FEWEST} or more, or longer ones")
    fit = [np.concatenate([one, np.abs(one - openings)], axis=1) for one in (played, made)]
    ends = np.cumsum([len(names) for names in GROUPS.values()])
    groups = {name: slice(end - len(names), end) for (name, names), end in zip(GROUPS.items(), ends)}
    return {
        **accuracy(played, made, seed),
        "fit": accuracy(fit[0], fit[1], seed),
        "by_group": {name: accuracy(played[:, part], made[:, part], seed) for name, part in groups.items()},
    }


def two_sample(
    name: str | Path,
    data: str | Path | Corpus | None,
    split: str = "validation",
    plan: Plan = ALL_PIECES,
    seed: int = 0,
    progress: bool = True,
    **sampling,
) -> dict:
    """The test of a shipped model or run folder; pieces that last `plan.opening + plan.seconds` take part.

    `sampling` are fields of GenerationConfig. Raises CheckpointError, ConfigError, and CorpusError where too few pieces are
    long enough. A continuation with fewer than two notes is left out with its piece, and counted under "without_notes".
    """
    if name == PIANISTS:
        raise ConfigError(f"{PIANISTS} are what a model is told from: give a model")
    found = checkpoint.load(name)
    corpus, pieces = chosen_pieces(data, split, None, found.configs["data"].corpus)
    performances = read_performances(pieces, progress)
    openings = chosen_openings(performances, plan, corpus.name)
    player = Model(found, sampling)
    kept: dict[str, list[np.ndarray]] = {"played": [], "made": [], "openings": [], "later": [], "before": []}
    silent = 0
    for i, one in enumerate(shown(openings, progress, "continuing")):
        made = features(player.play(one, 1000 * seed + i, seconds=plan.seconds), plan.seconds)
        coded = _coded(found.tokenizer, one.rest, 2 * plan.seconds)
        played = features(between(coded, 0.0, plan.seconds), plan.seconds)
        later = features(shift(between(coded, plan.seconds, 2 * plan.seconds), -plan.seconds), plan.seconds)
        opening = features(shift(one.seed, -float(one.seed.notes["onset"][0])), plan.opening)
        if np.isnan(made).any() or np.isnan(played).any():
            silent += 1
            continue
        for key, row in (("played", played), ("made", made), ("openings", opening)):
            kept[key].append(row)
        if not np.isnan(later).any() and one.rest.end >= 2 * plan.seconds:
            kept["before"].append(played)
            kept["later"].append(later)
    control = None
    if len(kept["later"]) >= FEWEST:
        control = accuracy(np.array(kept["before"]), np.array(kept["later"]), seed)
    return {
        "measures": "two-sample test",
        **compare(np.array(kept["played"]), np.array(kept["made"]), np.array(kept["openings"]), seed),
        "control": control,
        "without_notes": silent,
        **header(found, corpus, split),
        "data_hash": data_hash([{"name": one.name, "notes": len(one.seed)} for one in openings]),
        "plan": {key: value for key, value in asdict(plan).items() if key in ("pieces", "opening", "seconds")},
        "seed": seed,
        "sampling": _settings(player.piano.sampling, sampling),
    }


def _coded(tokenizer, performance: Performance, seconds: float) -> Performance:
    """The first `seconds` of a performance as the encoding keeps them."""
    piece = between(performance, 0.0, seconds)
    if not len(piece):
        return piece
    return tokenizer.decode(tokenizer.encode(tokenizer.prepare(piece)))


def _settings(usual: object, changed: Mapping) -> dict:
    """The sampling settings that were used."""
    every: Sequence[str] = [key for key in vars(usual) if key.endswith(("temperature", "top_k", "top_p"))]
    return {key: changed.get(key, getattr(usual, key)) for key in every}
