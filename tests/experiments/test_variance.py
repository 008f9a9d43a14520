"""Shares of variance add up, find the factor that matters, and are of complete blocks only."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ittybitty.experiments import variance
from ittybitty.experiments.factors import FACTORS

LEVELS = (("notes", "remi"), ("adamw", "muon"), ("hybrid", "llama", "mamba"))


def record(cell, bits, seed=0, rate=1.0, nll=1.0, passes=0.1, seconds=60.0, pieces=12) -> dict:
    """A results file of one run; pieces differ by up to 6 bits a note, the same for every cell."""
    rows = [{"name": f"p{i}", "notes": 100 + i, "bits": (bits + 0.5 * i) * (100 + i)} for i in range(pieces)]
    return {
        **dict(zip(FACTORS, cell)),
        "rate": rate,
        "bits_per_note": bits,
        "per_piece": rows,
        "settings": {"passes": passes},
        "training": {"seed": seed, "validation_nll": nll, "processor_seconds": seconds},
    }


def factorial(effect, **given) -> list[dict]:
    return [record(cell, effect(*cell), **given) for cell in product(*LEVELS)]


def test_shares_add_up_to_one_and_effects_are_orthogonal():
    values = np.random.default_rng(0).normal(size=(2, 3, 4))
    found = variance.shares(values)
    assert len(found) == 7 and sum(found.values()) == pytest.approx(1)
    assert variance.shares(np.ones((2, 2, 2))) == dict.fromkeys(found, 0.0)


def test_a_factor_that_alone_matters_explains_everything():
    found = variance.analysis(factorial(lambda e, o, a: 16.0 - 2 * (e == "notes")), draws=50)
    assert found["shares"]["encoding"]["share"] == pytest.approx(1)
    assert found["shares"]["encoding"]["ci95"] == pytest.approx([1, 1]), "pieces are drawn for all cells alike"
    assert found["means"]["encoding"]["remi"]["more_than_best"] == pytest.approx(2)
    assert found["cells_in_block"] == found["cells_run"] == 12


def test_an_interaction_is_told_from_the_factors():
    found = variance.analysis(factorial(lambda e, o, a: 16.0 + ((e == "notes") == (o == "muon"))), draws=20)["shares"]
    assert found["encoding x optimizer"]["share"] == pytest.approx(1) and found["encoding"]["share"] < 1e-9


def test_the_typical_change_of_a_factor_is_hardly_moved_by_a_cell_that_has_not_learnt():
    def bits(e, o, a):
        return 16.0 - 2 * (e == "notes") - (o == "muon") - 0.25 * (a == "llama")

    found = variance.analysis(factorial(bits), draws=20)["changes"]
    assert [found[name]["bits_per_note"] for name in FACTORS] == pytest.approx([2, 1, 0.25])
    assert found["encoding"]["ci95"] == pytest.approx([2, 2])
    failed = ("remi", "adamw", "hybrid")
    runs = factorial(lambda *cell: 30.0 if cell == failed else bits(*cell))
    found = variance.analysis(runs, draws=20)
    assert [found["changes"][name]["bits_per_note"] for name in FACTORS] == pytest.approx([2, 1, 0.25])
    assert found["shares"]["encoding"]["share"] < 0.25
    one = [run for run in factorial(bits) if run["architecture"] == "hybrid"]
    assert variance.analysis(one, draws=5)["changes"].keys() == {"encoding", "optimizer"}, (
        "what was not varied has no effect to tell"
    )


def test_the_best_rate_of_a_cell_is_chosen_by_the_trainings_own_validation():
    runs = factorial(lambda *cell: 16.0)
    runs += [record(cell, 15.0, rate=2.0, nll=0.9) for cell in product(*LEVELS)]
    runs += [record(cell, 14.0, rate=4.0, nll=1.1) for cell in product(*LEVELS)]
    assert {one["rate"] for chosen in variance.cells(runs).values() for one in chosen} == {2.0}


def test_seeds_widen_the_intervals():
    one = factorial(lambda e, o, a: 16.0 - 2 * (e == "notes"))
    several = one + [record(cell, 19.0 - 2 * (cell[0] == "notes"), seed=1) for cell in product(*LEVELS)]
    found = variance.analysis(several, draws=100)
    low, high = found["means"]["encoding"]["remi"]["ci95"]
    assert found["seeds"] == 2 and low < 2 < high and high - low > 0.1


def test_a_block_of_two_factors_goes_before_a_longer_one_of_one_factor():
    long = [("notes", "muon", name) for name in ("hybrid", "llama", "lstm", "mamba", "ssm")]
    square = [(encoding, optimizer, "hybrid") for encoding in ("notes", "remi") for optimizer in ("adamw", "muon")]
    assert variance.block(set(long + square)) == [["notes", "remi"], ["adamw", "muon"], ["hybrid"]]
    assert variance.block(set(long)) == [["notes"], ["muon"], ["hybrid", "llama", "lstm", "mamba", "ssm"]]


def test_a_missing_cell_leaves_the_largest_complete_block():
    runs = [one for one in factorial(lambda *cell: 16.0) if (one["encoding"], one["architecture"]) != ("remi", "mamba")]
    found = variance.analysis(runs, draws=5)
    assert found["levels"]["architecture"] == ["hybrid", "llama"] and found["cells_in_block"] == 8
    assert found["cells_run"] == 10
    assert variance.analysis([], draws=5)["shares"] == {}
    assert variance.analysis(runs[:1], draws=5)["shares"] == {}


def test_of_several_amounts_the_largest_counts():
    runs = factorial(lambda *cell: 18.0, passes=0.05) + factorial(lambda *cell: 16.0, passes=0.1)
    assert {one["bits_per_note"] for chosen in variance.cells(runs).values() for one in chosen} == {16.0}


def test_equal_processor_time_is_analysed_apart_from_equal_music():
    music = factorial(lambda e, o, a: 16.0 - 2 * (e == "notes"))
    timed = [
        {**one, "settings": {"passes": 0.1, "seconds": 60}} for one in factorial(lambda e, o, a: 16.0 - (o == "muon"))
    ]
    equal_music, equal_time = (variance.analysis(music + timed, draws=20, timed=which) for which in (False, True))
    assert equal_music["shares"]["encoding"]["share"] == pytest.approx(1)
    assert equal_time["shares"]["optimizer"]["share"] == pytest.approx(1)


def test_a_difference_of_two_cells_is_paired_by_piece_and_drawn_over_seeds():
    cell = LEVELS[0][0], LEVELS[1][0], LEVELS[2][0]
    apart = [record(cell, 16.0), record(cell, 16.2, seed=1)], [record(cell, 15.0), record(cell, 15.0, seed=1)]
    more, low, high = variance.difference(*apart)
    assert more == pytest.approx(1.1) and low == pytest.approx(1.0) and high == pytest.approx(1.2)
    assert variance.difference(apart[0][:1], apart[1][:1]) == pytest.approx((1.0, 1.0, 1.0)), "pieces differ alike"
    assert variance.moves(apart[0]) == pytest.approx(0.2) and variance.moves(apart[1][:1]) == 0.0
