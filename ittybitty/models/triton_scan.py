"""The selective scan on a GPU without mamba-ssm: two Triton kernels, forward and backward, for scan.py.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752: equations 2a, 2b and 4; section 3.3.2: recompute states, never store them.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,   y_t = (C_t h_t + D u_t) silu(z_t)

One program walks all L steps for one piece and CHANNELS channels with its (CHANNELS, N) states in registers. Memory holds
one state in CHUNK steps; the backward recomputes the CHUNK states from there, in registers too. CHUNK steps are unrolled,
so the loads of all of them are under way before the first is needed. dA, dB, dC and dD are summed over programs by
torch, in a fixed order: no atomics, the same bits every time.

Nothing here needs more than sm_75 (a T4): no bfloat16, no tensor cores, no asynchronous copies. DataParallel runs replicas
in threads, and Triton compiles for, and launches on, the thread's current device: so every launch stands under a
device guard and one lock, and launch parameters are fixed (the autotuner is not made for threads).

Left out: a scan that is parallel over time, for very few channels and very long pieces; kernels in half precision.
Import it only where Triton is; scan.py does. With TRITON_INTERPRET=1 it runs on a CPU, for tests.
"""

from __future__ import annotations

import contextlib
import threading

import torch
import triton
import triton.language as tl

CHUNK = 8  # steps that are unrolled, and between two stored states
TILE = 256  # states of a program, CHANNELS * N: 8 registers a thread of its one warp
_LAUNCH = threading.Lock()


@triton.jit
def _row(x, t, L, apart, at, size):
    """Elements `at` of row t. Past the end all is zero, and a step with Δ = 0 changes no state: the last chunk needs no other code."""
    return tl.load(x + t * apart + at, mask=at < tl.where(t < L, size, 0), other=0.0)


@triton.jit
def _put(x, t, L, apart, at, size, values):
    """Store a row, unless it lies past the end."""
    tl.store(x + t * apart + at, values, mask=at < tl.where(t < L, size, 0))


