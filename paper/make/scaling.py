"""The power law of `ittybitty experiment scaling`: what it predicts beside what was measured.

The fit is ittybitty/experiments/scaling.py's. Predictions are for the shipped model at the end of its first stage and as it
ships, whose bits were measured, and for `small`, the published size, after ten passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ittybitty.experiments import scaling

from .results import NOTES, music_read, on_pieces, rows_of

EXPERIMENT = "scaling"
FAR = (25.6, 10.0)  # million parameters and passes of the published size
FIRST_STAGE = "evaluate_tiny-stage-1"
TITLES = {"First": "first stage", "Shipped": "shipped model", "Small": "published size"}
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
    done = runs(results)
    size = results[f"evaluate_{NOTES}"]["parameters"] / 1e6  # every stage has the shipped model's size
    pieces = {piece["name"] for piece in done[0]["per_piece"]} if done else set()
    stages = (("First", FIRST_STAGE, ends[0]["epoch"]), ("Shipped", f"evaluate_{NOTES}", music_read(results)[0]))
    found = {}
    for name, file, passes in stages:
        measured = on_pieces(results[file], pieces)[0] if pieces and file in results else None
        found[name] = {"parameters": size, "notes": passes * once, "measured": measured}
    found["Small"] = {"parameters": FAR[0], "notes": FAR[1] * once, "measured": None}
    return found


def points(results: Mapping) -> list[tuple[float, float, float]]:
    """(parameters, notes, bits per note) of each run, the first two in millions."""
    return [
        (run["parameters"] / 1e6, run["training"]["tokens"] / run["tokens_per_note"] / 1e6, run["bits_per_note"])
        for run in runs(results)
    ]


_KNOWN: dict[str, dict] = {}  # numbers and figure ask for the same fit


def law(results: Mapping) -> dict:
    """The analysis of the recorded runs with the promises in the order of `asked`."""
    where = [(one["parameters"], one["notes"]) for one in asked(results).values()]
    key = json.dumps([where, [[run["per_piece"], run["training"], run["parameters"]] for run in runs(results)]])
    if key not in _KNOWN:
        _KNOWN[key] = scaling.analysis(runs(results), where)
    return _KNOWN[key]


def scaling_table(results: Mapping) -> str:
    """What the law promises beside what was measured on the same pieces."""
    lines = [r"\begin{tabular}{lrrrr}", r"\toprule", r" & Parameters & & Predicted & \\"]
    lines += [r" & (millions) & Passes & (95\,\%) & Measured \\", r"\midrule"]
    promises = law(results)["predictions"] if enough(results) else None
    for i, (name, one) in enumerate(asked(results).items()):
        told = promises[i] if promises else None
        promise = "{:.2f} ({:.2f}--{:.2f})".format(told["bits_per_note"], *told["ci95"]) if told else "not fitted"
        measured = f"{one['measured']:.2f}" if one["measured"] else "--"
        passes = one["notes"] / pass_notes(results)
        lines.append(f"{TITLES[name]} & {one['parameters']:.1f} & {passes:.1f} & {promise} & {measured}" + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
