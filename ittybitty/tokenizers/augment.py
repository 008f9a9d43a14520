"""Augmentation on base tokens: transposes music, changes its velocity or its tempo, without going back to MIDI.

Pitch and velocity are exact: a piece that is shifted here gets the ids that encoding the shifted piece would give. A change of
tempo moves every event to the nearest step of the grid. The result differs by half a step at most from a piece that is played
slower and quantised again. In a window that is cut from a piece, what comes before the first position stays first.

Left out: which amounts to draw, and that notes stay on the keyboard: train/windows.py draws amounts within `pitch_range`.
"""

from __future__ import annotations

import numpy as np

from . import grid
from .grid import BAR, DURATION, PEDAL_OFF, PEDAL_ON, PITCH, POSITION, TEMPO, TIMESIG, VELOCITY, Ticks, Vocabulary


def shift(base: np.ndarray, vocabulary: Vocabulary, semitones: int, velocity_steps: int) -> np.ndarray:
    """Base ids with pitches moved by semitones and velocities by classes (the outermost ones stay where they are).

    A ValueError if a note would leave the keyboard.
    """
    types, moved = vocabulary.types[base], base.copy()
    for kind, steps in ((PITCH, semitones), (VELOCITY, velocity_steps)):
        if steps == 0:
            continue
        _, ids = vocabulary.of_type(kind)  # in rising order, one after the other
        here = types == kind
        wanted = base[here] + steps
        if kind == PITCH and len(wanted) and not (ids[0] <= wanted.min() and wanted.max() <= ids[-1]):
            raise ValueError(f"a shift by {semitones} semitones leaves the keyboard: keep within pitch_range(ids)")
        moved[here] = np.clip(wanted, ids[0], ids[-1])
    return moved


def stretch(base: np.ndarray, vocabulary: Vocabulary, factor: float) -> np.ndarray:
    """Base ids with every onset and duration `factor` times as long, on the grid again.

    Two strikes of a key that fall on one step become one note. What is cut off at the end (a position without an event,
    a note without duration, bar lines before nothing) is left out.
    """
    types = vocabulary.types[base]
    clocks = np.flatnonzero((types == BAR) | (types == POSITION))
    head = clocks[0] if len(clocks) else len(base)
    start, rest = longer(base[:head], vocabulary, factor), base[head:]
    types, values = vocabulary.types[rest], vocabulary.values[rest]
    tick = np.floor(grid.tick_of_token(types, values, vocabulary.ticks_per_bar) * factor + 0.5).astype(np.int64)

    at = grid.complete_notes(types)
    duration = np.maximum(np.floor(values[at + 2] * factor + 0.5), 1)
    strikes = (a.astype(np.int64) for a in (tick[at], duration, values[at], values[at + 1]))
    onset, duration, pitch, velocity = grid.one_strike(*strikes)
    moves = np.flatnonzero((types == PEDAL_ON) | (types == PEDAL_OFF))
    pedal = np.maximum.accumulate(tick[moves] - np.arange(len(moves))) + np.arange(len(moves))  # one a step at most
    down = types[moves] == PEDAL_ON
    tempos, metres = rest[types == TEMPO], rest[types == TIMESIG]
    tempo_id, metre_id = (int(ids[0]) if len(ids) else -1 for ids in (tempos, metres))

    body = grid.to_tokens(
        Ticks(onset, duration, pitch, velocity, pedal[down], pedal[~down]), vocabulary, True, tempo_id, metre_id
    )
    if len(rest) and types[0] == POSITION:  # cut within a bar, whose line is not ours
        body = body[1 if metre_id < 0 else 2 :]
    return np.concatenate([start, body])


def longer(base: np.ndarray, vocabulary: Vocabulary, factor: float) -> np.ndarray:
    """Base ids with each duration `factor` times as long, rounded to the nearest duration token."""
    durations, ids = vocabulary.of_type(DURATION)
    here = vocabulary.types[base] == DURATION
    base = base.copy()
    base[here] = ids[grid.closest(durations, vocabulary.values[base[here]] * factor)]
    return base
