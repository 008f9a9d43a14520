"""EventTokenizer: a performance <-> ids, four ids for each event, so that a model can take one step per note.

    BOS   time what duration velocity   time what duration velocity   …   EOS

An event is a note or a movement of the sustain pedal (grid.py). Its four ids say, in this order: the time since the event
before, what happens (one of 88 keys, pedal down, pedal up), the duration class and the velocity class; a pedal movement has
NONE for the last two. The four kinds of ids do not overlap, so a flat list of ids shows where each event begins.

Kin: Compound Word Transformer (Hsiao et al. 2021, arXiv:2101.02402), OctupleMIDI (Zeng et al. 2021, arXiv:2106.05630) and
Nested Music Transformer (Ryu et al. 2024, arXiv:2408.01180), which also predict the parts of an event one after the other.

Nothing is learnt from data: the vocabulary follows from the grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...config import nearest
from ...errors import ConfigError
from ...notes import LOWEST_PITCH, Note, Performance
from .. import saved
from ..grid import closest
from . import grid as event_grid
from .grammar import EventGrammar
from .grid import KEYS, PEDAL_DOWN, EventGrid, Events

VARIANTS: dict[str, EventGrid] = {
    "notes": EventGrid(),  # the time grid of `remi`, 1/48 s
    "notes-fine-pedal": EventGrid(pedal_step=1),  # the same, with the pedal as precise as the notes, as in `remi`
    "notes-fine": EventGrid(  # 10 ms
        100,
        exact=150,
        silence_steps=((600, 3), (1200, 12), (4000, 60)),
        durations=((100, 1), (200, 4), (600, 10)),
        pedal_step=8,
    ),
    "notes-performance": EventGrid(  # the information of Magenta's performance encoding (evaluation/performance.py)
        100,
        exact=200,
        silence_steps=((400, 2), (800, 4), (1600, 16), (6400, 64)),
        durations=((200, 1), (400, 2), (800, 4), (1600, 16), (6400, 64)),
        pedal=False,
        sustain=True,
    ),
}
PAD, NONE, BOS, EOS = range(4)
FIRST_TIME = EOS + 1
TIME, WHAT, DURATION, VELOCITY = range(4)  # the places of an event's ids
IDS_PER_EVENT = 4
PLACES = ("Time", "What", "Duration", "Velocity")


class EventTokenizer(saved.Saved):
    """Four ids per event; ready as it is.

    >>> tokenizer = EventTokenizer("notes")
    >>> ids = tokenizer.encode(performance)          # BOS, four ids for each event, EOS; uint16
    >>> tokenizer.decode(ids)                        # a Performance in seconds
    """

    kind = "events"
    pad_id, bos_id, eos_id = PAD, BOS, EOS
    ids_per_event = IDS_PER_EVENT
    asked = None
    exact_clock = True

    def __init__(self, variant: str | EventGrid = "notes"):
        """A tokenizer of VARIANTS, or of a grid of your own; ConfigError names the nearest for an unknown name."""
        if isinstance(variant, EventGrid):
            self.variant, self.grid = "own settings", variant
        elif variant in VARIANTS:
            self.variant, self.grid = variant, VARIANTS[variant]
        else:
            raise ConfigError(f"no tokenizer is called {variant!r}: {nearest(variant, VARIANTS)}")

    # What it is

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Ids of each place of an event: time, what, duration, velocity (EOS and NONE not counted)."""
        return self.grid.sizes

    @property
    def first_ids(self) -> tuple[int, int, int, int]:
        """The first id of each place."""
        times, whats, durations, _ = self.sizes
        return FIRST_TIME, FIRST_TIME + times, FIRST_TIME + times + whats, FIRST_TIME + times + whats + durations

    @property
    def vocab_size(self) -> int:
        """Ids in all, specials included."""
        return FIRST_TIME + sum(self.sizes)

    @property
    def keeps(self) -> tuple[str, ...]:
        """What of a performance its ids keep."""
        return ("pitch", "onset", "duration", "velocity") + (("pedal",) if self.grid.pedal else ())

    @property
    def fingerprint(self) -> dict:
        """The grid, which decides everything. `sustain` counts where it is on: hashes from before it was there stay."""
        fields = [
            f.name for f in dataclasses.fields(self.grid) if f.init and (f.name != "sustain" or self.grid.sustain)
        ]
        return {name: getattr(self.grid, name) for name in fields}

    @property
    def content_hash(self) -> str:
        """Of everything that decides what ids mean."""
        return saved.hash_of(["events", self.fingerprint])

    @property
    def notes_per_id(self) -> np.ndarray:
        """(V,) 1 for the id of a key, else 0."""
        counts = np.zeros(self.vocab_size, np.int64)
        counts[self.first_ids[WHAT] : self.first_ids[WHAT] + KEYS] = 1
        return counts

    def place(self, id: int) -> int:
        """Which place of an event an id belongs to; -1 for specials."""
        return int(np.searchsorted(self.first_ids, id, side="right")) - 1

    def base_types(self, id: int) -> list[str]:
        """The kind of an id: Time, Pitch, Pedal, PedalOff, Duration, Velocity, or the name of a special."""
        if id < FIRST_TIME:
            return [("PAD", "NONE", "BOS", "EOS")[id]]
        place = self.place(id)
        if place != WHAT:
            return [PLACES[place]]
        what = id - self.first_ids[WHAT]
        return ["Pitch" if what < KEYS else "Pedal" if what == PEDAL_DOWN else "PedalOff"]

    def base_names(self, id: int) -> list[str]:
        """The id in words, such as Pitch_60 or Time_12 (ticks)."""
        kind = self.base_types(id)[0]
        place = self.place(id)
        values = {TIME: self.grid.times, DURATION: self.grid.lengths, VELOCITY: self.grid.loudness}
        if kind == "Pitch":
            return [f"Pitch_{id - self.first_ids[WHAT] + LOWEST_PITCH}"]
        return [f"{kind}_{values[place][id - self.first_ids[place]]}" if place in values else kind]

    def attributes(self, id: int) -> list[str]:
        """What it represents: pitch, time, duration, velocity, pedal or other."""
        kind = self.base_types(id)[0]
        return [{"Pedal": "pedal", "PedalOff": "pedal"}.get(kind, kind.lower() if id >= FIRST_TIME else "other")]

    def nearest_ids(self, other: EventTokenizer) -> np.ndarray:
        """(V,) for each id the one of `other` that says nearest the same: the same key, the closest time, duration, velocity.

        Times are compared in seconds. A pedal movement that `other` does not have becomes its NONE.
        """
        ours, theirs = self.grid, other.grid
        scale = theirs.ticks_per_second / ours.ticks_per_second
        keys = np.arange(self.sizes[WHAT])
        parts = (
            closest(theirs.times, ours.times * scale),
            np.where(keys < other.sizes[WHAT], keys, NONE - other.first_ids[WHAT]),
            closest(theirs.lengths, ours.lengths * scale),
            closest(theirs.loudness, ours.loudness),
        )
        return np.concatenate([np.arange(FIRST_TIME), *(first + part for first, part in zip(other.first_ids, parts))])

    # Performances and ids

    def prepare(self, performance: Performance) -> Performance:
        """The performance unchanged: its encoding does not depend on the rest of the piece."""
        return performance

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16: BOS, four for each event, EOS, unless told otherwise."""
        body = self._ids(event_grid.quantise(performance, self.grid)).ravel()
        return np.concatenate([[BOS] * bos, body, [EOS] * eos]).astype(np.uint16)

    def _ids(self, events: Events) -> np.ndarray:
        """(n, 4) ids of events."""
        return self.rows(events, event_grid.silences(events, self.grid))

    def rows(self, events: Events, times: np.ndarray) -> np.ndarray:
        """(n, 4) ids of events, given the classes (n,) of the times since the event before."""
        first, here = self.first_ids, events.is_note
        rows = np.empty((len(events), IDS_PER_EVENT), np.int64)
        rows[:, TIME] = first[TIME] + times
        rows[:, WHAT] = first[WHAT] + events.what
        rows[:, DURATION] = np.where(here, first[DURATION] + events.duration, NONE)
        rows[:, VELOCITY] = np.where(here, first[VELOCITY] + events.velocity, NONE)
        return rows

    def _split(self, ids: Iterable[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids -> (those before the first whole event, (n, 4) whole events, those after the last one)."""
        ids = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.int64)
        first = self.first_ids
        begins = np.flatnonzero((ids >= first[TIME]) & (ids < first[WHAT]))
        start = int(begins[0]) if len(begins) else len(ids)
        whole = (len(ids) - start) // IDS_PER_EVENT
        while whole and not (ids[start + 4 * whole - 4] >= FIRST_TIME and ids[start + 4 * whole - 1] != EOS):
            whole -= 1  # EOS is where an event would begin
        end = start + IDS_PER_EVENT * whole
        return ids[:start], ids[start:end].reshape(-1, IDS_PER_EVENT), ids[end:]

    def _events(self, rows: np.ndarray) -> Events:
        first = self.first_ids
        what = rows[:, WHAT] - first[WHAT]
        note = (what >= 0) & (what < KEYS)
        wait = self.grid.times[np.clip(rows[:, TIME] - first[TIME], 0, self.sizes[TIME] - 1)]

        def values(place: int) -> np.ndarray:
            return np.where(note, np.clip(rows[:, place] - first[place], 0, self.sizes[place] - 1), -1)

        return Events(np.cumsum(wait), what, values(DURATION), values(VELOCITY))

    def decode(self, ids: Iterable[int]) -> Performance:
        """The performance in seconds; specials are passed over, and an event cut off at the end is left out."""
        return event_grid.to_performance(self._events(self._split(ids)[1]), self.grid)

    def reader(self) -> EventReader:
        """A reader at the beginning of a sequence."""
        return EventReader(self)

    def grammar(self, max_silence: float | None = 4.0, max_share: float | None = 0.28) -> EventGrammar:
        """The rules for sampling: no silence above `max_silence` seconds, and no key that has more than `max_share` of the
        notes of the last 15 s; None for no limit."""
        return EventGrammar(self, max_silence, max_share)

    # Augmentation

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch among the notes of ids; None for no notes."""
        what = np.asarray(ids, np.int64) - self.first_ids[WHAT]
        keys = what[(what >= 0) & (what < KEYS)]
        return (int(keys.min()) + LOWEST_PITCH, int(keys.max()) + LOWEST_PITCH) if len(keys) else None

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music, transposed, velocities moved by classes, times multiplied by `stretch`.

        Of a whole piece or of a window; what stands before the first and after the last whole event stays as it is, but
        for its velocity. ValueError if a note would leave the keyboard.
        """
        before, rows, after = self._split(ids)
        rows, first = rows.copy(), self.first_ids
        note = (rows[:, WHAT] - first[WHAT]) < KEYS
        moved = rows[note, WHAT] + semitones
        if len(moved) and not (first[WHAT] <= moved.min() and moved.max() < first[WHAT] + KEYS):
            raise ValueError(f"a shift by {semitones} semitones leaves the keyboard: keep within pitch_range(ids)")
        rows[note, WHAT] = moved
        lowest, highest = first[VELOCITY], first[VELOCITY] + self.sizes[VELOCITY] - 1
        rows[note, VELOCITY] = np.clip(rows[note, VELOCITY] + velocity_steps, lowest, highest)
        before = np.where(before >= lowest, np.clip(before + velocity_steps, lowest, highest), before)
        if stretch != 1.0:
            rows = self._ids(event_grid.stretched(self._events(rows), self.grid, stretch))
        return np.concatenate([before, rows.ravel(), after]).astype(np.uint16)

    # Learning, saving, loading

    def train(self, performances: Iterable[Performance], vocab_size: int = 0, progress: bool = False) -> EventTokenizer:
        """Nothing is learnt: the vocabulary has one size. Returns itself."""
        return self

    def document(self) -> dict:
        """The settings of the grid."""
        return {"settings": self.fingerprint}

    @classmethod
    def from_document(cls, document: Mapping) -> EventTokenizer:
        """The tokenizer that `document` wrote."""
        values: dict[str, Any] = {k: _tuples(v) for k, v in document["settings"].items()}
        loaded = cls(EventGrid(**values))
        loaded.variant = document["variant"]
        return loaded


