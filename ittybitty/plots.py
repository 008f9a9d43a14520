"""Draws notes and numbers with matplotlib, in one style: for notebooks, for the command line's --plot and for the paper.

Every function draws into `ax`, or into a new figure without it, and returns the axes; saving and showing are up to the
caller. Colours are those of Okabe and Ito [1]: they can be told apart by colour-blind readers, and by lightness in grey. Sizes are for a page of two columns: text of 8 to 9 points on 7 inches, 3.4 inches with `style(columns=1)`.

[1] Okabe and Ito 2008, Color Universal Design.  Left out: computing what is drawn (metrics.py, evaluation/).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .notes import HIGHEST_PITCH, LOWEST_PITCH, Performance

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F",
)  # fmt: skip  # the eight colours side by side
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
SEED, NEW = BLUE, VERMILION  # a seed and its continuation, in every picture

_STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "image.cmap": "cividis",
    "pdf.fonttype": 42,
}


class style:
    """Set the style of all following figures, ``plots.style()``, or of a block, ``with plots.style(): …``.

    Figures are as wide as one or both `columns` of a page, and `height` inches high.
    """

    def __init__(self, columns: int = 2, height: float = 2.6):
        import matplotlib
        from cycler import cycler

        self._before = dict(matplotlib.rcParams.copy())
        del self._before["backend"]  # not part of the style; reading it would choose a backend
        size = (7.0 if columns == 2 else 3.4, height)
        matplotlib.rcParams.update({**_STYLE, "figure.figsize": size, "axes.prop_cycle": cycler(color=PALETTE)})

    def __enter__(self) -> style:
        return self

    def __exit__(self, *exception) -> None:
        import matplotlib

        matplotlib.rcParams.update(self._before)


def _axes(ax):
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


# Music


def piano_roll(seed: Performance, new: Performance | None = None, ax=None, window: tuple[float, float] | None = None):
    """Draw a piano roll: notes as bars over seconds, louder ones darker, seed and continuation in two colours, pedal below.

    With a continuation, the seed is shown for as many seconds before it as the continuation lasts (at least 10 s);
    `window` (start s, end s) shows another part.
    """
    from matplotlib.patches import Patch

    with style(height=2.9):
        ax = _axes(ax)
        if new is not None and not len(new):
            new = None
        boundary = math.nan if new is None else float(new.notes["onset"].min())
        start, end = window or _window(seed, new, boundary)
        strip = ax.inset_axes([0, -0.075, 1, 0.045], sharex=ax)
        labels = [("seed", SEED, seed)] + ([("continuation", NEW, new)] if new is not None else [])
        shown = [_draw_notes(ax, strip, part, colour, start, end) for _, colour, part in labels]
        if new is not None:
            ax.axvline(boundary, color=BLACK, lw=0.9, ls=(0, (4, 3)), zorder=1)
        pitches = np.concatenate([p for p in shown if len(p)] or [np.array([60])])
        low, high = max(0, min(int(pitches.min()) - 2, 55)), min(127, max(int(pitches.max()) + 3, 72))
        ax.set(xlim=(start, end), ylim=(low, high), ylabel="pitch")
        octaves = [p for p in range(LOWEST_PITCH + 3, HIGHEST_PITCH + 1, 12) if low <= p <= high]
        ax.set_yticks(octaves, [f"C{p // 12 - 1}" for p in octaves])
        ax.tick_params(axis="x", labelbottom=False, length=0)
        strip.set(ylim=(0, 1), xlabel="time (s)")
        strip.set_yticks([0.5], ["pedal"])
        strip.tick_params(axis="y", length=0)
        strip.grid(False)
        strip.spines[["left", "bottom"]].set_visible(False)
        if new is not None:
            handles = [Patch(color=colour, label=label) for label, colour, _ in labels]
            ax.legend(
                handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=1.2
            )
    return ax


def _window(seed: Performance, new: Performance | None, boundary: float) -> tuple[float, float]:
    if new is None:
        return (float(seed.notes["onset"].min()) if len(seed) else 0.0), max(seed.end, 1.0)
    reach = max(10.0, new.end - boundary)
    first = float(seed.notes["onset"].min()) if len(seed) else boundary
    return max(first, boundary - reach), max(seed.end, new.end)


def _draw_notes(ax, strip, part: Performance, colour: str, start: float, end: float) -> np.ndarray:
    """Draw the notes and pedal of one performance; returns the pitches in view."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    notes = part.notes[(part.notes["onset"] < end) & (part.notes["onset"] + part.notes["duration"] > start)]
    left, right, middle = notes["onset"], notes["onset"] + np.maximum(notes["duration"], 0.03), notes["pitch"]
    corners = np.stack([left, middle - 0.42, left, middle + 0.42, right, middle + 0.42, right, middle - 0.42], 1)
    colours = np.tile(to_rgba(colour), (len(notes), 1))
    colours[:, 3] = 0.3 + 0.7 * (notes["velocity"] / 127.0) ** 1.3
    ax.add_collection(PolyCollection(corners.reshape(-1, 4, 2), facecolors=colours, linewidths=0, zorder=2))
    pedals = part.pedals[(part.pedals["onset"] < end) & (part.pedals["onset"] + part.pedals["duration"] > start)]
    strip.broken_barh(list(zip(pedals["onset"], pedals["duration"])), (0.1, 0.8), color=colour, alpha=0.75, lw=0)
    return notes["pitch"]


