"""Random performances for tests: chords, silences, repeated keys, pedal; no corpus needed."""

import numpy as np

from ittybitty.notes import Performance


def random_performance(seed: int = 0, notes: int = 300, seconds: float = 60.0, pedal: bool = True) -> Performance:
    """About `notes` notes with durations from 2 ms to 8 s, some struck together, with long gaps.

    No key is struck again within 50 ms: no hand can do it.
    """
    random = np.random.default_rng(seed)
    onsets = np.sort(
        random.choice(random.uniform(0.3, seconds, max(1, notes // 2)), notes)
    )  # about two at each instant
    keys = np.concatenate([random.permutation(np.arange(21, 109)) for _ in range(notes // 88 + 1)])[:notes]
    durations = np.exp(random.uniform(np.log(0.002), np.log(8), notes))
    velocities = random.integers(1, 128, notes)
    struck: dict[int, float] = {}
    played = []
    for onset, duration, key, velocity in zip(onsets, durations, keys, velocities):
        if onset - struck.get(key, -1.0) > 0.05:
            played.append((onset, duration, key, velocity))
            struck[key] = onset
    pedals = []
    if pedal:
        times = np.cumsum(random.choice([0.005, 0.02, 0.04, 0.3, 2.0], size=int(seconds)))
        pedals = [(a, b - a) for a, b in zip(times[0::2], times[1::2])]
    return Performance.of(played, pedals)
