"""Decoding one token at a time at the speed of reading the weights, in float32 or int8.

A step of `LanguageModel` is some two hundred small PyTorch calls, and half of its time lies between them. A `Decoder`
runs the same step in one native call (native/decode.cpp) on the same states, so both can take turns on one piece.
`decoder(model)` gives the fastest that this machine has; without a compiler that is the model itself.

    int8: each row of a matrix is rounded to 255 levels of its own scale (Dettmers et al. 2022, section 2.1,
    absmax quantization per row); states and activations stay float32. It reads a quarter of the bytes.
    Its music may differ from float32's, and its bits per note are measured by `ittybitty bench decode`.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes

import torch
from torch import nn

from ..errors import ConfigError
from . import native
from .attention import SparseAttention
from .layers import FeedForward
from .lm import LanguageModel
from .mamba import Mamba

PRECISIONS = ("float32", "int8")


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

    Native code knows stacks of M, F and A with a tied head; any other model takes its own step, in int8 with rounded weights.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}: give one of {', '.join(PRECISIONS)}")
    if precision == "int8":
        model = quantized(model)
    on_cpu = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())
    blocks = getattr(model.backbone, "blocks", None)
    known = (
        blocks is not None
        and all(isinstance(b.mixer, (Mamba, FeedForward, SparseAttention)) for b in blocks)
        and model.tied
    )
    if not (on_cpu and known and native.status()[0]):
        return model
    return Decoder(model, precision)


class Decoder:
    """A frozen copy of a stack's weights, laid out for `step`. States are the model's own: see LanguageModel.init_state."""

    def __init__(self, model: LanguageModel, precision: str = "float32"):
        self.model, self.precision, self.config = model, precision, model.config
        self._kept: list[torch.Tensor] = []  # what the structures below point into
        self._bound_to, self._batch = None, 0
        self._arena, self._used = _arena(4 * sum(p.numel() + 16 for p in model.parameters())), 0
        with torch.no_grad():
            self._blocks = (_Block * len(model.backbone.blocks))(*map(self._block, model.backbone.blocks))
            self._embedding, self._norm = self._hold(model.embedding.weight), self._hold(model.norm.weight)
            self._head = self._matrix(model.embedding.weight)
        library = native.library()
        if (library.block_size(), library.matrix_size()) != (ctypes.sizeof(_Block), ctypes.sizeof(_Matrix)):
            raise RuntimeError("decode.py and decode.cpp disagree about the layout of a block")

    def _hold(self, tensor: torch.Tensor) -> int:
        """Address of a copy of `tensor` that lives as long as the decoder; copies lie in the order of their use."""
        tensor = tensor.detach()
        first, self._used = self._used, self._used + -(-tensor.nbytes // 64) * 64
        if self._used > len(self._arena):  # biases laid out by distance take more than their parameters
            self._kept.append(tensor.contiguous())
            return self._kept[-1].data_ptr()
        place = self._arena[first : first + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        return place.copy_(tensor).data_ptr()

    def _matrix(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> _Matrix:
        made = _Matrix(
            rows=weight.shape[0], columns=weight.shape[1], bias=self._hold(bias) if bias is not None else None
        )
        if self.precision == "int8":
            levels, scale = rounded(weight)
            made.packed, made.scale = self._hold(levels), self._hold(scale)
        else:
            made.weight = self._hold(weight)
        return made

    def _block(self, block: nn.Module) -> _Block:
        mixer, made = block.mixer, _Block(norm=self._hold(block.norm.weight))
        if isinstance(mixer, Mamba):
            made.kind, made.N, made.K, made.R = ord("M"), mixer.N, mixer.K, mixer.R
            made.in_, made.out, made.x_proj = (
                self._matrix(m.weight) for m in (mixer.in_proj, mixer.out_proj, mixer.x_proj)
            )
            made.dt_proj = self._matrix(mixer.dt_proj.weight, mixer.dt_proj.bias)
            made.conv, made.conv_bias = self._hold(mixer.conv1d.weight[:, 0].T), self._hold(mixer.conv1d.bias)
            made.A, made.D = self._hold(-torch.exp(mixer.A_log)), self._hold(mixer.D)
        elif isinstance(mixer, FeedForward):
            made.kind, made.in_, made.out = ord("F"), self._matrix(mixer.up.weight), self._matrix(mixer.down.weight)
        else:
            made.kind, made.in_, made.out = ord("A"), self._matrix(mixer.qkv.weight), self._matrix(mixer.out.weight)
            made.H, made.window, made.stride, made.reach = mixer.H, mixer.w, mixer.s, mixer.r
            made.marks, made.most = mixer.r // mixer.s + 1, mixer.r
            made.bias = self._hold(mixer.relative_bias(torch.arange(mixer.r + 1)))
        return made

    def init_state(self, batch_size: int = 1):
        return self.model.init_state(batch_size)

    def prefill(self, ids: torch.Tensor, state) -> torch.Tensor:
        """The seed is read in parallel by the model itself."""
        with torch.no_grad():
            return self.model.prefill(ids, state)

    def step(self, ids: torch.Tensor, state) -> torch.Tensor:
        """(B,) tokens -> logits (B, V), written anew at every step: copy what you keep."""
        if self._bound_to is not state or self._batch != len(ids):
            self._bind(state, len(ids))
        for made, past in self._attention:
            made.position = past.position
            past.position += 1
        ids = ids.to(torch.int64).contiguous()
        native.library().decode_step(
            self._blocks,
            ctypes.c_int64(len(self._blocks)),
            ctypes.c_void_p(self._embedding),
            ctypes.c_void_p(self._norm),
            ctypes.byref(self._head),
            ctypes.c_void_p(ids.data_ptr()),
            ctypes.c_void_p(self._logits.data_ptr()),
            ctypes.c_int64(len(ids)),
            ctypes.c_int64(self.config.d_model),
            *self._scratch,
        )
        return self._logits

    def _bind(self, state, batch: int) -> None:
        """Point the blocks at this state's tensors and make room for a batch of this size."""
        self._bound_to, self._batch, self._attention = state, batch, []
        wide, small, scores, D = self.config.d_model, 1, 1, self.config.d_model
        mid = D
        for made, block, past in zip(self._blocks, self.model.backbone.blocks, state):
            mixer = block.mixer
            if isinstance(mixer, Mamba):
                made.s0, made.s1 = past.conv.data_ptr(), past.ssm.data_ptr()
                wide, mid, small = max(wide, 2 * mixer.E), max(mid, mixer.E), max(small, mixer.R + 2 * mixer.N)
            elif isinstance(mixer, SparseAttention):
                rings = (past.keys, past.values, past.landmark_keys, past.landmark_values)
                made.s0, made.s1, made.s2, made.s3 = (t.data_ptr() for t in rings)
                scores = max(scores, mixer.H * (made.window + made.marks))
                self._attention.append((made, past))
            else:
                wide = max(wide, mixer.up.out_features)
        threads = native.library().thread_count()
        self._buffers = [torch.empty(batch * n) for n in (D, threads * D, wide, mid, small, scores)]
        self._scratch = [*(ctypes.c_void_p(t.data_ptr()) for t in self._buffers), ctypes.c_int64(threads)]
        self._logits = torch.empty(batch, self.config.vocab_size)
