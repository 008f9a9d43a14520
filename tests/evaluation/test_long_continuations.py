"""Long continuations are cut into equal windows beside the pianist's, and a loop, a silence and noise are seen for what they are."""

import numpy as np
import pytest
from test_continuation_metrics import music, run  # noqa: F401  (the fixture)

from ittybitty.corpora import Corpus, Piece
from ittybitty.errors import ConfigError, CorpusError
from ittybitty.evaluation.long_continuations import endurance, metrics_by_window, opened, window_metrics
from ittybitty.notes import Performance

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus():
    return Corpus(
        "test corpus",
        "CC0",
        tuple(Piece(f"long {i}", "", "", "test", source=lambda i=i: music(i, notes=400)) for i in range(3)),
    )


def test_windows_hold_equal_numbers_of_notes_and_the_rest_is_left():
    piece = music(0, notes=230)
    found = metrics_by_window(piece, 100)
    assert (
        len(found) == 2
        and found[0] == window_metrics(piece.notes[:100])
        and found[1] == window_metrics(piece.notes[100:200])
    )


def test_a_window_by_hand():
    notes = Performance.of([(0, 0.1, 60, 40), (1, 0.1, 72, 60), (4, 0.1, 60, 80), (5, 0.1, 61, 100)]).notes
    found = window_metrics(notes)
    assert (
        found["notes_per_second"] == pytest.approx(4 / 5) and found["longest_gap"] == 3 and found["pitch_range"] == 12
    )
    assert (
        found["pitch_class_entropy"] == pytest.approx(0.811, abs=1e-3)
        and found["velocity"] == 70
        and found["repetition"] == 0
    )


def test_a_repeated_loop_is_detected():
    loop = Performance.of((0.2 * i, 0.1, 60 + i % 4, 64) for i in range(100))
    assert (
        window_metrics(loop.notes)["repetition"] > 0.9 > 0.2 > window_metrics(music(0, notes=100).notes)["repetition"]
    )


def test_an_opening_and_the_rest_are_the_piece():
    piece = music(1, notes=200)
    opening, rest = opened(piece, 10.0)
    assert len(opening) + len(rest) == 200 and opening.notes["onset"].max() < rest.notes["onset"].min()
    assert (
        opening.notes["onset"].max() - piece.notes["onset"].min()
        >= 10
        > opening.notes["onset"][-2] - piece.notes["onset"].min()
    )
    assert len(opened(piece, 1e6)[1]) == 0 and len(opened(Performance(), 1.0)[1]) == 0


def test_the_model_is_compared_with_the_pianist_window_by_window(run, corpus):  # noqa: F811
    found = endurance(run, corpus, "test", pieces=2, tokens=600, window=20, progress=False)
    last = found["windows"][-1]
    pairs = [
        (row["windows"]["generated"][-1]["pitch_range"], row["windows"]["truth"][-1]["pitch_range"])
        for row in found["per_piece"]
    ]
    assert last["more"]["pitch_range"]["mean"] == np.mean([ours - theirs for ours, theirs in pairs])
    assert last["generated"]["pitch_range"]["mean"] == np.mean([ours for ours, _ in pairs])
    assert found["pieces"] == 2 and found["windows"] and [row["tokens"] for row in found["per_piece"]] == [600, 600]
    assert len(found["windows"]) <= min(row["notes"] for row in found["per_piece"]) // 20
    for i, one in enumerate(found["windows"]):
        assert (one["from_note"], one["to_note"]) == (20 * i, 20 * i + 20)
        assert all(
            one[which][key]["ci95"][0] <= one[which][key]["mean"] <= one[which][key]["ci95"][1]
            for which in ("generated", "truth")
            for key in one["truth"]
        )
    names = [row["name"] for row in found["per_piece"]]
    rests = [
        metrics_by_window(opened(piece.load(), 10.0)[1], 20) for piece in corpus.split("test") if piece.name in names
    ]
    for i, one in enumerate(found["windows"]):
        assert one["truth"]["velocity"]["mean"] == pytest.approx(np.mean([rest[i]["velocity"] for rest in rests]))
    assert (
        endurance(run, corpus, "test", pieces=2, tokens=600, window=20, progress=False)["windows"] == found["windows"]
    )


def test_impossible_options_are_refused_in_one_line(run, corpus):  # noqa: F811
    with pytest.raises(ConfigError, match="pieces is 0"):
        endurance(run, corpus, "test", pieces=0)
    with pytest.raises(CorpusError, match="fewer tokens"):
        endurance(run, corpus, "test", tokens=10_000)
    with pytest.raises(CorpusError, match="smaller windows"):
        endurance(run, corpus, "test", pieces=1, tokens=40, window=300, progress=False)
