"""A performance as a list of events on a time grid: notes and pedal movements, each with the time since the event before.

An event is a note or a movement of the sustain pedal. Events are ordered by time; at one instant notes come first, from low
to high, and then the pedal.

    note    time of its onset on the grid, key, duration class, velocity class
    pedal   time rounded to `pedal_step` ticks after the last note onset before it, and never past the next one

Why pedal times are coarse: where a foot moves within a twelfth of a second is hard to predict and hard to hear, and on the
fine grid it costs half a bit per note. tokenizers/tradeoffs.py measures what the rounding changes.

Silences below `exact` ticks are exact; longer ones are rounded to classes that grow with them. The waits after a rounded one
make up for the rounding, so that no error adds up.

Left out: tempo and metre. tokenizer.py turns these arrays into ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...notes import HIGHEST_PITCH, LOWEST_PITCH, NOTE, PEDAL, Performance
from ..grid import closest, one_strike
from .sustain import with_sustain

KEYS = HIGHEST_PITCH - LOWEST_PITCH + 1  # 88; "what" counts keys from 0, then the two movements of the pedal
PEDAL_DOWN, PEDAL_UP = KEYS, KEYS + 1


@dataclass(frozen=True)
class EventGrid:
    """The classes that time, duration and velocity are rounded to. All times are in ticks."""

    ticks_per_second: int = 48
    exact: int = 96  # silences below this are exact
    silence_steps: tuple[tuple[int, int], ...] = ((288, 2), (576, 8), (1920, 32))  # (up to, step)
    durations: tuple[tuple[int, int], ...] = (
        (96, 1),
        (288, 6),
    )  # (up to, step), from 1 on; longer ones become the longest
    velocities: int = 32
    pedal: bool = True
    pedal_step: int = 4
    sustain: bool = False  # the pedal is folded into durations, and these end where the sound does (sustain.py)
    times: np.ndarray = field(init=False, repr=False, compare=False)  # (T,) ticks of each class, rising from 0
    lengths: np.ndarray = field(init=False, repr=False, compare=False)  # (U,) ticks of each class, rising from 1
    loudness: np.ndarray = field(init=False, repr=False, compare=False)  # (W,) MIDI velocity of each class

    def __post_init__(self):
        object.__setattr__(
            self, "times", np.concatenate([np.arange(self.exact), _steps(self.exact, self.silence_steps)])
        )
        object.__setattr__(self, "lengths", _steps(1, self.durations))
        # miditok's classes: the upper ends of equal parts of 0..127
        object.__setattr__(self, "loudness", np.linspace(0, 127, self.velocities + 1, dtype=np.int64)[1:])

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Classes of time, what, duration and velocity."""
        return len(self.times), KEYS + 2 * self.pedal, len(self.lengths), len(self.loudness)


def _steps(start: int, parts: tuple[tuple[int, int], ...]) -> np.ndarray:
    """start, …: each part goes in its own step from the end of the part before to its own end."""
    found, last = [], start - parts[0][1]
    for end, step in parts:
        found.append(np.arange(last + step, end + 1, step))
        last = int(found[-1][-1])
    return np.concatenate(found)


@dataclass(frozen=True)
class Events:
    """Events in order: time in ticks from the beginning, what, and classes of duration and velocity (-1 for the pedal)."""

    time: np.ndarray  # (n,) int64
    what: np.ndarray  # (n,) int64
    duration: np.ndarray  # (n,) int64
    velocity: np.ndarray  # (n,) int64

    def __len__(self) -> int:
        return len(self.time)

    @property
    def is_note(self) -> np.ndarray:
        """(n,) bool."""
        return self.what < KEYS


