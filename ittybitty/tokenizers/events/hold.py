"""Holds sampled music near its seed in pace, register and loudness, where a model left to itself drifts away in minutes.

Three running means over the last HORIZON notes are watched: the time between notes (log2 of ticks), the key, and the MIDI
velocity. Each has a range in which nothing happens. It reaches from the mean of the seed's last notes to what pianists play on average after such
an opening, with a margin on both sides that half of the pianists' own later windows keep:

    expected = intercept + slope · seed          (PIANISTS; pianists return to what is usual for them)
    range    = [min(seed, expected) - margin, max(seed, expected) + margin]

Outside of the range by `excess`, the logits of the classes c of that part are tilted in proportion to their value:

    logits[c] += - hold · STRENGTH · excess / spread² · (value(c) - mean)

Such exponential tilting changes the mean at the least cost in Kullback-Leibler divergence (Csiszár 1975, I-divergence geometry,
theorem 3.1). `spread` is the standard deviation of the value over the notes of a piece. The pedal and the end of
the piece are not tilted, and count as a class at the mean.

The figures of PIANISTS come from `ittybitty experiment drift` on MAESTRO's training split.

Left out: harmony, texture and form, and music that begins without a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...notes import LOWEST_PITCH

HORIZON = 200  # notes
STRENGTH = 4.0  # of a hold of 1; chosen among 1 to 12 by windows outside and matching on validation (paper/LOG.md)
FEWEST = 10  # notes of a seed that hold anything
SHORTEST = 1 / 64  # ticks


class Habit(NamedTuple):
    """How pianists go on after an opening, in one quantity; see the module's text."""

    intercept: float
    slope: float
    margin: float
    spread: float


PIANISTS = (
    Habit(2.546, 0.279, 0.386, 1.33),  # notes per second, log2
    Habit(45.53, 0.295, 2.68, 13.0),  # MIDI number
    Habit(40.34, 0.385, 5.16, 17.2),  # MIDI velocity
)


@dataclass(frozen=True)
class Hold:
    """What one piece is held to. All zeros hold nothing."""

    strength: float = 0.0
    low: tuple[float, ...] = (0.0, 0.0, 0.0)  # log2 of ticks from note to note, key, MIDI velocity
    high: tuple[float, ...] = (0.0, 0.0, 0.0)

    @classmethod
    def near(cls, means: Sequence[float], notes: int, strength: float, ticks_per_second: int) -> Hold:
        """For the running means at the end of a seed of `notes` notes; one of fewer than FEWEST holds nothing."""
        if strength == 0 or notes < FEWEST:
            return cls()
        rate = math.log2(ticks_per_second)
        seed = (rate - pace(means[0]), means[1] + LOWEST_PITCH, means[2])
        ranges = []
        for value, habit in zip(seed, PIANISTS):
            expected = habit.intercept + habit.slope * value
            ranges.append((min(value, expected) - habit.margin, max(value, expected) + habit.margin))
        (slowest, fastest), (lowest, highest), (softest, loudest) = ranges
        return cls(
            strength,
            (rate - fastest, lowest - LOWEST_PITCH, softest),
            (rate - slowest, highest - LOWEST_PITCH, loudest),
        )

    def slopes(self, means: Sequence[float]) -> tuple[float, float, float]:
        """What is added to a logit for each unit by which its class lies above the mean: of time, key and velocity."""
        now = (pace(means[0]), means[1], means[2])
        excess = [value - min(max(value, low), high) for value, low, high in zip(now, self.low, self.high)]
        time, key, velocity = (-pull * x for pull, x in zip(self.pull, excess))
        return time, key, velocity

    @property
    def pull(self) -> tuple[float, float, float]:
        """What a slope is of the excess."""
        time, key, velocity = (STRENGTH * self.strength / habit.spread**2 for habit in PIANISTS)
        return time, key, velocity


def pace(ticks: float) -> float:
    """log2 of the mean time between notes, in ticks; of a chord without end it is finite too."""
    return math.log2(max(ticks, SHORTEST))


def moved(means: tuple[float, float, float], at: int, value: float, notes: int) -> tuple[float, float, float]:
    """Running means after one more value of mean `at`, that of the piece's note number `notes` (from 1 on)."""
    changed = list(means)
    changed[at] += (value - changed[at]) / min(notes, HORIZON)
    return changed[0], changed[1], changed[2]


def steps(times: Sequence[int]) -> np.ndarray:
    """(T,) value of each class of time: log2 of 1 + its ticks, so that 0 has one."""
    return np.log2(1.0 + np.asarray(times, np.float64))
