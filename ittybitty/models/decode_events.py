"""Decoding models that take a step per event: a whole event in one native call, drawn and read (native/events.cpp).

    step(ids, state)                     one id, as EventModel.step
    events(state, rules, choice, …)      whole events of one piece, endlessly: what generation plays

`events` draws what `sampling.draw` draws from the logits of `step` within the rules of tokenizers/events/grammar.py, with
the same random numbers: one for each id. Both are written twice, in Python and in C++, and a test holds them together.

Left out: repetition penalties and drawing for a batch; `step` gives logits for both.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ..config import ModelConfig
from . import native
from .decode import CHUNK, Decoder
from .layout import Matrix, Part
from .parts import BOS, DURATION, KEYS, NONE, PAD, VELOCITY, WHAT, G, classes_of, ids_before_an_event, starts_of
from .quantize import Array, like, numpy_of
from .states import EventState

AHEAD = 64  # events whose random numbers are drawn at once
MOST_RECENT = 2048  # notes whose share of keys is counted, at most: as in native/events.cpp and the grammar


class PastRules(Protocol):
    """What the past of a piece forbids, at the beginning of an event: EventState of the grammar."""

    @property
    def waited(self) -> bool: ...
    @property
    def highest(self) -> int: ...
    @property
    def pedal(self) -> bool: ...
    @property
    def fresh(self) -> bool: ...
    @property
    def silent(self) -> int: ...
    @property
    def now(self) -> int: ...
    @property
    def recent(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def notes(self) -> int: ...
    @property
    def means(self) -> tuple[float, float, float]: ...


@dataclass(frozen=True)
class Choice:
    """How the parts of an event are drawn; sequences have one value a part."""

    times: Sequence[int]  # ticks of each class of time, rising from 0
    longest: int  # ticks that a silence stays below
    span: int  # ticks in which a key's share of the notes counts
    max_share: float  # that a key may have; 1 for no limit
    pedals: bool  # does the vocabulary have a pedal?
    end: bool  # may the piece end?
    temperature: Sequence[float] = (1.0,) * G
    top_k: Sequence[int] = (0,) * G
    top_p: Sequence[float] = (1.0,) * G
    # What time between notes, key and velocity are held to (tokenizers/events/hold.py): the slope of the logits for each unit that
    # the running mean lies below `low` or above `high`; 0 holds nothing.
    pull: Sequence[float] = (0.0,) * 3
    low: Sequence[float] = (0.0,) * 3
    high: Sequence[float] = (0.0,) * 3
    steps: Sequence[float] | np.ndarray = ()  # value of each class of time; needed where something is held
    loudness: Sequence[float] = ()  # MIDI velocity of each class; the same


class Drawn(NamedTuple):
    """One event, or the end of the piece."""

    ids: list[int]  # G of them; one for the end
    log_end: float  # logarithm of the probability that the model gave to the end of the piece in its place


class _Head(ctypes.Structure):
    _fields_ = [
        ("norm", ctypes.c_void_p),
        *[(n, Matrix) for n in ("up", "down", "out")],
        ("condition", ctypes.c_void_p),
        ("start", ctypes.c_int64),
    ]


class _Rules(ctypes.Structure):
    _fields_ = [
        *[(n, ctypes.c_int64) for n in ("waited", "highest", "pedal", "fresh", "silent", "now", "oldest", "recent")],
        *[(n, ctypes.c_int64 * MOST_RECENT) for n in ("ticks", "keys")],
        ("counts", ctypes.c_int64 * KEYS),
        ("notes", ctypes.c_int64),
        ("means", ctypes.c_double * 3),
    ]

    @classmethod
    def of(cls, past: PastRules) -> _Rules:
        """A copy that native code moves on; `recent` notes are counted from `oldest` on, in a ring."""
        made = cls(int(past.waited), past.highest, int(past.pedal), int(past.fresh), past.silent, past.now)
        made.recent = len(past.recent)
        for i, (tick, key) in enumerate(past.recent):
            made.ticks[i], made.keys[i] = tick, key
            made.counts[key] += 1
        made.notes, made.means = past.notes, (ctypes.c_double * 3)(*past.means)
        return made


class _Choice(ctypes.Structure):
    _fields_ = [
        ("times", ctypes.c_void_p),
        *[(n, ctypes.c_int64) for n in ("longest", "span")],
        ("max_share", ctypes.c_double),
        *[(n, ctypes.c_int64) for n in ("pedals", "end")],
        *[(n, ctypes.c_double * G) for n in ("temperature", "top_p")],
        ("top_k", ctypes.c_int64 * G),
        *[(n, ctypes.c_double * 3) for n in ("pull", "low", "high")],
        *[(n, ctypes.c_void_p) for n in ("steps", "loudness")],
    ]


class EventDecoder(Decoder):
    """A frozen copy of an EventModel's weights."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], precision: str = "float32"):
        sizes = native.loaded().head_size(), native.loaded().rules_size()
        if sizes != (ctypes.sizeof(_Head), ctypes.sizeof(_Rules)):
            raise RuntimeError("decode_events.py and events.cpp disagree about the layout of a head or of the rules")
        self._heads = (_Head * G)()
        self.starts, self.classes = starts_of(config.events), classes_of(config.events)
        self._conditions: list[np.ndarray] = []  # (classes, D) of each part but the last
        super().__init__(config, weights, precision)
        self._told, self._written = np.empty(config.d_model, np.float32), np.empty(G, np.int64)
        self._one, self._end = (
            np.empty(max(self.classes), np.float32),
            ctypes.c_double(),
        )  # logits of one part; of the end

    def _parts(self) -> Iterator[Part]:
        yield from self._stack()
        D = self.config.d_model
        for part, made in enumerate(self._heads):
            made.start = self.starts[part]
            yield Part(made, "norm", self._given[f"head.inner.{part}.0.weight"], (D,))
            yield from self._matrix(made.up, f"head.inner.{part}.1.weight", (2 * D, D))
            yield from self._matrix(made.down, f"head.inner.{part}.3.weight", (D, 2 * D))
            shape = self.classes[part], D
            yield from self._matrix(made.out, f"head.out.{part}.weight", shape, f"head.out.{part}.bias")
            if part < VELOCITY:
                self._conditions.append(self._table(f"head.condition.{part}.weight").copy())
                yield Part(made, "condition", self._conditions[part], shape)

    def init_state(self, batch_size: int = 1) -> EventState:
        """An empty past for `batch_size` pieces, in NumPy arrays."""
        h = np.zeros((batch_size, self.config.d_model), np.float32)
        return EventState(self._empty_past(batch_size), h, h)

    # ------------------------------------------------------------------ id by id

    def prefill(self, ids: Array, state: EventState) -> Array:
        """Read (B, L) ids; `state` moves on in place; logits (B, V) of what follows the last one."""
        given = np.ascontiguousarray(numpy_of(ids), np.int64)
        with self._turn:
            if state.ids:
                given = np.concatenate([np.stack([numpy_of(one) for one in state.ids], 1), given], 1)
            elif len(given[0]):
                shift = -ids_before_an_event(given[0, :2].tolist(), self.starts) % G
                given = np.pad(given, ((0, 0), (shift, 0)), constant_values=PAD)
            whole = given.shape[1] // G * G
            if whole:
                state.h = like(ids, self._read_events(given[:, :whole].reshape(len(given), -1, G), state))
            state.ids, told = [], numpy_of(state.h)
            for part, column in enumerate(given[:, whole:].T):
                told = self._tell(told, part, column)
                state.ids.append(like(ids, column.copy()))
            state.told = like(ids, told)
            return like(ids, self._logits_of_next(state))

    def step(self, ids: Array, state: EventState) -> Array:
        """Read one id (B,); `state` moves on in place; logits (B, V)."""
        given = np.ascontiguousarray(numpy_of(ids), np.int64)
        with self._turn:
            if given[0] == BOS or len(state.ids) == VELOCITY:
                event = [given] if given[0] == BOS else [*map(numpy_of, state.ids), given]
                whole = np.stack([np.full_like(given, PAD)] * (G - len(event)) + event, axis=1)
                state.h = state.told = like(ids, self._read(whole, state, in_time=False))
                state.ids = []
            else:
                state.told = like(ids, self._tell(numpy_of(state.told), len(state.ids), given))
                state.ids = [*state.ids, like(ids, given)]
            return like(ids, self._logits_of_next(state))

    def _read_events(self, events: np.ndarray, state: EventState) -> np.ndarray:
        """(B, T, G) ids of whole events -> (B, D) after the last one."""
        if len(events) == 1:  # one piece: many events at once
            chunks = [events[0, first : first + CHUNK] for first in range(0, events.shape[1], CHUNK)]
            return [self._read(chunk, state, in_time=True) for chunk in chunks][-1][-1:].copy()
        return [self._read(events[:, i], state, in_time=False) for i in range(events.shape[1])][-1]

    def _read(self, events: np.ndarray, state: EventState, in_time: bool) -> np.ndarray:
        """(rows, G) ids of whole events -> (rows, D) what the norm makes of the blocks' output."""
        rows, D, events = len(events), self.config.d_model, np.ascontiguousarray(events)
        self._turn_to(state.backbone, 1 if in_time else rows, rows)
        h = np.empty((rows, D), np.float32)
        wrong = self._library.event_read(
            *self._weights,
            ctypes.c_int64(self.config.vocab_size),
            native.address("ids", events, "int64", (rows, G)),
            ctypes.c_void_p(h.ctypes.data),
            ctypes.c_int64(rows),
            ctypes.c_int64(D),
            *self._scratch,
            ctypes.c_int64(self._team.size),
            ctypes.c_int64(in_time),
        )
        if wrong:
            raise ValueError(f"an id of {events.tolist()} lies outside the vocabulary of {self.config.vocab_size}")
        self._move_on(rows if in_time else 1)
        return h

    def _tell(self, told: np.ndarray, part: int, ids: np.ndarray) -> np.ndarray:
        """(B, D) conditioned on the parts before, and (B,) ids of this part -> (B, D) conditioned on this part too."""
        classes = (ids - self.starts[part]).clip(0, self.classes[part] - 1)
        return told + self._conditions[part][classes]

    def _logits_of_next(self, state: EventState) -> np.ndarray:
        """(B, V) logits of the next id; -inf for an id that cannot come next."""
        part, known = len(state.ids), [numpy_of(one) for one in state.ids]
        return self._full(self._predict(part, numpy_of(state.told), state), part, known)

    def _predict(self, part: int, told: np.ndarray, state: EventState) -> np.ndarray:
        """(B, D) conditioned on the parts before -> logits (B, classes) of a part."""
        batch, D = told.shape
        self._turn_to(state.backbone, batch, batch)
        logits, told = np.empty((batch, self.classes[part]), np.float32), np.ascontiguousarray(told)
        self._library.event_head(
            ctypes.byref(self._heads[part]),
            native.address("h", told, "float32", (batch, D)),
            ctypes.c_void_p(logits.ctypes.data),
            ctypes.c_int64(batch),
            ctypes.c_int64(D),
            *self._scratch,
            ctypes.c_int64(self._team.size),
        )
        return logits

    def _full(self, logits: np.ndarray, part: int, known: list[np.ndarray]) -> np.ndarray:
        """(B, classes) of a part -> (B, V): EventModel._full."""
        start = self.starts[part]
        full = np.full((len(logits), self.config.vocab_size), -np.inf, np.float32)
        full[:, start : start + self.classes[part]] = logits
        if part >= DURATION:
            pedal = known[WHAT] - self.starts[WHAT] >= KEYS
            if part == VELOCITY:  # also where a window begins within the event
                pedal |= known[DURATION] == NONE
            full[pedal] = -np.inf
            full[pedal, NONE] = 0.0
        return full

    # ------------------------------------------------------------------ event by event

    def events(
        self, state: EventState, past: PastRules, choice: Choice, chances: Callable[[int], np.ndarray]
    ) -> Iterator[Drawn]:
        """The next events of one piece, endlessly; or its end, and nothing after it.

        `chances(n)` gives n random numbers in [0, 1). `state` stands behind a whole event, and moves on with each that is
        given. ValueError if the logits are not finite numbers, or the rules allow nothing.
        """
        if not min(choice.temperature) > 0:
            raise ValueError(f"temperature is {choice.temperature}: give more than 0")
        if len(choice.times) != self.config.events[0]:
            raise ValueError(f"the model has {self.config.events[0]} classes of time, not {len(choice.times)}")
        rules = _Rules.of(past)
        times = (ctypes.c_int64 * len(choice.times))(*choice.times)
        limits = choice.longest, choice.span, choice.max_share
        drawn = _Choice(ctypes.addressof(times), *limits, choice.pedals, choice.end)
        for name in ("temperature", "top_p", "top_k", "pull", "low", "high"):
            setattr(drawn, name, type(getattr(drawn, name))(*getattr(choice, name)))
        tables = []  # kept until the last event is drawn
        for name, size in (("steps", len(choice.times)), ("loudness", self.classes[VELOCITY])):
            given = getattr(choice, name)
            tables.append(np.array(given if len(given) else [0] * size, np.float64))
            if tables[-1].shape != (size,):
                raise ValueError(f"{name} has {len(given)} values: give one for each of the {size} classes")
            setattr(drawn, name, tables[-1].ctypes.data)
        state.told = state.h = like(state.h, np.array(numpy_of(state.h), np.float32))  # this one is written to
        while True:
            for row in chances(AHEAD * G).reshape(AHEAD, G):
                event = self._draw(state, rules, drawn, row)
                yield event
                if len(event.ids) < G:
                    return

    def _draw(self, state: EventState, rules: _Rules, choice: _Choice, chances: np.ndarray) -> Drawn:
        """One event, drawn and read."""
        D = self.config.d_model
        with self._turn:
            if state.ids:
                raise ValueError("the state stands within an event: go on with step() up to its end")
            self._turn_to(state.backbone, 1, 1)
            began = time.perf_counter()
            count = self._library.event_draw(
                *self._weights,
                self._heads,
                native.address("h", numpy_of(state.h), "float32", (1, D)),
                ctypes.byref(rules),
                ctypes.byref(choice),
                ctypes.c_void_p(chances.ctypes.data),
                ctypes.c_void_p(self._written.ctypes.data),
                ctypes.c_void_p(self._told.ctypes.data),
                ctypes.c_void_p(self._one.ctypes.data),
                ctypes.byref(self._end),
                ctypes.c_int64(D),
                *self._scratch,
                ctypes.c_int64(self._team.size),
            )
            self._team.took(time.perf_counter() - began)
            if count < 0:
                raise ValueError(
                    "the logits are not finite: the model has diverged" if count == -1 else "the rules allow no id"
                )
            if count == G:
                self._move_on()
                state.told = state.h
            return Drawn(self._written[:count].tolist(), self._end.value)
