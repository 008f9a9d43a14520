"""Two faults that anyone hears: one key played over and over, and a silence that does not belong.

stuck     in some 15 s one key has 35% or more of the notes (pianists: 7 to 17%, a repeated accompaniment up to 30%)
silent    for more than 4 s no key is struck, and the seed had no time as long as that; a chord that is held counts as silence
"""

from __future__ import annotations

import numpy as np

from ...notes import Performance

STUCK_SECONDS, STUCK_SHARE = 15.0, 0.35
FEWEST = 10  # notes of a window, below which a share says nothing: three of seven are soon the same key
SILENCE = 4.0  # s


def largest_share(performance: Performance, seconds: float = STUCK_SECONDS) -> float:
    """The largest share that one key has of the notes of any window of `seconds`; 0 where no window has FEWEST notes.

    Windows begin at every onset that has so much music after it, and one ends with the last onset.
    """
    notes = performance.notes
    if not len(notes):
        return 0.0
    onsets = notes["onset"]
    last = float(onsets[-1])
    starts = np.append(onsets[onsets + seconds <= last], max(float(onsets[0]), last - seconds))
    first, after = np.searchsorted(onsets, starts), np.searchsorted(onsets, starts + seconds, side="right")
    struck = np.zeros((len(notes) + 1, 128), np.int32)  # how often each key was struck before note i
    struck[np.arange(1, len(notes) + 1), notes["pitch"]] = 1
    struck = struck.cumsum(0)
    most, count = (struck[after] - struck[first]).max(1), after - first
    return float((most / np.maximum(count, 1))[count >= FEWEST].max(initial=0.0))


def longest_silence(performance: Performance, start: float | None = None, end: float | None = None) -> float:
    """Seconds of the longest time in which no key is struck, from `start` to `end` (the first and the last onset)."""
    onsets = performance.notes["onset"].tolist()
    edges = [*([] if start is None else [start]), *onsets, *([] if end is None else [end])]
    return float(np.diff(edges).max(initial=0.0))


def faults(seed: Performance, continuation: Performance, seconds: float) -> dict:
    """What is wrong with a continuation of `seconds` that begins at second 0: {"stuck", "silent"} with their measures."""
    share = largest_share(continuation)
    silence, before = longest_silence(continuation, 0.0, seconds), longest_silence(seed)
    return {
        "largest_share": share,
        "longest_silence": silence,
        "longest_silence_of_seed": before,
        "stuck": share >= STUCK_SHARE,
        "silent": silence > max(SILENCE, before),
    }
