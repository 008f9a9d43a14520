"""Mamba's causal depthwise convolution on a GPU: two Triton kernels, forward and backward, for conv.py.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752: section 3.4, figure 3: convolution and SiLU in front of the scan.

    s_t = bias + Σ_k w_k u_{t - K + 1 + k},   y_t = silu(s_t)          (u before the first row is `past`)
    g_t = dy_t silu'(s_t),   du_t = Σ_k w_k g_{t + K - 1 - k},   dw_k = Σ_t g_t u_{t - K + 1 + k},   dbias = Σ_t g_t

A program takes ROWS rows of one piece and CHANNELS channels. Rows that several taps read come from the cache, so memory is
read once: forward and backward move 2 and 3 numbers a step and channel, where PyTorch's element-wise
operations move 2 K + 6 and twice that. dw and dbias are summed over programs by torch, in a fixed order.

u may be float32, float64, bfloat16 or float16, and may be part of a wider array; y and du have its type. What is computed is
float32 (float64 for float64). Launches, cards and the interpreter: as in triton_scan.py.

Left out: the gradient of `past`, which is a state.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from .triton_scan import _sigmoid, launching, rows

ROWS, CHANNELS = 64, 32  # of a program


@triton.jit
def _taken(u, past, t, L, at, E, apart, K: tl.constexpr, PAST: tl.constexpr, wide: tl.constexpr):
    """Rows t (ROWS, 1) of u: of `past` before the first one, zero past the end and where there is no past."""
    x = tl.load(u + t * apart + at, mask=(t >= 0) & (t < L) & (at < E), other=0.0).to(wide)
    if PAST:
        x += tl.load(past + (t + K - 1) * E + at, mask=(t < 0) & (t > -K) & (at < E), other=0.0).to(wide)
    return x


@triton.jit(do_not_specialize=["L"])
def _conv_forward(
    u, past, w, bias, y, L, E, apart,
    K: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, PAST: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    wide = bias.dtype.element_ty
    b = tl.program_id(2).to(tl.int64)
    at = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    u, y = u + b * L * apart, y + b * L * E
    if PAST:
        past += b * (K - 1) * E
    offset = tl.load(bias + at, mask=at < E, other=0.0)
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    total = tl.zeros((ROWS, CHANNELS), wide) + offset
    for k in tl.static_range(K):
        tap = tl.load(w + k * E + at, mask=at < E, other=0.0)
        total += tap * _taken(u, past, t - K + 1 + k, L, at, E, apart, K, PAST, wide)
    tl.store(y + t * E + at, (total * _sigmoid(total)).to(y.dtype.element_ty), mask=(t < L) & (at < E))


@triton.jit(do_not_specialize=["L"])
def _conv_backward(
    u, past, w, bias, dy, du, dw, dbias, L, E, apart,
    K: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, PAST: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    wide = bias.dtype.element_ty
    b = tl.program_id(2).to(tl.int64)
    share = b * tl.num_programs(1) + tl.program_id(1)  # this program's part of dw and dbias
    at = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    u, dy, du = u + b * L * apart, dy + b * L * E, du + b * L * E
    if PAST:
        past += b * (K - 1) * E
    offset = tl.load(bias + at, mask=at < E, other=0.0)
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    near = ()
    for i in tl.static_range(2 * K - 1):  # u at t - K + 1 … t + K - 1
        near = near + (_taken(u, past, t - K + 1 + i, L, at, E, apart, K, PAST, wide),)
    back = tl.zeros((ROWS, CHANNELS), wide)
    for j in tl.static_range(K):  # g at t + j
        total = tl.zeros((ROWS, CHANNELS), wide) + offset
        for k in tl.static_range(K):
            total += tl.load(w + k * E + at, mask=at < E, other=0.0) * near[j + k]
        open_ = _sigmoid(total)
        upstream = tl.load(dy + (t + j) * E + at, mask=(t + j < L) & (at < E), other=0.0).to(wide)
        g = upstream * open_ * (1 + total * (1 - open_))
        back += tl.load(w + (K - 1 - j) * E + at, mask=at < E, other=0.0) * g
        if j == 0:
            e = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
            for k in tl.static_range(K):
                tl.store(dw + (share * K + k) * E + e, tl.sum(g * near[k], 0), mask=e < E)
            tl.store(dbias + share * E + e, tl.sum(g, 0), mask=e < E)
    tl.store(du + t * E + at, back.to(du.dtype.element_ty), mask=(t < L) & (at < E))


def _launch(kernel, tensors: list, u: torch.Tensor, K: int, past: torch.Tensor | None) -> None:
    batch, L, E = u.shape
    grid = (triton.cdiv(E, CHANNELS), triton.cdiv(L, ROWS), batch)
    constants = {"K": K, "ROWS": ROWS, "CHANNELS": CHANNELS, "PAST": past is not None}
    with launching(u.device):
        kernel[grid](*tensors, L, E, u.stride(1), **constants, num_warps=4, num_stages=1)


class Convolution(torch.autograd.Function):
    """silu(causal depthwise convolution): u (B, L, E), past (B, K - 1, E) or None, weight (E, K), bias (E,) -> (B, L, E)."""

    @staticmethod
    def forward(ctx, u, past, weight, bias):
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        u, taps, offset = rows(u), weight.T.to(wide).contiguous(), bias.to(wide).contiguous()  # (K, E)
        past = None if past is None else past.contiguous()
        ctx.save_for_backward(u, past, taps, offset)
        ctx.types = weight.dtype, bias.dtype
        y = u.new_empty(u.shape)
        _launch(_conv_forward, [u, past, taps, offset, y], u, len(taps), past)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        u, past, taps, offset = ctx.saved_tensors
        (batch, L, E), K = u.shape, len(taps)
        shares = batch * triton.cdiv(L, ROWS)
        du, dw, dbias = u.new_empty(u.shape), taps.new_empty(shares, K, E), taps.new_empty(shares, E)
        _launch(_conv_backward, [u, past, taps, offset, dy.contiguous(), du, dw, dbias], u, K, past)
        weight, bias = ctx.types
        return du, None, dw.sum(0).T.to(weight), dbias.sum(0).to(bias)


def warm_up(devices, E: int, K: int, dtype: torch.dtype = torch.float32) -> None:
    """Compile what a Mamba block of these sizes launches, on each CUDA device in turn, as triton_scan.warm_up does."""
    for device in devices:
        wide = torch.zeros(1, K, 2 * E, device=device, dtype=dtype, requires_grad=True)
        weight, bias = torch.zeros(E, K, device=device, requires_grad=True), torch.zeros(E, device=device)
        Convolution.apply(wide[..., :E], None, weight, bias).sum().backward()
