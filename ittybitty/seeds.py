"""Where in a seed the new music begins: at its end, at a second that was asked for, or before the ending of the piece.

A whole piece closes with an ending, its last chords, after which a model that has read whole pieces expects silence. The rule
that finds an ending looks at notes alone, so that it is the same for every model: the last chord sounds, by its keys or the pedal, for `HELD` seconds
at least and many times as long as the notes before it were apart, and the onsets before it slow down. The ending begins
where the slowing does.

The numbers below were chosen on MAESTRO so that a piece that was cut is rarely taken for one that ends, even where that misses
endings: a missed ending leaves the seed as it is, and an ending seen where there is none drops music.
Left out: the model's own probability of the end (endings.py).
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from .errors import ConfigError
from .notes import Performance, between

CHORD = 0.06  # s within which strikes count as one onset
HELD = 2.0  # s that a last chord sounds at least
TIMES = 6.0  # and this many times the usual gap between onsets
SLOWER = 1.5  # times the usual gap: what counts as slowing down
USUAL = 20.0  # s before the last onset, less LAST, whose gaps are the usual ones
LAST = 4.0
LONGEST = 12.0  # s before the last onset: where an ending begins at the earliest
FEWEST = 12  # onsets that a seed must have, so that something is left to continue


def ending(performance: Performance) -> float | None:
    """Second at which the ending begins; None where the music does not end in one."""
    onsets = np.unique(performance.notes["onset"])
    if not len(onsets):
        return None
    onsets = onsets[np.concatenate([[True], np.diff(onsets) > CHORD])]
    if len(onsets) < FEWEST:
        return None
    gaps, last = np.diff(onsets), onsets[-1]
    usual = gaps[(onsets[:-1] > last - USUAL) & (onsets[:-1] < last - LAST)]
    usual = float(np.median(usual if len(usual) else gaps))
    slow = gaps >= SLOWER * usual
    if _sounds_until(performance, last) - last < max(HELD, TIMES * usual) or not slow[-2:].any():
        return None
    begins = len(onsets) - 1  # index of the onset from which on everything is ending
    while begins > FEWEST // 2 and slow[begins - 2 : begins].any() and onsets[begins - 1] >= last - LONGEST:
        begins -= 1
    return float(onsets[begins])


def _sounds_until(performance: Performance, last: float) -> float:
    """Second at which what is struck at `last` falls silent: keys and pedal are up."""
    downs, ups = performance.pedals["onset"], performance.pedals["onset"] + performance.pedals["duration"]
    held = ups[(downs <= performance.end) & (ups > last)]
    return max(performance.end, float(held.max(initial=0.0)))


def chosen(seed: Performance, start: float | None = None, before_ending: bool = False) -> Performance:
    """The part of a seed that is continued: all before second `start`, or with `before_ending` all before its ending, or all.

    A warning says where the new music begins if that is before an ending. ConfigError if no note begins before `start`.
    """
    if start is None:
        found = ending(seed) if before_ending else None
        if found is None:
            return seed
        warnings.warn(
            f"the last chords of the seed, from {found:.1f} s on, sound like the end of a piece; the new music begins before them "
            "(--keep-ending begins after them)",
            stacklevel=3,
        )
        return between(seed, -math.inf, found)
    first = float(seed.notes["onset"].min()) if len(seed) else 0.0
    last = max(seed.end, first)
    if not len(seed) or not first < start <= last:
        place = f"above {first:.1f} and at most {last:.1f}" if len(seed) else "none: there is no seed"
        raise ConfigError(f"the new music cannot begin at {start:g} s of the seed; give a second {place}")
    return between(seed, -math.inf, start)