def patterns(states: np.ndarray, names: Sequence[str] = (), ax=None):
    """Draw patterns of the beat encoding: states (n, frames) of a key in a beat, 0 silent, 1 held, 2 struck; first row on top."""
    from matplotlib.colors import ListedColormap

    states = np.asarray(states)
    with style(columns=1, height=0.7 + 0.14 * len(states)):
        ax = _axes(ax)
        ax.imshow(
            states, cmap=ListedColormap(["#F2F2F2", SKY, BLACK]), vmin=0, vmax=2, aspect="auto", interpolation="nearest"
        )
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(
            np.linspace(0, states.shape[1], 5) - 0.5, [f"{place:g}" for place in np.linspace(0, states.shape[1], 5)]
        )
        ax.hlines(np.arange(1, len(states)) - 0.5, -0.5, states.shape[1] - 0.5, color="white", lw=1)
        ax.set(xlabel="frame")
        ax.tick_params(length=0)
        ax.grid(False)
    return ax


# Training


def training_curve(log: Iterable[Mapping], ax=None, x: str = "step"):
    """Draw training and validation loss in nats per token, from the records of a log.jsonl (train.log.read_log); `x` is "step" or "tokens".

    Training is drawn as logged, faint, and smoothed over the records before; validation as points.
    """
    records = list(log)
    with style():
        ax = _axes(ax)
        trained = [(r[x], r["nll"]) for r in records if "nll" in r and x in r]
        held_out = [(r[x], r["validation_nll"]) for r in records if "validation_nll" in r and x in r]
        if trained:
            steps, losses = np.array(trained, float).T
            ax.plot(steps, losses, color=SEED, alpha=0.3, lw=0.8)
            ax.plot(steps, _smooth(losses), color=SEED, label="training")
        if held_out:
            steps, losses = np.array(held_out, float).T
            ax.plot(steps, losses, "o-", color=NEW, ms=3.5, label="validation")
            best = int(losses.argmin())
            ax.annotate(
                f"{losses[best]:.3f}",
                (steps[best], losses[best]),
                (0, 7),
                textcoords="offset points",
                ha="center",
                color=NEW,
                fontsize=8,
            )
        ax.set(xlabel="training tokens" if x == "tokens" else x, ylabel="nats per token")
        if trained or held_out:
            ax.legend()
        else:
            ax.text(0.5, 0.5, "nothing logged yet", transform=ax.transAxes, ha="center", color=GREY)
    return ax


def learning_curves(logs: Mapping[str, Iterable[Mapping]], ax=None, x: str = "tokens"):
    """Draw several runs in one picture, one colour each: training smoothed as a line, validation as points (see `training_curve`)."""
    with style():
        ax = _axes(ax)
        for (name, log), color in zip(logs.items(), PALETTE):
            records = list(log)
            trained = np.array([(r[x], r["nll"]) for r in records if "nll" in r and x in r], float).reshape(-1, 2)
            held_out = np.array(
                [(r[x], r["validation_nll"]) for r in records if "validation_nll" in r and x in r], float
            ).reshape(-1, 2)
            ax.plot(trained[:, 0], _smooth(trained[:, 1]), color=color, alpha=0.6, lw=1)
            ax.plot(*held_out.T, "o-", color=color, ms=3.5, label=name)
        ax.set(xlabel="training tokens" if x == "tokens" else x, ylabel="nats per token")
        ax.legend()
    return ax


def _smooth(values: np.ndarray, share: float = 0.02) -> np.ndarray:
    """Mean over the values before, as many as make up `share` of all."""
    width = max(1, int(len(values) * share))
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (total[ends] - total[starts]) / (ends - starts)


# Tokens and models


