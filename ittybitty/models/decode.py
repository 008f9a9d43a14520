"""Decoding one token at a time at the speed of reading the weights, in float32 or int8.

A step of `LanguageModel` is some two hundred small PyTorch calls, and half of its time lies between them. A `Decoder`
runs the same step in one native call (native/decode.cpp) on the same states, so both can take turns on one piece.
`decoder(model)` gives the fastest that this machine has; without a compiler that is the model itself.

    int8: each row of a matrix is rounded to 255 levels of its own scale (Dettmers et al. 2022, section 2.1,
    absmax quantization per row); states and activations stay float32. It reads a quarter of the bytes.
    Its music may differ from float32's, and its bits per note are measured by `ittybitty bench decode`.

    Threads: every row of a matrix is the work of one thread, so the logits are the same bits in one thread and in many.
    That leaves `team.py` free to change their number while the music plays: threads meet some sixty times a token, and
    where another program has taken a core each meeting waits for it.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import threading
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from ..errors import ConfigError
from . import native
from .attention import SparseAttention
from .events import EventModel
from .layers import FeedForward
from .lm import LanguageModel
from .mamba import Mamba
from .team import Team

PRECISIONS = ("float32", "int8")
SMALL = (
    16 * 2**20
)  # bytes of weights up to which one thread decodes: a second one would gain less than its meetings cost


class _Matrix(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in ("weight", "packed", "scale", "bias")] + [
        (n, ctypes.c_int64) for n in ("rows", "columns")
    ]


class _Block(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int64),
        ("norm", ctypes.c_void_p),
        *[(n, _Matrix) for n in ("in_", "out", "x_proj", "dt_proj")],
        *[(n, ctypes.c_void_p) for n in ("conv", "conv_bias", "A", "D")],
        *[(n, ctypes.c_int64) for n in ("N", "K", "R")],
        ("bias", ctypes.c_void_p),
        *[(n, ctypes.c_int64) for n in ("most", "H", "window", "stride", "reach", "marks")],
        *[(n, ctypes.c_void_p) for n in ("s0", "s1", "s2", "s3")],
        ("position", ctypes.c_int64),
    ]


class _Ends(ctypes.Structure):
    """What stands before and behind the blocks."""

    _fields_ = [("embedding", ctypes.c_void_p), ("norm", ctypes.c_void_p)]


def rounded(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, columns) -> int8 of the same shape and (rows,) scales, with weight ≈ int8 * scale."""
    scale = weight.abs().amax(1).clamp(min=1e-12) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def _arena(size: int) -> torch.Tensor:
    """(size,) bytes of memory, in pages of 2 MB where the system has them: a step reads all weights once, and with pages
    of 4 KB it would look up some 25,000 addresses on the way."""
    page = 2**21
    memory = torch.empty(size + page, dtype=torch.uint8)
    start = -memory.data_ptr() % page
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no such call here: small pages
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(memory.data_ptr() + start), ctypes.c_size_t(size), 14
        )  # MADV_HUGEPAGE
    return memory[start : start + size]


def quantized(model: LanguageModel) -> LanguageModel:
    """A copy in float32 whose matrices hold exactly the values that int8 decoding uses: for measuring what rounding costs."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Embedding, nn.LSTM)):
                for matrix in (p for p in module.parameters(recurse=False) if p.dim() == 2):
                    levels, scale = rounded(matrix.float())
                    matrix.copy_(levels * scale[:, None])
    return model


def decoder(model: LanguageModel, precision: str = "float32") -> LanguageModel | Decoder:
    """The fastest thing with `init_state`, `prefill` and `step` that gives this model's logits here.

    Native code knows stacks of M, F and A with a tied head, or with the heads of an EventModel; any other model takes its own
    step, in int8 with rounded weights.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}: give one of {', '.join(PRECISIONS)}")
    if precision == "int8":
        model = quantized(model)
    on_cpu = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())
    blocks = getattr(model.backbone, "blocks", None)
    events = isinstance(model, EventModel)
    known = (
        blocks is not None
        and all(isinstance(b.mixer, (Mamba, FeedForward, SparseAttention)) for b in blocks)
        and (events or model.tied)
    )
    if not (on_cpu and known and native.status()[0]):
        return model
    if events:
        from .decode_events import EventDecoder

        return EventDecoder(model, precision)
    return Decoder(model, precision)