def _tuples(value: object) -> object:
    """The lists of JSON as tuples: no setting is a list."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


class EventReader:
    """Ids -> notes one id at a time: a note is given with the last id of its event."""

    def __init__(self, tokenizer: EventTokenizer):
        self._first, self._grid = tokenizer.first_ids, tokenizer.grid
        self._tick = 0
        self._event: list[int] = []
        self.pedal = False  # held down

    @property
    def clock(self) -> float:
        """Second of the last event that has begun."""
        return self._tick / self._grid.ticks_per_second

    def feed(self, id: int) -> list[Note]:
        """The notes that this id completes, in seconds from the beginning of the sequence."""
        id, first = int(id), self._first
        if first[TIME] <= id < first[WHAT]:
            self._event = [id]
            self._tick += int(self._grid.times[id - first[TIME]])
        elif self._event:
            self._event.append(id)
        if len(self._event) < IDS_PER_EVENT:
            return []
        (_, what, duration, velocity), self._event = self._event, []
        what -= first[WHAT]
        if not 0 <= what < KEYS:
            self.pedal = what == PEDAL_DOWN
            return []
        ticks = int(self._grid.lengths[max(0, duration - first[DURATION])])
        loudness = int(self._grid.loudness[max(0, velocity - first[VELOCITY])])
        rate = self._grid.ticks_per_second
        return [Note(self._tick / rate, ticks / rate, what + LOWEST_PITCH, loudness)]
