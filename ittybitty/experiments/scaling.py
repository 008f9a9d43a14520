"""A power law of bits per note in parameters and notes of training, with what it promises for other sizes and more music.

    L(N, D) = E + A N^-a + B D^-b                                                       [1] eq. 2

N parameters in millions, D notes of training in millions (a note that is read twice counts twice), L bits per note on the
same held-out pieces. Exponents are tried on a grid; for each pair, E, A and B are the least squares without negative values.

    found = fit(sizes, notes, bits)
    predict(found, 25.6, 56.6)

Intervals come from fits to pieces drawn with replacement, for all runs alike, plus normal noise of the standard deviation
that the runs themselves have about the fit: a run with another seed would lie elsewhere.

[1] Hoffmann et al. 2022, Training compute-optimal large language models.

Left out: notes that are read again are worth less than new ones, so promises of many passes are too good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from .variance import bits_of

EXPONENTS = np.round(np.arange(0.05, 1.51, 0.05), 2)  # tried for a and for b
TERMS = ((0, 1, 2), (1, 2), (0, 2), (0, 1), (2,), (1,), (0,))  # of E, A, B that may differ from 0
DRAWS = 400


def fit(sizes: Sequence[float], notes: Sequence[float], bits: Sequence[float]) -> dict[str, float]:
    """{"E", "A", "B", "a", "b", "deviation"} of the law nearest to the runs; ValueError for fewer than four runs."""
    if len(bits) < 4:
        raise ValueError(f"{len(bits)} runs do not hold five unknowns: give four or more")
    designs = _designs(np.asarray(sizes, float), np.asarray(notes, float))
    return _fit(designs, np.asarray(bits, float))


def _designs(sizes: np.ndarray, notes: np.ndarray) -> list[tuple]:
    """(terms, designs (exponents, runs, terms), their pseudo-inverses) of every law that is tried."""
    full = np.stack([np.stack([np.ones_like(sizes), sizes**-a, notes**-b], axis=1) for a, b in _PAIRS])
    return [(terms, full[..., terms], np.linalg.pinv(full[..., terms])) for terms in TERMS]


_PAIRS = list(product(EXPONENTS.tolist(), EXPONENTS.tolist()))


def _fit(designs: Sequence[tuple], bits: np.ndarray) -> dict[str, float]:
    best: tuple[float, int, dict] = (np.inf, 0, {})
    for terms, design, inverse in designs:
        values = inverse @ bits  # (exponents, terms)
        errors = ((np.einsum("prt,pt->pr", design, values) - bits) ** 2).sum(1)
        errors[(values < 0).any(1)] = np.inf
        least = int(errors.argmin())
        if errors[least] < best[0] - 1e-12:
            best = float(errors[least]), least, dict(zip(terms, values[least]))
    left, pair, values = best
    E, A, B = (float(values.get(i, 0.0)) for i in range(3))
    a, b = _PAIRS[pair]
    return {"E": E, "A": A, "B": B, "a": a, "b": b, "deviation": (left / max(1, len(bits) - 5)) ** 0.5}


def predict(law: Mapping[str, float], size: float, notes: float) -> float:
    """Bits per note that a law promises for `size` million parameters after `notes` million notes."""
    return law["E"] + law["A"] * size ** -law["a"] + law["B"] * notes ** -law["b"]


def analysis(
    records: Sequence[Mapping], asked: Sequence[tuple[float, float]], draws: int = DRAWS, seed: int = 0
) -> dict:
    """The law of these results files, and bits per note with 95% intervals at each asked (parameters, notes) in millions.

    {"law", "points": [(size, notes, bits)], "predictions": [{"bits_per_note", "ci95"}]}
    """
    names = sorted(set.intersection(*({piece["name"] for piece in run["per_piece"]} for run in records)))
    bits, notes = bits_of(records, names)  # (runs, pieces), (pieces,)
    sizes = np.array([run["parameters"] / 1e6 for run in records])
    read = np.array([run["training"]["tokens"] / run["tokens_per_note"] / 1e6 for run in records])
    measured = bits.sum(1) / notes.sum()
    law = fit(sizes.tolist(), read.tolist(), measured.tolist())
    random, designs, drawn = np.random.default_rng(seed), _designs(sizes, read), []
    for _ in range(draws):
        pieces = random.integers(len(names), size=len(names))
        noise = random.normal(0.0, law["deviation"], len(records))
        other = _fit(designs, bits[:, pieces].sum(1) / notes[pieces].sum() + noise)
        drawn.append([predict(other, *where) for where in asked])
    found = [
        {"bits_per_note": predict(law, *where), "ci95": np.percentile([one[i] for one in drawn], (2.5, 97.5)).tolist()}
        for i, where in enumerate(asked)
    ]
    return {"law": law, "points": list(zip(sizes.tolist(), read.tolist(), measured.tolist())), "predictions": found}
