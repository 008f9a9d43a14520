"""Which id may come next in a sequence of events, so that every sampled sequence is music and none of it is lost.

An event is time, what, duration, velocity, in this order. At one instant notes come first and rise in pitch, so a key is
never struck twice; then the pedal may move. It goes down only when it is up, and up only when it has been down for some time. A pedal movement has neither duration nor velocity.

Left out: taste. Any interval, duration and velocity is allowed, and any silence up to `max_silence`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from .grid import KEYS, PEDAL_DOWN, PEDAL_UP

NONE, BOS, EOS = 1, 2, 3  # as in tokenizer.py
BEGIN, TIME, WHAT, DURATION, VELOCITY, END = range(-1, 5)
NO_KEY, EVERY_KEY = -1, KEYS  # the highest key struck at this instant; EVERY_KEY: no more notes here


@dataclass(frozen=True)
class EventState:
    """All that the past forbids."""

    place: int = BEGIN  # what comes next: TIME … VELOCITY; BEGIN: nothing was read yet; END: nothing may come
    waited: bool = False  # time has passed since the event before
    highest: int = NO_KEY  # at this instant
    pedal: bool = False  # held down
    fresh: bool = False  # the pedal went down at this very instant
    is_note: bool = False  # of the event that is being written

    @property
    def complete(self) -> bool:
        """True where a sequence can be cut without losing an id."""
        return self.place in (BEGIN, TIME, END)


class EventGrammar:
    """The rules for one tokenizer; `longest` classes of time are allowed, and movements of the pedal if there are `pedals`.

    >>> state = grammar.start(prompt_ids)
    >>> allowed = grammar.mask(state)                # (V,) bool
    >>> state = grammar.advance(state, id)           # a new state; the old one stays good
    """

    def __init__(self, tokenizer, max_silence: float | None = 4.0):
        self._first, self._sizes, self._size = tokenizer.first_ids, tokenizer.sizes, tokenizer.vocab_size
        times = tokenizer.grid.times
        limit = np.inf if max_silence is None else max_silence * tokenizer.grid.ticks_per_second
        self.longest = int(np.searchsorted(times, limit, side="right"))
        self.pedals = self._sizes[WHAT] > KEYS

    def start(self, prompt_ids: Iterable[int] = ()) -> EventState:
        """The state after a prompt, which is taken as it is: nothing in it is checked."""
        state = EventState()
        for id in prompt_ids:
            state = self.advance(state, int(id))
        return state

    def mask(self, state: EventState) -> np.ndarray:
        """(V,) bool: True for each id that may come next; none after EOS."""
        allowed, first = np.zeros(self._size, bool), self._first
        if state.place == BEGIN:
            allowed[BOS] = True
        if state.place in (BEGIN, TIME):
            # an instant at which nothing more can happen must be left
            stuck = state.highest >= KEYS - 1 and not self._movable(state)
            allowed[first[TIME] + stuck : first[TIME] + self.longest] = True
            allowed[EOS] = state.place == TIME
        elif state.place == WHAT:
            lowest = 0 if state.waited else state.highest + 1
            allowed[first[WHAT] + lowest : first[WHAT] + KEYS] = True
            if self._movable(state):
                allowed[first[WHAT] + (PEDAL_UP if state.pedal else PEDAL_DOWN)] = True
        elif state.place in (DURATION, VELOCITY):
            if state.is_note:
                allowed[first[state.place] : first[state.place] + self._sizes[state.place]] = True
            else:
                allowed[NONE] = True
        return allowed

    def _movable(self, state: EventState) -> bool:
        """May the pedal move now?"""
        return self.pedals and not (state.pedal and state.fresh and not state.waited)

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
            return replace(state, place=WHAT, waited=True, highest=NO_KEY, fresh=False)
        if first[WHAT] <= id < first[DURATION]:
            what = id - first[WHAT]
            if what < KEYS:
                return replace(state, place=DURATION, is_note=True, highest=what)
            down = what == PEDAL_DOWN
            return replace(state, place=DURATION, is_note=False, pedal=down, fresh=down, highest=EVERY_KEY)
        if first[DURATION] <= id < first[VELOCITY] or (id == NONE and state.place == DURATION):
            return replace(state, place=VELOCITY)
        if id >= first[VELOCITY] or (id == NONE and state.place == VELOCITY):
            return replace(state, place=TIME, waited=False)
        return state  # padding
