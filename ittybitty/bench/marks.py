"""The goals (marks) that each benchmark must reach on 2 cores, and the text of a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """`key` of a result must be at most, or at least, `limit`."""

    key: str
    limit: float
    says: str
    at_least: bool = False

    def held(self, value: float) -> bool:
        """Whether this value reaches the mark."""
        return value >= self.limit if self.at_least else value <= self.limit


MARKS: dict[str, tuple[Mark, ...]] = {
    "scan": (
        Mark("ratio_vs_no_scan", 2.0, "x the time of the same stack with its scan left out"),
        Mark("ratio_vs_transformers", 20.0, "x faster than transformers' layer", at_least=True),
        Mark("memory_share", 0.25, "of the memory of transformers' layer"),
        Mark(
            "torch_only_ratio_vs_transformers",
            8.0,
            "x faster than transformers' layer with nothing but PyTorch",
            at_least=True,
        ),
    ),
    "decode": (
        Mark("ratio_to_floor", 1.5, "x the time of reading the float32 weights"),
        Mark("int8_ratio_to_floor", 1.0, "x that time with 8-bit weights"),
        Mark("int8_change", 0.005, "relative change of bits per note with 8-bit weights"),
        Mark("tiny_notes_per_s", 2000, "notes a second of the shipped `tiny`", at_least=True),
    ),
    "busy": (
        Mark("share_of_two", 0.5, "of one continuation's speed, for each of two at once", at_least=True),
        Mark("share_of_four", 0.25, "of one continuation's speed, for each of four at once", at_least=True),
    ),
    "stream": (
        Mark("ratio", 1.05, "x the time a token at token 2,000"),
        Mark("rss_growth_share", 0.05, "more memory than at token 2,000"),
    ),
    "tokenize": (Mark("seconds_all_maestro", 60.0, "s for all of MAESTRO"),),
    "train": (),
    "page": (
        Mark("notes_per_core_s", 60, "notes a second of one core, in Chromium without a window", at_least=True),
        Mark("megabytes", 8.0, "MB, the whole page"),
        Mark("latency_ms", 300, "ms from the end of the pause to the first note of an answer"),
    ),
    "playground": (
        Mark("seen_s", 3.0, "s from the command to a page to look at"),
        Mark("usable_s", 8.0, "s from the command until Generate can be pressed"),
    ),
    "rows": (
        Mark("notes_hybrid_notes_per_s", 4600, "notes a second of a training step of `notes-hybrid`", at_least=True),
    ),
}


def report(verb: str, result: dict) -> str:
    """A result as text: the marks of `verb` with the measured values, then all other values."""
    lines = []
    for mark in MARKS[verb]:
        value = derived(result).get(mark.key)
        state = "not measured" if value is None else "held" if mark.held(value) else "MISSED"
        shown = "-" if value is None else f"{value:.4g}"
        lines.append(
            f"{state:<13}{shown:>8} {mark.says} (mark: {'at least' if mark.at_least else 'at most'} {mark.limit:g})"
        )
    return "\n".join([*lines, "", *_listed(result)]).strip()


def derived(result: dict) -> dict:
    """A result with further values that the marks need and that are computed from others."""
    result = dict(result)
    if result.get("transformers_peak_mb"):
        result["memory_share"] = result["peak_mb"] / result["transformers_peak_mb"]
    if "rows" in result:
        result["notes_hybrid_notes_per_s"] = result["rows"].get("notes-hybrid", {}).get("notes_per_s")
    if "events" in result:
        result["tiny_notes_per_s"] = result["events"]["tiny_notes_per_s"]
    if "int8_bits_per_note_change" in result:
        result["int8_change"] = abs(result["int8_bits_per_note_change"])
    return result


def _listed(values: dict) -> Iterator[str]:
    """A line for each value; values that have names of their own follow their heading, indented."""
    width = max(map(len, values))
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield key
            yield from (f"  {line}" for line in _listed(value))
        else:
            yield f"{key:<{width}}  {_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(map(_shown, value))
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
