"""Analysis of variance of a factorial: how much of the spread of bits per note each factor explains.

    found = analysis(records)            # results files of a recipe of kind "factors"
    found["shares"]["encoding"]          # {"share": 0.81, "ci95": [0.78, 0.84]}

A cell is one encoding, optimizer and architecture at its best rate; its value is the mean over its seeds. The analysis needs
a complete block, a product of levels of the factors in which no cell is missing: of all cells that were run, the one in which
most factors have two levels or more, and of such blocks the largest.
Total sum of squares = that of each factor + that of each pair + that of all three together. With one seed a cell, chance
cannot be told from the interaction of all three, and is counted there.

Sums of squares are ruled by the cells that lie far out, such as one that learns nothing. So the analysis also has the median of
what a change of one factor alone changes, over all pairs of cells.

Intervals are bootstrap intervals over pieces, drawn for all cells alike, because what makes a piece hard is no part of the
comparison; where cells have several seeds, these are drawn too.

Of cells that were trained on several amounts of music, the largest counts. With `timed` the values are those of the runs
of equal processor time in place of equal music, one seed each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product

import numpy as np

from .factors import FACTORS

DRAWS = 1000
Cell = tuple[str, ...]  # a level of each of FACTORS


def cells(records: Iterable[Mapping], timed: bool = False) -> dict[Cell, list[Mapping]]:
    """{cell: its records at its best rate, one a seed}; the best rate has the lowest loss on training's validation windows.

    Of equal music, or with `timed` of equal processor time.
    """
    chosen = [record for record in records if ("seconds" in record["settings"]) == timed]
    most = max((record["settings"]["passes"] for record in chosen), default=0.0)
    found: dict[Cell, list[Mapping]] = {}
    for record in (record for record in chosen if record["settings"]["passes"] == most):
        found.setdefault(tuple(record[name] for name in FACTORS), []).append(record)
    return {cell: _at_best_rate(runs) for cell, runs in found.items()}


def _at_best_rate(runs: Sequence[Mapping]) -> list[Mapping]:
    first = [run for run in runs if run["training"]["seed"] == 0] or list(runs)
    best = min(first, key=lambda run: run["training"]["validation_nll"])["rate"]
    return [run for run in runs if run["rate"] == best]


def block(present: Iterable[Cell]) -> list[list[str]]:
    """Levels of each factor of the complete block that compares most factors; of equal ones of the largest, and then of the one
    with more levels of the later factors.
    """
    present = set(present)
    levels = [sorted({cell[i] for cell in present}) for i in range(len(FACTORS))]
    chosen = [[list(some) for n in range(1, len(every) + 1) for some in combinations(every, n)] for every in levels]
    whole = [one for one in product(*chosen) if all(cell in present for cell in product(*one))]
    if not whole:
        return [[] for _ in FACTORS]

    def worth(one: Iterable[list[str]]) -> tuple:
        sizes = tuple(map(len, one))
        return sum(size > 1 for size in sizes), math.prod(sizes), min(sizes), sizes[::-1]

    return list(max(whole, key=worth))


def shares(values: np.ndarray) -> dict[str, float]:
    """Share of the total sum of squares of each factor and each interaction, for values (a, b, c) of a complete block.

    Keys are names of factors joined by " x ". Without any spread all shares are 0.
    """
    centred = values - values.mean()
    total = float((centred**2).sum())
    effects: dict[tuple[int, ...], np.ndarray] = {}
    found = {}
    for size in range(1, values.ndim + 1):
        for axes in combinations(range(values.ndim), size):
            others = tuple(i for i in range(values.ndim) if i not in axes)
            effect = centred.mean(axis=others, keepdims=True)
            for below, part in effects.items():
                if set(below) < set(axes):
                    effect = effect - part
            effects[axes] = effect
            squares = float((np.broadcast_to(effect, values.shape) ** 2).sum())
            found[" x ".join(FACTORS[i] for i in axes)] = squares / total if total > 0 else 0.0
    return found


def changes(values: np.ndarray) -> dict[str, float]:
    """Bits per note by which two cells differ that are alike but for one factor, the median over all such pairs of cells.

    For values (a, b, c) of a complete block; a factor of one level has no such pairs and is left out. A cell that has failed to
    learn moves a median little, and shares a lot.
    """
    found = {}
    for axis, name in enumerate(FACTORS):
        apart = [
            np.abs(values.take(i, axis) - values.take(j, axis)) for i, j in combinations(range(values.shape[axis]), 2)
        ]
        if apart:
            found[name] = float(np.median(apart))
    return found


def bits_of(runs: Sequence[Mapping], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Bits (seeds, pieces) and notes (pieces,) of the named pieces."""
    rows = [{piece["name"]: piece for piece in run["per_piece"]} for run in runs]
    notes = np.array([rows[0][name]["notes"] for name in names], float)
    return np.array([[row[name]["bits"] for name in names] for row in rows]), notes


