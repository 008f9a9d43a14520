"""Generates the numbers and the figure of the architectures after a whole pass, from `ittybitty experiment passes`.

The curves are those of training's own validation windows; the bits of the text are those of whole validation pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ittybitty import plots

from .results import paired, rows_of

NOT_RUN = "not run"
FIRST = "hybrid"  # what the others are compared with
COLORS = {
    "hybrid": plots.BLUE,
    "llama": plots.VERMILION,
    "mamba": plots.SKY,
    "lstm": plots.GREEN,
    "ssm": plots.ORANGE,
}


def done(results: Mapping) -> dict[str, Mapping]:
    """{architecture: its record}, of those that were trained."""
    if "passes" not in results["recipes"]:
        return {}
    return {name: row for name, row in rows_of(results, "passes").items() if row}


def passes_numbers(results: Mapping) -> Iterator[tuple[str, str]]:
    """How many architectures were trained for a pass, on how many notes, and what they need more than the hybrid."""
    found = done(results)
    yield "PassesArchitectures", f"{len(found)}"
    yield "PassesNotes", f"{_notes(found[FIRST]) / 1e6:.1f} million" if FIRST in found else NOT_RUN
    yield "PassesHybrid", f"{found[FIRST]['bits_per_note']:.2f}" if FIRST in found else NOT_RUN
    for name in ("llama", "mamba"):
        values = paired(found[name], found[FIRST]) if {name, FIRST} <= found.keys() else None
        for bound, i in (("", 0), ("Low", 1), ("High", 2)):
            yield f"Passes{name.title()}{bound}", f"{values[i]:.2f}" if values else NOT_RUN


def _notes(row: Mapping) -> float:
    """Notes that a training has read."""
    return row["training"]["tokens"] / row["tokens_per_note"]


def passes_figure(results: Mapping) -> Any:
    """Bits per note on training's validation windows against the notes and the minutes that each architecture took."""
    import matplotlib.pyplot as plt

    with plots.style(columns=1, height=2.1):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        for name, row in done(results).items():
            curve = row["training"]["curve"]
            bits = [one["bits_per_note"] for one in curve]
            per_note = row["tokens_per_note"] * 1e6
            left.plot([one["tokens"] / per_note for one in curve], bits, color=COLORS[name], label=name)
            right.plot([one["seconds"] / 60 for one in curve], bits, color=COLORS[name])
        left.set(xlabel="notes read (millions)", ylabel="bits per note")
        right.set(xlabel="minutes of one core")
        if done(results):
            left.legend(fontsize=6.5)
    return figure
