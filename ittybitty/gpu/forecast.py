"""`ittybitty gpu run --plan`: the steps, their times and the figures expected, compared with measured figures where there are any.

    print(report(foreseen("tokens.pack", 540, ROWS, "small")))

The floors are those of floors.py: a step cannot be faster. EAGER is a first guess of how many times longer it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import bound, floors, plan, run, tokens

EAGER = 2.5  # an eager step takes about so many times its floor, because of launches and passes that are not fused
MARK = {"tokens_per_second": 300_000, "scan": 1.5}  # of `small` hybrid on an H100; of the scan, times its least traffic
BATCH = {"h100": 32, "t4": 16}  # windows of a micro-batch


def foreseen(
    pack: str | Path,
    seconds: float,
    rows: Sequence[str] = plan.ROWS,
    preset: str = "small",
    again: bool = False,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
) -> dict:
    """{"steps", "rows": {row: {card: …, "epochs", "measured"}}}; the errors of a visit that could not begin."""
    steps = plan.steps(seconds, rows)
    run.check_tokens(pack, rows)
    found: dict = {
        "seconds": seconds,
        "preset": preset,
        "steps": [{"step": s.title, "seconds": s.seconds} for s in steps],
    }
    found["rows"] = {}
    for row in rows:
        configs = plan.configs(row, preset, again, settings)
        pieces = [p for p in tokens.index(pack, plan.tokenizer_of(row))["pieces"] if p["split"] == "train"]
        ids, notes = sum(p["length"] for p in pieces), sum(p["notes"] for p in pieces)
        share = next(step.seconds for step in steps if step.row == row)
        cards = {}
        for key, card in floors.CARDS.items():
            one = floors.expected(configs, BATCH[key], card)
            one["eager_tokens_per_second"] = one["tokens_per_second"] / EAGER
            one["passes"] = share * one["eager_tokens_per_second"] / max(1, ids)
            cards[key] = one
        found["rows"][row] = {"cards": cards, "tokens": ids, "notes": notes, "measured": _measured(out, row)}
    return found


def _measured(out: str | Path | None, row: str) -> dict | None:
    """What the race of a visit measured, from its work folder or its parcel; None where there is neither."""
    if out is None:
        return None
    place = Path(out).expanduser()
    for file in (
        place / "race.json",
        place.with_name(f"{place.name}.work") / "race.json",
        place / "home" / "parcel.json",
    ):
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
            race = read.get("reports", {}).get("race", {}) if file.name == "parcel.json" else read
            return {**race["rows"][row], "floors": race["floors"]}
        except (OSError, ValueError, KeyError, AttributeError):
            continue
    return None


def report(found: Mapping) -> str:
    """The plan as a page of text."""
    lines = [f"{found['seconds']:g} s, size {found['preset']}", ""]
    lines += [f"  {step['step']:<22}{step['seconds']:6.0f} s" for step in found["steps"]]
    lines += ["  when a step fails, the others still run; time that a step does not use goes to the trainings", ""]
    for row, one in found["rows"].items():
        h100 = one["cards"]["h100"]
        lines += [
            f"{row}: {one['tokens']:,} training tokens, {one['notes']:,} notes",
            f"  {'kernels of one step, ' + str(h100['batch']) + ' windows':<56}{'uses':>5}{'GFLOP':>9}{'MB':>9}{'H100':>10}{'T4':>10}",
        ]
        for fast, slow in zip(h100["kernels"], one["cards"]["t4"]["kernels"]):
            scale = h100["batch"] / one["cards"]["t4"]["batch"]
            lines.append(
                f"  {fast['kernel']:<56}{fast['count']:>5}{fast['gflop']:>9,.0f}{fast['mb']:>9,.0f}"
                f"{fast['ms']:>7.2f} ms{scale * slow['ms']:>7.1f} ms"
            )
        for key, card in one["cards"].items():
            lines.append(
                f"  {floors.CARDS[key].name}: at most {card['tokens_per_second']:,.0f} tokens/s by its floors, "
                f"about {card['eager_tokens_per_second']:,.0f} expected, {card['passes']:.1f} passes"
            )
        lines += [_beside(row, one), ""]
    for row, one in found["rows"].items():
        if row == "hybrid":
            lines += marks(one["cards"]["h100"])
    return "\n".join(lines)


def marks(card: Mapping) -> list[str]:
    """For each goal (mark) a line that says whether the estimate meets it: `card` is floors.expected of `small` hybrid on an H100."""
    rate, wanted = card["tokens_per_second"], MARK["tokens_per_second"]
    lines = [
        f"{wanted:,} tokens/s: {_met(rate >= wanted)} on paper, if a step takes at most {rate / wanted:.1f} times its floors"
    ]
    for kernel in card["kernels"]:
        if kernel["kernel"].endswith("selective scan"):
            times = kernel["ms"] / kernel["least_ms"]
            lines.append(
                f"scan: {times:.1f} times its least traffic, bound by {kernel['bound']}; the mark of {MARK['scan']} is "
                f"{_met(times <= MARK['scan'])} on paper"
            )
            lines.append(
                f"scan: no kernel of its instructions gets below {bound.bound(floors.CARDS['h100'])['times']:.2f} times in half "
                f"precision (gpu/bound.py), nor below {bound.bound(floors.CARDS['h100'], floors.FULL)['times']:.2f} in float32"
            )
    return lines


def _met(yes: bool) -> str:
    return "met" if yes else "not met"


def _beside(row: str, one: Mapping) -> str:
    """What was measured, in a line."""
    measured = one["measured"]
    if not measured or not measured.get("fastest"):
        return "  measured: nothing yet"
    way = measured["fastest"]
    scan = measured.get("scan", {})
    beside = (
        f"; scan {scan['both_ms']:.2f} ms, {scan['both_ms'] / scan['least_ms']:.2f} times its floor" if scan else ""
    )
    return (
        f"  measured: {way['tokens_per_second']:,.0f} tokens/s, {way['notes_per_second']:,.0f} notes/s ({way['path']}, {way['precision']}, "
        f"{way['batch']} windows, {way['mode']}){beside}"
    )