def attention_mask(mask: np.ndarray, ax=None):
    """Draw an attention mask, bool (L, L): which positions (columns) a position (row) may attend to."""
    from matplotlib.colors import ListedColormap

    with style(columns=1, height=3.2):
        ax = _axes(ax)
        ax.imshow(
            np.asarray(mask, bool),
            cmap=ListedColormap(["#F2F2F2", SEED]),
            vmin=0,
            vmax=1,
            interpolation="nearest",
            origin="upper",
        )
        ax.set(
            xlabel="position looked at",
            ylabel="position that looks",
            title=f"{100 * np.mean(np.tril(mask)):.1f} % of all pairs",
        )
        ax.grid(False)
    return ax


def next_token(probabilities: Mapping[str, Sequence[float]], names: Sequence[str], ax=None):
    """Draw the next token's probabilities (V,) for several settings as bars, sorted by the first setting."""
    first = np.asarray(next(iter(probabilities.values())), float)
    shown = np.argsort(-first, kind="stable")[: min(20, len(first))]
    with style():
        ax = _axes(ax)
        width = 0.8 / len(probabilities)
        for i, (label, values) in enumerate(probabilities.items()):
            place = np.arange(len(shown)) + (i - (len(probabilities) - 1) / 2) * width
            ax.bar(place, np.asarray(values, float)[shown], width, color=PALETTE[i % len(PALETTE)], label=label)
        ax.set_xticks(range(len(shown)), [names[i] for i in shown], rotation=45, ha="right", rotation_mode="anchor")
        ax.set(ylabel="probability", xlim=(-0.6, len(shown) - 0.4))
        ax.grid(axis="x", visible=False)
        if len(probabilities) > 1:
            ax.legend()
    return ax


# Results


def intervals(
    rows: Sequence[Mapping],
    value: str = "bits_per_note",
    label: str = "system",
    ax=None,
    say: bool = True,
    marks: Mapping[str, str] | None = None,
):
    """Draw a point and its 95% interval ("ci95") for each row, lowest on top. An encoding that drops something is hollow; with
    `say` its row names what is dropped.

    `marks` gives the marker of a row's "group", a circle where it gives none.
    """
    rows = sorted(rows, key=lambda row: -row[value])
    with style(height=0.9 + 0.32 * len(rows)):
        ax = _axes(ax)
        values = np.array([row[value] for row in rows], float)
        ends = np.array([row.get("ci95") or (row[value], row[value]) for row in rows], float)
        spread = np.maximum(0, np.stack([values - ends[:, 0], ends[:, 1] - values]))
        for i, row in enumerate(rows):
            whole = not _missing(row)
            colour = {"color": SEED if whole else GREY, "mfc": SEED if whole else "white"}
            ax.errorbar(
                values[i],
                i,
                xerr=spread[:, i : i + 1],
                fmt=(marks or {}).get(str(row.get("group")), "o"),
                ms=4.5,
                capsize=3,
                lw=1.2,
                **colour,
            )
        ax.set_yticks(range(len(rows)), [_row_name(row, label) if say else str(row[label]) for row in rows])
        ax.set(xlabel=value.replace("_", " "), ylim=(-0.6, len(rows) - 0.4))
        ax.grid(axis="y", visible=False)
    return ax


def _missing(row: Mapping) -> set[str]:
    return {"pitch", "onset", "duration", "velocity", "pedal"} - set(row["keeps"]) if "keeps" in row else set()


def _row_name(row: Mapping, label: str) -> str:
    return f"{row[label]} (no {', '.join(sorted(_missing(row)))})" if _missing(row) else str(row[label])


def shares(rows: Sequence[Mapping], key: str = "bits_per_note_by_attribute", label: str = "system", ax=None):
    """Draw a stacked bar for each row: bits per note of each attribute, lowest total on top. Rows without `key` are left out."""
    rows = sorted((row for row in rows if row.get(key)), key=lambda row: -sum(row[key].values()))
    with style(height=1.1 + 0.34 * len(rows)):
        ax = _axes(ax)
        left = np.zeros(len(rows))
        names = list(dict.fromkeys(name for row in rows for name in row[key]))
        for i, name in enumerate(names):
            width = np.array([row[key].get(name, 0.0) for row in rows])
            bars = ax.barh(
                range(len(rows)), width, 0.66, left, label=name, color=(*PALETTE[:-1], GREY)[i % len(PALETTE)]
            )
            ax.bar_label(
                bars, [f"{w:.1f}" if w >= 0.4 else "" for w in width], label_type="center", fontsize=7.5, color="white"
            )
            left += width
        ax.set_yticks(range(len(rows)), [_row_name(row, label) for row in rows])
        ax.set(xlabel="bits per note", ylim=(-0.6, len(rows) - 0.4))
        ax.grid(axis="y", visible=False)
        ax.legend(
            ncols=len(names),
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.2,
            handlelength=1.0,
            columnspacing=1.2,
        )
    return ax


