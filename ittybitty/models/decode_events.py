"""Decoding models that take a step per event: a whole event in one native call, drawn and read (native/events.cpp).

    step(ids, state)                     one id, as EventModel.step
    events(state, rules, choice, …)      whole events of one piece, endlessly: what generation plays

`events` draws what `sampling.sample` draws from the logits of `step` within the rules of tokenizers/events/grammar.py, with
the same random numbers: one for each id. Both are written twice, in Python and in C++, and a test holds them together.

Left out: repetition penalties and drawing for a batch; `step` gives logits for both.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from . import native
from .decode import Decoder, _Matrix, _Part
from .events import BOS, PAD, VELOCITY, EventModel, EventState, G

AHEAD = 64  # events whose random numbers are drawn at once


class PastRules(Protocol):
    """What the past of a piece forbids, at the beginning of an event: EventState of the grammar."""

    waited: bool
    highest: int
    pedal: bool
    fresh: bool
    silent: int


@dataclass(frozen=True)
class Choice:
    """How the parts of an event are drawn; sequences have one value a part."""

    times: Sequence[int]  # ticks of each class of time, rising from 0
    longest: int  # ticks that a silence stays below
    pedals: bool  # does the vocabulary have a pedal?
    end: bool  # may the piece end?
    temperature: Sequence[float] = (1.0,) * G
    top_k: Sequence[int] = (0,) * G
    top_p: Sequence[float] = (1.0,) * G


class _Head(ctypes.Structure):
    _fields_ = [
        ("norm", ctypes.c_void_p),
        *[(n, _Matrix) for n in ("up", "down", "out")],
        ("condition", ctypes.c_void_p),
        ("start", ctypes.c_int64),
    ]


class _Rules(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int64) for n in ("waited", "highest", "pedal", "fresh", "silent")]


class _Choice(ctypes.Structure):
    _fields_ = [
        ("times", ctypes.c_void_p),
        *[(n, ctypes.c_int64) for n in ("longest", "pedals", "end")],
        *[(n, ctypes.c_double * G) for n in ("temperature", "top_p")],
        ("top_k", ctypes.c_int64 * G),
    ]


class EventDecoder(Decoder):
    """A frozen copy of an EventModel's weights; states are the model's own."""

    def __init__(self, model: EventModel, precision: str = "float32"):
        if native.loaded().head_size() != ctypes.sizeof(_Head):
            raise RuntimeError("decode_events.py and events.cpp disagree about the layout of a head")
        self._heads, self._widest = (_Head * G)(), 2 * model.config.d_model
        super().__init__(model, precision)
        self._told, self._written = torch.empty(model.config.d_model), torch.empty(G, dtype=torch.int64)
        self._one = torch.empty(max(model.classes))  # logits of one part

    def _parts(self) -> Iterator[_Part]:
        yield from self._stack()
        D, heads = self.config.d_model, self.model.head
        for part, made in enumerate(self._heads):
            norm, up, _, down = heads.inner[part]
            out, made.start = heads.out[part], self.model.starts[part]
            yield _Part(made, "norm", norm.weight, (D,))
            yield from self._matrix(made.up, up.weight, shape=(2 * D, D))
            yield from self._matrix(made.down, down.weight, shape=(D, 2 * D))
            yield from self._matrix(made.out, out.weight, out.bias, (self.model.classes[part], D))
            if part < VELOCITY:
                yield _Part(made, "condition", heads.condition[part].weight, (self.model.classes[part], D))

    @torch.no_grad()
    def step(self, ids: torch.Tensor, state: EventState) -> torch.Tensor:
        """Read one id (B,); `state` moves on in place; logits (B, V)."""
        with self._turn:
            model, row = self.model, int(ids[0])
            if row == BOS or len(state.ids) == VELOCITY:
                event = [*state.ids, ids] if row != BOS else [ids]
                whole = torch.stack([torch.full_like(ids, PAD)] * (G - len(event)) + event, dim=1)
                state.h = self._read(whole.to(torch.int64).contiguous(), state)
                state.told, state.ids = state.h, []
            else:
                part = len(state.ids)
                state.told = model.head.tell(state.told, part, model._class(ids, part))
                state.ids = [*state.ids, ids]
            part = len(state.ids)
            return model._full(self._predict(part, state.told.contiguous(), state), part, state.ids)

    def _read(self, events: torch.Tensor, state: EventState) -> torch.Tensor:
        """(B, G) ids of whole events -> (B, D) what the norm makes of the blocks' output."""
        batch, D = len(events), self.config.d_model
        self._turn_to(state.backbone, batch)
        h = torch.empty(batch, D)
        wrong = self._library.event_read(
            *self._weights,
            ctypes.c_int64(self.config.vocab_size),
            native.address("ids", events, torch.int64, (batch, G)),
            native.address("h", h, torch.float32, (batch, D)),
            ctypes.c_int64(batch),
            ctypes.c_int64(D),
            *self._scratch,
            ctypes.c_int64(self._team.size),
        )
        if wrong:
            raise ValueError(f"an id of {events.tolist()} lies outside the vocabulary of {self.config.vocab_size}")
        self._move_on()
        return h

    def _predict(self, part: int, told: torch.Tensor, state: EventState) -> torch.Tensor:
        """(B, D) told the parts before -> logits (B, classes) of a part."""
        batch, D = told.shape
        self._turn_to(state.backbone, batch)
        logits = torch.empty(batch, self.model.classes[part])
        self._library.event_head(
            ctypes.byref(self._heads[part]),
            native.address("h", told, torch.float32, (batch, D)),
            native.address("logits", logits, torch.float32, (batch, self.model.classes[part])),
            ctypes.c_int64(batch),
            ctypes.c_int64(D),
            *self._scratch,
            ctypes.c_int64(self._team.size),
        )
        return logits

    def events(
        self, state: EventState, past: PastRules, choice: Choice, generator: torch.Generator | None = None
    ) -> Iterator[list[int]]:
        """The next events of one piece, G ids each, endlessly; or its end, one id, and nothing after it.

        `state` stands behind a whole event, and moves on with each that is given. ValueError if the logits are not finite
        numbers, or the rules allow nothing.
        """
        if not min(choice.temperature) > 0:
            raise ValueError(f"temperature is {choice.temperature}: give more than 0")
        if len(choice.times) != self.config.events[0]:
            raise ValueError(f"the model has {self.config.events[0]} classes of time, not {len(choice.times)}")
        rules = _Rules(int(past.waited), past.highest, int(past.pedal), int(past.fresh), past.silent)
        times = (ctypes.c_int64 * len(choice.times))(*choice.times)
        drawn = _Choice(ctypes.addressof(times), choice.longest, choice.pedals, choice.end)
        for name in ("temperature", "top_p", "top_k"):
            setattr(drawn, name, type(getattr(drawn, name))(*getattr(choice, name)))
        state.told = state.h = (
            state.h.detach().clone()
        )  # it may be the end of a whole prompt's, which could not be freed
        while True:
            chances = torch.rand(AHEAD, G, generator=generator, dtype=torch.float64).numpy()
            for row in chances:
                written = self._draw(state, rules, drawn, row)
                yield written
                if len(written) < G:
                    return

    def _draw(self, state: EventState, rules: _Rules, choice: _Choice, chances: np.ndarray) -> list[int]:
        """One event, drawn and read."""
        D = self.config.d_model
        with self._turn:
            if state.ids:
                raise ValueError("the state stands within an event: go on with step() up to its end")
            self._turn_to(state.backbone, 1)
            began = time.perf_counter()
            count = self._library.event_draw(
                *self._weights,
                self._heads,
                native.address("h", state.h, torch.float32, (1, D)),
                ctypes.byref(rules),
                ctypes.byref(choice),
                ctypes.c_void_p(chances.ctypes.data),
                ctypes.c_void_p(self._written.data_ptr()),
                ctypes.c_void_p(self._told.data_ptr()),
                ctypes.c_void_p(self._one.data_ptr()),
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
            return self._written[:count].tolist()
