"""Draws notes: the piano roll, and the patterns of the beat encoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..notes import HIGHEST_PITCH, LOWEST_PITCH, Performance
from .appearance import BLACK, NEW, SEED, SKY, axes_or_new, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def piano_roll(
    seed: Performance, new: Performance | None = None, ax: Axes | None = None, window: tuple[float, float] | None = None
) -> Axes:
    """Draw a piano roll: notes as bars over seconds, louder ones darker, seed and continuation in two colours, pedal below.

    With a continuation, the seed is shown for as many seconds before it as the continuation lasts (at least 10 s);
    `window` (start s, end s) shows another part.
    """
    from matplotlib.patches import Patch

    with style(height=2.9):
        ax = axes_or_new(ax)
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


def patterns(states: np.ndarray, names: Sequence[str] = (), ax: Axes | None = None) -> Axes:
    """Draw patterns of the beat encoding: states (n, frames) of a key in a beat, 0 silent, 1 held, 2 struck; first row on top."""
    from matplotlib.colors import ListedColormap

    states = np.asarray(states)
    with style(columns=1, height=0.7 + 0.14 * len(states)):
        ax = axes_or_new(ax)
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
