"""How pianists go on after an opening, on pieces whose answer is known."""

import pytest

from ittybitty.corpora import Corpus, Piece
from ittybitty.errors import ConfigError, CorpusError
from ittybitty.evaluation.ears.drift import DriftPlan, drift
from ittybitty.notes import Performance

OPENING = 400  # notes in 40 s


def corpus(openings, later=600) -> Corpus:
    """Notes of one velocity for 40 s, then of 40 plus half of it, an octave higher and twice as fast."""

    def piece(velocity: int) -> Performance:
        first = [(0.1 * i, 0.05, 48, velocity) for i in range(OPENING)]
        rest = [(0.1 * OPENING + 0.05 * (i + 1), 0.05, 60, 40 + velocity // 2) for i in range(later)]
        return Performance.of([*first, *rest])

    pieces = tuple(
        Piece(f"piece {velocity}", "", "", "train", source=lambda velocity=velocity: piece(velocity))
        for velocity in openings
    )
    return Corpus(name="mine", licence="CC0", pieces=pieces)


def test_the_regression_finds_how_loud_the_rest_is():
    found = drift(corpus((20, 40, 60, 80)), plan=DriftPlan(pieces=4), progress=False)
    loudness, pace, register = (found["habits"][name] for name in ("loudness", "pace", "register"))
    assert (loudness["intercept"], loudness["slope"]) == pytest.approx((40, 0.5))
    assert loudness["margin"] == pytest.approx(0, abs=1e-9)
    assert loudness["median_change"] == pytest.approx(15)  # 30, 20, 10 and 0
    assert (register["median_change"], pace["median_change"]) == (pytest.approx(12), pytest.approx(1, abs=0.01))
    assert (found["pieces"], found["windows"]) == (4, 4)


def test_pieces_that_end_too_soon_do_not_count():
    with pytest.raises(CorpusError, match="mine: 0 pieces have 500 notes after their opening, .* give other data"):
        drift(corpus((20, 40, 60), later=100), plan=DriftPlan(pieces=3), progress=False)


@pytest.mark.parametrize("wrong", [{"pieces": 0}, {"opening": 0.0}, {"notes": 100}])
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"{min(wrong)} is {min(wrong.values())}: give"):
        DriftPlan(**wrong)
