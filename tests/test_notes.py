"""A performance is a value: operations return new ones, and do what they say."""

from __future__ import annotations

import numpy as np
import pytest

from ittybitty import notes
from ittybitty.notes import Note, Performance


def test_performance_is_sorted_and_yields_notes():
    performance = Performance.of([(1.0, 0.5, 64, 70), (0.0, 2.0, 60, 80), (0.0, 1.0, 55, 60)], [(1.0, 0.5), (0.0, 0.2)])
    assert list(performance) == [Note(0.0, 1.0, 55, 60), Note(0.0, 2.0, 60, 80), Note(1.0, 0.5, 64, 70)]
    assert performance.pedals["onset"].tolist() == [0.0, 1.0]
    assert performance.end == 2.0 and len(performance) == 3


def test_an_empty_performance_passes_through_every_operation():
    empty = Performance()
    assert len(empty) == 0 and empty.end == 0.0 and list(empty) == []
    for same in (
        notes.shift(empty, 1),
        notes.transpose(empty, 3),
        notes.without_overlaps(empty),
        notes.join(empty, empty),
    ):
        assert same == empty
    assert notes.transposition_range(empty) == (-6, 6)


@pytest.mark.parametrize(
    "operation",
    [
        lambda p: notes.shift(p, 1.5),
        lambda p: notes.stretch(p, 1.1),
        lambda p: notes.transpose(p, 2),
        lambda p: notes.louder(p, 9),
        lambda p: notes.between(p, 1, 3),
        notes.without_overlaps,
    ],
)
def test_operations_do_not_change_their_input(performance, operation):
    before = Performance(performance.notes.copy(), performance.pedals.copy())
    operation(performance)
    assert performance == before


def test_stretch_and_shift_can_be_undone(performance):
    there_and_back = notes.stretch(notes.shift(notes.shift(notes.stretch(performance, 1.25), 3.0), -3.0), 0.8)
    assert np.allclose(there_and_back.notes["onset"], performance.notes["onset"])
    assert np.allclose(there_and_back.pedals["duration"], performance.pedals["duration"])


def test_transposition_stays_on_the_keyboard():
    edge = Performance.of([(0, 1, 22, 60), (0, 1, 105, 60)])
    assert notes.transposition_range(edge) == (-1, 3)
    assert notes.transpose(edge, 3).notes["pitch"].tolist() == [25, 108]
    with pytest.raises(ValueError, match="leaves the keyboard"):
        notes.transpose(edge, 4)


def test_louder_stays_within_midi(performance):
    assert notes.louder(performance, 200).notes["velocity"].max() == 127
    assert notes.louder(performance, -200).notes["velocity"].min() == 1


def test_between_cuts_the_pedal():
    performance = Performance.of([(0, 1, 60, 60), (2, 1, 62, 60), (4, 1, 64, 60)], [(0.0, 5.0), (6.0, 1.0)])
    part = notes.between(performance, 2, 4)
    assert [note.pitch for note in part] == [62]
    assert part.pedals.tolist() == [(2.0, 2.0)]


def test_joining_moves_no_note(performance):
    later = notes.shift(performance, performance.end)
    joined = notes.join(performance, later)
    assert len(joined) == 2 * len(performance) and joined.end == pytest.approx(2 * performance.end)
    assert notes.between(joined, 0, performance.end).notes.tolist() == performance.notes.tolist()


def test_key_is_released_when_struck_again():
    performance = Performance.of([(0, 5, 60, 50), (1, 1, 60, 60), (0.5, 3, 62, 70)])
    assert list(notes.without_overlaps(performance)) == [Note(0, 1, 60, 50), Note(0.5, 3, 62, 70), Note(1, 1, 60, 60)]


def test_double_strike_is_one_note():
    performance = Performance.of([(1, 2, 60, 50), (1, 3, 60, 40), (1, 1, 60, 90)])
    assert list(notes.without_overlaps(performance)) == [Note(1, 3, 60, 90)]


def test_no_two_strikes_overlap_in_any_performance():
    chance = np.random.default_rng(0)
    made = Performance.of(
        zip(
            chance.uniform(0, 10, 500),
            chance.uniform(0, 2, 500),
            chance.integers(60, 66, 500),
            chance.integers(1, 127, 500),
        )
    )
    clean = notes.without_overlaps(made)
    for pitch in range(60, 66):
        line = clean.notes[clean.notes["pitch"] == pitch]
        assert (line["onset"][:-1] + line["duration"][:-1] <= line["onset"][1:] + 1e-12).all()
    assert clean == notes.without_overlaps(clean)


# Beats


def test_beats_go_with_the_notes(performance):
    beats = np.arange(0, 9, 0.5)
    timed = Performance(performance.notes, performance.pedals, beats)
    assert timed == performance  # a clock laid over the music, not part of it
    assert notes.shift(timed, 1.5).beats.tolist() == (beats + 1.5).tolist()
    assert notes.stretch(timed, 1.1).beats.tolist() == (beats * 1.1).tolist()
    for same in (
        notes.transpose(timed, 2),
        notes.louder(timed, 5),
        notes.between(timed, 2, 3),
        notes.without_overlaps(timed),
    ):
        assert same.beats.tolist() == beats.tolist()
    assert notes.shift(performance, 1).beats is None


def test_beats_of_the_second_take_over_where_two_are_joined(performance):
    first = Performance(performance.notes, performance.pedals, np.arange(0.0, 9.0))
    second = Performance(beats=np.array([4.5, 5.25]))
    assert notes.join(first, second).beats.tolist() == [0, 1, 2, 3, 4, 4.5, 5.25]
    assert (
        notes.join(first, Performance()).beats is first.beats
        and notes.join(Performance(), second).beats is second.beats
    )
    assert notes.join(performance, Performance()).beats is None
