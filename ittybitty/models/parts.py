"""The parts of an event as a model represents them: which ids belong to which part, and where in a list of ids an event begins.

Shared by the model (events.py) and its native decoder (decode_events.py). The ids are those of tokenizers/events.
"""

from __future__ import annotations

from collections.abc import Sequence

G = 4  # ids an event
TIME, WHAT, DURATION, VELOCITY = range(G)
PAD, NONE, BOS, EOS = range(4)  # ids below the first time; a pedal movement has NONE for duration and velocity
KEYS = 88  # `what` counts the keys first, then the movements of the pedal


def classes_of(sizes: Sequence[int]) -> tuple[int, ...]:
    """Classes of each part's head: the end of the piece is one more class of time, the first."""
    return (sizes[TIME] + 1, *sizes[WHAT:])


def starts_of(sizes: Sequence[int]) -> list[int]:
    """Id of class 0 of each part."""
    return [EOS, *(EOS + 1 + sum(sizes[:i]) for i in range(1, G))]


def ids_before_an_event(first: Sequence[int], starts: Sequence[int]) -> int:
    """How many ids precede the first boundary between events, 0 … 3, by the first two ids of a sequence."""
    if first[0] == BOS:
        return 1
    if first[0] == NONE:
        return 2 if list(first[1:2]) == [NONE] else 1
    if first[0] < starts[WHAT]:
        return 0
    return G - sum(first[0] >= start for start in starts[WHAT:])