def by_position(results: Sequence[Mapping], label: str = "system", ax=None):
    """Draw bits per note by position (`evaluation.by_position`), one colour per result: whole context solid, windows dashed."""
    with style():
        ax = _axes(ax)
        for result, colour in zip(results, PALETTE):
            bins = result["bins"]
            middle = [np.sqrt(max(one["from_token"], 32) * one["to_token"]) for one in bins]
            ends = np.array([one["ci95"] or (np.nan, np.nan) for one in bins], float)
            ax.fill_between(middle, ends[:, 0], ends[:, 1], color=colour, alpha=0.15, lw=0)
            ax.plot(
                middle,
                [one["bits_per_note"] for one in bins],
                "o-",
                ms=3.5,
                color=colour,
                label=f"{result[label]}, the whole past",
            )
            ax.plot(
                middle,
                [one["windowed_bits_per_note"] for one in bins],
                "--",
                color=colour,
                label=f"{result[label]}, windows of 512 to 1,024",
            )
        trained = {result["trained_context"] for result in results}
        for context in trained:
            ax.axvline(context, color=GREY, lw=0.9, ls=":")
        ax.set_xscale("log", base=2)
        ticks = sorted({one["to_token"] for result in results for one in result["bins"]})
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
        ax.set(xlabel="position in the piece (tokens); dotted: where training windows end", ylabel="bits per note")
        ax.legend()
    return ax


def overlaps(result: Mapping, ax=None):
    """Draw MGEval's overlapped areas of a record of evaluation/continuation_metrics.py: model and other humans, by feature."""
    generated, humans = result["mgeval"]["generated"], result["mgeval"]["other_humans"]
    names = sorted(
        (name for name in generated if generated[name] and humans[name]), key=lambda name: generated[name]["overlap"]
    )
    with style(height=0.9 + 0.2 * len(names)):
        ax = _axes(ax)
        for i, name in enumerate(names):
            ax.plot([generated[name]["overlap"], humans[name]["overlap"]], [i, i], color="#BBBBBB", lw=1.2, zorder=1)
        ax.plot(
            [humans[name]["overlap"] for name in names], range(len(names)), "o", ms=5, color=SEED, label="other humans"
        )
        ax.plot(
            [generated[name]["overlap"] for name in names],
            range(len(names)),
            "D",
            ms=4.5,
            color=NEW,
            label="continuations",
        )
        ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        ax.set(
            xlabel="overlap with the distances among the pianists (1: alike)",
            xlim=(0, 1.02),
            ylim=(-0.7, len(names) - 0.3),
        )
        ax.grid(axis="y", visible=False)
        ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return ax


