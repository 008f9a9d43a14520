"""Writes notes in seconds as a MIDI file: with the tempo map of their source, else with their beats, else at 120 BPM.

Overlaps are resolved, since MIDI cannot distinguish two strikes of one key. Left out: programs, and time signatures
that the source file did not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..errors import OutputError
from ..notes import DEFAULT_TEMPO, Performance, TempoMap, join, united, without_overlaps
from ..paths import atomic_path
from .read import SUSTAIN

TICKS_PER_QUARTER = 960  # of written files without beats; more with slow beats, so that no tick is longer
MOST_TICKS = 32_000  # per quarter note: MIDI has 15 bits for it
LONGEST_QUARTER = 16.0  # s; MIDI has 24 bits for its microseconds
TICKS_PER_SECOND = TICKS_PER_QUARTER * 1_000_000 // DEFAULT_TEMPO  # 1,920: a tick is 0.52 ms
MOST_TIME = 2**31 - 1  # ticks from a file's beginning to its end: symusic counts in 32 bits


def write_midi(performance: Performance, path: str | Path, new: Performance | None = None) -> None:
    """Write one piano track, and a second one for the notes and pedal of `new`; OutputError if the file cannot be written.

    Tempo and time signatures are those of the file that the performance was read from, if it had any. Else, if the performance
    has beats, each beat is a quarter note and the tempo follows them, so that the beats of the file are those of the
    performance; quarter notes are about half a second long before the first beat, and exactly that after the last. Else
    the tempo is MIDI's default: 120 BPM, 0.52 ms per tick.

    Overlaps are resolved (a note of `new` that strikes a sounding key ends the old note) and every note lasts at least one
    tick, so reading the file gives the same notes and pedal within one tick. ValueError for times before 0 or pitches that
    MIDI does not have.
    """
    data = midi_bytes(performance, new)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def midi_bytes(performance: Performance, new: Performance | None = None) -> bytes:
    """The bytes that `write_midi` writes."""
    from symusic import Score, Tempo, TimeSignature

    both = performance if new is None else join(performance, new)
    clock = _clock(both)
    notes = _whole_ticks(both, clock)
    score = Score(clock.ticks_per_quarter)
    for tick, length in clock.tempos():
        score.tempos.append(Tempo(tick, mspq=length))
    for tick, beats, value in clock.time_signatures:
        score.time_signatures.append(TimeSignature(tick, beats, value))
    if new is None:
        parts = [("Piano", notes, performance.pedals)]
    else:
        is_new = np.isin(_strikes(notes), _strikes(_whole_ticks(new, clock)))
        parts = [("Seed", notes[~is_new], performance.pedals), ("Continuation", notes[is_new], new.pedals)]
    for name, its_notes, pedals in parts:
        score.tracks.append(_track(name, its_notes, _pedal_ticks(pedals, clock)))
    return score.dumps_midi()


def _track(name: str, notes: np.ndarray, pedals: np.ndarray):
    """A symusic track of notes and (n, 2) pedal intervals, both in ticks."""
    from symusic import ControlChange, Note, Track

    track = Track(name)
    track.notes = Note.from_numpy(
        notes["onset"].astype("i4"),
        notes["duration"].astype("i4"),
        notes["pitch"].astype("i1"),
        notes["velocity"].astype("i1"),
    )
    for down, up in pedals:
        track.controls.append(ControlChange(int(down), SUSTAIN, 127))
        track.controls.append(ControlChange(int(up), SUSTAIN, 0))
    return track


def _strikes(notes: np.ndarray) -> np.ndarray:
    """One number for each pair of tick and pitch."""
    return notes["onset"].astype("i8") * 128 + notes["pitch"]


class _Clock(Protocol):
    """Converts seconds to a file's ticks."""

    ticks_per_quarter: int
    time_signatures: tuple[tuple[int, int, int], ...]

    def __call__(self, seconds: np.ndarray) -> np.ndarray:
        """Whole ticks of seconds, as floats."""

    def tempos(self) -> list[tuple[int, int]]:
        """(tick, microseconds a quarter) of each change."""


def _clock(performance: Performance) -> _Clock:
    """The first of tempo map, beats and 120 BPM whose ticks suffice for the whole piece; OutputError if none does."""
    last = max(performance.end, float((performance.pedals["onset"] + performance.pedals["duration"]).max(initial=0)))
    kept = performance.tempo_map
    for clock in (kept and _Kept(kept), _Quarters(performance.beats), _Quarters(None)):
        if clock and not clock(last) > MOST_TIME:
            return clock
    raise OutputError(
        f"the music lasts {last / 3600:,.0f} hours, more than a MIDI file can hold; cut it into shorter pieces"
    )


