"""Random performances for tests: chords, silences, repeated keys, pedal; no corpus needed."""

import numpy as np

from ittybitty.notes import Performance


def random_performance(seed: int = 0, notes: int = 300, seconds: float = 60.0, pedal: bool = True) -> Performance:
    """Notes with durations from 2 ms to 8 s, some struck together, with long gaps; a key is never struck twice at once."""
    random = np.random.default_rng(seed)
    onsets = np.sort(random.choice(random.uniform(0.3, seconds, max(1, notes // 2)), notes))  # about two at each instant
    keys = np.concatenate([random.permutation(np.arange(21, 109))[:88] for _ in range(notes // 88 + 1)])[:notes]
    durations = np.exp(random.uniform(np.log(0.002), np.log(8), notes))
    pedals = []
    if pedal:
        times = np.cumsum(random.choice([0.005, 0.02, 0.04, 0.3, 2.0], size=int(seconds)))
        pedals = [(a, b - a) for a, b in zip(times[0::2], times[1::2])]
    return Performance.of(zip(onsets, durations, keys, random.integers(1, 128, notes)), pedals)
