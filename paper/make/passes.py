"""Generates the numbers and the figure of the architectures after a whole pass, from `ittybitty experiment passes`.

The curves are those of training's own validation windows; the bits of the text are those of whole validation pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from statistics import median
from typing import Any

from ittybitty import plots
from ittybitty.experiments import variance

from .factors import NOT_RUN, mean_bits
from .results import rows_of

FIRST = "hybrid"  # what the others are compared with
LOW = "-low"  # behind the name of one that was tried with the lower learning rates of the others as well
CHANGED = ("no-attention", "hybrid-adamw")  # the hybrid with a change that the text speaks of
COLORS = {
    "hybrid": plots.BLUE,
    "llama": plots.VERMILION,
    "mamba": plots.SKY,
    "lstm": plots.GREEN,
    "ssm": plots.ORANGE,
}


def done(results: Mapping) -> dict[str, list[Mapping]]:
    """{architecture, or one at other rates: its records, one a seed}, of those that were trained."""
    found: dict[str, list[Mapping]] = {}
    if "passes" in results["recipes"]:
        for name, row in rows_of(results, "passes").items():
            if row:
                first, _, second = name.partition("-")
                found.setdefault(first if second.isdigit() else name, []).append(row)
    return found


def best(results: Mapping) -> dict[str, list[Mapping]]:
    """{architecture: its runs, one a seed}, at the better rate where two were tried."""
    found: dict[str, list[Mapping]] = {}
    for name, runs in done(results).items():
        architecture = name.removesuffix(LOW)
        found[architecture] = min(runs, found.get(architecture, runs), key=mean_bits)
    return found


def passes_numbers(results: Mapping) -> Iterator[tuple[str, str]]:
    """How many architectures were trained for a pass, on how many notes, and what they need more than the hybrid.

    Means over seeds; intervals over pieces, and seeds where an architecture has several.
    """
    found = best(results)
    first = found.get(FIRST)
    yield "PassesArchitectures", f"{len(found.keys() & COLORS.keys())}"
    sizes = [run["parameters"] for runs in found.values() for run in runs]
    yield "PassesParameters", f"{sum(sizes) / max(1, len(sizes)) / 1e6:.1f} million"
    yield "PassesNotes", f"{_notes(first[0]) / 1e6:.1f} million" if first else NOT_RUN
    yield "PassesHybrid", f"{mean_bits(first):.2f}" if first else NOT_RUN
    for name in (*COLORS, *CHANGED):
        if name != FIRST:
            yield from _difference(f"Passes{name.title().replace('-', '')}", found.get(name), first)
    yield from _difference("PassesSelection", found.get("ssm"), found.get("mamba"))
    means = [mean_bits(found[name]) for name in COLORS if name in found]
    yield "PassesSpread", f"{max(means) - min(means):.2f}" if means else NOT_RUN
    apart = [abs(one - other) for one, other in combinations(means, 2)]
    yield "PassesMedian", f"{median(apart):.2f}" if apart else NOT_RUN
    several = [runs for runs in found.values() if len(runs) > 1]
    yield "PassesSeedMoves", f"{max(map(variance.moves, several)):.2f}" if several else NOT_RUN


def _difference(name: str, runs: list | None, base: list | None) -> Iterator[tuple[str, str]]:
    """What the runs need more than those of another, and the bounds of its interval."""
    values = variance.difference(runs, base) if runs and base else None
    for i, bound in enumerate(("", "Low", "High")):
        yield f"{name}{bound}", f"{values[i]:.2f}" if values else NOT_RUN


def _notes(row: Mapping) -> float:
    """Notes that a training has read."""
    return row["training"]["tokens"] / row["tokens_per_note"]


def passes_figure(results: Mapping) -> Any:
    """Bits per note on training's validation windows against the notes and the minutes that each architecture took."""
    import matplotlib.pyplot as plt

    with plots.style(columns=1, height=2.2):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        drawn = {name: runs for name, runs in done(results).items() if name.partition("-")[0] in COLORS}
        for name, runs in drawn.items():
            for row, label in zip(runs, (name, *[None] * len(runs))):
                curve = row["training"]["curve"]
                bits = [one["bits_per_note"] for one in curve]
                per_note = row["tokens_per_note"] * 1e6
                style = dict(color=COLORS[name.partition("-")[0]], linestyle="-" if name in COLORS else "--")
                left.plot([one["tokens"] / per_note for one in curve], bits, label=label, **style)
                right.plot([one["seconds"] / 60 for one in curve], bits, **style)
        left.set(xlabel="notes read (millions)", ylabel="bits per note")
        right.set(xlabel="minutes of one core")
        if drawn:
            figure.legend(fontsize=6.5, ncols=4, loc="outside upper center", columnspacing=1.0, handlelength=1.6)
    return figure