class _Kept:
    """The tempo map of the file that a performance came from, in ticks fine enough for new notes."""

    def __init__(self, kept: TempoMap):
        slowest = max([tempo for _, tempo in kept.tempos] or [DEFAULT_TEMPO])
        finest = TICKS_PER_QUARTER * slowest / DEFAULT_TEMPO / kept.ticks_per_quarter
        self._map = kept.finer(min(max(1, int(np.ceil(finest))), max(1, MOST_TICKS // kept.ticks_per_quarter)))
        self.ticks_per_quarter, self.time_signatures = self._map.ticks_per_quarter, self._map.time_signatures

    def __call__(self, seconds: ArrayLike) -> np.ndarray:
        """Whole ticks of seconds, as floats."""
        return self._map.ticks(np.asarray(seconds, float))

    def tempos(self) -> list[tuple[int, int]]:
        """(tick, microseconds a quarter) of each change."""
        return [change for change in self._map.tempos if change[1] > 0]


class _Quarters:
    """One quarter note per beat, or 120 per minute without beats."""

    time_signatures: tuple[tuple[int, int, int], ...] = ()

    def __init__(self, beats: np.ndarray | None):
        times = np.empty(0) if beats is None else np.asarray(beats, float)
        times = times[np.isfinite(times) & (times >= 0)]
        usual = DEFAULT_TEMPO * 1e-6
        if len(times):
            before = np.linspace(0, times[0], max(1, round(times[0] / usual)) + 1) if times[0] > 0 else np.zeros(1)
            times = np.concatenate([before, times[1:]])
            parts = np.ceil(np.diff(times) / LONGEST_QUARTER).astype(int).clip(1)  # a gap too long for one quarter
            times = np.interp(np.arange(parts.sum() + 1), np.concatenate([[0], np.cumsum(parts)]), times)
        # whole microseconds from the beginning, so that nothing drifts, and at least one per quarter note
        self.micros = np.unique(np.rint(times * 1e6).astype("i8")) if len(times) else np.zeros(1, "i8")
        longest = int(np.diff(self.micros).max(initial=DEFAULT_TEMPO))
        self.ticks_per_quarter = min(MOST_TICKS, TICKS_PER_QUARTER * -(-longest // DEFAULT_TEMPO))  # a quarter

    def __call__(self, seconds: ArrayLike) -> np.ndarray:
        """Whole ticks of seconds, as floats."""
        micros = np.asarray(seconds, float) * 1e6
        after = np.maximum(micros - self.micros[-1], 0) / DEFAULT_TEMPO
        return np.rint((np.interp(micros, self.micros, np.arange(len(self.micros))) + after) * self.ticks_per_quarter)

    def tempos(self) -> list[tuple[int, int]]:
        """(tick, microseconds a quarter) of each change."""
        lengths = np.append(np.diff(self.micros), DEFAULT_TEMPO)
        changes = np.flatnonzero(np.diff(lengths, prepend=0))
        return [(int(i) * self.ticks_per_quarter, int(lengths[i])) for i in changes]


def _whole_ticks(performance: Performance, clock: _Clock) -> np.ndarray:
    """Notes with onset and duration in ticks, without overlaps of one pitch."""
    notes = performance.notes.copy()
    if len(notes):
        if not (
            np.isfinite(notes["onset"]).all() and np.isfinite(notes["duration"]).all() and notes["onset"].min() >= 0
        ):
            raise ValueError("every onset must be 0 s or later: shift() the performance first")
        if not (notes["pitch"].min() >= 0 and notes["pitch"].max() <= 127):
            raise ValueError("pitches must lie within 0..127")
    release = clock(notes["onset"] + notes["duration"])
    notes["onset"] = clock(notes["onset"])
    notes["duration"] = np.maximum(release - notes["onset"], 1)
    notes["velocity"] = np.clip(notes["velocity"], 1, 127)
    return without_overlaps(Performance(notes)).notes


def _pedal_ticks(pedals: np.ndarray, clock: _Clock) -> np.ndarray:
    """(n, 2) ticks of pedal down and up; the pedal is up for at least a tick between two intervals."""
    spans = np.stack([pedals["onset"], pedals["onset"] + pedals["duration"]], axis=1)
    spans = united(clock(np.maximum(spans, 0)).astype("i8"))
    spans[:-1, 1] = np.minimum(spans[:-1, 1], spans[1:, 0] - 1)
    return spans[spans[:, 1] > spans[:, 0]]