def analysis(records: Sequence[Mapping], draws: int = DRAWS, seed: int = 0, timed: bool = False) -> dict:
    """Shares of variance with 95% intervals, means of levels and differences between them, for the largest complete block.

    {"levels", "cells_run", "cells_in_block", "seeds", "shares", "changes", "means"}; "shares", "changes" and "means" are {}
    where fewer than two factors have two levels.
    """
    every = cells(records, timed)
    levels = block(every)
    inside = list(product(*levels))
    result: dict = {
        "levels": dict(zip(FACTORS, levels)),
        "cells_run": len(every),
        "cells_in_block": len(inside),
        "seeds": min((len(every[cell]) for cell in inside), default=0),
        "shares": {},
        "changes": {},
        "means": {},
    }
    if sum(len(one) > 1 for one in levels) < 2:  # a factor alone explains everything: that says nothing
        return result
    names = sorted(set.intersection(*({p["name"] for p in run["per_piece"]} for c in inside for run in every[c])))
    spent = {cell: bits_of(every[cell], names) for cell in inside}
    shape = tuple(map(len, levels))
    random = np.random.default_rng(seed)
    drawn = [_values(spent, inside, shape, *_draw(random, spent, len(names))) for _ in range(draws)]
    values = _values(spent, inside, shape, None, None)
    result["shares"] = _with_intervals("share", shares, values, drawn)
    result["changes"] = _with_intervals("bits_per_note", changes, values, drawn)
    for axis, name in enumerate(FACTORS):
        others = tuple(i for i in range(len(FACTORS)) if i != axis)
        means = values.mean(axis=others)
        spread = np.array([one.mean(axis=others) for one in drawn])
        best = int(means.argmin())
        more = spread - spread[:, [best]]
        result["means"][name] = {
            level: {
                "bits_per_note": float(means[i]),
                "more_than_best": float(means[i] - means[best]),
                "ci95": np.percentile(more[:, i], (2.5, 97.5)).tolist(),
            }
            for i, level in enumerate(levels[axis])
        }
    return result


def _with_intervals(name: str, told: Callable, values: np.ndarray, drawn: Sequence[np.ndarray]) -> dict[str, dict]:
    """What `told` says of the values, with the 95% interval of what it says of the drawn ones."""
    every = [told(one) for one in drawn]
    bounds = {key: np.percentile([one[key] for one in every], (2.5, 97.5)).tolist() for key in every[0]}
    return {key: {name: value, "ci95": bounds[key]} for key, value in told(values).items()}


def _draw(random: np.random.Generator, spent: Mapping, pieces: int) -> tuple[np.ndarray, dict[Cell, np.ndarray]]:
    """Pieces, the same for all cells, and seeds of each cell, drawn with replacement."""
    seeds = {cell: random.integers(len(bits), size=len(bits)) for cell, (bits, _) in spent.items()}
    return random.integers(pieces, size=pieces), seeds


def _values(spent: Mapping, inside: Sequence[Cell], shape: tuple[int, ...], pieces, seeds) -> np.ndarray:
    """Bits per note of each cell of the block, of the drawn pieces and seeds, or of all."""
    found = []
    for cell in inside:
        bits, notes = spent[cell]
        if pieces is not None:
            bits, notes = bits[seeds[cell]][:, pieces], notes[pieces]
        found.append(bits.sum(1).mean() / notes.sum())
    return np.array(found).reshape(shape)


def difference(
    first: Sequence[Mapping], second: Sequence[Mapping], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """Bits per note that the runs of one cell need more than those of another, and the bounds of its 95% interval.

    Means over seeds, on the pieces that all runs share; NaN where there are none. Pieces are drawn for both alike, seeds for
    each on its own.
    """
    names = sorted(set.intersection(*({piece["name"] for piece in run["per_piece"]} for run in (*first, *second))))
    if not names:
        return math.nan, math.nan, math.nan
    (ours, notes), (theirs, _) = bits_of(first, names), bits_of(second, names)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        pieces = random.integers(len(names), size=len(names))
        some, others = (bits[random.integers(len(bits), size=len(bits))].mean(0)[pieces] for bits in (ours, theirs))
        found.append((some - others).sum() / notes[pieces].sum())
    low, high = np.percentile(found, (2.5, 97.5))
    return float((ours.mean(0) - theirs.mean(0)).sum() / notes.sum()), float(low), float(high)


def moves(runs: Sequence[Mapping]) -> float:
    """How far two seeds of a cell lie apart at most, in bits per note; 0 for one seed."""
    bits = [run["bits_per_note"] for run in runs]
    return max(bits) - min(bits) if bits else 0.0
