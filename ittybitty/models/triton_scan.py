"""The selective scan on a GPU without mamba-ssm: two Triton kernels, forward and backward, for scan.py.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752: equations 2a, 2b and 4; section 3.3.2: recompute states, never store them.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,   y_t = (C_t h_t + D u_t) silu(z_t)

One program walks all L steps for one piece and CHANNELS channels with its (N, CHANNELS) states in registers. Memory holds one
state in KEPT_EVERY steps; the backward recomputes CHUNK states at a time from there, in registers too. CHUNK steps are
unrolled, so the loads of all of them are under way before the first is needed. dA, dB, dC and dD are summed over programs
by torch, in a fixed order: no atomics, the same bits every time.

Inputs may be float32, float64, bfloat16 or float16, each of its own type; what is computed and every state are float32
(float64 for float64 inputs). With SOFTPLUS, Δ is softplus of what is given, which saves two passes over (B, L, E). B, C and z
may be parts of wider arrays. A step and channel then moves 8 bytes in half precision, beside the states that are kept.

Nothing here needs more than sm_75 (a T4): no bfloat16 unless the inputs are, no tensor cores, no asynchronous copies.
DataParallel runs replicas in threads, and Triton compiles for, and launches on, the thread's current device: so every launch
stands under a device guard and one lock, and launch parameters are fixed (the autotuner is not made for threads).

Left out: a scan that is parallel over time, for very few channels and very long pieces.
Import it only where Triton is; scan.py does. With TRITON_INTERPRET=1 it runs on a CPU, for tests.
"""

from __future__ import annotations

import contextlib
import threading

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

CHUNK = 8  # steps that are unrolled, and whose states the backward holds in registers
KEPT_EVERY = 16  # steps between two states in memory; a multiple of CHUNK, at most two of them
TILE = 512  # states of a program, CHANNELS * N: 16 registers a thread of its one warp
LOG2_E = tl.constexpr(1.4426950408889634)  # e^x = 2^(x log2 e): one instruction
_LAUNCH = threading.Lock()


@triton.jit
def _row(x, t, L, apart, at, size, wide: tl.constexpr):
    """Elements `at` of row t. Past the end all is zero; the last chunk needs no other code."""
    return tl.load(x + t * apart + at, mask=at < tl.where(t < L, size, 0), other=0.0).to(wide)


@triton.jit
def _put(x, t, L, apart, at, size, values):
    """Store a row, unless it lies past the end."""
    tl.store(x + t * apart + at, values.to(x.dtype.element_ty), mask=at < tl.where(t < L, size, 0))


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp2(-x * LOG2_E))


@triton.jit
def _step_size(raw, t, L, SOFTPLUS: tl.constexpr):
    """Δ of what is given; past the end it is zero, and a step with Δ = 0 changes no state."""
    if SOFTPLUS:
        # log1p(e^x) without an overflow; below 2^-23 of 1 its first term is all of it
        small = tl.exp2(-tl.abs(raw) * LOG2_E)
        log1p = tl.where(small < 1e-3, small * (1 - 0.5 * small), tl.log(1 + small))
        return tl.where(t < L, tl.maximum(raw, 0.0) + log1p, 0.0)
    return raw


