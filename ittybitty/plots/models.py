"""Draws what a model is and does: attention masks, the next token, cost against length, diagrams of boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .appearance import BLACK, PALETTE, SEED, axes_or_new, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def attention_mask(mask: np.ndarray, ax: Axes | None = None) -> Axes:
    """Draw an attention mask, bool (L, L): which positions (columns) a position (row) may attend to."""
    from matplotlib.colors import ListedColormap

    with style(columns=1, height=3.2):
        ax = axes_or_new(ax)
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


def next_token(probabilities: Mapping[str, Sequence[float]], names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw the next token's probabilities (V,) for several settings as bars, sorted by the first setting."""
    first = np.asarray(next(iter(probabilities.values())), float)
    shown = np.argsort(-first, kind="stable")[: min(20, len(first))]
    with style():
        ax = axes_or_new(ax)
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


def scaling(
    lengths: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    ylabel: str,
    ax: Axes | None = None,
    xlabel: str = "length (tokens)",
) -> Axes:
    """Draw cost against length on logarithmic axes, with the exponent of a fitted power law in the legend (1 is linear)."""
    with style():
        ax = axes_or_new(ax)
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


def diagram(nodes: Mapping[str, tuple], arrows: Iterable[tuple], ax: Axes | None = None) -> Axes:
    """Draw a diagram of boxes and arrows: nodes {name: (x, y, text[, colour])} in units of a box's height, arrows (from, to[, label])."""
    with style():
        ax = axes_or_new(ax)
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
