"""Estimates the least time of a training step on a GPU, from the operations and bytes of each of its kernels.

    kernels(configs, batch)         a row for each kind of kernel: how often, operations, bytes, as the code of today runs them
    expected(configs, batch, card)  seconds of each on a card, their sum, and tokens a second

A kernel takes at least its operations over the card's rate of matrix products, at least its bytes over the card's memory
bandwidth, and the scan at least its instructions over those that the card can issue; the largest of the three is its floor.
Matrix products run in half precision, and so do all passes over a block's tensors, since the Triton kernels read and write
half precision (models/triton_scan.py, models/triton_conv.py); passes over the residual stream are float32. Forward and backward
together are three products of the forward's size, and for an element-wise pass three times its bytes.

[1] NVIDIA H100 as measured by others: 3.0 TB/s copied, 790 TFLOP/s in bfloat16; its data sheet: 132 multiprocessors at
    1.76 GHz, each of which issues 4 instructions a clock, for 128 multiply-adds or 16 special functions; 227 KB of shared
    memory a block.
[2] NVIDIA T4 data sheet: 320 GB/s, 65 TFLOP/s in float16, 40 multiprocessors at 1.59 GHz, with 64 multiply-adds or 16 special
    functions a clock, 64 KB of shared memory a block. What is reached is less.

Left out: launches (about 5 µs each, hidden while the card is busy), the data loader, and several cards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import ModelConfig

# of models/triton_scan.py: steps between two stored states, channels of a program of one warp at N = 16, and machine
# instructions of that warp for one step, as compiled for sm_90 (tests/models/test_triton.py counts them)
CHUNK, CHANNELS = 8, 32
FORWARD_INSTRUCTIONS, BACKWARD_INSTRUCTIONS = 136, 424
CONV_ROWS = 64  # of models/triton_conv.py: rows of a program
IDS_PER_EVENT = 4
HALF, FULL = 2, 4  # bytes


@dataclass(frozen=True)
class Card:
    """What a card can do at best."""

    name: str
    capability: int  # 90 is sm_90
    bandwidth: float  # bytes/s
    products: float  # operations/s of a matrix product in half precision
    multiprocessors: int  # each issues 4 instructions of a warp a clock
    clock: float  # Hz
    lanes: int  # multiply-adds of a multiprocessor in a clock
    special: int  # exponentials, logarithms and reciprocals of a multiprocessor in a clock
    half: str  # the type of half precision
    source: str

    @property
    def issued(self) -> float:
        """Instructions of a warp/s."""
        return 4 * self.multiprocessors * self.clock

    @property
    def bytes_a_clock(self) -> float:
        """Bytes of memory for each multiprocessor in a clock."""
        return self.bandwidth / (self.multiprocessors * self.clock)


CARDS = {
    "h100": Card("NVIDIA H100", 90, 3.0e12, 790e12, 132, 1.76e9, 128, 16, "bfloat16", "[1]"),
    "t4": Card("NVIDIA T4", 75, 320e9, 65e12, 40, 1.59e9, 64, 16, "float16", "[2]"),
}


@dataclass(frozen=True)
class Kernel:
    """A kind of kernel in one training step: `operations` and `bytes` of all its `count` uses together."""

    name: str
    count: int
    operations: float
    bytes: float
    least: float = 0.0  # bytes if every input were read and every output written once; 0 where that is `bytes`
    instructions: float = 0.0  # of warps; 0 where they are hidden behind the memory's traffic

    def bounds(self, card: Card) -> dict[str, float]:
        """The time that each resource of the card needs at least, s."""
        return {
            "operations": self.operations / card.products,
            "bytes": self.bytes / card.bandwidth,
            "instructions": self.instructions / card.issued,
        }

    def seconds(self, card: Card) -> float:
        """The time all uses take at least."""
        return max(self.bounds(card).values())


def steps_of_backbone(configs: Mapping, batch: int) -> int:
    """Steps of the backbone in one training step: ids, or events of an event model."""
    ids = batch * configs["data"].context
    return ids // IDS_PER_EVENT if configs["model"].events else ids


def kernels(configs: Mapping, batch: int) -> list[Kernel]:
    """All of a training step of `batch` windows, forward and backward, and the optimizer."""
    model: ModelConfig = configs["model"]
    letters = [letter for letter in model.pattern if letter != " "] if model.family == "stack" else []
    n, D = steps_of_backbone(configs, batch), model.d_model
    E, N, R = model.expand * D, model.d_state, model.dt_rank or math.ceil(D / 16)
    count = {letter: letters.count(letter) for letter in "MFA"}
    found = [
        _products("Mamba: in_proj, x_proj, dt_proj, out_proj", count["M"], n, [(D, 2 * E), (E, R + 2 * N), (R, E), (E, D)]),
        convolution(count["M"], n, E, model.d_conv),
        scan(count["M"], n, E, N),
        Kernel("Mamba: gradients of both halves joined", count["M"], 0.0, count["M"] * 2 * n * 2 * E * HALF),
        _products("feed-forward: two products", count["F"], n, [(D, model.d_ff), (model.d_ff, D)]),
        _passes("feed-forward: GELU", count["F"], n * model.d_ff * HALF, 1, 1),
        _products("attention: qkv and out", count["A"], n, [(D, 3 * D), (D, D)]),
        _attention(count["A"], n, model),
        _passes("norms and residuals", len(letters) + 1, n * D * FULL, 2, 2),
        *_heads(model, n, D),
        _optimizer(configs, letters),
    ]  # fmt: skip  # one part of the step a line
    return [kernel for kernel in found if kernel.count]


def convolution(count: int, n: int, E: int, K: int) -> Kernel:
    """The Triton convolution: u in and y out; u and dy in, du out, and sums for K taps and the bias from every CONV_ROWS rows."""
    sums = 2 * (K + 1) * E * FULL / CONV_ROWS  # written, and read again to be summed
    return Kernel(
        "Mamba: convolution and SiLU", count, 0.0, count * n * (5 * E * HALF + sums), count * n * 5 * E * HALF
    )


def scan(count: int, n: int, E: int, N: int, forward_only: bool = False) -> Kernel:
    """The Triton scan over n steps: bytes that its two kernels move, and the least that any kernel could.

    Forward: u, Δ, z in, y out, a state every CHUNK steps. Backward: u, Δ, z, dy and those states in, du, dΔ, dz out,
    and a share of dB and dC from every CHANNELS channels, which is written and read again to be summed. Both read B and C in
    float32, which they are converted to before.
    """
    row, states, read, converted = E * HALF, E * N * FULL / CHUNK, 2 * N * HALF, 2 * N * FULL
    programs = math.ceil(E / CHANNELS)
    shares = programs * 2 * N * FULL
    forward = 4 * row + read + 2 * converted + states
    backward = 7 * row + converted + read + states + 2 * shares
    least = 4 * row + read + (0 if forward_only else 7 * row + 2 * read)
    moved = forward + (0 if forward_only else backward)
    issued = programs * (FORWARD_INSTRUCTIONS + (0 if forward_only else BACKWARD_INSTRUCTIONS))
    return Kernel("Mamba: selective scan", count, 0.0, count * n * moved, count * n * least, count * n * issued)


def _products(name: str, count: int, n: int, shapes: list[tuple[int, int]]) -> Kernel:
    """Matrix products of n rows: forward, and the gradients of input and weight."""
    weights = sum(a * b for a, b in shapes)
    moved = 3 * sum(n * (a + b) + a * b for a, b in shapes) * HALF
    return Kernel(name, count, count * 3 * 2 * n * weights, count * moved)


def _passes(name: str, count: int, size: float, reads: int, writes: int) -> Kernel:
    """Element-wise operations over tensors of `size` bytes; the backward moves twice as much as the forward."""
    return Kernel(name, count, 0.0, count * 3 * size * (reads + writes))


def _attention(count: int, n: int, model: ModelConfig) -> Kernel:
    """Scores and values of a window, its predecessor and the landmarks, in blocks of `attn_window` queries."""
    keys = 2 * model.attn_window + (model.attn_reach + model.attn_window) // model.attn_stride
    operations = 3 * 2 * 2 * n * keys * model.d_model
    scores = n * model.n_heads * keys * FULL
    return Kernel("attention: scores, softmax, values", count, count * operations, count * 3 * 3 * scores)


def _heads(model: ModelConfig, n: int, D: int) -> list[Kernel]:
    """The head and its loss: logits are written in half precision and read and written in float32."""
    if not model.events:
        logits = n * model.vocab_size
        return [
            _products("head", 1, n, [(D, model.vocab_size)]),
            Kernel("loss", 1, 0.0, logits * (2 * HALF + 5 * FULL)),
        ]
    classes = (model.events[0] + 1, *model.events[1:])
    inner = [shape for _ in classes for shape in ((D, 2 * D), (2 * D, D))]
    logits = n * sum(classes)
    return [
        _products("heads of an event", 1, n, [*inner, *((D, size) for size in classes)]),
        Kernel("loss", 1, 0.0, logits * (2 * HALF + 5 * FULL) + len(classes) * 12 * n * D * FULL),
    ]


def _optimizer(configs: Mapping, letters: list[str]) -> Kernel:
    """AdamW reads and writes weight and two moments, and reads the gradient; Muon orthogonalises in five steps."""
    model = configs["model"]
    D, E = model.d_model, model.expand * model.d_model
    shapes = {"M": [(D, 2 * E), (E, D)], "F": [(D, model.d_ff), (model.d_ff, D)], "A": [(D, 3 * D), (D, D)]}
    matrices = [shape for letter in letters for shape in shapes.get(letter, ())]
    size = sum(a * b for a, b in matrices)
    if configs["train"].optimizer != "muon":
        return Kernel("AdamW", 1, 0.0, 7 * size * FULL)
    small = [sorted(shape) for shape in matrices]
    operations = sum(5 * 2 * (2 * a * a * b + a**3) for a, b in small)  # X X^T, its square, and their product with X
    return Kernel("Muon", 1, float(operations), 5 * size * FULL + 5 * 6 * size * HALF)


def expected(configs: Mapping, batch: int, card: Card) -> dict:
    """{"kernels": rows of name, count, gflop, mb, ms, "bound"}, "ms", "tokens_per_second", "steps_per_second"} on a card."""
    rows: list[dict[str, Any]] = []
    for kernel in kernels(configs, batch):
        seconds = kernel.seconds(card)
        bounds = kernel.bounds(card)
        rows.append(
            {
                "kernel": kernel.name,
                "count": kernel.count,
                "gflop": kernel.operations / 1e9,
                "mb": kernel.bytes / 1e6,
                "least_mb": (kernel.least or kernel.bytes) / 1e6,
                "ms": 1e3 * seconds,
                "least_ms": 1e3 * (kernel.least or kernel.bytes) / card.bandwidth,
                "bound": max(bounds, key=bounds.__getitem__),
            }
        )
    total = sum(row["ms"] for row in rows) / 1e3
    ids = batch * configs["data"].context
    return {
        "card": card.name,
        "batch": batch,
        "kernels": rows,
        "ms": 1e3 * total,
        "tokens_per_second": ids / total,
        "backbone_steps_per_second": steps_of_backbone(configs, batch) / total,
    }
