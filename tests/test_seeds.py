"""Where the new music begins: at the seed's end, where it is asked to, or before an ending, which the kit then says."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ittybitty import seeds
from ittybitty.errors import ConfigError
from ittybitty.notes import Performance, between, shift, stretch

STEADY = [(0.25 * i, 0.24, 60 + i % 12, 70) for i in range(80)]  # 20 s
SLOWING = [(20.0, 0.5, 64, 60), (20.6, 0.7, 62, 60), (21.4, 1.0, 65, 60)]
CHORD = [(22.6 + 0.01 * i, 4.0, 48 + 4 * i, 60) for i in range(4)]
WHOLE = Performance.of([*STEADY, *SLOWING, *CHORD], [(0.1, 1.0), (22.7, 5.0)])


def test_an_ending_begins_where_the_music_slows_down():
    assert 19.75 <= seeds.ending(WHOLE) <= 20.6


def test_a_cut_piece_has_no_ending():
    for at in np.arange(1.0, 22.5, 0.5):
        assert seeds.ending(between(WHOLE, 0.0, at)) is None


def test_neither_a_long_note_nor_slow_music_alone_is_an_ending():
    assert seeds.ending(Performance.of([*STEADY, (20.0, 6.0, 60, 70)])) is None  # struck in time
    assert seeds.ending(Performance.of([*STEADY, *SLOWING])) is None  # the last is not held
    assert seeds.ending(stretch(Performance.of(STEADY), 10)) is None
    assert seeds.ending(Performance()) is None and seeds.ending(Performance.of(CHORD)) is None


def test_the_pedal_holds_a_chord_too():
    short = [(onset, 0.2, pitch, velocity) for onset, _, pitch, velocity in CHORD]
    assert seeds.ending(Performance.of([*STEADY, *SLOWING, *short], [(22.5, 5.0)])) is not None
    assert seeds.ending(Performance.of([*STEADY, *SLOWING, *short], [(22.5, 0.5)])) is None


def test_the_rule_does_not_look_at_the_clock():
    late, slow = shift(WHOLE, 1000.0), stretch(WHOLE, 2.0)
    assert seeds.ending(late) == pytest.approx(seeds.ending(WHOLE) + 1000)
    assert seeds.ending(slow) == pytest.approx(2 * seeds.ending(WHOLE), abs=1.0)


def test_what_is_continued_goes_up_to_the_ending_and_a_warning_says_so():
    with pytest.warns(UserWarning, match=r"last chords of the seed, from 20\.\d s on"):
        kept = seeds.chosen(WHOLE, before_ending=True)
    assert len(kept) >= 80 and kept.end < 22 and kept.notes["onset"].max() < 20.7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seeds.chosen(WHOLE) is WHOLE
        assert seeds.chosen(Performance.of(STEADY), before_ending=True) == Performance.of(STEADY)


def test_a_given_second_takes_precedence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seeds.chosen(WHOLE, 5.1, before_ending=True).notes["onset"].max() == 5.0


@pytest.mark.parametrize("start", [0.0, -1.0, 99.0])
def test_a_second_outside_the_seed_is_refused(start):
    with pytest.raises(ConfigError, match=r"give a second above 0\.0 and at most 26\.6"):
        seeds.chosen(WHOLE, start)


def test_nothing_has_no_second():
    with pytest.raises(ConfigError, match="there is no seed"):
        seeds.chosen(Performance(), 3.0)
