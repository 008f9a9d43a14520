"""Numbers that can be checked by hand."""

import numpy as np
import pytest

from ittybitty import metrics
from ittybitty.notes import Performance, shift, stretch, transpose


def piece(notes=200, seed=0):
    rng = np.random.default_rng(seed)
    return Performance.of(
        (t, rng.uniform(0.05, 1), int(rng.integers(40, 80)), int(rng.integers(20, 110)))
        for t in np.cumsum(rng.uniform(0.05, 0.3, notes))
    )


def test_an_unchanged_performance_has_no_error():
    error = metrics.round_trip_error(piece(), piece())
    assert error == {"onset_error_ms": 0, "duration_error_ms": 0, "velocity_error": 0, "notes_lost": 0, "notes": 200}


def test_round_trip_error_measures_a_known_change():
    rng = np.random.default_rng(1)
    original, notes = piece(), piece().notes.copy()
    notes["onset"] += rng.choice([-0.004, 0.004], 200)
    notes["duration"] += 0.010
    notes["velocity"] += rng.choice([-2, 2], 200)
    error = metrics.round_trip_error(original, Performance(np.sort(notes, order=("onset", "pitch"))))
    assert error["onset_error_ms"] == pytest.approx(4) and error["duration_error_ms"] == pytest.approx(10)
    assert error["velocity_error"] == pytest.approx(2) and error["notes_lost"] == 0


@pytest.mark.parametrize("lost", [1, 7, 60])
def test_lost_notes_are_counted_and_do_not_shift_the_others(lost):
    kept = np.sort(np.random.default_rng(lost).choice(200, 200 - lost, replace=False))
    error = metrics.round_trip_error(piece(), Performance(piece().notes[kept]))
    assert error["notes_lost"] == lost and error["onset_error_ms"] == 0


def test_added_notes_do_not_change_the_errors():
    assert metrics.round_trip_error(Performance(piece().notes[::3]), piece())["onset_error_ms"] == 0


def test_drift_is_measured_however_large():
    error = metrics.round_trip_error(piece(), stretch(piece(), 1.1))
    assert error["onset_error_ms"] == pytest.approx(100 * piece().notes["onset"].mean())


def test_the_error_is_nan_if_every_note_is_lost():
    error = metrics.round_trip_error(piece(3), Performance())
    assert error["notes_lost"] == 3 and np.isnan(error["onset_error_ms"])


def test_histograms_of_a_scale():
    scale = Performance.of((0.5 * i, 0.4, 60 + p, 80) for i, p in enumerate([0, 2, 4, 5, 7, 9, 11, 12]))
    classes = metrics.pitch_class_histogram(scale)
    assert (
        classes[0] == 0.25
        and classes[[2, 4, 5, 7, 9, 11]] == pytest.approx(0.125)
        and classes.sum() == pytest.approx(1)
    )
    steps = metrics.interval_histogram(scale)
    assert steps[24 + 2] == pytest.approx(5 / 7) and steps[24 + 1] == pytest.approx(2 / 7)
    gaps = metrics.ioi_histogram(scale)
    assert gaps.max() == 1 and metrics.IOI_EDGES[gaps.argmax()] <= 0.5 < metrics.IOI_EDGES[gaps.argmax() + 1]


def test_intervals_do_not_change_with_the_key_nor_times_with_the_start():
    assert np.array_equal(metrics.interval_histogram(piece()), metrics.interval_histogram(transpose(piece(), 5)))
    assert metrics.ioi_histogram(piece()) == pytest.approx(metrics.ioi_histogram(shift(piece(), 3.0)))
    assert metrics.note_density(piece()) == pytest.approx(metrics.note_density(shift(piece(), 3.0)))


def test_density_and_polyphony_by_hand():
    two = Performance.of([(1.0, 2.0, 60, 80), (2.0, 2.0, 64, 80), (6.0, 1.0, 60, 80)])
    assert metrics.note_density(two) == pytest.approx(3 / 6)
    assert metrics.polyphony(two) == pytest.approx(5 / 4)  # 1 s alone, 1 s both, 1 s alone, silence, 1 s alone


