"""Continuations that fit, drone, fall silent or leave what pianists play are each seen for what they are; all by hand-made music."""

import json

import numpy as np
import pytest
from test_continuation_metrics import music, run  # noqa: F401  (the fixture)

from ittybitty.corpora import Corpus, Piece
from ittybitty.errors import ConfigError, CorpusError
from ittybitty.evaluation import ears
from ittybitty.evaluation.ears import endurance, faults, matching
from ittybitty.evaluation.ears.measure import Opening, opening_of
from ittybitty.notes import Performance, between, louder, shift, transpose

pytestmark = pytest.mark.slow

SMALL = ears.Plan(pieces=3, opening=8.0, seconds=6.0, long=2, notes=60, window=20, whole_files=2)


def scale(step=0.25, notes=120, low=60, velocity=64):
    """An even scale, up and down two octaves."""
    return Performance.of((step * i, 0.9 * step, low + abs(i % 48 - 24), velocity) for i in range(notes))


def six_pieces(seconds=20.0):
    """Six ways of playing that differ in one group of features or several."""
    ways = [
        scale(0.25, 400),
        scale(0.05, 2000),
        transpose(scale(0.25, 400), -24),
        louder(scale(0.25, 400), 40),
        Performance.of((0.25 * i, 2.0, 60 + (0, 4, 7, 12)[i % 4], 64) for i in range(400)),
        music(1, gap=0.3, notes=400),
    ]
    return [between(one, 0.0, seconds) for one in ways]


def apart(openings, continuations, seconds=20.0):
    features = [np.array([matching.features(one, seconds) for one in part]) for part in (continuations, openings)]
    return matching.distances(*features, matching.scale_of(np.concatenate(features)))


# Matching


def test_a_continuation_like_its_opening_is_found_and_dealt_to_others_it_is_not():
    openings = six_pieces()
    found = matching.matching(apart(openings, [shift(one, 0.5) for one in openings]))
    assert found["accuracy"] == found["mean_reciprocal_rank"] == 1.0 and found["openings"] == 6
    assert found["shuffled"]["accuracy"] == 0.0 and found["shuffled"]["mean_reciprocal_rank"] < 0.5
    dealt = matching.matching(apart(openings, openings[1:] + openings[:1]))
    assert dealt["accuracy"] == 0.0 and dealt["accuracy_ci95"] == [0.0, 0.0]
    assert dealt["shuffled"]["accuracy"] == pytest.approx(1 / 5), "one of the five ways to deal anew is the right one"


def test_a_rank_counts_the_openings_that_are_as_near():
    distances = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 3.0], [0.5, np.nan, np.nan]])
    assert matching.ranks(distances).tolist() == [1, 2, 3]
    assert matching.ranks(distances, [2, 2, 0]).tolist() == [3, 3, 1]


def test_features_by_hand_and_each_group_counts_the_same():
    chord_and_note = Performance.of([(0, 1, 60, 50), (0.01, 1, 64, 70), (2.0, 4, 67, 60)])
    found = dict(
        zip(((g, n) for g, names in matching.GROUPS.items() for n in names), matching.features(chord_and_note, 6.0))
    )
    assert found["notes_per_second", "log2"] == -1 and found["velocity", "mean"] == 60
    assert found["durations", "mean_log2"] == pytest.approx(2 / 3) and found["gaps", "in_chords"] == 0.5
    assert found["gaps", "mean_log2"] == pytest.approx(np.log2(1.99)) and found["pitch_classes", "E"] == pytest.approx(
        1 / 3
    )
    ones = matching.scale_of(np.array([[-1.0] * 22, [1.0] * 22]))
    assert matching.distances(np.ones((1, 22)), np.zeros((1, 22)), ones)[0, 0] == pytest.approx(np.sqrt(6))


def test_no_notes_are_the_worst_match_and_spoil_no_other():
    openings = six_pieces()
    distances = apart(openings, [Performance(), *openings[1:]])
    assert matching.ranks(distances).tolist() == [6, 1, 1, 1, 1, 1]
    assert np.isnan(matching.features(Performance.of([(0, 1, 60, 60)]), 5.0)).all()


# Endurance