@triton.jit(do_not_specialize=["L"])
def _forward(
    u, delta, A, B, C, D, z, state, y, last, entries, L, E, apart,
    N: tl.constexpr, STATES: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr, GATED: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    b = tl.program_id(1).to(tl.int64)
    e, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    here, cell, inside = e < E, e[:, None] * N + n[None, :], (e < E)[:, None] & (n < N)[None, :]
    first = b * L  # row of this piece
    u, delta, y, B, C = u + first * E, delta + first * E, y + first * E, B + first * N, C + first * N
    if GATED:
        z += first * apart
    if KEPT:
        entries += b * tl.cdiv(L, CHUNK) * E * N
    a = tl.load(A + cell, mask=inside, other=0.0)
    skip = tl.load(D + e, mask=here, other=0.0)
    h = tl.load(state + b * E * N + cell, mask=inside, other=0.0)
    for start in range(0, L, CHUNK):
        if KEPT:
            tl.store(entries + start // CHUNK * E * N + cell, h, mask=inside)
        outs = ()
        for k in tl.static_range(CHUNK):
            t = start + k
            x, d = _row(u, t, L, E, e, E), _row(delta, t, L, E, e, E)
            h = tl.exp(d[:, None] * a) * h + (d * x)[:, None] * _row(B, t, L, N, n, N)[None, :]  # [1] equations 2a, 4
            out = tl.sum(h * _row(C, t, L, N, n, N)[None, :], 1) + skip * x  # [1] equation 2b
            if GATED:
                g = _row(z, t, L, apart, e, E)
                out = out * g * tl.sigmoid(g)
            outs = outs + (out,)
        for k in tl.static_range(CHUNK):  # stores in the midst would hold back the loads of later steps
            _put(y, start + k, L, E, e, E, outs[k])
    tl.store(last + b * E * N + cell, h, mask=inside)


@triton.jit(do_not_specialize=["L"])
def _backward(
    u, delta, A, B, C, D, z, entries, dy, dlast, du, ddelta, dA, dB, dC, dD, dz, dstate, L, E, apart,
    N: tl.constexpr, STATES: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    b = tl.program_id(1).to(tl.int64)
    e, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    here, cell, inside = e < E, e[:, None] * N + n[None, :], (e < E)[:, None] & (n < N)[None, :]
    first, share = (
        b * L,
        tl.program_id(0) * tl.num_programs(1) + b,
    )  # row of this piece; this program's part of dB and dC
    u, delta, dy, B, C = u + first * E, delta + first * E, dy + first * E, B + first * N, C + first * N
    du, ddelta, dB, dC = du + first * E, ddelta + first * E, dB + share * L * N, dC + share * L * N
    if GATED:
        z, dz = z + first * apart, dz + first * E
    entries += b * tl.cdiv(L, CHUNK) * E * N
    a = tl.load(A + cell, mask=inside, other=0.0)
    skip = tl.load(D + e, mask=here, other=0.0)
    g = tl.load(dlast + b * E * N + cell, mask=inside, other=0.0)  # dL/dh, carried back in time
    sum_a, sum_d = tl.zeros_like(a), tl.zeros_like(skip)
    for chunk in range(tl.cdiv(L, CHUNK) - 1, -1, -1):
        h = tl.load(entries + chunk * E * N + cell, mask=inside, other=0.0)
        befores = ()
        for k in tl.static_range(CHUNK):  # the states of this chunk again
            t = chunk * CHUNK + k
            x, d = _row(u, t, L, E, e, E), _row(delta, t, L, E, e, E)
            befores = befores + (h,)
            h = tl.exp(d[:, None] * a) * h + (d * x)[:, None] * _row(B, t, L, N, n, N)[None, :]
        for i in tl.static_range(CHUNK):
            t = chunk * CHUNK + CHUNK - 1 - i
            x, d, o = _row(u, t, L, E, e, E), _row(delta, t, L, E, e, E), _row(dy, t, L, E, e, E)
            Bt, Ct = _row(B, t, L, N, n, N)[None, :], _row(C, t, L, N, n, N)[None, :]
            if GATED:
                gate = _row(z, t, L, apart, e, E)
                open_ = tl.sigmoid(gate)
                plain = tl.sum(h * Ct, 1) + skip * x  # y before the gate
                _put(dz, t, L, E, e, E, o * plain * open_ * (1 + gate * (1 - open_)))
                o = o * gate * open_
            g += o[:, None] * Ct  # dL/dh_t is whole
            _put(dC, t, L, N, n, N, tl.sum(o[:, None] * h, 0))
            _put(dB, t, L, N, n, N, tl.sum(g * (d * x)[:, None], 0))
            through_B = tl.sum(g * Bt, 1)
            h = befores[CHUNK - 1 - i]
            g *= tl.exp(d[:, None] * a)
            through = g * h  # dL/d(Δ A)
            _put(ddelta, t, L, E, e, E, tl.sum(through * a, 1) + through_B * x)
            _put(du, t, L, E, e, E, through_B * d + o * skip)
            sum_a += through * d[:, None]
            sum_d += o * x
    tl.store(dstate + b * E * N + cell, g, mask=inside)
    tl.store(dA + b * E * N + cell, sum_a, mask=inside)
    tl.store(dD + b * E + e, sum_d, mask=here)


def _launch(kernel, tensors: list, z, sizes: tuple[int, int, int, int], **flags) -> None:
    """One program for each block of channels of each piece."""
    batch, L, E, N = sizes
    states, channels = blocks(N)
    grid = (triton.cdiv(E, channels), batch)
    apart = 0 if z is None else z.stride(1)
    constants = {
        "N": N,
        "STATES": states,
        "CHANNELS": channels,
        "CHUNK": CHUNK,
        "GATED": z is not None,
        "num_warps": 1,
        "num_stages": 1,
    }
    device = tensors[0].device
    with _LAUNCH, torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](*tensors, L, E, apart, **constants, **flags)


def blocks(N: int) -> tuple[int, int]:
    """(states, channels) of a program: N rounded up to a power of two, and as many channels as fill its registers."""
    states = triton.next_power_of_2(N)
    return states, max(1, TILE // states)


class Scan(torch.autograd.Function):
    """(u, delta, A, B, C, D, state, z) -> (y, last state); shapes as in scan.selective_scan, z may be None."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, state, z):
        u, delta, A, B, C, D, state = (t.contiguous() for t in (u, delta, A, B, C, D, state))
        if z is not None and (z.stride(2) != 1 or z.stride(0) != z.shape[1] * z.stride(1)):
            z = z.contiguous()  # else its rows may lie apart: it is one half of a wider array
        sizes = (*u.shape, A.shape[1])
        y, last, entries = torch.empty_like(u), torch.empty_like(state), None
        if any(ctx.needs_input_grad):
            entries = u.new_empty(sizes[0], -(-sizes[1] // CHUNK), *A.shape)
            ctx.save_for_backward(u, delta, A, B, C, D, z, entries)
        _launch(_forward, [u, delta, A, B, C, D, z, state, y, last, entries], z, sizes, KEPT=entries is not None)
        return y, last

    @staticmethod
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, D, z, entries = ctx.saved_tensors
        (batch, _, E), N = u.shape, A.shape[1]
        du, ddelta, dz, dstate = (torch.empty_like(t) for t in (u, delta, u, dlast))
        dA, dD = A.new_empty(batch, E, N), D.new_empty(batch, E)
        shares = triton.cdiv(E, blocks(N)[1])
        dB, dC = B.new_empty(shares, *B.shape), C.new_empty(shares, *C.shape)
        gradients = [du, ddelta, dA, dB, dC, dD, dz if z is not None else None, dstate]
        tensors = [u, delta, A, B, C, D, z, entries, dy.contiguous(), dlast.contiguous(), *gradients]
        _launch(_backward, tensors, z, (*u.shape, N))
        return du, ddelta, dA.sum(0), dB.sum(0), dC.sum(0), dD.sum(0), dstate, gradients[6]


def warm_up(devices, E: int, N: int) -> None:
    """Compile what a Mamba block of these sizes launches, on each CUDA device in turn: before DataParallel's threads start.

    The lock makes threads safe without it; it saves the first step the wait of one thread for another.
    """
    for device in devices:
        one = torch.zeros(1, CHUNK, E, device=device)
        read = one.new_zeros(1, CHUNK, N)
        wide = torch.zeros(1, CHUNK, 2 * E, device=device, requires_grad=True)
        arguments = (one, one, one.new_zeros(E, N), read, read, one.new_zeros(E), one.new_zeros(1, E, N), wide[..., E:])
        Scan.apply(*arguments)[0].sum().backward()
        with torch.no_grad():
            Scan.apply(*arguments)