@pytest.mark.slow  # muspy is slow to import
def test_polyphony_is_muspys():
    ours, theirs = metrics.polyphony(piece()), metrics.musical_metrics(piece())
    assert theirs["polyphony"] == pytest.approx(ours, rel=0.08)  # muspy counts on a grid, and a key struck twice once
    assert theirs["pitch_class_entropy"] == pytest.approx(_entropy(metrics.pitch_class_histogram(piece())))


def _entropy(p):
    return -sum(x * np.log2(x) for x in p if x > 0)


def test_no_notes_have_no_metrics():
    nothing = Performance()
    assert metrics.note_density(nothing) == metrics.polyphony(nothing) == 0
    assert metrics.pitch_class_histogram(nothing).sum() == metrics.interval_histogram(nothing).sum() == 0


@pytest.mark.slow  # imports MusPy
def test_no_notes_have_no_musical_metrics():
    assert all(np.isnan(v) for v in metrics.musical_metrics(Performance()).values())


def test_repetition_by_hand():
    scale = [60, 62, 64, 65, 67]
    notes = lambda pitches: Performance.of((0.5 * i, 0.4, p, 80) for i, p in enumerate(pitches))  # noqa: E731
    assert metrics.repetition(notes(scale)) == 0
    assert metrics.repetition(notes(scale + scale)) == pytest.approx(2 / 7)  # of seven runs of four, two stood before
    assert metrics.repetition(notes([60] * 10)) == pytest.approx(6 / 7)
    assert np.isnan(metrics.repetition(notes(scale[:3])))


def test_self_similarity_distinguishes_a_repeat_from_new_music():
    again = join_all(shift(piece(40, seed=1), 8.0 * i) for i in range(4))  # a passage of a few seconds, four times
    new = join_all(shift(piece(40, seed=i), 8.0 * i) for i in range(4))
    assert metrics.self_similarity(again) > 0.6 > metrics.self_similarity(new) + 0.2
    assert metrics.self_similarity(transpose(again, 3)) == pytest.approx(metrics.self_similarity(again))
    assert np.isnan(metrics.self_similarity(piece(10)))


def join_all(pieces):
    return Performance(np.sort(np.concatenate([p.notes for p in pieces]), order=("onset", "pitch")))


def test_histograms_are_shares():
    for histogram in (metrics.duration_histogram, metrics.velocity_histogram, metrics.pitch_class_transitions):
        assert histogram(piece()).sum() == pytest.approx(1) and histogram(Performance()).sum() == 0
    two = Performance.of([(0, 1, 60, 8), (1, 1, 67, 127)])
    assert metrics.pitch_class_transitions(two)[12 * 0 + 7] == 1 and metrics.velocity_histogram(two)[
        [1, 15]
    ].tolist() == [0.5, 0.5]


def test_distances_of_histograms():
    p, q = np.array([0.5, 0.5, 0]), np.array([0, 0.5, 0.5])
    assert metrics.overlapped_area(p, p) == 1 and metrics.overlapped_area(p, q) == 0.5
    assert metrics.kl_divergence(p, p) == 0 and metrics.kl_divergence(
        np.array([1, 0]), np.array([0.5, 0.5])
    ) == pytest.approx(1, abs=1e-3)
    assert np.isfinite(metrics.kl_divergence(p, q))


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        notes = rng.integers(100, 1000, 40)
        low, high = metrics.bootstrap_interval(notes * rng.normal(10, 2, 40), notes, draws=400, seed=trial)
        held += low <= 10 <= high
    assert 0.87 < held / 200 < 0.99


def test_interval_is_seeded_and_ordered():
    values, weights = [10.0, 30.0, 20.0], [1.0, 2.0, 2.0]
    low, high = metrics.bootstrap_interval(values, weights)
    assert low < 60 / 5 < high and (low, high) == metrics.bootstrap_interval(values, weights)
    assert metrics.bootstrap_interval([7.0], [2.0]) == (3.5, 3.5)
    with pytest.raises(ValueError, match="at least one"):
        metrics.bootstrap_interval([], [])