def test_windows_inside_and_outside_are_counted():
    pianists = [{"notes_per_second": float(n), "register": 60.0 + n, "velocity": 64.0} for n in range(101)]
    within = endurance.ranges(pianists)
    assert within["notes_per_second"] == (5.0, 95.0) and within["velocity"] == (64.0, 64.0)
    good, fast, fast_and_high = (
        {"notes_per_second": n, "register": r, "velocity": 64.0} for n, r in ((9, 70), (99, 70), (99, 165))
    )
    found = endurance.outside([[good, fast, good], [fast_and_high, good]], within, 3)
    assert (found["windows"], found["outside"], found["missing"]) == (6, 3, 1) and found["share_outside"] == 0.5
    assert found["outside_by_value"] == {"notes_per_second": 3, "register": 2, "velocity": 1}
    assert endurance.outside([[good] * 9], within, 3)["windows"] == 3, "what is more than asked for is not counted"


def test_a_window_by_hand():
    piece = Performance.of([(0, 0.1, 60, 40), (1, 0.1, 72, 60), (4, 0.1, 66, 80), (5, 0.1, 61, 100)])
    [found] = endurance.values_by_window(piece, 3)
    assert found == {"notes_per_second": 0.5, "register": 66.0, "velocity": 60.0}


# Stuck and silent


def test_a_droning_key_is_heard_wherever_it_drones():
    even = scale(0.25, 240)  # 60 s
    assert faults.largest_share(even) < 0.1 and not faults.faults(even, even, 60.0)["stuck"]
    drone = Performance.of(
        [*((t, d, 40, v) if 20 <= t < 36 and i % 2 else (t, d, p, v) for i, (t, d, p, v) in enumerate(even))]
    )
    assert faults.largest_share(drone) == pytest.approx(0.5, abs=0.02) and faults.faults(even, drone, 60.0)["stuck"]
    at_the_end = Performance.of([*((t, d, 40 if t > 45 and i % 2 else p, v) for i, (t, d, p, v) in enumerate(even))])
    assert faults.largest_share(at_the_end) == pytest.approx(0.5, abs=0.02)


def test_a_short_excerpt_is_one_window_and_a_few_notes_are_none():
    drone = Performance.of((0.5 * i, 0.4, 60 if i % 2 else 61 + i, 64) for i in range(20))
    assert faults.largest_share(drone) == 0.5
    assert faults.largest_share(Performance.of((5.0 * i, 1, 60, 64) for i in range(9))) == 0.0
    assert faults.largest_share(Performance()) == 0.0


def test_a_silence_is_heard_at_both_ends_and_between():
    seed, even = scale(0.25, 40), scale(0.25, 240)
    assert not faults.faults(seed, even, 60.0)["silent"]
    assert faults.faults(seed, even, 65.0)["longest_silence"] == pytest.approx(5.25)
    assert faults.faults(seed, shift(even, 4.5), 64.0)["silent"], "it begins too late"
    hole = Performance(even.notes[(even.notes["onset"] < 20) | (even.notes["onset"] >= 25)])
    found = faults.faults(seed, hole, 60.0)
    assert found["silent"] and found["longest_silence"] == pytest.approx(5.25)
    assert faults.faults(seed, Performance(), 60.0)["longest_silence"] == 60.0


def test_a_silence_that_the_seed_had_too_is_none():
    even = scale(0.25, 240)
    hole = Performance(even.notes[(even.notes["onset"] < 20) | (even.notes["onset"] >= 25)])
    found = faults.faults(hole, hole, 60.0)
    assert not found["silent"] and found["longest_silence"] == found["longest_silence_of_seed"]


# All of it


@pytest.fixture(scope="module")
def corpus():
    """Five pieces of 40 s, one that is too short, and one that cannot be read."""
    pieces = [Piece(f"piece {i}", "", "", "test", source=lambda i=i: music(i, notes=200)) for i in range(5)]
    short = Piece("short", "", "", "test", source=lambda: music(7, notes=20))
    return Corpus("test corpus", "CC0", (*pieces, short, Piece("empty", "", "", "test", source=Performance)))


def test_an_opening_and_the_rest_are_the_piece():
    piece = shift(music(2, notes=100), 3.0)
    found = opening_of("a piece", piece, 10.0)
    assert len(found.seed) + len(found.rest) == 100 and found.seed.notes["onset"][-1] < piece.notes["onset"][0] + 10.0
    assert shift(found.rest, found.join).notes["onset"][0] == pytest.approx(piece.notes["onset"][len(found.seed)])


