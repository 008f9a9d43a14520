"""A performance as notes and pedal in seconds, with operations such as shift, transpose, between and join.

A performance is two NumPy record arrays, because MAESTRO has seven million notes:

    notes   onset s, duration s, pitch (MIDI number, 60 = middle C), velocity 1..127, sorted by (onset, pitch)
    pedals  onset s, duration s of each interval during which the sustain pedal is held, sorted by onset

It also has its beats, as rising seconds, if they are known (from an annotated corpus, a score or an estimate), else None.
A performance that was read from a MIDI file with its own tempo or time signatures keeps these (`TempoMap`), so that they
can be written again. Beats and tempo map are not part of the music: two performances with the same notes and pedal
are equal whatever their beats and tempo map.

All operations are pure: they return a new performance and do not change the old one.
Left out on purpose: tracks and instruments; MAESTRO is one piano.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

LOWEST_PITCH, HIGHEST_PITCH = 21, 108  # A0 and C8, the 88 keys of a piano

NOTE = np.dtype([("onset", "f8"), ("duration", "f8"), ("pitch", "i2"), ("velocity", "i2")])
PEDAL = np.dtype([("onset", "f8"), ("duration", "f8")])


class Note(NamedTuple):
    """One key pressed and released."""

    onset: float  # s
    duration: float  # s
    pitch: int  # MIDI number
    velocity: int  # 1..127


class Pedal(NamedTuple):
    """The sustain pedal held down from `onset` for `duration` seconds."""

    onset: float
    duration: float


DEFAULT_TEMPO = 500_000  # microseconds a quarter note until a file says otherwise: 120 BPM [Standard MIDI Files 1.0]


@dataclass(frozen=True)
class TempoMap:
    """The tempos and time signatures of a MIDI file, at ticks counted from its beginning."""

    ticks_per_quarter: int
    tempos: tuple[tuple[int, int], ...] = ()  # (tick, microseconds a quarter note), rising ticks
    time_signatures: tuple[tuple[int, int, int], ...] = ()  # (tick, beats in a bar, note value of a beat)

    @property
    def says_something(self) -> bool:
        """False if tempo and time signature are MIDI's defaults: 120 quarter notes a minute, in 4/4."""
        return any(tempo != DEFAULT_TEMPO for _, tempo in self.tempos) or any(
            (beats, value) != (4, 4) for _, beats, value in self.time_signatures
        )

    def finer(self, factor: int) -> TempoMap:
        """The same tempo map with every tick divided into `factor` ticks."""
        return TempoMap(
            self.ticks_per_quarter * factor,
            tuple((tick * factor, tempo) for tick, tempo in self.tempos),
            tuple((tick * factor, beats, value) for tick, beats, value in self.time_signatures),
        )

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """Seconds of ticks."""
        starts, times, lengths = self._stretches
        at = np.searchsorted(starts, ticks, side="right") - 1
        return times[at] + (ticks - starts[at]) * lengths[at]

    def ticks(self, seconds: np.ndarray) -> np.ndarray:
        """Whole ticks nearest to seconds, as floats."""
        starts, times, lengths = self._stretches
        at = np.searchsorted(times, seconds, side="right") - 1
        return np.rint(starts[at] + (np.asarray(seconds, float) - times[at]) / lengths[at])

    @cached_property
    def _stretches(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First tick, first second and seconds per tick of each section of one tempo; tempos of 0 are ignored."""
        changes = [(0, DEFAULT_TEMPO), *(change for change in self.tempos if change[1] > 0)]
        starts, tempos = (np.array(values) for values in zip(*changes))
        lengths = tempos * 1e-6 / self.ticks_per_quarter
        return starts, np.concatenate([[0.0], np.cumsum(np.diff(starts) * lengths[:-1])]), lengths


@dataclass(frozen=True, eq=False)
class Performance:
    """Notes and pedal of one piece, and its beats and tempo map if they are known; iterating yields `Note`."""

    notes: np.ndarray = field(default_factory=lambda: np.empty(0, NOTE))
    pedals: np.ndarray = field(default_factory=lambda: np.empty(0, PEDAL))
    beats: np.ndarray | None = None  # (n,) s, rising
    tempo_map: TempoMap | None = None

    @classmethod
    def of(cls, notes: Iterable = (), pedals: Iterable = (), beats: Iterable[float] | None = None) -> Performance:
        """From any iterables of (onset, duration, pitch, velocity), (onset, duration) and seconds; sorts them."""
        notes = np.array([tuple(n) for n in notes], NOTE)
        pedals = np.array([tuple(p) for p in pedals], PEDAL)
        beats = None if beats is None else np.sort(np.array([float(b) for b in beats]))
        return cls(np.sort(notes, order=("onset", "pitch")), np.sort(pedals, order="onset"), beats)

    def __len__(self) -> int:
        return len(self.notes)

    def __iter__(self) -> Iterator[Note]:
        return (Note(float(o), float(d), int(p), int(v)) for o, d, p, v in self.notes)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Performance)
            and np.array_equal(self.notes, other.notes)
            and np.array_equal(self.pedals, other.pedals)
        )

    @property
    def end(self) -> float:
        """Second at which the last key is released (0 for no notes); pedal is not counted."""
        return float((self.notes["onset"] + self.notes["duration"]).max()) if len(self) else 0.0


def shift(performance: Performance, seconds: float) -> Performance:
    """Everything `seconds` later (earlier if negative); a tempo map is dropped."""
    notes, pedals = performance.notes.copy(), performance.pedals.copy()
    notes["onset"] += seconds
    pedals["onset"] += seconds
    return Performance(notes, pedals, None if performance.beats is None else performance.beats + seconds)


def stretch(performance: Performance, factor: float) -> Performance:
    """Every time multiplied by `factor`: 1.1 plays ten percent slower; a tempo map is dropped."""
    notes, pedals = performance.notes.copy(), performance.pedals.copy()
    for times in (notes, pedals):
        times["onset"] *= factor
        times["duration"] *= factor
    return Performance(notes, pedals, None if performance.beats is None else performance.beats * factor)


def transpose(performance: Performance, semitones: int) -> Performance:
    """Every pitch moved; a ValueError if a note would leave the keyboard."""
    notes = performance.notes.copy()
    notes["pitch"] += semitones
    if len(notes) and not (notes["pitch"].min() >= LOWEST_PITCH and notes["pitch"].max() <= HIGHEST_PITCH):
        raise ValueError(f"transposing by {semitones} semitones leaves the keyboard; keep within transposition_range()")
    return replace(performance, notes=notes)


def transposition_range(performance: Performance, limit: int = 6) -> tuple[int, int]:
    """Lowest and highest shift within ±limit that keeps every note between A0 and C8."""
    if not len(performance):
        return -limit, limit
    pitches = performance.notes["pitch"]
    low = max(-limit, LOWEST_PITCH - int(pitches.min()))
    high = min(limit, HIGHEST_PITCH - int(pitches.max()))
    return min(low, 0), max(high, 0)


def louder(performance: Performance, steps: int) -> Performance:
    """Velocities moved by `steps` MIDI steps, clipped to 1..127."""
    notes = performance.notes.copy()
    notes["velocity"] = np.clip(notes["velocity"] + steps, 1, 127)
    return replace(performance, notes=notes)


def between(performance: Performance, start: float, end: float) -> Performance:
    """Notes whose onset is in [start, end), with the pedal cut to that interval; times stay absolute.

    All beats are kept, so that the first note is at the same position within its beat as before.
    """
    onsets = performance.notes["onset"]
    notes = performance.notes[(onsets >= start) & (onsets < end)].copy()
    pedals = performance.pedals.copy()
    releases = np.minimum(pedals["onset"] + pedals["duration"], end)
    pedals["onset"] = np.maximum(pedals["onset"], start)
    pedals["duration"] = releases - pedals["onset"]
    return replace(performance, notes=notes, pedals=pedals[pedals["duration"] > 0])


def join(first: Performance, second: Performance) -> Performance:
    """Both in one performance, with their times unchanged and the tempo map of the first.

    If both have beats, those of the second are used from its first beat on.
    """
    return Performance(
        np.sort(np.concatenate([first.notes, second.notes]), order=("onset", "pitch")),
        np.sort(np.concatenate([first.pedals, second.pedals]), order="onset"),
        _joined_beats(first.beats, second.beats),
        first.tempo_map,
    )


def _joined_beats(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    if first is None or second is None or not len(second):
        return second if first is None else first
    return np.concatenate([first[first < second[0]], second])


def without_overlaps(performance: Performance) -> Performance:
    """Shorten notes so that each key is released when it is struck again, because MIDI cannot store overlaps of one key.

    Of several notes with the same pitch and onset the longest is kept (with the highest velocity).
    """
    order = np.lexsort((-performance.notes["duration"], performance.notes["onset"], performance.notes["pitch"]))
    notes = performance.notes[order].copy()
    if len(notes) > 1:
        same_key = notes["pitch"][1:] == notes["pitch"][:-1]
        same_time = notes["onset"][1:] == notes["onset"][:-1]
        repeated = np.concatenate([[False], same_key & same_time])
        group = np.cumsum(~repeated) - 1
        loudest = np.zeros(group[-1] + 1, notes["velocity"].dtype)
        np.maximum.at(loudest, group, notes["velocity"])
        notes = notes[~repeated]
        notes["velocity"] = loudest
        gap = np.diff(notes["onset"])
        struck_again = notes["pitch"][1:] == notes["pitch"][:-1]
        notes["duration"][:-1] = np.where(struck_again, np.minimum(notes["duration"][:-1], gap), notes["duration"][:-1])
    return replace(performance, notes=np.sort(notes, order=("onset", "pitch")))


def united(spans: np.ndarray) -> np.ndarray:
    """(n, 2) intervals sorted, and merged where they overlap; intervals that only touch stay two (the foot went up and down)."""
    spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
    if len(spans) < 2:
        return spans
    reach = np.maximum.accumulate(spans[:, 1])
    fresh = np.concatenate([[True], spans[1:, 0] >= reach[:-1]])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(spans) - 1)
    return np.stack([spans[fresh, 0], reach[last]], axis=1)
