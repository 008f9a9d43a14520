"""Pictures show what they are given: every note, the seam, the pedal, the figures; and they do not change the caller's style."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.collections import PolyCollection

from ittybitty import plots
from ittybitty.notes import Performance, shift


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def bars(ax):
    return [c for c in ax.collections if isinstance(c, PolyCollection)]


def drawn(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png", dpi=60)
    return plt.imread(tmp_path / "figure.png")


def test_every_note_is_a_bar_in_the_colour_of_its_part(performance):
    ax = plots.piano_roll(performance, shift(performance, performance.end))
    seed, new = bars(ax)
    assert len(seed.get_paths()) == len(new.get_paths()) == len(performance)
    assert not np.allclose(seed.get_facecolor()[0, :3], new.get_facecolor()[0, :3])
    corners = np.array([path.get_extents().get_points() for path in seed.get_paths()])
    assert np.allclose(np.sort(corners[:, 0, 0]), np.sort(performance.notes["onset"]))


def test_louder_notes_are_darker():
    two = Performance.of([(0, 1, 60, 20), (1, 1, 60, 120)])
    soft, loud = bars(plots.piano_roll(two))[0].get_facecolor()[:, 3]
    assert soft < loud - 0.3


def test_seam_and_pedal_are_shown(performance):
    ax = plots.piano_roll(performance, shift(performance, 10))
    assert ax.lines[0].get_xdata()[0] == pytest.approx(10)
    strip = ax.child_axes[0]
    assert sum(len(c.get_paths()) for c in strip.collections) == 2 * len(performance.pedals)


def test_a_long_seed_does_not_hide_the_continuation(performance):
    seed = Performance.of([*performance, *shift(performance, 500)])
    left, right = plots.piano_roll(seed, shift(performance, 510)).get_xlim()
    assert left >= 480 and right > 517
    assert plots.piano_roll(seed).get_xlim()[1] > 500


@pytest.mark.parametrize(
    "seed, new",
    [
        (Performance(), None),
        (Performance(), Performance.of([(1, 1, 60, 80)])),
        (Performance.of([(0, 1, 60, 80)]), Performance()),
    ],
)
def test_nothing_to_show_is_no_error(seed, new, tmp_path):
    assert drawn(plots.piano_roll(seed, new).figure, tmp_path).size


def test_training_curve_draws_training_faint_and_smooth_and_validation_as_points():
    rows = [{"step": i, "tokens": 100 * i, "nll": 5 - 0.01 * i} for i in range(0, 100, 10)] + [
        {"step": 50, "validation_nll": 4.6}
    ]
    ax = plots.training_curve(rows)
    faint, _, held_out = ax.lines
    assert len(faint.get_xdata()) == 10 and held_out.get_ydata() == [4.6]
    assert plots.training_curve(rows, x="tokens").lines[0].get_xdata()[-1] == 9000
    assert plots.training_curve([]).texts
    ax = plots.learning_curves({"this": rows, "that": rows})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["this", "that"] and len(
        {line.get_color() for line in ax.lines}
    ) == 2


def test_other_pictures_draw(tmp_path):
    mask = np.tril(np.ones((8, 8), bool))
    rows = [
        {"system": "a", "bits_per_note": 5.0, "ci95": [4, 6], "keeps": ["pitch"]},
        {
            "system": "b",
            "bits_per_note": 9.0,
            "ci95": [8, 11],
            "keeps": ["pitch", "onset", "duration", "velocity", "pedal"],
        },
    ]
    axes = [
        plots.attention_mask(mask),
        plots.next_token({"one": [0.1, 0.9], "two": [0.5, 0.5]}, ["x", "y"]),
        plots.intervals(rows),
        plots.scaling([10, 100, 1000], {"linear": [1, 10, 100], "square": [1, 100, None]}, "seconds"),
        plots.diagram({"a": (0, 0, "A"), "b": (2, 0, "B", plots.BLUE)}, [("a", "b", "then")]),
    ]
    assert all(drawn(ax.figure, tmp_path).std() > 0 for ax in axes)
    assert "no duration, onset, pedal, velocity" in axes[2].get_yticklabels()[1].get_text()
    assert "exponent 1.00" in axes[3].get_legend().get_texts()[0].get_text()
    assert axes[1].get_xticklabels()[0].get_text() == "y"


def test_shares_add_up_to_the_row(tmp_path):
    rows = [
        {"system": "a", "keeps": ["pitch"], "bits_per_note_by_attribute": {"pitch": 3.0, "time": 2.0}},
        {"system": "b", "bits_per_note_by_attribute": {"pitch": 1.0, "time": 0.5}},
        {"system": "whole", "bits_per_note": 9.0},  # a baseline is not divided
    ]
    ax = plots.shares(rows)
    ends = sorted(round(patch.get_x() + patch.get_width(), 3) for patch in ax.patches)
    assert ends == [1.0, 1.5, 3.0, 5.0] and [label.get_text().split()[0] for label in ax.get_yticklabels()] == [
        "a",
        "b",
    ]
    drawn(ax.figure, tmp_path)


def test_positions_overlaps_and_shared_runs_draw_what_is_recorded(tmp_path):
    bins = [
        {"from_token": a, "to_token": b, "bits_per_note": 15.0, "windowed_bits_per_note": 16.0, "ci95": [14, 16]}
        for a, b in ((0, 128), (128, 256))
    ]
    ax = plots.by_position([{"system": "a", "bins": bins, "trained_context": 1024}])
    assert [list(line.get_ydata()) for line in ax.lines[:2]] == [[15.0, 15.0], [16.0, 16.0]]
    drawn(ax.figure, tmp_path)
    found = {"iois": {"overlap": 0.4}, "density": {"overlap": 0.9}, "self_similarity": None}
    ax = plots.overlaps({"mgeval": {"generated": found, "other_humans": {**found, "iois": {"overlap": 0.8}}}})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["iois", "density"]
    drawn(ax.figure, tmp_path)
    shares = {"share_of_runs": {"4": 0.5, "8": 0.01, "16": 0.0, "32": None}}
    ax = plots.shared_runs(
        {"longest": {"pitch and time": dict.fromkeys(("generated", "truth", "other_humans"), shares)}}
    )
    assert len(ax.lines) == 3 and list(ax.lines[0].get_xdata()) == [4, 8]  # what no run has cannot stand on a logarithm
    drawn(ax.figure, tmp_path)


def test_patterns_are_drawn_row_by_row(tmp_path):
    ax = plots.patterns([[2, 1, 1, 0], [0, 0, 2, 1]], ["first", "second"])
    assert ax.images[0].get_array().tolist() == [[2, 1, 1, 0], [0, 0, 2, 1]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    drawn(ax.figure, tmp_path)


def test_an_axes_that_is_given_is_drawn_into(performance):
    ax = plt.subplots()[1]
    assert plots.piano_roll(performance, ax=ax) is ax and len(plt.get_fignums()) == 1


def test_the_callers_style_stays():
    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.grid"]
    plots.training_curve([{"step": 1, "nll": 2.0}])
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.grid"]) == before


def test_colours_differ_in_grey_too():
    grey = [np.dot(matplotlib.colors.to_rgb(c), [0.299, 0.587, 0.114]) for c in (plots.SEED, plots.NEW)]
    assert abs(grey[0] - grey[1]) > 0.05


def test_claims_show_the_claimed_value_beside_the_true_one():
    rows = [
        {"row": name, "claimed_bits_per_note": said, "bits_per_note": true, "ci95": [true - 0.5, true + 0.5]}
        for name, said, true in (("windows", 12, 18), ("official", 17, 17.2))
    ]
    ax = plots.claims(rows)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["windows", "official"]
    said = next(line for line in ax.get_lines() if str(line.get_label()).startswith("claimed"))
    assert said.get_xdata().tolist() == [12, 17] and said.get_ydata().tolist() == [1, 0]
