"""Decides which id may come next in REMI with rests and chords.

Left out: musical taste, and whether a chord is that of the notes that follow it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import grid
from ..grid import BAR, BOS, CHORD, DURATION, EOS, PITCH, POSITION, REST, TEMPO, VELOCITY, Vocabulary
from ..protocol import GrammarBase
from .tokens import clock_tempo

NOT_BEGUN = -1  # the sequence has not begun
UNLIMITED = 1 << 30


@dataclass(frozen=True)
class State:
    """What the rules need to know of the ids so far; ticks are counted from the current bar line."""

    last: int = NOT_BEGUN  # type of the last id
    begun: bool = False  # an event was read: the tempo, a chord or a note
    position: int = -1  # of the current instant
    pitch: int = -1  # of the last note at the current instant
    end: int = 0  # when the last key is released
    room: int = UNLIMITED  # a further rest must be shorter
    silence: int = 0  # ticks of rest in a row


class RestGrammar(GrammarBase):
    """Allows each piece to be written in one way only: a Rest wherever no key is held and nowhere else, its parts from long to short.

    A piece opens with Bar, Position 0 and the clock's tempo, which never changes. Whether a Chord is the chord of the notes that
    follow is not checked: decoding ignores it.
    """

    first = State()

    def __init__(self, vocabulary: Vocabulary, max_bars: int | None = 2):
        self._types, self._values = vocabulary.types, vocabulary.values.astype(np.int64)
        self._of = [vocabulary.types == kind for kind in range(len(grid.TYPES))]
        self._tempo = np.arange(len(vocabulary.names)) == clock_tempo(vocabulary)
        self._bar_ticks = vocabulary.ticks_per_bar
        self._longest = UNLIMITED if max_bars is None else max_bars * vocabulary.ticks_per_bar
        rests, _ = vocabulary.of_type(REST)
        self._room = dict(zip(rests.astype(int).tolist(), [*np.diff(rests).astype(int).tolist(), UNLIMITED]))

    def mask(self, state: State) -> np.ndarray:
        """(V,) bool: True for each id that may come next; none after EOS."""
        of, values, last = self._of, self._values, state.last
        if last == NOT_BEGUN:
            return of[BOS] | of[BAR]
        if last == BOS:
            return of[BAR] | of[EOS]
        if last in (EOS, grid.PAD):
            return np.zeros(len(values), bool)
        if last == PITCH:
            return of[VELOCITY].copy()
        if last == VELOCITY:
            return of[DURATION].copy()
        if last == POSITION:
            return of[PITCH] | of[CHORD] if state.begun else self._tempo.copy()
        if last == CHORD:
            return of[PITCH].copy()
        if last == BAR:
            held = state.end if state.begun else 0
            return (of[POSITION] & (values <= max(held, 0))) | (of[BAR] & (held >= self._bar_ticks))
        rests = of[REST] & (values < state.room) & (values + state.silence <= self._longest)
        if last == REST:
            return rests | (of[POSITION] & (values == state.position))
        time = (of[POSITION] & (values > state.position) & (values <= state.end)) | (
            of[BAR] & (state.end >= self._bar_ticks)
        )
        if last == TEMPO:
            return rests | time | of[PITCH] | of[CHORD]
        return rests | time | (of[PITCH] & (values > state.pitch)) | of[EOS]

    def advance(self, state: State, id: int) -> State:
        """The state after one more id."""
        kind, value = int(self._types[id]), int(self._values[id])
        if kind == BAR:
            # the first bar line of a sequence opens the bar that it is in
            passed = self._bar_ticks if state.begun else 0
            return replace(state, last=BAR, position=-1, pitch=-1, end=state.end - passed, room=UNLIMITED, silence=0)
        if kind == POSITION:
            return replace(state, last=POSITION, position=value, pitch=-1, room=UNLIMITED, silence=0)
        if kind == REST:
            tick = max(state.end, state.position, 0) + value
            passed = tick // self._bar_ticks * self._bar_ticks
            return State(REST, True, tick - passed, -1, state.end - passed, self._room[value], state.silence + value)
        begun = state.begun or kind not in (BOS, EOS, grid.PAD)
        end = max(state.end, max(state.position, 0) + value) if kind == DURATION else state.end
        pitch = value if kind == PITCH else state.pitch
        return replace(state, last=kind, begun=begun, pitch=pitch, end=end, room=UNLIMITED, silence=0)