def endurance(result: Mapping, metrics: Mapping[str, str], axes=None, others: Mapping[str, Mapping] | None = None):
    """Draw metrics along long continuations (evaluation/long_continuations.py), one small picture each: model and pianists.

    Thin lines are pieces, thick ones their mean. `metrics` gives each one's label. `axes` are as many as metrics. `others` are
    further results of the same openings, of which the mean is drawn under their name.
    """
    import matplotlib.pyplot as plt

    with style(height=1.9):
        axes = plt.subplots(1, len(metrics), layout="constrained")[1] if axes is None else axes
        for ax, (name, label) in zip(np.atleast_1d(axes), metrics.items()):
            middle = [(one["from_note"] + one["to_note"]) / 2 for one in result["windows"]]
            for which, text, colour, mark in (
                ("truth", "pianists", SEED, "o-"),
                ("generated", "continuations", NEW, "D-"),
            ):
                for piece in result["per_piece"]:
                    ax.plot(middle, [one[name] for one in piece["windows"][which]], color=colour, lw=0.6, alpha=0.4)
                ax.plot(
                    middle,
                    [one[which][name]["mean"] for one in result["windows"]],
                    mark,
                    ms=3,
                    color=colour,
                    label=text,
                )
            for style_, (text, other) in zip(("--", ":", "-."), (others or {}).items()):
                ends = [(one["from_note"] + one["to_note"]) / 2 for one in other["windows"]]
                ax.plot(
                    ends,
                    [one["generated"][name]["mean"] for one in other["windows"]],
                    style_,
                    color=GREY,
                    lw=1.2,
                    label=text,
                )
            ax.set(xlabel="note", ylabel=label, ylim=(0, None))
        first = np.atleast_1d(axes)[0]
        first.figure.legend(*first.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    return axes


def shared_runs(result: Mapping, kind: str = "pitch and time", ax=None):
    """Draw the share of runs that occur in the training pieces, by length: continuations, their truth and other humans."""
    sets = {
        "generated": ("continuations", NEW, "D"),
        "truth": ("what the pianists played", SEED, "o"),
        "other_humans": ("other humans", SKY, "s"),
    }
    with style():
        ax = _axes(ax)
        for name, (text, colour, marker) in sets.items():
            found = result["longest"][kind][name].get("share_of_runs", {})
            points = [(int(length), share) for length, share in found.items() if share]
            if points:
                ax.semilogy(*zip(*points), marker=marker, ms=4, color=colour, label=text)
        ax.set(xlabel=f"notes of a run ({kind})", ylabel="share found in training")
        ax.legend()
    return ax


def claims(results: Sequence[Mapping], label: str = "row", ax=None):
    """Draw the bits per note that each protocol of experiments/leak.py claims, beside the true value of the same weights."""
    with style(height=1.1 + 0.4 * len(results)):
        ax = _axes(ax)
        places = np.arange(len(results))[::-1]
        claimed = np.array([row["claimed_bits_per_note"] for row in results], float)
        true = np.array([row["bits_per_note"] for row in results], float)
        spread = np.abs(np.array([row["ci95"] for row in results], float).T - true)
        ax.hlines(places, np.minimum(claimed, true), np.maximum(claimed, true), color=GREY, lw=1)
        ax.plot(claimed, places, "D", color=VERMILION, mfc="white", ms=5, label="claimed, on its own held-out part")
        ax.errorbar(
            true,
            places,
            xerr=spread,
            fmt="o",
            color=BLUE,
            ms=4.5,
            capsize=3,
            lw=1.2,
            label="true, on works never seen (95%)",
        )
        ax.set_yticks(places, [str(row[label]) for row in results])
        ax.set(xlabel="bits per note", ylim=(-0.6, len(results) - 0.4))
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return ax


def scaling(
    lengths: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    ylabel: str,
    ax=None,
    xlabel: str = "length (tokens)",
):
    """Draw cost against length on logarithmic axes, with the exponent of a fitted power law in the legend (1 is linear)."""
    with style():
        ax = _axes(ax)
        for (name, costs), marker in zip(curves.items(), "osD^vPX"):
            pairs = [(n, c) for n, c in zip(lengths, costs) if c is not None and c > 0]
            log_n, log_cost = np.log(np.array(pairs, float).reshape(-1, 2)).T
            exponent = np.polyfit(log_n, log_cost, 1)[0] if len(pairs) > 1 else float("nan")
            ax.loglog(*zip(*pairs), marker=marker, ms=4, label=f"{name}: exponent {exponent:.2f}") if pairs else None
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.set_xticks(lengths, [f"{n:,}" for n in lengths], minor=False)
        ax.set_xticks([], minor=True)
        ax.legend()
    return ax


def diagram(nodes: Mapping[str, tuple], arrows: Iterable[tuple], ax=None):
    """Draw a diagram of boxes and arrows: nodes {name: (x, y, text[, colour])} in units of a box's height, arrows (from, to[, label])."""
    with style():
        ax = _axes(ax)
        boxes = {}
        for name, (x, y, text, *colour) in nodes.items():
            face = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": colour[0] if colour else BLACK, "lw": 1.1}
            boxes[name] = ax.text(x, y, text, ha="center", va="center", fontsize=8.5, bbox=face, zorder=2)
        for start, end, *label in arrows:
            line = {"arrowstyle": "-|>", "lw": 1, "color": "#444444", "shrinkA": 0, "shrinkB": 0}
            line |= {"patchA": boxes[start].get_bbox_patch(), "patchB": boxes[end].get_bbox_patch()}
            ax.annotate(
                "", nodes[end][:2], nodes[start][:2], arrowprops=line, zorder=3
            )  # after the boxes, whose edges it stops at
            if label:
                middle = np.mean([nodes[start][:2], nodes[end][:2]], 0)
                ax.text(*middle, label[0], fontsize=7.5, ha="center", va="bottom", zorder=4)
        places = np.array([node[:2] for node in nodes.values()], float)
        ax.set(
            xlim=(places[:, 0].min() - 1, places[:, 0].max() + 1),
            ylim=(places[:, 1].min() - 0.7, places[:, 1].max() + 0.7),
        )
        ax.axis("off")
    return ax
