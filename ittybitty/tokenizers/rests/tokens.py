"""Quantised notes -> base tokens with rests and chords, by arrays; vocabulary, order and rules are miditok's.

Left out: the way back (tokenizers/reader.py), and which id may come next (grammar.py).
"""

from __future__ import annotations

import numpy as np

from .. import grid
from ..grid import DURATION, PITCH, POSITION, REST, TEMPO, VELOCITY, Ticks, Vocabulary

# miditok's chords: semitones above the lowest note.
CHORDS = {
    "min": (0, 3, 7), "maj": (0, 4, 7), "dim": (0, 3, 6), "aug": (0, 4, 8), "sus2": (0, 2, 7), "sus4": (0, 5, 7),
    "7dom": (0, 4, 7, 10), "7min": (0, 3, 7, 10), "7maj": (0, 4, 7, 11), "7halfdim": (0, 3, 6, 10), "7dim": (0, 3, 6, 9),
    "7aug": (0, 4, 8, 11), "9maj": (0, 4, 7, 10, 14), "9min": (0, 4, 7, 10, 13),
}  # fmt: skip  # chords side by side
CHORD_SCOPE = 10  # notes that miditok looks at together


def lengths(beat_res: tuple[tuple[int, int, int], ...]) -> list[str]:
    """miditok's "beats.parts.parts_per_beat", without nothing and with the end of the last range."""
    spans = [
        f"{beat}.{part}.{parts}"
        for start, end, parts in beat_res
        for beat in range(start, end)
        for part in range(parts)
    ]
    return [*spans[1:], f"{beat_res[-1][1]}.0.{beat_res[-1][2]}"]


def rest_ids(gap: int, rests: list[list[int]], vocabulary: Vocabulary) -> list[int]:
    """The rests that fill a gap of `ticks`, from long to short."""
    values, ids = vocabulary.of_type(REST)
    many, left = divmod(gap, int(values[-1]))
    return [int(ids[-1])] * many + rests[left]


def to_tokens(ticks: Ticks, vocabulary: Vocabulary, rests: list[list[int]], whole: bool) -> np.ndarray:
    """Base ids (L,) int64 of a quantised performance; a `whole` piece begins at tick 0 with the tempo, a part where it begins.

    At each instant: Rest where no key was held before it, else Bar for each bar line; Position; Tempo; Chord; notes from low to high.
    """
    n = len(ticks.onset)
    if n == 0:
        return np.empty(0, np.int64)
    durations, duration_ids = vocabulary.of_type(DURATION)
    which = grid.closest(durations, ticks.duration)
    ends = ticks.onset + durations[which].astype(np.int64)
    instants, first = np.unique(ticks.onset, return_index=True)
    held = np.concatenate(
        [[0 if whole else ticks.onset[0]], np.maximum.accumulate(ends)[first[1:] - 1]]
    )  # until then, before it
    notes = np.diff(np.append(first, n))
    if whole and instants[0] > 0:
        instants, held, notes = np.insert(instants, 0, 0), np.insert(held, 0, 0), np.insert(notes, 0, 0)
    gap = np.maximum(instants - held, 0)
    silence = [rest_ids(g, rests, vocabulary) if g else [] for g in gap.tolist()]
    many_rests = np.array([len(s) for s in silence])
    bar, position = np.divmod(instants, vocabulary.ticks_per_bar)
    bars = np.where(gap > 0, 0, np.diff(bar, prepend=-1))
    chord = _chords(ticks.onset.tolist(), ends.tolist(), ticks.pitch.tolist(), vocabulary.positions_per_beat)
    chord_at = np.searchsorted(instants, np.array(list(chord), np.int64))
    has_chord = np.bincount(chord_at, minlength=len(instants))
    has_tempo = np.zeros(len(instants), np.int64)
    has_tempo[0] = whole

    size = many_rests + bars + 1 + has_tempo + has_chord + 3 * notes
    start = np.cumsum(size) - size
    ids = np.full(int(size.sum()), vocabulary.id("Bar_None"))
    for instant in np.flatnonzero(many_rests).tolist():
        ids[start[instant] : start[instant] + many_rests[instant]] = silence[instant]
    place = start + many_rests + bars
    ids[place] = vocabulary.of_type(POSITION)[1][position]
    if whole:
        ids[place[0] + 1] = clock_tempo(vocabulary)
    ids[(place + 1 + has_tempo)[chord_at]] = [vocabulary.id(f"Chord_{name}") for name in chord.values()]
    body = np.repeat(place + 1 + has_tempo + has_chord - 3 * (np.cumsum(notes) - notes), notes) + 3 * np.arange(n)
    pitches, pitch_ids = vocabulary.of_type(PITCH)
    velocities, velocity_ids = vocabulary.of_type(VELOCITY)
    ids[body] = pitch_ids[grid.closest(pitches, ticks.pitch)]
    ids[body + 1] = velocity_ids[grid.closest(velocities, ticks.velocity)]
    ids[body + 2] = duration_ids[which]
    return ids


def clock_tempo(vocabulary: Vocabulary) -> int:
    """The id of the clock's tempo, or of the one that miditok takes for it: the nearest in microseconds a beat."""
    tempos, ids = vocabulary.of_type(TEMPO)
    return int(ids[np.argmin(np.abs(1 / tempos - 1 / (60 * grid.BEATS_PER_SECOND)))])


def _chords(onset: list[int], end: list[int], pitch: list[int], parts: int) -> dict[int, str]:
    """Tick -> name of the chord that miditok's `detect_chords` finds there, in root position, of notes that end together."""
    names = {intervals: name for name, intervals in CHORDS.items()}
    found, place, previous, n = {}, 0, -1, len(onset)
    while place < n:
        start = onset[place]
        if start == previous:
            place += 1
            continue
        stop = place + 1
        while stop < n and stop < place + CHORD_SCOPE and onset[stop] <= start + 1:
            stop += 1
        if any(abs(e - end[place]) > parts // 2 for e in end[place:stop]):
            place = stop
            continue
        if end[place] - start <= parts // 2:  # short notes must be struck at once
            while onset[stop - 1] != start:
                stop -= 1
        if 3 <= stop - place <= 5:
            name = names.get(tuple(p - pitch[place] for p in pitch[place:stop]))
            if name:
                found[start] = name
        previous, place = onset[stop - 1], stop
    return found
