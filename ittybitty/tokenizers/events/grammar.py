"""Decides which id may come next in a sequence of events, so that every sampled sequence decodes to music without losing an id.

An event is time, what, duration, velocity, in this order. At one instant notes come first and rise in pitch, so a key is
never struck twice; then the pedal may move. It goes down only when it is up, and up only when it has been down for some time. A pedal movement has neither duration nor velocity.

Limit on silence. Silence is the time since the last note onset (since the beginning where there is none), whatever the pedal
does meanwhile; evaluation/ears/faults.py measures the same. `silent` counts it in ticks, as the sum of the times of events, and it stays below
`longest` ticks (4 s times the ticks of a second):

    at a time    the times t with silent + t < longest are allowed, from 0 on, or from 1 on where nothing more can happen
                 at this instant; where that leaves none, only the shortest of them is allowed
    at a what    the pedal may move only while silent + 1 < longest, so that a note can still follow it in time

So a silence of sampled music stays below `longest`, however many pedal movements it holds. After a prompt whose own silence
is longer already, a note follows one tick later at the latest.
The end of the piece is allowed at every time.

Limit on one key. A key may not be struck if it would then have more than `max_share` of the notes of the last
15 s, its own strike among them, once these are ten or more. Where that leaves no event that can happen, the rule is not applied.
In forty openings of MAESTRO no key of a pianist has more (evaluation/ears/faults.py measures it); models that repeat themselves do.

Left out: all other musical taste. Any interval, duration and velocity is allowed.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..protocol import GrammarBase
from . import hold
from .grid import KEYS, PEDAL_DOWN, PEDAL_UP
from .hold import Hold

if TYPE_CHECKING:
    from .tokenizer import EventTokenizer

NONE, BOS, EOS = 1, 2, 3  # as in tokenizer.py
BEGIN, TIME, WHAT, DURATION, VELOCITY, END = range(-1, 5)
NO_KEY, EVERY_KEY = -1, KEYS  # the highest key struck at this instant; EVERY_KEY: no more notes here
NO_LIMIT = 1e9  # s: longer than any piece
SHARE_SECONDS, FEWEST = 15.0, 10  # the notes among which a key's share counts: those of so long, if there are so many
MOST_RECENT = 2048  # notes that are remembered at most, as many as native/events.cpp has room for


@dataclass(frozen=True)
class EventState:
    """What the rules need to know of the ids so far."""

    place: int = BEGIN  # what comes next: TIME … VELOCITY; BEGIN: nothing was read yet; END: nothing may come
    waited: bool = False  # time has passed since the event before
    highest: int = NO_KEY  # at this instant
    pedal: bool = False  # held down
    fresh: bool = False  # the pedal went down at this very instant
    silent: int = 0  # ticks since the last note onset, or since the beginning
    is_note: bool = False  # of the event that is being written
    now: int = 0  # ticks from the beginning to this instant
    recent: tuple[
        tuple[int, int], ...
    ] = ()  # (tick, key) of the notes of the last 15 s before the last note, oldest first
    notes: int = 0  # so far
    means: tuple[float, float, float] = (
        0.0,
        0.0,
        0.0,
    )  # of the last notes: ticks from note to note, key, MIDI velocity


class EventGrammar(GrammarBase):
    """The rules for one tokenizer: silences stay below `longest` ticks, one key has at most `max_share` of the notes of
    `span` ticks, and the pedal moves if there are `pedals`.

    >>> state = grammar.start(prompt_ids)
    >>> allowed = grammar.mask(state)                # (V,) bool
    >>> state = grammar.advance(state, id)           # a new state; the old one is not changed
    """

    first = EventState()

    def __init__(self, tokenizer: EventTokenizer, max_silence: float | None = 4.0, max_share: float | None = 0.28):
        self._first, self._sizes, self._size = tokenizer.first_ids, tokenizer.sizes, tokenizer.vocab_size
        self.times: list[int] = tokenizer.grid.times.tolist()  # ticks of each class, rising from 0
        self.loudness: list[int] = tokenizer.grid.loudness.tolist()  # MIDI velocity of each class
        self.steps = hold.steps(self.times)  # the same, as what is tilted
        self._rate = tokenizer.grid.ticks_per_second
        seconds = max_silence if max_silence is not None else NO_LIMIT
        self.longest = math.ceil(seconds * tokenizer.grid.ticks_per_second)
        self.span = round(SHARE_SECONDS * tokenizer.grid.ticks_per_second)
        self.max_share = 1.0 if max_share is None else max_share
        self.pedals = self._sizes[WHAT] > KEYS

    def complete(self, state: EventState) -> bool:
        """True between two events, where a sequence can be cut without losing an id."""
        return state.place in (BEGIN, TIME, END)

    def mask(self, state: EventState) -> np.ndarray:
        """(V,) bool: True for each id that may come next; none after EOS."""
        allowed, first = np.zeros(self._size, bool), self._first
        if state.place == BEGIN:
            allowed[BOS] = True
        if state.place in (BEGIN, TIME):
            # an instant at which nothing more can happen must be left
            stuck = state.highest >= KEYS - 1 and not self._movable(state)
            below = bisect.bisect_left(self.times, self.longest - state.silent)  # classes short enough
            allowed[first[TIME] + stuck : first[TIME] + max(below, stuck + 1)] = True
            allowed[EOS] = state.place == TIME
        elif state.place == WHAT:
            keys, movable = allowed[first[WHAT] : first[WHAT] + KEYS], self._movable(state)
            keys[0 if state.waited else state.highest + 1 :] = True
            free = keys & ~self._barred(state)
            if movable or free.any():
                keys[:] = free
            if movable:
                allowed[first[WHAT] + (PEDAL_UP if state.pedal else PEDAL_DOWN)] = True
        elif state.place in (DURATION, VELOCITY):
            if state.is_note:
                allowed[first[state.place] : first[state.place] + self._sizes[state.place]] = True
            else:
                allowed[NONE] = True
        return allowed

    def hold(self, state: EventState, strength: float) -> Hold:
        """What music is held to that begins after `state` (hold.py)."""
        return Hold.near(state.means, state.notes, strength, self._rate)

    def tilted(self, logits: np.ndarray, state: EventState, held: Hold) -> np.ndarray:
        """Logits (V,) of the next id, tilted towards what the piece is held to."""
        part = {TIME: 0, WHAT: 1, VELOCITY: 2}.get(state.place)
        slope = 0.0 if part is None else held.slopes(state.means)[part]
        if part is None or slope == 0 or (state.place == VELOCITY and not state.is_note):
            return logits
        mean = state.means[part]
        values = (self.steps - math.log2(1 + mean), np.arange(KEYS) - mean, np.array(self.loudness) - mean)[part]
        start = self._first[state.place]
        changed = logits.copy()
        changed[start : start + len(values)] = logits[start : start + len(values)].astype(np.float64) + slope * values
        return changed

    def _movable(self, state: EventState) -> bool:
        """May the pedal move now?"""
        in_time = state.silent + 1 < self.longest
        return self.pedals and in_time and not (state.pedal and state.fresh and not state.waited)

    def _barred(self, state: EventState) -> np.ndarray:
        """(KEYS,) bool: the keys that would have too large a share of the notes of the last 15 s if struck now."""
        struck = [key for tick, key in state.recent if tick > state.now - self.span]
        counts = np.bincount(struck, minlength=KEYS) + 1
        return (counts > self.max_share * (len(struck) + 1)) & (len(struck) + 1 >= FEWEST)

    def _with(self, state: EventState, key: int) -> tuple[tuple[int, int], ...]:
        """The recent notes with one more."""
        old = bisect.bisect_right(state.recent, (state.now - self.span, KEYS))
        return (*state.recent[max(old, len(state.recent) + 1 - MOST_RECENT) :], (state.now, key))

    def advance(self, state: EventState, id: int) -> EventState:
        """The state after one more id."""
        first = self._first
        if id == EOS:
            return replace(state, place=END)
        if id == BOS:
            return EventState(TIME)
        if first[TIME] <= id < first[WHAT]:
            if id == first[TIME]:
                return replace(state, place=WHAT, waited=False)
            wait = self.times[id - first[TIME]]
            silent, now = state.silent + wait, state.now + wait
            return replace(state, place=WHAT, waited=True, highest=NO_KEY, fresh=False, silent=silent, now=now)
        if first[WHAT] <= id < first[DURATION]:
            what = id - first[WHAT]
            if what < KEYS:
                recent, notes = self._with(state, what), state.notes + 1
                means = hold.moved(hold.moved(state.means, 0, state.silent, notes), 1, what, notes)
                state = replace(state, notes=notes, means=means)
                return replace(state, place=DURATION, is_note=True, highest=what, silent=0, recent=recent)
            down = what == PEDAL_DOWN
            return replace(state, place=DURATION, is_note=False, pedal=down, fresh=down, highest=EVERY_KEY)
        if first[DURATION] <= id < first[VELOCITY] or (id == NONE and state.place == DURATION):
            return replace(state, place=VELOCITY)
        if id >= first[VELOCITY]:
            means = hold.moved(state.means, 2, self.loudness[id - first[VELOCITY]], max(state.notes, 1))
            return replace(state, place=TIME, waited=False, means=means)
        if id == NONE and state.place == VELOCITY:
            return replace(state, place=TIME, waited=False)
        return state  # padding