def test_pianists_are_measured_by_what_they_played(corpus):
    found = ears.listen(ears.PIANISTS, corpus, "test", SMALL, progress=False)
    assert found["model"] == "pianists" and found["whole_files"] is None and found["sampling"] is None
    assert found["openings"]["continuations"] == 3 and found["endurance"]["windows"] == 6
    names = [row["name"] for row in found["per_piece"]]
    assert "short" not in names and "empty" not in names
    for row in found["per_piece"]:
        piece = next(p for p in corpus.pieces if p.name == row["name"]).load()
        rest = opening_of(row["name"], piece, 8.0).rest
        assert row["notes"] == (rest.notes["onset"] < 6.0).sum() and row["largest_share"] == faults.largest_share(
            between(rest, 0, 6)
        )
    for row in found["endurance"]["per_piece"]:
        piece = next(p for p in corpus.pieces if p.name == row["name"]).load()
        assert row["windows"] == endurance.values_by_window(opening_of("", piece, 8.0).rest, 20)[:3]


def test_a_model_is_measured_the_same_every_time(run, corpus):  # noqa: F811
    first, second = (
        ears.listen(run, corpus, "test", SMALL, seed=1, progress=False, temperature=1.0, top_p=0.97) for _ in range(2)
    )
    for one in (first, second):
        assert one.pop("listening_seconds") > 0
    assert json.dumps(first) == json.dumps(second)
    assert first["whole_files"]["continuations"] == 2 and first["sampling"]["top_p"] == 0.97
    other = ears.listen(run, corpus, "test", SMALL, seed=2, progress=False)
    assert other["per_piece"] != first["per_piece"] and other["data_hash"] == first["data_hash"]


def test_excluded_measures_are_not_computed(run, corpus):  # noqa: F811
    plan = ears.Plan(pieces=2, opening=8.0, seconds=3.0, long=0, whole_files=0)
    found = ears.listen(run, corpus, "test", plan, progress=False)
    assert found["endurance"] is None and found["whole_files"] is None and found["matching"]["openings"] == 2


def test_rolls_show_the_pianist_above_the_model():
    import matplotlib

    matplotlib.use("Agg")
    openings = [opening_of(f"folder/piece {i}", music(i, notes=200), 10.0) for i in range(3)]
    figure = ears.draw_rolls(
        openings,
        [between(one.rest, 0, 8) for one in openings],
        [music(9, notes=40), scale(), Performance()],
        8.0,
        "tiny",
    )
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels.count("pianist") == labels.count("tiny") == 3
    pairs = {who: [ax for ax in figure.axes if ax.get_ylabel() == who] for who in ("pianist", "tiny")}
    for above, below in zip(pairs["pianist"], pairs["tiny"]):
        assert above.get_position().y0 > below.get_position().y0 and above.get_ylim() == below.get_ylim()
        assert above.get_xlim() == below.get_xlim() == (-20.0, 8.0)
    matplotlib.pyplot.close(figure)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"pieces": 1}, "pieces is 1: give 2 or more"),
        ({"notes": 499}, "notes is 499: give 500 or more"),
        ({"window": 1}, "window is 1"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"opening": 0}, "opening is 0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        ears.Plan(**wrong)


def test_excerpts_that_are_too_short_are_refused_in_one_line(corpus):
    with pytest.raises(CorpusError, match="matching needs two; give other data or fewer seconds"):
        ears.listen(ears.PIANISTS, corpus, "test", ears.Plan(), progress=False)
    with pytest.raises(CorpusError, match="no piece has 3,000 notes after its opening"):
        ears.listen(ears.PIANISTS, corpus, "test", ears.Plan(pieces=2, opening=8, seconds=6), progress=False)
    with pytest.raises(ConfigError, match="pianists stand beside every model"):
        ears.rolls(ears.PIANISTS, corpus, "test")


def test_an_opening_that_is_one_chord_is_an_opening():
    chord = Performance.of([(0, 1, 60, 60), (0, 1, 64, 60), (50, 1, 67, 60)])
    found = opening_of("", chord, 10.0)
    assert isinstance(found, Opening) and found.join == 0.0 and found.rest.notes["onset"].tolist() == [50.0]
    assert np.isfinite(matching.features(found.seed, 10.0)).all()
