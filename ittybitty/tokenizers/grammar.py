"""Decides which id of REMI may come next, so that every sampled sequence is music and no token of it is lost in decoding.

The rules are those of miditok's own encodings: bar lines, then positions that rise within the bar, at each position at
most one movement of the pedal and then notes from low to high, each Pitch with its Velocity and Duration; the pedal
goes down only when up and up only when down. An id of the byte-pair vocabulary is allowed if all the base tokens
it stands for are, one after the other. So one key is never struck twice at one instant, and every note that is written to a
MIDI file is there when it is read again.

Tables hold what does not depend on the state, so a mask takes three vector operations (about 10 µs for 2,000 ids).

Left out: musical taste. Any velocity, any duration and any interval is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import grid
from .bpe import Merges
from .grid import (
    BAR,
    BOS,
    DURATION,
    EOS,
    PAD,
    PEDAL_OFF,
    PEDAL_ON,
    PITCH,
    POSITION,
    TEMPO,
    TIMESIG,
    VELOCITY,
    Vocabulary,
)
from .protocol import GrammarBase

ANYWHERE = 10_000  # a position and a pitch above all others: no condition

# What was read last, when it is not the type of a base token: the sequence has not begun.
NOT_BEGUN = len(grid.TYPES)

_EVENTS = {PEDAL_ON, PEDAL_OFF, PITCH}
_FOLLOWERS = {
    NOT_BEGUN: {BOS, BAR},
    BOS: {BAR, EOS},
    BAR: {BAR, POSITION},
    POSITION: _EVENTS,
    PEDAL_ON: {PITCH, POSITION, BAR, EOS},
    PEDAL_OFF: {PITCH, POSITION, BAR, EOS},
    PITCH: {VELOCITY},
    VELOCITY: {DURATION},
    DURATION: {PITCH, POSITION, BAR, EOS},
    EOS: set(),
    PAD: set(),
}


@dataclass(frozen=True)
class State:
    """What the rules need to know of the ids so far."""

    last: int = NOT_BEGUN  # type of the last base token
    position: int = -1  # of the current instant within its bar
    pitch: int = -1  # of the last note at the current instant
    pedal: bool = False  # held down
    empty_bars: int = 0  # bar lines since the last position


class Grammar(GrammarBase):
    """The rules for one vocabulary. `max_bars` limits bar lines in a row (2 s each); None for no limit.

    >>> state = grammar.start(prompt_ids)
    >>> allowed = grammar.mask(state)                # (V,) bool
    >>> state = grammar.advance(state, id)           # a new state; the old one stays good
    """

    first = State()

    def __init__(self, merges: Merges, vocabulary: Vocabulary, max_bars: int | None = 2):
        self.max_bars = max_bars if max_bars is not None else ANYWHERE
        self._followers = _followers(vocabulary)
        self._types = vocabulary.types.tolist()
        self._values = vocabulary.values.astype(int).tolist()
        self._spelling = [merges.spell(id).tolist() for id in range(merges.size)]
        self._metre = vocabulary.id("TimeSig_4/4") if TIMESIG in self._types else -1
        self._positions = vocabulary.ticks_per_bar
        self._tabulate(merges.size)

    def _tabulate(self, size: int) -> None:
        """What each id asks of the state: type before it, position and pitch below its first, pedal up or down."""
        first_type = np.zeros(size, np.int64)
        sound = np.zeros(size, bool)  # its own base tokens may follow one another
        needs = np.zeros(size, np.int64)  # 0 nothing, else the type of its first pedal movement
        self._first_position = np.full(size, ANYWHERE, np.int16)
        self._first_pitch = np.full(size, ANYWHERE, np.int16)
        for id, spelling in enumerate(self._spelling):
            types = [self._types[i] for i in spelling]
            first_type[id] = types[0]
            sound[id] = self._is_sound(spelling)
            needs[id] = next((t for t in types if t in (PEDAL_ON, PEDAL_OFF)), 0)
            places = [k for k, t in enumerate(types) if t in (BAR, POSITION)]
            if places and types[places[0]] == POSITION:
                self._first_position[id] = self._values[spelling[places[0]]]
            here = spelling[: places[0]] if places else spelling  # before the clock moves on
            self._first_pitch[id] = next((self._values[i] for i in here if self._types[i] == PITCH), ANYWHERE)
        self._allowed = {}  # (last type, pedal held, bars exhausted) -> (V,) bool
        for last, followers in self._followers.items():
            fits = sound & np.isin(first_type, list(followers))
            for held in (False, True):
                right = fits & (needs != (PEDAL_ON if held else PEDAL_OFF))
                self._allowed[last, held, False] = right
                self._allowed[last, held, True] = right & (first_type != BAR)

    def _is_sound(self, spelling: list[int]) -> bool:
        """Whether the base tokens of an id may follow one another, whatever came before."""
        state, held = State(), None  # None: the pedal may be up or down
        for k, id in enumerate(spelling):
            kind, value = self._types[id], self._values[id]
            if (kind == TIMESIG and id != self._metre) or (kind == POSITION and value >= self._positions):
                return False
            if k > 0 and not self._follows(state, kind, value):
                return False
            if kind in (PEDAL_ON, PEDAL_OFF):
                if held == (kind == PEDAL_ON):
                    return False
                held = kind == PEDAL_ON
            state = self._moved(state, kind, value)
        return True

    def _follows(self, state: State, kind: int, value: int) -> bool:
        if kind not in self._followers[state.last]:
            return False
        if kind == POSITION:
            return value > state.position
        return kind != PITCH or value > state.pitch

    def complete(self, state: State) -> bool:
        """True where a sequence can be cut without losing a token: no note or position is half written."""
        return state.last not in (POSITION, PITCH, VELOCITY)

    def mask(self, state: State) -> np.ndarray:
        """(V,) bool: True for each id that may come next; none after EOS."""
        allowed = self._allowed[state.last, state.pedal, state.empty_bars >= self.max_bars]
        return allowed & (self._first_position > state.position) & (self._first_pitch > state.pitch)

    def advance(self, state: State, id: int) -> State:
        """The state after one more id."""
        for base in self._spelling[id]:
            state = self._moved(state, self._types[base], self._values[base])
        return state

    def _moved(self, state: State, kind: int, value: int) -> State:
        if kind == BAR:
            return State(BAR, -1, -1, state.pedal, state.empty_bars + 1)
        if kind == POSITION:
            return State(POSITION, value, -1, state.pedal, 0)
        if kind == PITCH:
            return State(PITCH, state.position, value, state.pedal, 0)
        pedal = {PEDAL_ON: True, PEDAL_OFF: False}.get(kind, state.pedal)
        return replace(state, last=kind, pedal=pedal)


def _followers(vocabulary: Vocabulary) -> dict[int, set[int]]:
    """_FOLLOWERS, and where the settings write them, a metre after every bar line and a tempo first at a position."""
    rules = {kind: set(after) for kind, after in _FOLLOWERS.items()}
    if (vocabulary.types == TIMESIG).any():
        rules[TIMESIG], rules[BAR] = rules[BAR], {TIMESIG}
    if (vocabulary.types == TEMPO).any():
        rules[POSITION].add(TEMPO)
        rules[TEMPO] = _EVENTS | {POSITION, BAR, EOS}
    return rules
