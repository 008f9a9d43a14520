"""REMI by arrays: notes and pedal in seconds <-> base tokens, a whole piece in a few NumPy calls.

REMI [1] writes time as bars and positions within a bar, and a note as Pitch, Velocity, Duration. Vocabulary and order
of tokens are miditok's [2]; a test holds every encoding equal to miditok's own, which builds a Python object for each
token and takes thirty times as long. Rounding to the grid is ours, from seconds: a seed file's own tempo never matters.
MAESTRO's 120 beats a minute is a clock, not a metre: a beat is half a second and a bar two, whatever the music does.

[1] Huang and Yang 2020, Pop Music Transformer, section 3. [2] Fradet et al. 2021, MidiTok.

Left out: instruments, and tempo or metre other than what the published settings write once; rests and chords are in rests/.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..notes import NOTE, PEDAL, Performance

BEATS_PER_SECOND = 2.0  # 120 beats a minute
BEATS_PER_BAR = 4

# Types of base tokens; a number of `Vocabulary.types` is an index into this tuple.
TYPES = ("PAD", "BOS", "EOS", "Bar", "Position", "Pitch", "Velocity", "Duration", "Pedal", "PedalOff", "Tempo", "TimeSig",
         "Rest", "Chord")  # fmt: skip  # types in the order of their numbers
PAD, BOS, EOS, BAR, POSITION, PITCH, VELOCITY, DURATION, PEDAL_ON, PEDAL_OFF, TEMPO, TIMESIG, REST, CHORD = range(
    len(TYPES)
)


@dataclass(frozen=True)
class Vocabulary:
    """The base tokens: id -> type and value, and value -> id.

    `values` holds the MIDI number of a Pitch, MIDI velocity, ticks of a Duration or Rest, index of a Position, beats a minute
    of a Tempo, 0 otherwise. A tick is the finest step of the grid, `ticks_per_second` of them make a second.
    """

    names: tuple[str, ...]  # miditok's names, in the order of the ids
    positions_per_beat: int
    types: np.ndarray = field(init=False, repr=False)  # (V0,) uint8
    values: np.ndarray = field(init=False, repr=False)  # (V0,) float64

    def __post_init__(self):
        pairs = [name.split("_", 1) for name in self.names]
        object.__setattr__(self, "types", np.array([TYPES.index(kind) for kind, _ in pairs], np.uint8))
        object.__setattr__(self, "values", np.array([self._value(*pair) for pair in pairs]))

    def _value(self, kind: str, text: str) -> float:
        if kind in ("Duration", "Rest"):  # "beats.parts.parts_per_beat"
            beats, parts, resolution = map(int, text.split("."))
            return (beats * resolution + parts) * self.positions_per_beat // resolution
        return float(text) if kind in ("Pitch", "Velocity", "Position", "Tempo") else 0.0

    def of_type(self, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Values (rising) and ids of all tokens of a type."""
        return self._by_type[kind]

    def id(self, name: str) -> int:
        """The id of a token by miditok's name."""
        return self.names.index(name)

    @cached_property
    def _by_type(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        table = {}
        for kind in range(len(TYPES)):
            ids = np.flatnonzero(self.types == kind)
            ids = ids[np.argsort(self.values[ids], kind="stable")]
            table[kind] = self.values[ids], ids
        return table

    @property
    def ticks_per_second(self) -> float:
        """Finest steps of the time grid in a second."""
        return self.positions_per_beat * BEATS_PER_SECOND

    @property
    def ticks_per_bar(self) -> int:
        """Finest steps of the time grid in a bar."""
        return self.positions_per_beat * BEATS_PER_BAR


@dataclass(frozen=True)
class Ticks:
    """A performance on the grid: integer times in ticks, notes sorted by (onset, pitch), no pitch twice at one onset."""

    onset: np.ndarray  # (N,) int64
    duration: np.ndarray  # (N,) int64
    pitch: np.ndarray  # (N,) int64
    velocity: np.ndarray  # (N,) int64
    press: np.ndarray  # (P,) int64, pedal down
    release: np.ndarray  # (P,) int64, pedal up, each before the next press


def closest(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the closest of the rising `values`; the upper one in the middle, as miditok rounds."""
    right = np.clip(np.searchsorted(values, wanted), 0, len(values) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(wanted - values[left]) < np.abs(values[right] - wanted), left, right)


def quantise(performance: Performance, vocabulary: Vocabulary) -> Ticks:
    """To the grid. Notes off the piano are dropped; of two strikes of a key at one tick the longer stays, and the louder."""
    pitches, _ = vocabulary.of_type(PITCH)
    notes = performance.notes
    notes = notes[(notes["pitch"] >= pitches[0]) & (notes["pitch"] <= pitches[-1])]
    rate = vocabulary.ticks_per_second
    onset = np.floor(np.maximum(notes["onset"], 0) * rate + 0.5).astype(np.int64)
    duration = np.maximum(np.floor(notes["duration"] * rate + 0.5).astype(np.int64), 1)
    velocity = notes["velocity"].astype(np.int64)
    pitch = notes["pitch"].astype(np.int64)
    onset, duration, pitch, velocity = one_strike(onset, duration, pitch, velocity)
    return Ticks(onset, duration, pitch, velocity, *_quantise_pedal(performance.pedals, rate))


def one_strike(
    onset: np.ndarray, duration: np.ndarray, pitch: np.ndarray, velocity: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same four, sorted by (onset, pitch), no key struck twice at one tick."""
    order = np.lexsort((-duration, pitch, onset))
    onset, duration, pitch, velocity = onset[order], duration[order], pitch[order], velocity[order]
    first = np.ones(len(onset), bool)
    first[1:] = (onset[1:] != onset[:-1]) | (pitch[1:] != pitch[:-1])
    if not first.all():
        velocity = np.maximum.reduceat(velocity, np.flatnonzero(first))
        onset, duration, pitch = onset[first], duration[first], pitch[first]
    return onset, duration, pitch, velocity


def _quantise_pedal(pedals: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Presses and releases in ticks, stretches that touch made one.

    A pedal changed within one tick is kept as a change by lifting it a tick early: without that the dampers would
    never come down and harmonies run into one another.
    """
    press = np.floor(np.maximum(pedals["onset"], 0) * rate + 0.5).astype(np.int64)
    release = np.floor((pedals["onset"] + pedals["duration"]) * rate + 0.5).astype(np.int64)
    order = np.argsort(press, kind="stable")
    press, release = press[order], np.maximum(release[order], press[order] + 1)
    if len(press) == 0:
        return press, release
    early = (release[:-1] == press[1:]) & (release[:-1] - press[:-1] >= 2)
    release[:-1] -= early
    reached = np.maximum.accumulate(release)
    starts = np.flatnonzero(np.concatenate([[True], press[1:] > reached[:-1]]))
    return press[starts], np.maximum.reduceat(release, starts)


def to_tokens(ticks: Ticks, vocabulary: Vocabulary, pedal: bool, tempo_id: int = -1, metre_id: int = -1) -> np.ndarray:
    """Base ids (L,) int64 of a quantised performance; `tempo_id` is written once, `metre_id` after every bar (-1: not).

    An event is a note (3 tokens) or a pedal movement (1). At one tick the pedal comes first, then notes from low to high.
    """
    pedal_ticks = np.concatenate([ticks.press, ticks.release]) if pedal else np.empty(0, np.int64)
    p, head = len(pedal_ticks), int(tempo_id >= 0)
    time = np.concatenate([np.zeros(head, np.int64), pedal_ticks, ticks.onset])
    rank = np.concatenate([np.full(head, -1), np.zeros(p, np.int64), ticks.pitch])
    order = np.lexsort((rank, time))
    time = time[order]
    if len(time) == 0:
        return np.empty(0, np.int64)

    bar, position = np.divmod(time, vocabulary.ticks_per_bar)
    bars = np.diff(bar, prepend=-1)
    instant = np.diff(time, prepend=-1) != 0
    width = np.where(order >= head + p, 3, 1)  # tokens of the event itself
    per_bar = 1 if metre_id < 0 else 2
    end = np.cumsum(bars * per_bar + instant + width)
    body = end - width

    ids = np.full(end[-1], vocabulary.id("Bar_None"))  # whatever is not overwritten below is a bar line
    if metre_id >= 0:
        many = bars * per_bar
        first = np.repeat(body - instant - many, bars) + per_bar * _counting(bars)
        ids[first + 1] = metre_id
    _, position_ids = vocabulary.of_type(POSITION)
    ids[body[instant] - 1] = position_ids[position[instant]]

    where = np.empty(len(order), np.int64)
    where[order] = body  # back to the order head, presses, releases, notes
    ids[where[:head]] = tempo_id
    if pedal:
        ids[where[head : head + len(ticks.press)]] = vocabulary.id("Pedal_0")
        ids[where[head + len(ticks.press) : head + p]] = vocabulary.id("PedalOff_0")
    note = where[head + p :]
    for offset, (kind, wanted) in enumerate(
        ((PITCH, ticks.pitch), (VELOCITY, ticks.velocity), (DURATION, ticks.duration))
    ):
        values, kind_ids = vocabulary.of_type(kind)
        ids[note + offset] = kind_ids[closest(values, wanted)]
    return ids


def _counting(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … length - 1 for each of `lengths`, one after the other."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths)


def to_performance(ids: np.ndarray, vocabulary: Vocabulary) -> Performance:
    """The notes and pedal of base ids, in seconds. Tokens out of order mean nothing and are passed over.

    A pedal never lifted is lifted with the last note, so that a cut piece does not lose it.
    """
    types, values = vocabulary.types[ids], vocabulary.values[ids]
    tick = tick_of_token(types, values, vocabulary.ticks_per_bar)
    at = complete_notes(types)
    seconds = _clock(tick, types, values, vocabulary)
    notes = np.empty(len(at), NOTE)
    notes["onset"] = seconds(tick[at])
    notes["duration"] = seconds(tick[at] + values[at + 2]) - notes["onset"]
    notes["pitch"], notes["velocity"] = values[at], values[at + 1]

    moves = np.flatnonzero((types == PEDAL_ON) | (types == PEDAL_OFF))
    down = types[moves] == PEDAL_ON
    moves = moves[down != np.concatenate([[False], down[:-1]])]  # pressed when pressed, or lifted when up: no news
    press, release = tick[moves[0::2]], tick[moves[1::2]]
    if len(press) > len(release):
        last = (tick[at] + values[at + 2]).max() if len(at) else press[-1]
        release = np.append(release, max(last, press[-1] + 1))
    pedals = np.empty(len(press), PEDAL)
    pedals["onset"] = seconds(press)
    pedals["duration"] = seconds(release) - pedals["onset"]
    return Performance(np.sort(notes, order=("onset", "pitch")), pedals)


def complete_notes(types: np.ndarray) -> np.ndarray:
    """Indices of each Pitch that is followed by its Velocity and Duration."""
    return np.flatnonzero((types[:-2] == PITCH) & (types[1:-1] == VELOCITY) & (types[2:] == DURATION))


def tick_of_token(types: np.ndarray, values: np.ndarray, ticks_per_bar: int) -> np.ndarray:
    """Time of each token: that of the last bar line or position before it."""
    clocks = (types == BAR) | (types == POSITION)
    first = types[clocks][:1]
    bar = np.cumsum(types == BAR) - int(len(first) == 1 and first[0] == BAR)  # a cut may start within a bar
    tick = bar * ticks_per_bar + np.where(types == POSITION, values, 0)
    last = np.maximum.accumulate(np.where(clocks, np.arange(len(types)), -1))
    return np.where(last >= 0, tick[last], 0)


def _clock(tick: np.ndarray, types: np.ndarray, values: np.ndarray, vocabulary: Vocabulary):
    """The function from ticks to seconds; straight unless tempo tokens bend it."""
    changes = np.flatnonzero(types == TEMPO)
    if len(changes) == 0:
        return lambda ticks: np.asarray(ticks) / vocabulary.ticks_per_second
    start = np.concatenate([[0], tick[changes]]).astype(float)
    rate = np.concatenate([[60 * BEATS_PER_SECOND], values[changes]]) / 60 * vocabulary.positions_per_beat
    passed = np.concatenate([[0], np.cumsum(np.diff(start) / rate[:-1])])

    def seconds(ticks):
        part = np.maximum(np.searchsorted(start, ticks, side="right") - 1, 0)
        return passed[part] + (np.asarray(ticks) - start[part]) / rate[part]

    return seconds
