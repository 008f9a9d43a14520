"""Decoding one token at a time at the speed of reading the weights, in float32 or int8, without PyTorch.

A step of `LanguageModel` is some two hundred small PyTorch calls, and half of its time is spent between them. A `Decoder`
runs the same step in one native call (native/decode.cpp). It is built from a configuration and a state dict of NumPy arrays,
so a piece can be continued in a process that never imports PyTorch; `decoder(model)` makes one of a PyTorch model, or gives
that model itself where there is no compiler. Ids may be arrays of either library, and logits are of the same one; states
too may be the decoder's or the model's own, so both can take turns on one piece.

A matrix that float16 represents exactly is read as float16, and with precision "int8" every matrix as int8 (quantize.py); the
weights lie in one block of memory (layout.py). The music in int8 may differ from that in float32; `ittybitty bench decode`
measures its bits per note.

Every row of a matrix is computed by one thread, so the logits are the same bits with one thread and with several. The number
of threads may therefore change while a piece is decoded: threads wait for each other some sixty times a token, and wait long
if another program uses a core (team.py).
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import ModelConfig
from ..errors import ConfigError
from . import native
from .layout import Block, Ends, Matrix, Part, laid_out
from .quantize import Array, half_bits, like, numpy_of, quantized, rounded
from .states import AttentionState, MambaState
from .team import Team

if TYPE_CHECKING:
    import torch

    from .lm import LanguageModel

PRECISIONS = ("float32", "int8")
SMALL = 16 * 2**20  # bytes of weights up to which one thread decodes: waiting for a second one costs more than it saves
CHUNK = 64  # tokens of a prompt that are read at once
LETTERS = "MFA"  # the blocks that native code supports


def playable(config: ModelConfig) -> bool:
    """Whether native code runs here and supports this configuration: a stack of M, F and A with a tied head or heads of events."""
    known = config.family == "stack" and set(config.pattern.replace(" ", "")) <= set(LETTERS)
    return known and bool(config.events or config.tied_head) and native.status()[0]


def native_decoder(config: ModelConfig, weights: Mapping[str, np.ndarray], precision: str = "float32") -> Decoder:
    """The decoder of a `playable` configuration; KeyError or ValueError where weights are missing or of another shape."""
    if config.events:
        from .decode_events import EventDecoder

        return EventDecoder(config, weights, precision)
    return Decoder(config, weights, precision)


def decoder(model: LanguageModel, precision: str = "float32") -> LanguageModel | Decoder:
    """The fastest Player here that gives this model's logits.

    A model that native code does not support runs its own step, in int8 with rounded weights.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}: give one of {', '.join(PRECISIONS)}")
    here = all(p.device.type == "cpu" and str(p.dtype) == "torch.float32" for p in model.parameters())
    if here and playable(model.config):
        weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
        return native_decoder(model.config, weights, precision)
    return quantized(model) if precision == "int8" else model


