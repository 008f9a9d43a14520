"""The selective scan on a GPU without mamba-ssm: two Triton kernels, forward and backward, for scan.py.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752: equations 2a, 2b and 4; section 3.3.2: recompute states, never store them.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,   y_t = (C_t h_t + D u_t) silu(z_t)

One program of one warp walks all L steps for one piece and CHANNELS channels. A lane holds all N states of its channels, so
sums over the states stay in its registers; a row of u, Δ, z or y is one element a lane, and B and C are the same for all lanes.
Memory holds one state in CHUNK steps; the backward recomputes the CHUNK states in between once, into registers. CHUNK steps are
unrolled, so the loads of all of them are under way before the first is needed. dA, dB, dC and dD are summed over programs
by torch, in a fixed order: no atomics, the same bits every time.

The scan on a recent card is bound by the instructions that a multiprocessor can issue, not by its memory (gpu/floors.py counts
both). So there is one exponential of base 2 a state and step, with log2 e in A; sizes are constants of the compiled kernel, so
that addresses are too; nothing is masked where all blocks are full; and sums over channels, for dB and dC, exchange whole
registers through shared memory (`_over_channels`).

Inputs may be float32, float64, bfloat16 or float16, each of its own type; what is computed and every state are float32
(float64 for float64 inputs). With SOFTPLUS, Δ is softplus of what is given, which saves two passes over (B, L, E). z may be a
part of a wider array. A step and channel then moves 8 bytes in half precision, beside the states that are kept. B and C are
small, and are converted before: each program would do it again.

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

CHUNK = 8  # steps that are unrolled: memory keeps one state of them, and the backward holds all in registers
TILE = 512  # states of a program, CHANNELS * N: 16 registers a thread of its one warp
LOG2_E = tl.constexpr(1.4426950408889634)  # e^x = 2^(x log2 e): one instruction
_LAUNCH = threading.Lock()

# Triton lays out a tensor of (N, CHANNELS) by the pointers that it is loaded from. Where their alignment is known, a thread
# loads four neighbours at once, states are spread over lanes, and every step exchanges sums; else a lane has whole channels.
_FORWARD = {"do_not_specialize": ["L"], "do_not_specialize_on_alignment": ["A", "state", "last", "entries"]}
_BACKWARD = {"do_not_specialize": ["L"], "do_not_specialize_on_alignment": ["A", "entries", "dlast", "dA", "dstate"]}


@triton.jit
def _row(x, at, inside, FULL: tl.constexpr, wide: tl.constexpr):
    """The elements `at`; zeros where they are not inside, which nothing is where blocks are FULL."""
    if FULL:
        return tl.load(x + at).to(wide)
    return tl.load(x + at, mask=inside, other=0.0).to(wide)


@triton.jit
def _put(x, at, values, inside, FULL: tl.constexpr):
    """Store the elements `at`, of those that are inside."""
    if FULL:
        tl.store(x + at, values.to(x.dtype.scalar.element_ty))
    else:
        tl.store(x + at, values.to(x.dtype.scalar.element_ty), mask=inside)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp2(-x * LOG2_E))


@triton.jit
def _step_size(raw, inside, SOFTPLUS: tl.constexpr, FULL: tl.constexpr):
    """Δ of what is given, and its derivative. Past the end Δ is zero, and such a step changes no state."""
    if SOFTPLUS:
        small = tl.exp2(-tl.abs(raw) * LOG2_E)  # softplus is max(x, 0) + log(1 + e^-|x|)
        if raw.dtype == tl.float64:
            log1p = tl.where(small < 1e-5, small * (1 - 0.5 * small), tl.log(1 + small))
        else:  # a polynomial, within 4e-7 of it on [0, 1]
            log1p = -0.008539245156 * small + 0.04408981655
            log1p = log1p * small - 0.1076820623
            log1p = log1p * small + 0.1774527373
            log1p = log1p * small - 0.2449547839
            log1p = log1p * small + 0.3327548356
            log1p = log1p * small - 0.499974058
            log1p = (log1p * small + 0.9999998058) * small
        d = tl.maximum(raw, 0.0) + log1p
        return d if FULL else tl.where(inside, d, 0.0), tl.where(raw < 0, small, 1.0) / (1 + small)
    return raw, raw


@triton.jit
def _over_channels(p, HALVINGS: tl.constexpr):
    """Sums (N,) of (N, CHANNELS). The halves of a split lie in one thread: all of them together are one exchange between lanes."""
    for _ in tl.static_range(HALVINGS):
        left, right = tl.split(tl.reshape(p, (p.shape[0], p.shape[1] // 2, 2)))
        p = left + right
    return tl.sum(p, 1)


@triton.jit(**_FORWARD)
def _forward(
    u, delta, A, B, C, D, z, state, y, last, entries, L, E: tl.constexpr, apart_z,
    N: tl.constexpr, STATES: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr,
    GATED: tl.constexpr, SOFTPLUS: tl.constexpr, FULL: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    wide = state.dtype.element_ty
    b = tl.program_id(1).to(tl.int64)
    e, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    here, inside = e < E, (n < N)[:, None] & (e < E)[None, :]
    cell = n[:, None] * E + e[None, :]  # in (N, E)
    a = _row(A, cell, inside, FULL, wide) * LOG2_E
    skip = _row(D, e, here, FULL, wide)
    h = _row(state, b * E * N + cell, inside, FULL, wide)
    for chunk in range(tl.cdiv(L, CHUNK)):
        row = b * L + chunk * CHUNK  # of its first step
        us, deltas, ys = u + (row * E + e), delta + (row * E + e), y + (row * E + e)
        Bs, Cs = B + (row * N + n), C + (row * N + n)
        if KEPT:
            _put(entries, (b * tl.cdiv(L, CHUNK) + chunk) * E * N + cell, h, inside, FULL)
        outs = ()
        for k in tl.static_range(CHUNK):
            now = chunk * CHUNK + k < L
            x = _row(us, k * E, here & now, FULL, wide)
            d, _ = _step_size(_row(deltas, k * E, here & now, FULL, wide), now, SOFTPLUS, FULL)
            Bt = _row(Bs, k * N, (n < N) & now, FULL, wide)[:, None]
            Ct = _row(Cs, k * N, (n < N) & now, FULL, wide)[:, None]
            h = tl.exp2(d[None, :] * a) * h + (d * x)[None, :] * Bt  # [1] equations 2a, 4
            out = tl.sum(h * Ct, 0) + skip * x  # [1] equation 2b
            if GATED:
                g = _row(z + (row * apart_z + e), k * apart_z, here & now, FULL, wide)
                out = out * g * _sigmoid(g)
            outs = outs + (out,)
        for k in tl.static_range(CHUNK):  # stores in the midst would hold back the loads of later steps
            _put(ys, k * E, outs[k], here & (chunk * CHUNK + k < L), FULL)
    _put(last, b * E * N + cell, h, inside, FULL)


@triton.jit
def _states(
    h, us, deltas, Bs, a, here, n_here, left, E: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr, SOFTPLUS: tl.constexpr, FULL: tl.constexpr
):  # fmt: skip  # pointers in one line, constants in the next
    """The states of a chunk again, from the one before it on: CHUNK + 1 of them. `left` steps are left of the piece."""
    states = (h,)
    for k in tl.static_range(CHUNK):
        x = _row(us, k * E, here & (k < left), FULL, h.dtype)
        d, _ = _step_size(_row(deltas, k * E, here & (k < left), FULL, h.dtype), k < left, SOFTPLUS, FULL)
        Bt = _row(Bs, k * N, n_here & (k < left), FULL, h.dtype)[:, None]
        h = tl.exp2(d[None, :] * a) * h + (d * x)[None, :] * Bt  # [1] equations 2a, 4
        states = states + (h,)
    return states


@triton.jit(**_BACKWARD)
def _backward(
    u, delta, A, B, C, D, z, entries, dy, dlast, du, ddelta, dA, dB, dC, dD, dz, dstate, L, E: tl.constexpr, apart_z,
    N: tl.constexpr, STATES: tl.constexpr, CHANNELS: tl.constexpr, CHUNK: tl.constexpr, HALVINGS: tl.constexpr,
    GATED: tl.constexpr, SOFTPLUS: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip  # pointers in one line, constants in the next
    wide = dstate.dtype.element_ty
    b = tl.program_id(1).to(tl.int64)
    e, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATES)
    here, inside = e < E, (n < N)[:, None] & (e < E)[None, :]
    cell = n[:, None] * E + e[None, :]  # in (N, E)
    share = (tl.program_id(0) * tl.num_programs(1) + b) * L  # row of this program's part of dB and dC
    a = _row(A, cell, inside, FULL, wide) * LOG2_E
    skip = _row(D, e, here, FULL, wide)
    g = _row(dlast, b * E * N + cell, inside, FULL, wide)  # dL/dh, carried back in time
    sum_a, sum_d = tl.zeros_like(a), tl.zeros_like(skip)
    for chunk in range(tl.cdiv(L, CHUNK) - 1, -1, -1):
        row = b * L + chunk * CHUNK  # of its first step
        us, deltas, dys = u + (row * E + e), delta + (row * E + e), dy + (row * E + e)
        dus, ddeltas = du + (row * E + e), ddelta + (row * E + e)
        Bs, Cs = B + (row * N + n), C + (row * N + n)
        dBs, dCs = dB + ((share + chunk * CHUNK) * N + n), dC + ((share + chunk * CHUNK) * N + n)
        h = _row(entries, (b * tl.cdiv(L, CHUNK) + chunk) * E * N + cell, inside, FULL, wide)
        states = _states(h, us, deltas, Bs, a, here, n < N, L - chunk * CHUNK, E, N, CHUNK, SOFTPLUS, FULL)
        for i in tl.static_range(CHUNK):
            k = CHUNK - 1 - i
            now, at = chunk * CHUNK + k < L, k * E
            x, o = _row(us, at, here & now, FULL, wide), _row(dys, at, here & now, FULL, wide)
            d, slope = _step_size(_row(deltas, at, here & now, FULL, wide), now, SOFTPLUS, FULL)
            Bt = _row(Bs, k * N, (n < N) & now, FULL, wide)[:, None]
            Ct = _row(Cs, k * N, (n < N) & now, FULL, wide)[:, None]
            h = states[CHUNK - i]
            if GATED:
                gate = _row(z + (row * apart_z + e), k * apart_z, here & now, FULL, wide)
                open_ = _sigmoid(gate)
                plain = tl.sum(h * Ct, 0) + skip * x  # y before the gate, [1] equation 2b
                _put(dz + (row * E + e), at, o * plain * open_ * (1 + gate * (1 - open_)), here & now, FULL)
                o = o * gate * open_
            g += o[None, :] * Ct  # dL/dh_t is whole
            _put(dCs, k * N, _over_channels(o[None, :] * h, HALVINGS), (n < N) & now, FULL)
            _put(dBs, k * N, _over_channels(g * (d * x)[None, :], HALVINGS), (n < N) & now, FULL)
            through_B = tl.sum(g * Bt, 0)
            g *= tl.exp2(d[None, :] * a)
            through = g * states[CHUNK - 1 - i]  # dL/d(Δ A)
            step = tl.sum(through * a, 0) / LOG2_E + through_B * x  # dL/dΔ
            _put(ddeltas, at, step * slope if SOFTPLUS else step, here & now, FULL)
            _put(dus, at, through_B * d + o * skip, here & now, FULL)
            sum_a += through * d[None, :]
            sum_d += o * x
    _put(dstate, b * E * N + cell, g, inside, FULL)
    _put(dA, b * E * N + cell, sum_a, inside, FULL)
    _put(dD, b * E + e, sum_d, here, FULL)


@contextlib.contextmanager
def launching(device: torch.device):
    """Within it this thread alone compiles and launches kernels, on this device."""
    with _LAUNCH, torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        yield


def _launch(kernel, tensors: list, sizes: tuple[int, int, int, int], z: torch.Tensor | None, **flags) -> None:
    """One program for each block of channels of each piece."""
    batch, L, E, N = sizes
    states, channels = blocks(N)
    constants = {"N": N, "STATES": states, "CHANNELS": channels, "CHUNK": CHUNK, "FULL": full(L, E, N)}
    with launching(tensors[0].device):
        kernel[(triton.cdiv(E, channels), batch)](
            *tensors, L, E, 0 if z is None else z.stride(1), **constants, **flags, num_warps=1, num_stages=1
        )


def blocks(N: int) -> tuple[int, int]:
    """(states, channels) of a program: N rounded up to a power of two, and as many channels as fill its registers."""
    states = triton.next_power_of_2(N)
    return states, max(1, TILE // states)


def full(L: int, E: int, N: int) -> bool:
    """Do all programs have all their channels, states and steps, so that nothing has to be masked?"""
    states, channels = blocks(N)
    return states == N and E % channels == 0 and L % CHUNK == 0


def halvings(N: int) -> int:
    """How often the channels of a program are halved where they are summed: at most until a thread holds 16 of them."""
    return min(4, blocks(N)[1].bit_length() - 1)


def rows(t: torch.Tensor) -> torch.Tensor:
    """(B, L, E) whose rows lie evenly apart, as those of a part of a wider array do; copied only if they do not."""
    return t if t.stride(2) == 1 and t.stride(0) == t.shape[1] * t.stride(1) else t.contiguous()


class Scan(torch.autograd.Function):
    """(u, delta, A, B, C, D, state, z, softplus) -> (y, last state); shapes as in scan.selective_scan, z may be None.

    A, D and the state are float32, or float64 with all others; u, delta, B, C and z of any floating type. y has the type of u.
    """

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, state, z, softplus):
        ctx.types = B.dtype, C.dtype
        z, sizes = None if z is None else rows(z), (*u.shape, A.shape[1])
        A, state = A.T, state.mT  # (N, E) and (B, N, E): neighbouring lanes have neighbouring channels
        u, delta, A, D, state = (t.contiguous() for t in (u, delta, A, D, state))
        B, C = (t.to(A.dtype).contiguous() for t in (B, C))
        y, last, entries = torch.empty_like(u), torch.empty_like(state), None
        if any(ctx.needs_input_grad):
            entries = state.new_empty(sizes[0], -(-sizes[1] // CHUNK), sizes[3], sizes[2])
            ctx.save_for_backward(u, delta, A, B, C, D, z, entries)
        ctx.flags = {"GATED": z is not None, "SOFTPLUS": bool(softplus)}
        tensors = [u, delta, A, B, C, D, z, state, y, last, entries]
        _launch(_forward, tensors, sizes, z, **ctx.flags, KEPT=entries is not None)
        return y, last.mT.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, D, z, entries = ctx.saved_tensors
        (batch, L, E), N = u.shape, A.shape[0]
        dlast = dlast.mT.contiguous()
        du, ddelta, dstate = (torch.empty_like(t) for t in (u, delta, dlast))
        dz = None if z is None else z.new_empty(z.shape)
        dA, dD = A.new_empty(batch, N, E), D.new_empty(batch, E)
        shares = triton.cdiv(E, blocks(N)[1])
        dB, dC = A.new_empty(2, shares, batch, L, N).unbind(0)
        gradients = [du, ddelta, dA, dB, dC, dD, dz, dstate]
        tensors = [u, delta, A, B, C, D, z, entries, dy.contiguous(), dlast, *gradients]
        _launch(_backward, tensors, (*u.shape, N), z, **ctx.flags, HALVINGS=halvings(N))
        dB, dC = (t.sum(0).to(kind) for t, kind in zip((dB, dC), ctx.types))
        return du, ddelta, dA.sum(0).T, dB, dC, dD.sum(0), dstate.mT, dz, None


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