def quantise(performance: Performance, grid: EventGrid) -> Events:
    """To the grid. Notes off the piano are dropped; of two strikes of a key at one tick the longer stays, and the louder."""
    if grid.sustain:
        performance = with_sustain(performance)
    notes, rate = performance.notes, grid.ticks_per_second
    notes = notes[(notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH)]
    struck = np.floor(np.maximum(notes["onset"], 0) * rate + 0.5).astype(np.int64)
    if grid.sustain:  # both ends are rounded, as note-seq does
        lasts = np.floor((notes["onset"] + notes["duration"]) * rate + 0.5).astype(np.int64) - struck
    else:
        lasts = np.floor(notes["duration"] * rate + 0.5).astype(np.int64)
    onset, duration, pitch, velocity = one_strike(
        struck,
        np.maximum(lasts, 1),
        notes["pitch"].astype(np.int64),
        notes["velocity"].astype(np.int64),
    )
    pedals = performance.pedals if grid.pedal else performance.pedals[:0]
    moves = np.stack([pedals["onset"], pedals["onset"] + pedals["duration"]], 1).ravel()
    moves = np.maximum.accumulate(np.floor(np.maximum(moves, 0) * rate + 0.5).astype(np.int64))
    return arrange(onset, duration, pitch, velocity, moves, grid)


def arrange(
    onset: np.ndarray,
    duration: np.ndarray,
    pitch: np.ndarray,
    velocity: np.ndarray,
    moves: np.ndarray,
    grid: EventGrid,
) -> Events:
    """Notes sorted by (onset, pitch) and pedal movements in turn (down first), all in ticks, as events in order."""
    what = pitch - LOWEST_PITCH
    lengths, loudness = closest(grid.lengths, duration), closest(grid.loudness, velocity)
    moves, down, gap = _coarse(moves, onset, grid.pedal_step)
    size = len(what) + len(moves)
    silent = np.full(len(moves), -1, np.int64)
    # a pedal movement of gap g (between the g-th distinct onset and the next) follows the notes of that onset
    instants = np.unique(onset)
    place = np.concatenate([np.searchsorted(instants, onset) * 2, gap * 2 + 1])
    order = np.lexsort((np.arange(size), place))  # notes are sorted by pitch already, movements by time
    time = np.concatenate([onset, moves])[order]
    return Events(
        time,
        np.concatenate([what, np.where(down, PEDAL_DOWN, PEDAL_UP)])[order],
        np.concatenate([lengths, silent])[order],
        np.concatenate([loudness, silent])[order],
    )


