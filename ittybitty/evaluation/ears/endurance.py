"""Windows of equal numbers of notes, and how many of them lie outside what pianists play.

For notes per second, register (mean pitch) and velocity (mean) the range is from the 5th to the 95th percentile of windows of
held-out pianists. So by itself each value of a pianist is outside one time in ten, and a window, which has three, more often:
their own windows, counted the same way, are the measure.

Left out: form. A window knows nothing of the windows before it; long_continuations.py has more about each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...notes import Performance

PERCENTILES = (5, 95)
VALUES = ("notes_per_second", "register", "velocity")


def values_by_window(performance: Performance, size: int) -> list[dict[str, float]]:
    """`window_values` of each full window of `size` notes, in order."""
    notes = performance.notes
    return [window_values(notes[at : at + size]) for at in range(0, len(notes) - size + 1, size)]


def window_values(notes: np.ndarray) -> dict[str, float]:
    """Of (N,) notes: notes a second from the first onset to the last, mean pitch (MIDI number), mean velocity."""
    span = float(notes["onset"].max() - notes["onset"].min())
    return {
        "notes_per_second": (len(notes) - 1) / max(span, 1e-3),
        "register": float(notes["pitch"].mean()),
        "velocity": float(notes["velocity"].mean()),
    }


def ranges(pianists: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Value -> its 5th and 95th percentile over windows of pianists."""
    return {key: tuple(np.percentile([one[key] for one in pianists], PERCENTILES).tolist()) for key in VALUES}


def outside(found: Sequence[Sequence[dict[str, float]]], within: dict[str, tuple[float, float]], expected: int) -> dict:
    """How many windows have a value outside its range, and how many outside each range.

    `found` holds the windows of each continuation. One that ended before it had `expected` windows has the missing ones
    outside: it fell silent.
    """
    every = [one for windows_of_one in found for one in windows_of_one[:expected]]
    missing = expected * len(found) - len(every)
    off = {key: [not low <= one[key] <= high for one in every] for key, (low, high) in within.items()}
    count = sum(map(any, zip(*off.values()))) + missing
    total = len(every) + missing
    return {
        "windows": total,
        "outside": count,
        "share_outside": count / total if total else 0.0,
        "missing": missing,
        "outside_by_value": {key: sum(values) + missing for key, values in off.items()},
        "ranges": {key: list(bounds) for key, bounds in within.items()},
    }