@triton.jit(do_not_specialize=["L"])
def _forward(
    u, delta, A, B, C, D, z, state, y, last, entries, L, E, apart_B, apart_C, apart_z,
    N: tl.constexpr, STATES: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr, EVERY: tl.constexpr,
    GATED: tl.constexpr, SOFTPLUS: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    wide = state.dtype.element_ty
    b = tl.program_id(1).to(tl.int64)
    e, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    here, inside = e < E, (n < N)[:, None] & (e < E)[None, :]
    cell, kept = e[None, :] * N + n[:, None], n[:, None] * E + e[None, :]  # in (E, N), and in (N, E)
    first = b * L  # row of this piece
    u, delta, y, B, C = u + first * E, delta + first * E, y + first * E, B + first * apart_B, C + first * apart_C
    if GATED:
        z += first * apart_z
    if KEPT:
        entries += b * tl.cdiv(L, EVERY) * E * N
    a = tl.load(A + cell, mask=inside, other=0.0) * LOG2_E
    skip = tl.load(D + e, mask=here, other=0.0)
    h = tl.load(state + b * E * N + cell, mask=inside, other=0.0)
    for start in range(0, L, CHUNK):
        if KEPT:
            if start % EVERY == 0:
                tl.store(entries + start // EVERY * E * N + kept, h, mask=inside)
        outs = ()
        for k in tl.static_range(CHUNK):
            t = start + k
            x = _row(u, t, L, E, e, E, wide)
            d = _step_size(_row(delta, t, L, E, e, E, wide), t, L, SOFTPLUS)
            Bt, Ct = _row(B, t, L, apart_B, n, N, wide)[:, None], _row(C, t, L, apart_C, n, N, wide)[:, None]
            h = tl.exp2(d[None, :] * a) * h + (d * x)[None, :] * Bt  # [1] equations 2a, 4
            out = tl.sum(h * Ct, 0) + skip * x  # [1] equation 2b
            if GATED:
                g = _row(z, t, L, apart_z, e, E, wide)
                out = out * g * _sigmoid(g)
            outs = outs + (out,)
        for k in tl.static_range(CHUNK):  # stores in the midst would hold back the loads of later steps
            _put(y, start + k, L, E, e, E, outs[k])
    tl.store(last + b * E * N + cell, h, mask=inside)


@triton.jit(do_not_specialize=["L"])
def _backward(
    u, delta, A, B, C, D, z, entries, dy, dlast, du, ddelta, dA, dB, dC, dD, dz, dstate, L, E, apart_B, apart_C, apart_z,
    N: tl.constexpr, STATES: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr, EVERY: tl.constexpr,
    GATED: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    wide = dstate.dtype.element_ty
    b = tl.program_id(1).to(tl.int64)
    e, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    here, inside = e < E, (n < N)[:, None] & (e < E)[None, :]
    cell, kept = e[None, :] * N + n[:, None], n[:, None] * E + e[None, :]
    first = b * L  # row of this piece
    share = tl.program_id(0) * tl.num_programs(1) + b  # this program's part of dB and dC
    u, delta, dy, B, C = u + first * E, delta + first * E, dy + first * E, B + first * apart_B, C + first * apart_C
    du, ddelta, dB, dC = du + first * E, ddelta + first * E, dB + share * L * N, dC + share * L * N
    if GATED:
        z, dz = z + first * apart_z, dz + first * E
    entries += b * tl.cdiv(L, EVERY) * E * N
    a = tl.load(A + cell, mask=inside, other=0.0) * LOG2_E
    skip = tl.load(D + e, mask=here, other=0.0)
    g = tl.load(dlast + b * E * N + cell, mask=inside, other=0.0)  # dL/dh, carried back in time
    sum_a, sum_d = tl.zeros_like(a), tl.zeros_like(skip)
    for chunk in range(tl.cdiv(L, CHUNK) - 1, -1, -1):
        start = chunk * CHUNK
        h = tl.load(entries + start // EVERY * E * N + kept, mask=inside, other=0.0)
        if start % EVERY != 0:  # the second chunk behind a state that was kept
            for k in tl.static_range(CHUNK):
                t = start - CHUNK + k
                x = _row(u, t, L, E, e, E, wide)
                d = _step_size(_row(delta, t, L, E, e, E, wide), t, L, SOFTPLUS)
                h = tl.exp2(d[None, :] * a) * h + (d * x)[None, :] * _row(B, t, L, apart_B, n, N, wide)[:, None]
        befores = ()
        for k in tl.static_range(CHUNK):  # the states of this chunk again
            t = start + k
            x = _row(u, t, L, E, e, E, wide)
            d = _step_size(_row(delta, t, L, E, e, E, wide), t, L, SOFTPLUS)
            befores = befores + (h,)
            h = tl.exp2(d[None, :] * a) * h + (d * x)[None, :] * _row(B, t, L, apart_B, n, N, wide)[:, None]
        for i in tl.static_range(CHUNK):
            t = start + CHUNK - 1 - i
            x, o, raw = _row(u, t, L, E, e, E, wide), _row(dy, t, L, E, e, E, wide), _row(delta, t, L, E, e, E, wide)
            d = _step_size(raw, t, L, SOFTPLUS)
            Bt, Ct = _row(B, t, L, apart_B, n, N, wide)[:, None], _row(C, t, L, apart_C, n, N, wide)[:, None]
            if GATED:
                gate = _row(z, t, L, apart_z, e, E, wide)
                open_ = _sigmoid(gate)
                plain = tl.sum(h * Ct, 0) + skip * x  # y before the gate
                _put(dz, t, L, E, e, E, o * plain * open_ * (1 + gate * (1 - open_)))
                o = o * gate * open_
            g += o[None, :] * Ct  # dL/dh_t is whole
            _put(dC, t, L, N, n, N, tl.sum(o[None, :] * h, 1))
            _put(dB, t, L, N, n, N, tl.sum(g * (d * x)[None, :], 1))
            through_B = tl.sum(g * Bt, 0)
            h = befores[CHUNK - 1 - i]
            g *= tl.exp2(d[None, :] * a)
            through = g * h  # dL/d(Δ A)
            step = tl.sum(through * a, 0) / LOG2_E + through_B * x  # dL/dΔ
            if SOFTPLUS:
                step *= _sigmoid(raw)
            _put(ddelta, t, L, E, e, E, step)
            _put(du, t, L, E, e, E, through_B * d + o * skip)
            sum_a += through * d[None, :]
            sum_d += o * x
    tl.store(dstate + b * E * N + cell, g, mask=inside)
    tl.store(dA + b * E * N + cell, sum_a, mask=inside)
    tl.store(dD + b * E + e, sum_d, mask=here)


@contextlib.contextmanager
def launching(device: torch.device):
    """Within it this thread alone compiles and launches kernels, on this device."""
    with _LAUNCH, torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        yield


def _launch(kernel, tensors: list, apart: list[int], sizes: tuple[int, int, int, int], **flags) -> None:
    """One program for each block of channels of each piece."""
    batch, L, E, N = sizes
    states, channels = blocks(N)
    constants = {"N": N, "STATES": states, "CHANNELS": channels, "CHUNK": CHUNK, "EVERY": KEPT_EVERY}
    with launching(tensors[0].device):
        kernel[(triton.cdiv(E, channels), batch)](
            *tensors, L, E, *apart, **constants, **flags, num_warps=1, num_stages=1
        )


def blocks(N: int) -> tuple[int, int]:
    """(states, channels) of a program: N rounded up to a power of two, and as many channels as fill its registers."""
    states = triton.next_power_of_2(N)
    return states, max(1, TILE // states)


def rows(t: torch.Tensor) -> torch.Tensor:
    """(B, L, E) whose rows lie evenly apart, as those of a part of a wider array do; copied only if they do not."""
    return t if t.stride(2) == 1 and t.stride(0) == t.shape[1] * t.stride(1) else t.contiguous()


class Scan(torch.autograd.Function):
    """(u, delta, A, B, C, D, state, z, softplus) -> (y, last state); shapes as in scan.selective_scan, z may be None.

    A, D and the state are float32, or float64 with all others; u, delta, B, C and z of any floating type. y has the type of u.
    """

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, state, z, softplus):
        u, delta, A, D, state = (t.contiguous() for t in (u, delta, A, D, state))
        B, C, z = rows(B), rows(C), None if z is None else rows(z)
        sizes = (*u.shape, A.shape[1])
        y, last, entries = torch.empty_like(u), torch.empty_like(state), None
        if any(ctx.needs_input_grad):
            entries = state.new_empty(sizes[0], -(-sizes[1] // KEPT_EVERY), sizes[3], sizes[2])
            ctx.save_for_backward(u, delta, A, B, C, D, z, entries)
        ctx.flags = {"GATED": z is not None, "SOFTPLUS": bool(softplus)}
        tensors = [u, delta, A, B, C, D, z, state, y, last, entries]
        _launch(_forward, tensors, _apart(B, C, z), sizes, **ctx.flags, KEPT=entries is not None)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, D, z, entries = ctx.saved_tensors
        (batch, L, E), N = u.shape, A.shape[1]
        du, ddelta, dstate = (torch.empty_like(t) for t in (u, delta, dlast))
        dz = None if z is None else z.new_empty(z.shape)
        dA, dD = A.new_empty(batch, E, N), D.new_empty(batch, E)
        shares = triton.cdiv(E, blocks(N)[1])
        dB, dC = A.new_empty(2, shares, batch, L, N).unbind(0)
        gradients = [du, ddelta, dA, dB, dC, dD, dz, dstate]
        tensors = [u, delta, A, B, C, D, z, entries, dy.contiguous(), dlast.contiguous(), *gradients]
        _launch(_backward, tensors, _apart(B, C, z), (*u.shape, N), **ctx.flags)
        dB, dC = dB.sum(0).to(B.dtype), dC.sum(0).to(C.dtype)
        return du, ddelta, dA.sum(0), dB, dC, dD.sum(0), dstate, dz, None


def _apart(B: torch.Tensor, C: torch.Tensor, z: torch.Tensor | None) -> list[int]:
    return [B.stride(1), C.stride(1), 0 if z is None else z.stride(1)]


def warm_up(devices, E: int, N: int, dtype: torch.dtype = torch.float32) -> None:
    """Compile what a Mamba block of these sizes launches, on each CUDA device in turn: before DataParallel's threads start.

    `dtype` is that of the activations. The lock makes threads safe without it; it saves the first step the wait of one
    thread for another.
    """
    for device in devices:
        one = torch.zeros(1, CHUNK, E, device=device, dtype=dtype)
        read = one.new_zeros(1, CHUNK, 2 * N).split(N, dim=2)
        wide = torch.zeros(1, CHUNK, 2 * E, device=device, dtype=dtype, requires_grad=True)
        A, D, state = (torch.zeros(*shape, device=device) for shape in ((E, N), (E,), (1, E, N)))
        arguments = (one, one, A, *read, D, state, wide[..., E:], True)
        Scan.apply(*arguments)[0].sum().backward()
        with torch.no_grad():
            Scan.apply(*arguments)