class Decoder:
    """A frozen copy of a stack's weights, laid out for `step`. States are the model's own: see LanguageModel.init_state."""

    _widest = 0  # floats that a step needs side by side beyond what its blocks need

    def __init__(self, model: LanguageModel, precision: str = "float32"):
        library = native.loaded()
        if (library.block_size(), library.matrix_size()) != (ctypes.sizeof(_Block), ctypes.sizeof(_Matrix)):
            raise RuntimeError("decode.py and decode.cpp disagree about the layout of a block")
        self.model, self.precision, self.config = model, precision, model.config
        self._library, self._turn = library, threading.Lock()
        self._bound_to, self._batch, self._bound = None, 0, ()
        self._team = Team(1)
        self._blocks, self._head = (_Block * len(model.backbone.blocks))(), _Matrix()
        self._ends = _Ends()
        with torch.no_grad():
            self._arena = _laid_out(self._parts())
        self._weights = (
            self._blocks,
            ctypes.c_int64(len(self._blocks)),
            ctypes.c_void_p(self._ends.embedding),
            ctypes.c_void_p(self._ends.norm),
        )
        if self._arena.nbytes > SMALL:
            self._team = Team(library.thread_count())

    def _parts(self) -> Iterator[_Part]:
        """All that a step reads, in the order of its use. A tied head in float32 is the embedding itself."""
        yield from self._stack()
        yield from self._matrix(self._head, self.model.embedding.weight, shape=self._vocabulary)

    def _stack(self) -> Iterator[_Part]:
        """Embedding, blocks and norm."""
        D = self.config.d_model
        yield _Part(self._ends, "embedding", self.model.embedding.weight, self._vocabulary)
        for made, block in zip(self._blocks, self.model.backbone.blocks, strict=True):
            yield _Part(made, "norm", block.norm.weight, (D,))
            yield from self._mixer(made, block.mixer)
        yield _Part(self._ends, "norm", self.model.norm.weight, (D,))

    @property
    def _vocabulary(self) -> tuple[int, int]:
        return self.config.vocab_size, self.config.d_model

    def _matrix(
        self, made: _Matrix, weight: torch.Tensor, bias: torch.Tensor | None = None, shape=None
    ) -> Iterator[_Part]:
        made.rows, made.columns = shape = shape or tuple(weight.shape)
        if self.precision == "int8":
            levels, scale = rounded(weight)
            yield _Part(made, "packed", levels, shape)
            yield _Part(made, "scale", scale, shape[:1])
        else:
            yield _Part(made, "weight", weight, shape)
        if bias is not None:
            yield _Part(made, "bias", bias, shape[:1])

    def _mixer(self, made: _Block, mixer: nn.Module) -> Iterator[_Part]:
        D = self.config.d_model
        if isinstance(mixer, Mamba):
            E, N, K, R = mixer.E, mixer.N, mixer.K, mixer.R
            made.kind, made.N, made.K, made.R = ord("M"), N, K, R
            yield from self._matrix(made.in_, mixer.in_proj.weight, shape=(2 * E, D))
            yield _Part(made, "conv", mixer.conv1d.weight[:, 0].T, (K, E))
            yield _Part(made, "conv_bias", mixer.conv1d.bias, (E,))
            yield from self._matrix(made.x_proj, mixer.x_proj.weight, shape=(R + 2 * N, E))
            yield from self._matrix(made.dt_proj, mixer.dt_proj.weight, mixer.dt_proj.bias, (E, R))
            yield _Part(made, "A", -torch.exp(mixer.A_log), (E, N))
            yield _Part(made, "D", mixer.D, (E,))
            yield from self._matrix(made.out, mixer.out_proj.weight, shape=(D, E))
        elif isinstance(mixer, FeedForward):
            made.kind, F = ord("F"), mixer.up.out_features
            yield from self._matrix(made.in_, mixer.up.weight, shape=(F, D))
            yield from self._matrix(made.out, mixer.down.weight, shape=(D, F))
        else:
            made.kind, made.H, made.window, made.stride, made.reach = ord("A"), mixer.H, mixer.w, mixer.s, mixer.r
            made.marks, made.most = mixer.r // mixer.s + 1, mixer.r
            yield from self._matrix(made.in_, mixer.qkv.weight, shape=(3 * D, D))
            yield _Part(made, "bias", mixer.relative_bias(torch.arange(mixer.r + 1)), (mixer.H, mixer.r + 1))
            yield from self._matrix(made.out, mixer.out.weight, shape=(D, D))

    def init_state(self, batch_size: int = 1):
        return self.model.init_state(batch_size)

    def prefill(self, ids: torch.Tensor, state) -> torch.Tensor:
        """The seed is read in parallel by the model itself."""
        with torch.no_grad():
            return self.model.prefill(ids, state)

    def step(self, ids: torch.Tensor, state) -> torch.Tensor:
        """(B,) tokens -> logits (B, V), written anew at every step: copy what you keep."""
        with self._turn:  # the scratch memory serves one step at a time
            batch, ids = len(ids), ids.to(torch.int64).contiguous()
            self._turn_to(state, batch)
            began = time.perf_counter()
            wrong = self._library.decode_step(
                *self._weights,
                ctypes.byref(self._head),
                native.address("ids", ids, torch.int64, (batch,)),
                ctypes.c_void_p(self._logits.data_ptr()),
                ctypes.c_int64(batch),
                ctypes.c_int64(self.config.d_model),
                *self._scratch,
                ctypes.c_int64(self._team.size),
            )
            self._team.took(time.perf_counter() - began)
            if wrong:
                raise ValueError(f"an id of {ids.tolist()} lies outside the vocabulary of {self.config.vocab_size}")
            self._move_on()
            return self._logits

    def _turn_to(self, state: list, batch: int) -> None:
        """Make this state of the blocks the one that the next step reads and moves on."""
        if self._bound_to is not state or self._batch != batch or self._bound != _addresses(state):
            self._bind(state, batch)
        for made, past in self._attention:
            made.position = past.position

    def _move_on(self) -> None:
        """The blocks have read one more token."""
        for _, past in self._attention:
            past.position += 1

    def _bind(self, state, batch: int) -> None:
        """Point the blocks at this state's tensors, once they are what C++ expects, and make room for such a batch."""
        self._bound_to, attention = None, []  # bound to nothing while a check may fail
        wide, small, scores, D = max(self._widest, self.config.d_model), 1, 1, self.config.d_model
        mid = D
        for made, block, past in zip(self._blocks, self.model.backbone.blocks, state, strict=True):
            mixer = block.mixer
            if isinstance(mixer, Mamba):
                made.s0 = _state("conv", past.conv, (batch, mixer.K - 1, mixer.E))
                made.s1 = _state("ssm", past.ssm, (batch, mixer.E, mixer.N))
                wide, mid, small = max(wide, 2 * mixer.E), max(mid, mixer.E), max(small, mixer.R + 2 * mixer.N)
            elif isinstance(mixer, SparseAttention):
                ring, marks = ((batch, mixer.H, n, D // mixer.H) for n in (made.window, made.marks))
                made.s0, made.s1 = _state("keys", past.keys, ring), _state("values", past.values, ring)
                made.s2 = _state("landmark_keys", past.landmark_keys, marks)
                made.s3 = _state("landmark_values", past.landmark_values, marks)
                scores = max(scores, mixer.H * (made.window + made.marks))
                attention.append((made, past))
            else:
                wide = max(wide, mixer.up.out_features)
        self._buffers = [torch.empty(batch * n) for n in (D, self._team.most * D, wide, mid, small, scores)]
        self._scratch = [ctypes.c_void_p(t.data_ptr()) for t in self._buffers]
        self._logits = torch.empty(batch, self.config.vocab_size)
        self._bound_to, self._batch, self._bound, self._attention = state, batch, _addresses(state), attention


def _state(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> int | None:
    return native.address(f"the state's {name}", tensor, torch.float32, shape).value


def _addresses(state) -> list[int]:
    """Where the tensors of a state lie: whoever puts another tensor into it is noticed before C++ reads the former one."""
    return [
        t.data_ptr() for past in state if past is not None for t in vars(past).values() if isinstance(t, torch.Tensor)
    ]


class _Part(NamedTuple):
    """One array that a step reads, and the field that says where it lies."""

    owner: ctypes.Structure
    field: str
    tensor: torch.Tensor
    shape: tuple[int, ...]  # what decode.cpp takes it to be


def _laid_out(parts: Iterable[_Part]) -> torch.Tensor:
    """Copy all parts into one arena in their order, each once, and write their addresses; the arena must outlive these."""
    places: dict[tuple, int] = {}  # of a tensor -> its place
    parts, size = list(parts), 0
    for part in parts:
        if _key(part.tensor) not in places:
            places[_key(part.tensor)], size = size, size + -(-part.tensor.nbytes // 64) * 64
    arena = _arena(size)
    for owner, field, tensor, shape in parts:
        first = places[_key(tensor)]
        copied = arena[first : first + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
        kind = torch.int8 if field == "packed" else torch.float32
        setattr(owner, field, native.address(f"the model's {field}", copied, kind, shape).value)
    return arena


def _key(tensor: torch.Tensor) -> tuple:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
