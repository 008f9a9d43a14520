"""A copy is found, in any key, at its full length and in the right piece; a change, a cut or another rhythm ends it."""

import numpy as np
import pytest

from ittybitty.corpora import Piece
from ittybitty.errors import CorpusError
from ittybitty.evaluation.memorisation import KINDS, Match, TrainingIndex, symbols
from ittybitty.notes import Performance, between, shift, stretch, transpose


def music(notes=300, seed=0):
    rng = np.random.default_rng(seed)
    onsets = np.cumsum(rng.integers(3, 30, notes)) / 48
    return Performance.of((t, 0.2, int(p), 80) for t, p in zip(onsets, rng.integers(40, 80, notes)))


def index_of(*performances, kind="pitch and time"):
    return TrainingIndex([(f"piece {i}", symbols(p, kind)) for i, p in enumerate(performances)], kind)


def by_hand(line, lines):
    """Longest common run, the slow truth."""
    best = 0
    for other in lines:
        for i in range(len(line)):
            for j in range(len(other)):
                n = 0
                while i + n < len(line) and j + n < len(other) and line[i + n] == other[j + n]:
                    n += 1
                best = max(best, n)
    return best


@pytest.mark.parametrize("kind", KINDS)
def test_a_transposed_copy_is_found_with_its_place(kind):
    training = [music(seed=i) for i in range(4)]
    onsets = training[2].notes["onset"]
    excerpt = shift(transpose(between(training[2], onsets[100], onsets[160]), 3), -onsets[100])
    (match,) = index_of(*training, kind=kind).longest([symbols(excerpt, kind)])
    assert match == Match(60, 0, "piece 2", 100)


def test_longest_runs_are_those_of_the_slow_truth():
    """Lines of few symbols, which share runs of every length."""
    rng = np.random.default_rng(0)
    training, lines = ([rng.integers(0, 3, n) for n in sizes] for sizes in ((60, 5, 80), (40, 1, 0, 70, 12)))
    index = TrainingIndex([(str(i), line) for i, line in enumerate(training)])
    for line, match in zip(lines, index.longest(lines)):
        expected = by_hand(line, training)
        assert match.notes == (expected + 1 if expected else 0)
        if expected:
            own = line[match.start : match.start + expected]
            assert np.array_equal(own, training[int(match.piece)][match.piece_note : match.piece_note + expected])
        for length in (1, 2, 3, 5, 8):
            shared = [
                any(
                    np.array_equal(line[i : i + length], t[j : j + length])
                    for t in training
                    for j in range(len(t) - length + 1)
                )
                for i in range(len(line) - length + 1)
            ]
            assert index.shared(line, length).tolist() == shared


def test_no_run_crosses_from_one_piece_to_the_next():
    a, b = np.arange(10), np.arange(10, 20)
    (match,) = TrainingIndex([("a", a), ("b", b)]).longest([np.arange(5, 15)])
    assert match.notes == 6


def test_a_changed_note_ends_a_run_and_another_rhythm_ends_only_the_timed_one():
    piece = music(80)
    notes = piece.notes.copy()
    notes["pitch"][40] += 1
    (match,) = index_of(piece).longest([symbols(Performance(notes))])
    assert match.notes == 40  # 0 … 39; the other half has 39
    slow = stretch(piece, 1.9)
    (timed,), (untimed,) = (
        index_of(piece, kind=kind).longest([symbols(slow, kind)]) for kind in ("pitch and time", "pitch")
    )
    assert untimed.notes == 80 and timed.notes < 20


def test_the_order_in_which_a_chord_is_struck_does_not_matter():
    chord = [(1.0, 1, 60, 80), (1.01, 1, 64, 80), (1.015, 1, 67, 80)]
    rolled = [(1.015, 1, 60, 80), (1.0, 1, 64, 80), (1.01, 1, 67, 80)]
    before, after = (0.5, 0.4, 55, 80), (2.0, 0.5, 72, 80)
    first, second = (Performance.of([before, *part, after]) for part in (chord, rolled))
    assert np.array_equal(symbols(first), symbols(second)) and len(symbols(first)) == 4


def test_different_pieces_share_only_short_runs():
    (match,) = index_of(*(music(2000, seed=i) for i in range(3))).longest([symbols(music(300, seed=99))])
    assert 1 <= match.notes <= 5


def test_a_line_of_one_note_shares_nothing():
    one = Performance.of([(0, 1, 60, 80)])
    assert index_of(music()).longest([symbols(one), symbols(Performance())]) == [Match(0), Match(0)]


def test_an_empty_training_split_is_refused():
    silent = Piece("silent", "", "", "train", source=Performance)
    with pytest.raises(CorpusError, match="nothing to have been memorised"):
        TrainingIndex.of([silent])
    with pytest.raises(ValueError, match="kind"):
        symbols(music(), "rhythm")
