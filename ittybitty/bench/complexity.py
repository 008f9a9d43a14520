"""Time and memory of one training step of a sequence mixer against its length L, and the exponents that fit.

It compares the four sequence mixers of [1] (here one layer each, of equal width, forward and
backward, on a CPU), and a second implementation of the first of them:

    attention   causal and dense, the (L, L) matrix of weights written out             [2]
    fused       the same function, computed in tiles that are never stored             [3]
    lstm        the recurrent network, one step after the other                        [4]
    ssm         Mamba's block with Δ, B, C constant: a convolution, done by FFT        [5]
    mamba       Mamba's block, selective, by the fast scan that this machine has       [1]

An exponent p means that twice the length costs 2^p times as much. It is fitted by least squares on logarithms over the
longer half of the lengths, because at small L the projections, linear in L, dominate the cost.

[1] Gu and Dao 2023, Mamba.  [2] Vaswani et al. 2017.  [3] Dao et al. 2022, FlashAttention.
[4] Hochreiter and Schmidhuber 1997.  [5] Gu, Goel and Ré 2022, section 2.4; Gu et al. 2022, S4D, section 3.
Left out: generation, where attention reads a growing cache and the others a fixed state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..models.mamba import Mamba
from ..models.scan import chosen
from ..models.ssm import PlainSSM
from .timing import KEEPING, RETURNING, Timing, child, in_turns, matmul_rate, peak_memory, read_bandwidth

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
WIDTH = 256  # D
HEADS = 4


class Attention(nn.Module):
    """Causal and dense: [2] equation 1 with its matrix of weights, or fused [3]."""

    def __init__(self, width: int, fused: bool):
        super().__init__()
        self.fused = fused
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, L, D = x.shape
        q, k, v = self.qkv(x).view(B, L, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, L, D / H)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True) if self.fused else _written_out(q, k, v)
        return self.out(y.transpose(1, 2).reshape(B, L, D))


def _written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill_(later, float("-inf"))  # (B, H, L, L)
    return scores.softmax(-1) @ v


class Recurrent(nn.Module):
    """An LSTM [4] of the same width."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


MIXERS: dict[str, Callable[[int], nn.Module]] = {
    "attention": lambda width: Attention(width, fused=False),
    "fused": lambda width: Attention(width, fused=True),
    "lstm": Recurrent,
    "ssm": lambda width: PlainSSM(ModelConfig(d_model=width)),
    "mamba": lambda width: Mamba(ModelConfig(d_model=width)),
}


def training_step(name: str, width: int, length: int, batch_size: int = 1) -> Callable[[], None]:
    """A function that runs one mixer forward and backward, gradients of input and weights included."""
    torch.manual_seed(0)
    mixer = MIXERS[name](width)
    x = torch.randn(batch_size, length, width, requires_grad=True)

    def step() -> None:
        mixer(x).sum().backward()
        mixer.zero_grad(set_to_none=True)
        x.grad = None

    return step


def times(lengths: Sequence[int], width: int, turns: int, threads: int) -> dict:
    """Seconds of every turn by length and mixer, and this machine's floors; meant for a process of its own."""
    torch.set_num_threads(threads)
    each = [in_turns({name: training_step(name, width, length) for name in MIXERS}, turns) for length in lengths]
    rows = {name: [timings[name].turns for timings in each] for name in MIXERS}
    return {"turns": rows, "read_bandwidth": read_bandwidth(), "matmul_rate": matmul_rate()}


def memory(name: str, lengths: Sequence[int], width: int, threads: int) -> list[int]:
    """Peak bytes of a training step at each length; meant for a process of its own."""
    torch.set_num_threads(threads)
    training_step(name, width, lengths[0])()  # what is allocated once and for all
    return [peak_memory(training_step(name, width, length)) for length in lengths]


def complexity(
    lengths: Sequence[int] = LENGTHS, width: int = WIDTH, turns: int = 5, threads: int | None = None
) -> dict:
    """Seconds, peak bytes and fitted exponents of every mixer, for the paper's figure and table of complexity.

    {"lengths", "fitted_from", "mixers": {name: {"seconds", "spread", "bytes", "time_exponent", "memory_exponent",
    "parameters"}}, "scan_path", "read_bandwidth", "matmul_rate", …}. Seconds are medians over `turns` in turns. Times are
    measured with an allocator that keeps freed memory, as in training; peaks with one that returns it.
    """
    sizes = {"lengths": list(lengths), "width": width, "threads": threads or torch.get_num_threads()}
    timed = child("complexity", "times", KEEPING, turns=turns, **sizes)
    rows = {}
    for name in MIXERS:
        peaks = child("complexity", "memory", RETURNING, name=name, **sizes)
        rows[name] = _row([Timing(tuple(each)) for each in timed["turns"][name]], peaks, lengths)
        rows[name]["parameters"] = sum(p.numel() for p in MIXERS[name](width).parameters())
    return {
        **sizes,
        "turns": turns,
        "batch_size": 1,
        "heads": HEADS,
        "fitted_from": long_half(lengths)[0],
        "scan_path": chosen(),
        "read_bandwidth": timed["read_bandwidth"],
        "matmul_rate": timed["matmul_rate"],
        "mixers": rows,
    }


def _row(timings: list[Timing], peaks: list[int], lengths: Sequence[int]) -> dict:
    seconds, kept = [t.median for t in timings], len(long_half(lengths))
    return {
        "seconds": seconds,
        "spread": [list(t.spread) for t in timings],
        "bytes": peaks,
        "time_exponent": exponent(lengths[-kept:], seconds[-kept:]),
        "memory_exponent": exponent(lengths[-kept:], peaks[-kept:]),
    }


def long_half(lengths: Sequence[int]) -> Sequence[int]:
    """The lengths that exponents are fitted on."""
    return lengths[len(lengths) // 2 :] if len(lengths) > 3 else lengths


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The exponent p of values ∝ lengths^p, by least squares on logarithms."""
    return float(np.polyfit(np.log(lengths), np.log(np.maximum(values, 1e-12)), 1)[0])
