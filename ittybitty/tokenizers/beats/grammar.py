"""Decides which id may come next in the beat encoding, and reads its notes one beat at a time.

The rules are those of encoded pieces: beats one after the other, in each its sounding pitches from low to high, for each
pitch parts of one level that fill the beat and do not leave it silent, then a velocity where there is one. A part that
begins held may only follow a key that sounds, within the beat or at the end of the one before: no sampled note is lost,
and none is held that was never struck.

Left out: musical taste; any tempo may follow any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ...notes import HIGHEST_PITCH, LOWEST_PITCH, Note
from ..protocol import GrammarBase
from . import vocabulary as v
from .codebook import Codebook
from .grid import FRAMES, HELD, SILENT, STRUCK

if TYPE_CHECKING:
    from .tokenizer import BeatTokenizer

NOT_BEGUN, BEGUN, BEAT, KEY, PARTS, CELL, END = range(7)  # what was read last: CELL is a complete one
USUAL_VELOCITY = 64  # of notes without a velocity code


@dataclass(frozen=True)
class State:
    """What the rules need to know of the ids so far."""

    last: int = NOT_BEGUN
    pitch: int = -1  # of the current or last cell in this beat
    frames: int = 0  # of the current cell that its parts have represented
    level: int = -1  # of the current cell's parts: 0, 1, 2
    sounding: bool = False  # the current key, at the frame reached (or at the end of the beat before)
    heard: bool = False  # the current cell has sounded
    spoken: bool = True  # the current cell has its velocity
    before: frozenset[int] = frozenset()  # keys that sounded at the end of the beat before
    now: frozenset[int] = frozenset()  # keys that sound at the end of this one
    empty_beats: int = 0


class Grammar(GrammarBase):
    """The rules for one codebook. At most `max_empty` beats without a note follow one another (None: no limit).

    >>> state = grammar.start(prompt_ids)
    >>> allowed = grammar.mask(state)                # (4789,) bool
    >>> state = grammar.advance(state, id)           # a new state; the old one is not changed
    """

    first = State()

    def __init__(self, codebook: Codebook, velocity: bool, escape: bool, max_empty: int | None = 16):
        self.velocity, self.max_empty = velocity, max_empty
        self._parts = {id: codebook.part(id) for id in _part_ids(codebook, escape)}
        self._begins_held, self._silent, sound = (np.zeros(v.SIZE, bool) for _ in range(3))
        for id, states in self._parts.items():
            self._begins_held[id] = states[0] == HELD
            self._silent[id] = not states.any()
            sound[id] = not ((states[1:] == HELD) & (states[:-1] == SILENT)).any()
        kind = v.TYPE_OF
        self._of_level = [sound & (kind == v.OF[name]) for name in ("L1", "L2", "L3")]
        self._escapes = sound & (kind == v.OF["Escape"])
        for id in np.flatnonzero(self._escapes).tolist():  # one of the 256 may hold a state that no frame is
            self._escapes[id] = v.escape_ids(np.tile(self._parts[id], 3)[None])[0, 0] == id
        self._of_level[2] = self._of_level[2] | self._escapes
        pitches = np.arange(v.SIZE) - v.PITCH
        self._pitch = np.where(
            (kind == v.OF["Pitch"]) & (pitches >= LOWEST_PITCH) & (pitches <= HIGHEST_PITCH), pitches, -1
        )
        self._tempo, self._spoken = kind == v.OF["Tempo"], kind == v.OF["Velocity"]

    def mask(self, state: State) -> np.ndarray:
        """(4789,) bool: True for each id that may come next; none after EOS."""
        allowed = np.zeros(v.SIZE, bool)
        if state.last in (KEY, PARTS):
            return self._next_parts(state)
        if state.last == CELL and not state.spoken:
            return self._spoken.copy()
        if state.last == NOT_BEGUN:
            allowed[v.BOS] = True
        if state.last != END and (self.max_empty is None or state.empty_beats <= self.max_empty or state.last == CELL):
            allowed |= self._tempo
        if state.last in (BEAT, CELL):
            allowed |= self._pitch > state.pitch
        if state.last in (BEGUN, BEAT, CELL):
            allowed[v.EOS] = True
        return allowed

    def _next_parts(self, state: State) -> np.ndarray:
        if state.last == KEY:
            fits = self._of_level[0] | self._of_level[1] | self._of_level[2]
        elif state.frames % v.SPANS[2]:  # within a quarter that is spelt out
            fits = self._escapes.copy()
        else:
            fits = self._of_level[state.level].copy()
        if not state.sounding:
            fits &= ~self._begins_held
        if not state.heard:  # the last part must sound
            for level, span in enumerate(v.SPANS):
                if state.frames + span >= FRAMES:
                    fits &= ~(self._of_level[level] & ~self._escapes & self._silent)
            if state.frames + v.ESCAPE_FRAMES >= FRAMES:
                fits &= ~(self._escapes & self._silent)
        return fits

    def advance(self, state: State, id: int) -> State:
        """The state after one more id."""
        kind = v.TYPES[v.TYPE_OF[id]]
        if kind == "Tempo":
            empty = state.empty_beats + 1 if state.last in (BEAT, BEGUN, NOT_BEGUN) else 1
            return State(BEAT, before=state.now, empty_beats=empty)
        if kind == "Pitch":
            pitch = id - v.PITCH
            return State(KEY, pitch, sounding=pitch in state.before, spoken=False, before=state.before, now=state.now)
        if id in self._parts and state.pitch >= 0:
            states = self._parts[id]
            frames, sounding = state.frames + len(states), bool(states[-1] != SILENT)
            level = 2 if kind == "Escape" else v.TYPES.index(kind)
            whole = frames >= FRAMES
            now = state.now | {state.pitch} if whole and sounding else state.now
            heard = state.heard or bool(states.any())
            moved = replace(
                state,
                last=CELL if whole else PARTS,
                frames=frames,
                level=level,
                sounding=sounding,
                heard=heard,
                now=now,
            )
            return replace(moved, spoken=not self.velocity)
        if kind == "Velocity":
            return replace(state, last=CELL, spoken=True) if state.last == CELL else state
        ends = {v.BOS: BEGUN, v.EOS: END, v.PAD: state.last}
        return replace(state, last=ends[id]) if id in ends else state  # a reserved id has no meaning


def _part_ids(codebook: Codebook, escape: bool) -> list[int]:
    ids = [offset + i for offset, book in zip((v.L1, v.L2, v.L3), codebook.levels) for i in range(len(book))]
    return ids + list(range(v.ESCAPE, v.ESCAPE + v.ESCAPES)) * escape


class Reader:
    """Feed it ids in order; when a beat is over it answers with the notes that ended in it.

    A note is known when its key falls silent, is struck again or is absent from the next beat, so notes come in order of
    their release; what still sounds when the ids end is left to `decode`.
    """

    def __init__(self, tokenizer: BeatTokenizer):
        self._tokenizer = tokenizer
        self._cells: list[tuple[int, list[int], int]] = []  # of this beat: pitch, parts, velocity code (-1: none)
        self._start, self._length = 0.0, 0.0  # s, of this beat
        self._open: dict[int, tuple[float, int]] = {}  # pitch -> onset s and velocity of what sounds

    @property
    def clock(self) -> float:
        """Second before which no later note begins."""
        return min([self._start, *(onset for onset, _ in self._open.values())])

    def feed(self, id: int) -> list[Note]:
        """The notes that this id completes, in seconds from the beginning of the sequence."""
        kind = v.TYPES[v.TYPE_OF[int(id)]]
        if kind in ("Tempo", "EOS"):
            notes = self._end_beat()
            self._start += self._length
            self._length = float(v.seconds_of(id)) if kind == "Tempo" else 0.0
            return [*notes, *self._release(set(self._open), self._start)] if kind == "EOS" else notes
        if kind == "Pitch":
            self._cells.append((int(id) - v.PITCH, [], -1))
        elif self._cells and self._length:
            pitch, parts, _ = self._cells[-1]
            if kind == "Velocity":
                self._cells[-1] = (pitch, parts, int(id) - v.VELOCITY)
            elif kind in ("L1", "L2", "L3", "Escape"):
                parts.append(int(id))
        return []

    def _end_beat(self) -> list[Note]:
        if not self._length:
            self._cells = []
            return []
        cells = {pitch: (parts, code) for pitch, parts, code in self._cells if parts}
        self._cells = []
        notes = self._release(set(self._open) - set(cells), self._start)
        if not cells:
            return notes
        states, velocity = self._tokenizer.cell_content(
            [parts for parts, _ in cells.values()], [code for _, code in cells.values()]
        )
        for pitch, row, loud in zip(cells, states.tolist(), velocity.tolist()):
            for frame, state in enumerate(row):
                at = self._start + self._length * frame / FRAMES
                if state in (STRUCK, SILENT) and pitch in self._open:
                    notes += self._release({pitch}, at)
                if state == STRUCK:
                    self._open[pitch] = (at, int(loud[frame]))
        return sorted(notes)

    def _release(self, pitches: set[int], at: float) -> list[Note]:
        opened = {pitch: self._open.pop(pitch) for pitch in sorted(pitches)}
        return sorted(Note(onset, at - onset, pitch, velocity) for pitch, (onset, velocity) in opened.items())