def _coarse(moves: np.ndarray, onset: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pedal movements (down, up, down, …) in ticks -> (ticks rounded, whether down, gap of each).

    Gap g begins at the g-th distinct onset and ends at the next one; gap -1 is before the first onset.
    A press and its release that round to one instant are moved apart by a step where there is room, and dropped where not.
    """
    instants = np.unique(onset)
    gap = np.searchsorted(instants, moves, side="right") - 1
    start = np.where(gap >= 0, instants[np.maximum(gap, 0)] if len(instants) else 0, 0)
    after = np.append(instants, np.iinfo(np.int64).max // 2)[gap + 1]
    offset = np.minimum((moves - start + step // 2) // step, (after - start) // step) * step
    time = start + offset
    after = np.append(instants, np.iinfo(np.int64).max // 2)[np.searchsorted(instants, time, side="right")]
    down = np.arange(len(moves)) % 2 == 0
    press, release = time[0::2], time[1::2]
    following = np.append(press[1:], np.iinfo(np.int64).max // 2)
    room = np.minimum(after[1::2], following)
    early = release <= press
    moved = np.maximum(release, press + step)
    kept = ~early | (moved <= room)
    time[1::2] = np.where(early, moved, release)
    kept = np.repeat(kept, 2)
    time, down = time[kept], down[kept]
    return time, down, np.searchsorted(instants, time, side="right") - 1  # at an onset: after its notes


def silences(events: Events, grid: EventGrid) -> np.ndarray:
    """(n,) classes of the time since the event before; of the first event since second 0."""
    wait = np.diff(events.time, prepend=0)
    if not len(wait) or wait.max() < grid.exact:
        return wait
    for i in np.flatnonzero(wait >= grid.exact).tolist():
        rounded = int(grid.times[closest(grid.times, wait[i : i + 1])[0]])
        error = rounded - int(wait[i]) if wait[i] <= grid.times[-1] else 0
        wait[i] = rounded
        _catch_up(wait, events.is_note, i + 1, error, grid.exact)
    return closest(grid.times, wait)


def _catch_up(wait: np.ndarray, is_note: np.ndarray, first: int, error: int, exact: int) -> None:
    """Shorten (lengthen, where `error` is below 0) the waits before notes from `first` on until the error is made up for.

    Each changes by at most half; a wait of 0 stays, so that the notes of a chord stay together. The pedal keeps its
    distance from the note before it, which is a whole number of its steps.
    """
    for i in range(first, len(wait)):
        if error == 0:
            return
        if not is_note[i]:
            continue
        if wait[i] >= exact:  # rounded in its turn
            wait[i] = max(exact, wait[i] - error)
            return
        most = int(wait[i]) // 2 if error > 0 else (int(wait[i]) + 1) // 2
        change = min(most, abs(error)) * (1 if error > 0 else -1)
        wait[i] -= change
        error -= change


def to_performance(events: Events, grid: EventGrid) -> Performance:
    """Notes and pedal in seconds. A pedal that is never lifted is lifted with the last note.

    Lifted and pressed at one instant, the pedal is lifted a quarter of a tick early: the dampers must come down, and the same
    ids must come out when the result is encoded again.
    """
    rate = float(grid.ticks_per_second)
    here = events.is_note
    notes = np.empty(int(here.sum()), NOTE)
    ticks = grid.lengths[events.duration[here]]
    notes["onset"], notes["duration"] = events.time[here] / rate, ticks / rate
    notes["pitch"], notes["velocity"] = events.what[here] + LOWEST_PITCH, grid.loudness[events.velocity[here]]
    time, down = events.time[~here], events.what[~here] == PEDAL_DOWN
    news = down != np.concatenate([[False], down[:-1]])
    time = time[news]
    press, release = time[0::2], time[1::2].copy()
    if len(press) > len(release):
        last = int((events.time[here] + ticks).max()) if here.any() else 0
        release = np.append(release, max(last, int(press[-1]) + 1))
    touching = np.append(release[:-1] == press[1:], False) if len(press) else np.zeros(0, bool)
    release = release - 0.25 * (touching & (release > press))
    pedals = np.empty(len(press), PEDAL)
    pedals["onset"], pedals["duration"] = press / rate, (release - press) / rate
    return Performance(np.sort(notes, order=("onset", "pitch")), pedals[pedals["duration"] > 0])


def stretched(events: Events, grid: EventGrid, factor: float) -> Events:
    """The same events `factor` times as slow, on the grid again; two strikes of a key on one tick become one note."""
    here = events.is_note
    time = np.floor(events.time * factor + 0.5).astype(np.int64)
    ticks = np.maximum(np.floor(grid.lengths[events.duration[here]] * factor + 0.5).astype(np.int64), 1)
    loudness = grid.loudness[events.velocity[here]]
    notes = one_strike(time[here], ticks, events.what[here] + LOWEST_PITCH, loudness)
    moves, down = time[~here], events.what[~here] == PEDAL_DOWN
    first_up = int(len(down) > 0 and not down[0])  # a window may begin with the pedal held
    moves = np.concatenate([[0] * first_up, moves, [_END] * ((len(moves) + first_up) % 2)]).astype(np.int64)
    changed = arrange(*notes, moves, grid)
    own = np.ones(len(changed), bool)
    pedal = np.flatnonzero(~changed.is_note)
    if first_up and len(pedal) and changed.what[pedal[0]] == PEDAL_DOWN and len(pedal) > 1:
        own[pedal[0]] = False
    own &= changed.time < _END // 2
    return Events(*(a[own] for a in (changed.time, changed.what, changed.duration, changed.velocity)))


_END = 1 << 40  # a tick after all music
