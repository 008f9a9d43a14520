"""Draws recorded results: intervals, bits by attribute and by position, overlaps, endurance, shared runs.

Left out: computing what is drawn (evaluation/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .appearance import BLUE, GREY, NEW, PALETTE, SEED, SKY, VERMILION, axes_or_new, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def intervals(
    rows: Sequence[Mapping],
    value: str = "bits_per_note",
    label: str = "system",
    ax: Axes | None = None,
    say: bool = True,
    marks: Mapping[str, str] | None = None,
) -> Axes:
    """Draw a point and its 95% interval ("ci95") for each row, lowest on top. An encoding that drops something is hollow; with
    `say` its row names what is dropped.

    `marks` gives the marker of a row's "group", a circle where it gives none.
    """
    rows = sorted(rows, key=lambda row: -row[value])
    with style(height=0.9 + 0.32 * len(rows)):
        ax = axes_or_new(ax)
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


def shares(
    rows: Sequence[Mapping], key: str = "bits_per_note_by_attribute", label: str = "system", ax: Axes | None = None
) -> Axes:
    """Draw a stacked bar for each row: bits per note of each attribute, lowest total on top. Rows without `key` are left out."""
    rows = sorted((row for row in rows if row.get(key)), key=lambda row: -sum(row[key].values()))
    with style(height=1.1 + 0.34 * len(rows)):
        ax = axes_or_new(ax)
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


def by_position(results: Sequence[Mapping], label: str = "system", ax: Axes | None = None) -> Axes:
    """Draw bits per note by position (`evaluation.by_position`), one colour per result: whole context solid, windows dashed."""
    with style():
        ax = axes_or_new(ax)
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


def overlaps(result: Mapping, ax: Axes | None = None) -> Axes:
    """Draw MGEval's overlapped areas of a record of evaluation/continuation_metrics.py: model and other humans, by feature."""
    generated, humans = result["mgeval"]["generated"], result["mgeval"]["other_humans"]
    names = sorted(
        (name for name in generated if generated[name] and humans[name]), key=lambda name: generated[name]["overlap"]
    )
    with style(height=0.9 + 0.2 * len(names)):
        ax = axes_or_new(ax)
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


def endurance(
    result: Mapping,
    metrics: Mapping[str, str],
    axes: Sequence[Axes] | None = None,
    others: Mapping[str, Mapping] | None = None,
) -> Sequence[Axes]:
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


def shared_runs(result: Mapping, kind: str = "pitch and time", ax: Axes | None = None) -> Axes:
    """Draw the share of runs that occur in the training pieces, by length: continuations, their truth and other humans."""
    sets = {
        "generated": ("continuations", NEW, "D"),
        "truth": ("what the pianists played", SEED, "o"),
        "other_humans": ("other humans", SKY, "s"),
    }
    with style():
        ax = axes_or_new(ax)
        for name, (text, colour, marker) in sets.items():
            found = result["longest"][kind][name].get("share_of_runs", {})
            points = [(int(length), share) for length, share in found.items() if share]
            if points:
                ax.semilogy(*zip(*points), marker=marker, ms=4, color=colour, label=text)
        ax.set(xlabel=f"notes of a run ({kind})", ylabel="share found in training")
        ax.legend()
    return ax


def claims(results: Sequence[Mapping], label: str = "row", ax: Axes | None = None) -> Axes:
    """Draw the bits per note that each protocol of experiments/leak.py claims, beside the true value of the same weights."""
    with style(height=1.1 + 0.4 * len(results)):
        ax = axes_or_new(ax)
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
