"""The power law of `ittybitty experiment scaling`: its figure, and what it promises beside what was measured.

The fit is ittybitty/experiments/scaling.py's. Promises are for the shipped model at the end of its first stage and as it
ships, whose bits were measured, and for `small`, the published size, after ten passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ittybitty import plots
from ittybitty.experiments import scaling

from .results import NOTES, music_read, on_pieces, rows_of

EXPERIMENT = "scaling"
FAR = (25.6, 10.0)  # million parameters and passes of the published size
FIRST_STAGE = "evaluate_tiny-stage-1"
CURVE = 60  # points of a drawn line
LEAST = 6  # runs for a fit of five unknowns


def runs(results: Mapping) -> list[dict]:
    """The finished runs."""
    return [row for row in rows_of(results, EXPERIMENT).values() if row]


def pass_notes(results: Mapping) -> float:
    """Millions of notes in one pass over the training split."""
    return results["maestro"]["splits"]["train"]["notes"] / 1e6


def enough(results: Mapping) -> bool:
    """Are there enough runs for a fit?"""
    return len(runs(results)) >= LEAST


def asked(results: Mapping) -> dict[str, dict]:
    """{name: {"parameters", "notes", "measured"}} of what is promised: millions, and bits per note on the runs' pieces or None."""
    once, ends = pass_notes(results), results["trained"][NOTES]["ends"]
    done, size = (
        runs(results),
        results[f"evaluate_{NOTES}"]["parameters"] / 1e6,
    )  # every stage has the shipped model's size
    pieces = {piece["name"] for piece in done[0]["per_piece"]} if done else set()
    stages = (("First", FIRST_STAGE, ends[0]["epoch"]), ("Shipped", f"evaluate_{NOTES}", music_read(results)[0]))
    found = {}
    for name, file, passes in stages:
        measured = on_pieces(results[file], pieces)[0] if pieces and file in results else None
        found[name] = {"parameters": size, "notes": passes * once, "measured": measured}
    found["Small"] = {"parameters": FAR[0], "notes": FAR[1] * once, "measured": None}
    return found


_KNOWN: dict[str, dict] = {}  # numbers and figure ask for the same fit


def law(results: Mapping) -> dict:
    """The analysis of the recorded runs with the promises in the order of `asked`."""
    where = [(one["parameters"], one["notes"]) for one in asked(results).values()]
    key = json.dumps([where, [[run["per_piece"], run["training"], run["parameters"]] for run in runs(results)]])
    if key not in _KNOWN:
        _KNOWN[key] = scaling.analysis(runs(results), where)
    return _KNOWN[key]


def scaling_figure(results: Mapping) -> Any:
    """Bits per note against notes of training, a curve a size, with the fitted law and what was measured far beyond it."""
    import matplotlib.pyplot as plt
    import numpy as np

    wanted = asked(results)
    colors = (plots.SKY, plots.BLUE, plots.GREEN, plots.VERMILION)
    with plots.style(columns=1, height=2.3):
        figure, axes = plt.subplots()
        axes.set(xlabel="notes read in training", ylabel="bits per note")
        if not enough(results):
            axes.set_title(f"{len(runs(results))} runs: too few for a fit")
            return figure
        found = law(results)
        far = [(one["notes"], one["measured"]) for one in wanted.values() if one["measured"]]
        begin = min(notes for _, notes, _ in found["points"])
        along = np.geomspace(begin, 1.2 * max(notes for notes, _ in [*far, (2 * begin, 0.0)]), CURVE)
        for size, color in zip(sorted({size for size, _, _ in found["points"]}), colors):
            of_size = [(notes, bits) for other, notes, bits in found["points"] if other == size]
            axes.plot(*zip(*of_size), "o", color=color, markersize=4, label=f"{size:.1f}M parameters")
            axes.plot(
                along, [scaling.predict(found["law"], size, notes) for notes in along], color=color, linewidth=0.8
            )
        if far:
            axes.plot(*zip(*far), "D", color="#333333", markersize=4, label="shipped model, stages")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda notes, _: f"{notes:g}M")
        axes.legend(fontsize=6.5)
    return figure
