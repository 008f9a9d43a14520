"""A performance on a grid of beats: 48 frames a beat, and for each beat and pitch what its key does in each frame.

    performance with beats -> Cells -> performance on the grid

A frame of a cell is silent, held or struck: the published binary patterns of sustain and onset in one number, since a key
is struck only where it then sounds. Time between two beats is divided evenly; a note takes the frame nearest to its onset
and ends at the frame nearest to its release, one frame later at the earliest.

Beats are used as they are given, except where no tempo of the vocabulary would fit: beats nearer than 0.12 s to the one
before (over 500 a minute) are taken for repeated and left out, gaps of over 6 s (under 10 a minute) are filled with
beats of the piece's median length, and where notes lie before the first or after the last beat the grid goes on in the
first or last tempo. The grid begins with the beat of the first note and ends with that of the last release.

What this loses is measured by `metrics.round_trip_error(performance, on_beats(cells, cells.times))`: onsets are moved to
the nearest frame, and strikes of one key within a frame become one.

Left out: the pedal, and metre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import TokenizerError
from ...notes import NOTE, Performance, without_overlaps

FRAMES = 48  # a beat
PITCHES = 128
SILENT, HELD, STRUCK = range(3)
SLOWEST, FASTEST = 10.0, 500.0  # beats a minute that the vocabulary can represent
MOST_BEATS = 200_000  # a piece of more is damaged: eleven hours at 300 a minute


@dataclass(frozen=True, eq=False)
class Cells:
    """The sounding cells of a piece, by beat and then from low to high; n cells, b beats."""

    beat: np.ndarray  # (n,) index of the beat
    pitch: np.ndarray  # (n,) MIDI number
    states: np.ndarray  # (n, 48) uint8: SILENT, HELD or STRUCK
    velocity: np.ndarray  # (n, 48) uint8: of the note that sounds, 0 in silence
    times: np.ndarray  # (b + 1,) s, where beats begin and the last one ends

    def __len__(self) -> int:
        return len(self.beat)

    @property
    def tempos(self) -> np.ndarray:
        """(b,) beats a minute."""
        return 60 / np.diff(self.times)


def to_cells(performance: Performance) -> Cells:
    """The cells of a performance that has beats; TokenizerError if the beats are not in order."""
    if not len(performance):
        nothing = np.empty((0, FRAMES), np.uint8)
        return Cells(np.empty(0, int), np.empty(0, int), nothing, nothing, np.zeros(1))
    times = grid_times(performance)
    notes, first, last = _in_frames(performance, times)
    times = times[first : last + 1]
    sounding = np.zeros((PITCHES, (last - first) * FRAMES), np.uint8)  # the roll: velocity of what sounds
    states = np.zeros_like(sounding)
    for on, length, pitch, velocity in notes.tolist():
        on, off = int(on), int(on + length)
        sounding[pitch, on:off] = velocity
        states[pitch, on], states[pitch, on + 1 : off] = STRUCK, HELD
    by_beat = [roll.reshape(PITCHES, -1, FRAMES).transpose(1, 0, 2) for roll in (states, sounding)]  # (b, 128, 48)
    beat, pitch = np.nonzero(by_beat[0].any(-1))
    return Cells(beat, pitch, by_beat[0][beat, pitch], by_beat[1][beat, pitch], times)


def grid_times(performance: Performance) -> np.ndarray:
    """(m,) s: the performance's beats without repeated and missing ones, reaching over all its notes."""
    times = clean_beats(performance.beats)
    start, end = float(performance.notes["onset"][0]), performance.end
    margin = 0.5 / FRAMES  # of a beat: a note may be rounded onto the next one
    step, last = times[1] - times[0], times[-1] - times[-2]
    before = max(0, int(np.ceil((times[0] - start) / step + margin)))
    after = max(0, int(np.ceil((end - times[-1]) / last + 2 * margin)))
    if before + after + len(times) > MOST_BEATS:
        raise TokenizerError(
            f"{before + after + len(times):,} beats would be needed for {end:,.0f} s of music; give beats that span it"
        )
    return np.concatenate(
        [times[0] - step * np.arange(before, 0, -1), times, times[-1] + last * np.arange(1, after + 1)]
    )


