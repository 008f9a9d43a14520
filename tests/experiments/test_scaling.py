"""The power law is found again where it holds, and its promises carry the scatter of the runs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ittybitty.experiments import scaling

LAW = {"E": 9.0, "A": 1.0, "B": 3.0, "a": 0.4, "b": 0.3}
GRID = list(product((1.0, 2.0, 4.6, 8.4), (0.3, 0.6, 1.2)))


def record(size: float, notes: float, bits: float) -> dict:
    pieces = [{"name": f"p{i}", "notes": 100, "bits": 100 * (bits + i)} for i in range(-3, 4)]
    training = {"tokens": notes * 4e6}
    return {"parameters": size * 1e6, "tokens_per_note": 4.0, "training": training, "per_piece": pieces}


def test_a_law_that_holds_is_found_again():
    found = scaling.fit(*zip(*GRID), [scaling.predict(LAW, *where) for where in GRID])
    assert found == pytest.approx({**LAW, "deviation": 0.0}, abs=1e-6)


def test_no_part_of_a_law_is_negative():
    rising = [10 + size for size, _ in GRID]  # more parameters are worse: no power law says that
    found = scaling.fit(*zip(*GRID), rising)
    assert min(found.values()) >= 0 and found["A"] == 0


def test_too_few_runs_are_refused():
    with pytest.raises(ValueError, match="3 runs"):
        scaling.fit([1, 2, 4], [1, 1, 1], [3, 2, 1])


@pytest.mark.slow
def test_the_interval_of_a_promise_grows_with_the_scatter_of_the_runs():
    random = np.random.default_rng(0)
    noises = {scale: scale * random.normal(size=len(GRID)) for scale in (0.0, 0.1)}
    widths = []
    for scale, noise in noises.items():
        runs = [record(*where, scaling.predict(LAW, *where) + more) for where, more in zip(GRID, noise)]
        [told] = scaling.analysis(runs, [(4.6, 12.0)], draws=20)["predictions"]
        widths.append(told["ci95"][1] - told["ci95"][0])
        if not scale:
            assert told["bits_per_note"] == pytest.approx(scaling.predict(LAW, 4.6, 12.0), abs=1e-6)
    assert widths[1] > widths[0]
