"""The tables of settings and of encodings say what a finer grid, more velocities, pedal, and each encoding cost and keep."""

import pytest

from ittybitty.tokenizers.tradeoffs import ENCODINGS, ROWS, encodings_table, settings_table
from performances import random_performance

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table():
    performances = [random_performance(seed, notes=400, seconds=120.0) for seed in range(2)]
    return {row["settings"]: row for row in settings_table(performances)}


def test_every_row_is_there(table):
    assert list(table) == list(ROWS)


def test_a_finer_grid_keeps_more_and_costs_more(table):
    rows = [table[name] for name in ("8 positions a beat", "12 positions", "16 positions", "24 positions")]
    errors, costs = ([row[key] for row in rows] for key in ("onset_error_ms", "tokens_per_note"))
    assert errors == sorted(errors, reverse=True) and errors[0] > 2.5 * errors[-1]
    assert costs == sorted(costs)


def test_more_velocities_keep_more_at_no_tokens(table):
    few, many = table["24 positions"], table["24 positions, 64 velocities"]
    assert many["velocity_error"] < 0.6 * few["velocity_error"]
    assert many["tokens_per_note"] == few["tokens_per_note"]


def test_default_keeps_its_promise(table):
    row = table["24 positions, pedal (remi)"]
    assert row["onset_error_ms"] <= 6 and row["notes_lost"] == 0 and row["pedal"]
    assert row["late_at_end_s"] < 0.02  # no drift


def test_published_settings_drift(table):
    assert table["8 positions, pedal, tempo, metre (remi-published)"]["late_at_end_s"] > 0.3


def test_rests_save_nothing(table):
    assert table["24 positions, rests"]["onset_error_ms"] == pytest.approx(
        table["24 positions"]["onset_error_ms"], abs=0.1
    )
    assert table["24 positions, rests"]["base_tokens"] > table["24 positions"]["base_tokens"]


def test_settings_of_a_users_own_give_their_own_row(table):
    from ittybitty.tokenizers.remi import Settings

    (row,) = settings_table([random_performance(9)], {"mine": Settings(((0, 8, 6),), velocities=4, pedal=False)})
    assert row["settings"] == "mine" and row["onset_error_ms"] > 10 and row["velocity_error"] > 5


@pytest.fixture(scope="module")
def encodings():
    performances = [random_performance(seed, notes=400, seconds=120.0) for seed in range(4)]
    return {row["encoding"]: row for row in encodings_table(performances[:2], performances[2:])}


def test_every_encoding_is_there(encodings):
    assert len(encodings) == len(ENCODINGS)
    for row, (_, size) in zip(encodings.values(), ENCODINGS):
        assert size is None or row["ids"] <= size


def test_an_encoding_that_keeps_more_needs_more_tokens(encodings):
    assert encodings["pitch-string, 1,279"]["tokens_per_note"] <= 1.1 < encodings["remi, 2,000"]["tokens_per_note"]
    sizes = [encodings[name]["tokens_per_note"] for name in ("remi", "remi, 512", "remi, 1,024", "remi, 2,000")]
    assert sizes == sorted(sizes, reverse=True)


def test_errors_are_given_of_what_is_kept_alone(encodings):
    strings = encodings["pitch-string, 1,279"]
    assert strings["keeps"] == ["pitch"] and strings["onset_error_ms"] is strings["late_at_end_s"] is None
    assert 0.3 < strings["keys_kept"] < 0.9  # random keys are rarely near middle C
    assert (
        encodings["remi"]["keys_kept"] > 0.999
        and encodings["remi"]["onset_error_ms"] == encodings["remi, 512"]["onset_error_ms"] <= 6
    )
    assert 14 < encodings["remi-rests"]["onset_error_ms"] < 17 and encodings["remi-rests"]["late_at_end_s"] < 0.04
    assert encodings["remi-published, 2,000"]["late_at_end_s"] > 0.3