def clean_beats(beats: np.ndarray | None) -> np.ndarray:
    """Beats with repeated ones left out and gaps filled; TokenizerError unless at least two are left and their tempo can be represented."""
    if beats is None or len(beats) < 2:
        raise TokenizerError(
            f"the performance has {'no beats' if beats is None else f'{len(beats)} beat'}: two or more are needed for a tempo"
        )
    beats = np.asarray(beats, float)
    if not (np.isfinite(beats).all() and (np.diff(beats) >= 0).all()):
        raise TokenizerError("the performance's beats do not rise: sort them")
    typical = 60 / max(float(np.median(np.diff(beats))), 1e-9)
    if not SLOWEST <= typical <= FASTEST:
        raise TokenizerError(
            f"the beats run at {typical:,.0f} a minute; a tempo token tells {SLOWEST:.0f} to {FASTEST:.0f}: give beats of another level"
        )
    kept = [float(beats[0])]
    for time in beats[1:].tolist():
        gap = time - kept[-1]
        if gap > 60 / SLOWEST:
            parts = max(round(gap * typical / 60), int(np.ceil(gap * SLOWEST / 60)))
            kept.extend(kept[-1] + gap * np.arange(1, parts) / parts)
        if gap >= 60 / FASTEST:
            kept.append(time)
    return np.array(kept)


def _in_frames(performance: Performance, times: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Notes with onset and duration in frames from the first sounding beat on, and (first, last + 1) of those beats."""
    notes = performance.notes.copy()
    on = np.rint(to_beats(notes["onset"], times) * FRAMES)
    off = np.maximum(np.rint(to_beats(notes["onset"] + notes["duration"], times) * FRAMES), on + 1)
    first, last = int(on.min() // FRAMES), int(-(-off.max() // FRAMES))
    notes["onset"], notes["duration"] = on - first * FRAMES, off - on
    return without_overlaps(Performance(notes)).notes, first, last


def to_beats(seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Seconds within `times` as beats (fractions between two), counted from times[0]."""
    return np.interp(seconds, times, np.arange(len(times)))


def on_beats(cells: Cells, times: np.ndarray | None = None) -> Performance:
    """The notes of cells, with `times` (b + 1,) for their beats (their own unless given).

    A note sounds until its key is silent, struck again or absent from the next beat. A cell that holds a key which does
    not sound before (the beginning of a cut) is silent until the key is struck.
    """
    times = cells.times if times is None else np.asarray(times, float)
    beats = len(times) - 1
    order = np.lexsort((cells.beat, cells.pitch))  # each key's cells in order of time
    frame = ((cells.pitch[order] * (beats + 1) + cells.beat[order])[:, None] * FRAMES + np.arange(FRAMES)).ravel()
    states, velocity = cells.states[order].ravel(), cells.velocity[order].ravel()
    sounding = states != SILENT
    frame, states, velocity = frame[sounding], states[sounding], velocity[sounding]
    # runs of frames that touch; a strike begins a new one. Keys are a silent beat apart, so no run crosses them
    begins = (states == STRUCK) | (np.diff(frame, prepend=-2) > 1)
    starts = np.flatnonzero(begins)
    if not len(starts):
        return Performance(beats=times)
    lengths = np.diff(np.append(starts, len(frame)))
    starts, lengths = starts[states[starts] == STRUCK], lengths[states[starts] == STRUCK]
    key, on = np.divmod(frame[starts], (beats + 1) * FRAMES)
    notes = np.empty(len(starts), NOTE)
    notes["onset"] = np.interp(on / FRAMES, np.arange(beats + 1), times)
    notes["duration"] = np.interp((on + lengths) / FRAMES, np.arange(beats + 1), times) - notes["onset"]
    notes["pitch"], notes["velocity"] = key, velocity[starts]
    return Performance(np.sort(notes, order=("onset", "pitch")), beats=times)