class Decoder:
    """A copy of a stack's weights, arranged in memory for `step`."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], precision: str = "float32"):
        library = native.loaded()
        if (library.block_size(), library.matrix_size()) != (ctypes.sizeof(Block), ctypes.sizeof(Matrix)):
            raise RuntimeError("decode.py and decode.cpp disagree about the layout of a block")
        self.config, self.precision = config, precision
        self._given, self._halves = weights, bool(library.halves())
        self._library, self._turn = library, threading.Lock()
        self._bound_to: list | None = None  # the state that the blocks point at, …
        self._bound: tuple[Any, ...] = ()  # … its arrays, …
        self._pieces, self._rows = 0, 0  # … of how many pieces, and room for how many rows
        self._letters = config.pattern.replace(" ", "")
        self._team = Team(1)
        self._blocks, self._head = (Block * len(self._letters))(), Matrix()
        self._ends, self._widest = Ends(), self._most_side_by_side()
        self._arena = laid_out(self._parts())
        self._given = {}  # all of it has been copied
        self._weights = (
            self._blocks,
            ctypes.c_int64(len(self._blocks)),
            ctypes.c_void_p(self._ends.embedding),
            ctypes.c_void_p(self._ends.norm),
        )
        if self._arena.nbytes > SMALL:
            self._team = Team(library.thread_count())

    @property
    def threads(self) -> int:
        """How many threads decode at most."""
        return self._team.most

    @property
    def bytes_read(self) -> int:
        """Bytes that one step reads, without the states."""
        return self._arena.nbytes

    # ------------------------------------------------------------------ weights

    def _parts(self) -> Iterator[Part]:
        """All arrays that a step reads, in the order of their use. A tied head in float32 is the embedding itself."""
        yield from self._stack()
        yield from self._matrix(self._head, "embedding.weight", shape=self._vocabulary)

    def _stack(self) -> Iterator[Part]:
        """Embedding, blocks and norm."""
        D = self.config.d_model
        yield Part(self._ends, "embedding", self._table("embedding.weight"), self._vocabulary)
        for i, (made, letter) in enumerate(zip(self._blocks, self._letters)):
            made.kind = ord(letter)
            yield Part(made, "norm", self._given[f"backbone.blocks.{i}.norm.weight"], (D,))
            mixer = {"M": self._mamba, "F": self._feed_forward, "A": self._attention_block}[letter]
            yield from mixer(made, f"backbone.blocks.{i}.mixer")
        yield Part(self._ends, "norm", self._given["norm.weight"], (D,))

    @property
    def _vocabulary(self) -> tuple[int, int]:
        return self.config.vocab_size, self.config.d_model

    def _table(self, name: str) -> np.ndarray:
        """A matrix whose rows are looked up one at a time."""
        if self.precision == "float32":
            return self._given[name]
        levels, scale = rounded(self._given[name])
        return levels * scale[:, None]

    def _matrix(self, made: Matrix, name: str, shape: tuple[int, int], bias: str = "") -> Iterator[Part]:
        made.rows, made.columns = shape
        weight = self._given[name]
        if self.precision == "int8":
            levels, scale = rounded(weight)
            yield Part(made, "packed", levels, shape)
            yield Part(made, "scale", scale, shape[:1])
        elif self._halves and (half := half_bits(weight)) is not None:
            yield Part(made, "half", half, shape)
        else:
            yield Part(made, "weight", weight, shape)
        if bias:
            yield Part(made, "bias", self._given[bias], shape[:1])

    def _mamba(self, made: Block, at: str) -> Iterator[Part]:
        D, (E, N, K, R) = self.config.d_model, self._mamba_sizes
        made.N, made.K, made.R = N, K, R
        yield from self._matrix(made.in_, f"{at}.in_proj.weight", (2 * E, D))
        yield Part(made, "conv", self._given[f"{at}.conv1d.weight"][:, 0].T, (K, E))
        yield Part(made, "conv_bias", self._given[f"{at}.conv1d.bias"], (E,))
        yield from self._matrix(made.x_proj, f"{at}.x_proj.weight", (R + 2 * N, E))
        yield from self._matrix(made.dt_proj, f"{at}.dt_proj.weight", (E, R), f"{at}.dt_proj.bias")
        yield Part(made, "A", -np.exp(self._given[f"{at}.A_log"]), (E, N))
        yield Part(made, "D", self._given[f"{at}.D"], (E,))
        yield from self._matrix(made.out, f"{at}.out_proj.weight", (D, E))

    @property
    def _mamba_sizes(self) -> tuple[int, int, int, int]:
        """E, N, K and R of a Mamba block."""
        c = self.config
        return c.expand * c.d_model, c.d_state, c.d_conv, c.dt_rank or math.ceil(c.d_model / 16)

    def _feed_forward(self, made: Block, at: str) -> Iterator[Part]:
        D, F = self.config.d_model, self.config.d_ff
        yield from self._matrix(made.in_, f"{at}.up.weight", (F, D))
        yield from self._matrix(made.out, f"{at}.down.weight", (D, F))

    def _attention_block(self, made: Block, at: str) -> Iterator[Part]:
        c, D = self.config, self.config.d_model
        made.H, made.window, made.stride, made.reach = c.n_heads, c.attn_window, c.attn_stride, c.attn_reach
        made.marks, made.most = c.attn_reach // c.attn_stride + 1, c.attn_reach
        yield from self._matrix(made.in_, f"{at}.qkv.weight", (3 * D, D))
        yield Part(made, "bias", self._relative_bias(at), (c.n_heads, c.attn_reach + 1))
        yield from self._matrix(made.out, f"{at}.out.weight", (D, D))

    def _relative_bias(self, at: str) -> np.ndarray:
        """(H, r + 1) what is added to a score at each distance: SparseAttention.relative_bias."""
        c, distance = self.config, np.arange(self.config.attn_reach + 1)
        if c.attn_bias == "learned":
            return self._given[f"{at}.bias"][:, distance.clip(max=c.attn_window)]
        if c.attn_bias == "none":
            return np.zeros((c.n_heads, len(distance)), np.float32)
        slopes = np.exp2(np.float32(-8 / c.n_heads) * np.arange(1, c.n_heads + 1, dtype=np.float32))
        return -slopes[:, None] * distance.astype(np.float32)

    # ------------------------------------------------------------------ states

    def init_state(self, batch_size: int = 1) -> Any:
        """The state before the first token of `batch_size` pieces, in NumPy arrays."""
        return self._empty_past(batch_size)

    def _empty_past(self, batch: int) -> list:
        c, (E, N, K, _) = self.config, self._mamba_sizes
        marks = c.attn_reach // c.attn_stride + 1

        def zeros(*shape: int) -> np.ndarray:
            return np.zeros((batch, *shape), np.float32)

        def of(letter: str) -> MambaState | AttentionState | None:
            if letter == "M":
                return MambaState(zeros(K - 1, E), zeros(E, N))
            if letter == "F":
                return None
            ring, far = (c.n_heads, c.attn_window, c.d_model // c.n_heads), (c.n_heads, marks, c.d_model // c.n_heads)
            return AttentionState(zeros(*ring), zeros(*ring), zeros(*far), zeros(*far))

        return [of(letter) for letter in self._letters]

    def _turn_to(self, state: list, pieces: int, rows: int) -> None:
        """Make this state the one that the next call reads and updates, and make room for `rows` rows."""
        same = self._bound_to is state and self._pieces == pieces and rows <= self._rows
        if not same or not all(a is b for a, b in zip(self._bound, _arrays(state), strict=True)):
            self._bind(state, pieces, rows)
        for made, past in self._attention:
            made.position = past.position

    def _move_on(self, tokens: int = 1) -> None:
        """Count the tokens that the blocks have read."""
        for _, past in self._attention:
            past.position += tokens

    def _bind(self, state: list, pieces: int, rows: int) -> None:
        """Point the blocks at this state's arrays, once they are what C++ expects, and make room for `rows` rows."""
        self._bound_to, attention = None, []  # bound to nothing while a check may fail
        c, (E, N, K, _) = self.config, self._mamba_sizes
        for made, letter, past in zip(self._blocks, self._letters, state, strict=True):
            if letter == "M":
                made.s0 = _state("conv", past.conv, (pieces, K - 1, E))
                made.s1 = _state("ssm", past.ssm, (pieces, E, N))
            elif letter == "A":
                ring, marks = ((pieces, c.n_heads, n, c.d_model // c.n_heads) for n in (made.window, made.marks))
                made.s0, made.s1 = _state("keys", past.keys, ring), _state("values", past.values, ring)
                made.s2 = _state("landmark_keys", past.landmark_keys, marks)
                made.s3 = _state("landmark_values", past.landmark_values, marks)
                attention.append((made, past))
        self._make_room(pieces, rows)
        self._bound_to, self._pieces, self._bound, self._attention = state, pieces, tuple(_arrays(state)), attention

    def _make_room(self, pieces: int, rows: int) -> None:
        """Allocate scratch memory for `rows` rows of activations, and the logits of `pieces` pieces."""
        D, (wide, mid, small, scores) = self.config.d_model, self._widest
        self._rows = rows
        self._buffers = [np.empty(rows * n, np.float32) for n in (D, self._team.most * D, wide, mid, small, scores)]
        self._scratch = [ctypes.c_void_p(b.ctypes.data) for b in self._buffers]
        self._logits = np.empty((pieces, self.config.vocab_size), np.float32)

    def _most_side_by_side(self) -> tuple[int, int, int, int]:
        """Floats a row that a step holds at once: wide, mid, small and scores of decode.cpp."""
        c, D, (E, N, _, R) = self.config, self.config.d_model, self._mamba_sizes
        marks = c.attn_reach // c.attn_stride + 1
        return max(2 * E, 3 * D, c.d_ff), max(E, D), R + 2 * N, c.n_heads * (c.attn_window + marks)

    # ------------------------------------------------------------------ playing

    def prefill(self, ids: Array, state: Any) -> Array:
        """Read (B, L) tokens; updates `state` in place; logits (B, V) of what follows the last one, in an array that the next call overwrites."""
        given = np.ascontiguousarray(numpy_of(ids), np.int64)
        with self._turn:
            if len(given) == 1:  # one piece: many tokens at once
                for first in range(0, given.shape[1], CHUNK):
                    logits = self._run(given[0, first : first + CHUNK], state, in_time=True)
            else:
                for column in np.ascontiguousarray(given.T):
                    logits = self._run(column, state, in_time=False)
        return like(ids, logits)

    def step(self, ids: Array, state: Any) -> Array:
        """(B,) tokens -> logits (B, V), in an array that the next step overwrites."""
        with self._turn:  # the scratch memory serves one step at a time
            return like(ids, self._run(np.ascontiguousarray(numpy_of(ids), np.int64), state, in_time=False))

    def _run(self, ids: np.ndarray, state: list, in_time: bool) -> np.ndarray:
        rows = len(ids)
        self._turn_to(state, 1 if in_time else rows, rows)
        began = time.perf_counter()
        wrong = self._library.decode_step(
            *self._weights,
            ctypes.byref(self._head),
            native.address("ids", ids, "int64", (rows,)),
            ctypes.c_void_p(self._logits.ctypes.data),
            ctypes.c_int64(rows),
            ctypes.c_int64(self.config.d_model),
            *self._scratch,
            ctypes.c_int64(self._team.size),
            ctypes.c_int64(in_time),
        )
        if rows == 1:
            self._team.took(time.perf_counter() - began)
        if wrong:
            raise ValueError(f"an id of {ids.tolist()} lies outside the vocabulary of {self.config.vocab_size}")
        self._move_on(rows if in_time else 1)
        return self._logits


def _state(name: str, array: np.ndarray | torch.Tensor, shape: tuple[int, ...]) -> int | None:
    return native.address(f"the state's {name}", array, "float32", shape).value


def _arrays(state: list) -> list:
    """The arrays of a state. They are compared at each call, since C++ holds their addresses and one may have been replaced."""
    return [a for past in state if past is not None for a in vars(past).values() if not isinstance(a, int)]
