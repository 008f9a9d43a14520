"""The scan and the convolution in C++ (scan.cpp, conv.cpp) as differentiable functions of PyTorch's tensors."""

from __future__ import annotations

import ctypes

import torch
from torch.autograd.function import once_differentiable

from .memory import address, loaded

NAMES = {torch.float32: "float", torch.float64: "double"}  # types that the C++ functions exist for


def accepts(*tensors: torch.Tensor) -> bool:
    """Are these tensors on the CPU, of one type, and of a type that the native functions exist for?"""
    return all(t.device.type == "cpu" and t.dtype == tensors[0].dtype for t in tensors) and tensors[0].dtype in NAMES


def _call(function: str, dtype: torch.dtype, tensors: dict, *sizes: int) -> None:
    """Call the C++ `function` for `dtype`: name -> (tensor or None, shape[, how far its rows lie apart]), then the sizes."""
    if dtype not in NAMES:
        raise ValueError(f"native code: {function} exists for float32 and float64, not for {dtype}")
    pointers = [
        ctypes.c_void_p() if tensor is None else address(f"{function}'s {name}", tensor, dtype, *layout)
        for name, (tensor, *layout) in tensors.items()
    ]
    getattr(loaded(), f"{function}_{NAMES[dtype]}")(*pointers, *map(ctypes.c_int64, sizes))


def _rows(t: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(B, L, E) that may be a slice of a wider array, and how far apart its rows lie; copied only if it is laid out otherwise."""
    if t.stride(2) != 1 or t.stride(0) != t.shape[1] * t.stride(1):
        t = torch.empty(t.shape, dtype=t.dtype, device=t.device).copy_(t)  # contiguous() keeps odd strides of size 1
    return t, t.stride(1)


class Scan(torch.autograd.Function):
    """(u, delta, A, B, C, D, state, z) -> (y, last state); shapes as in scan.selective_scan, z may be None."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, state, z):
        u, delta, A, B, C, D, state = (t.contiguous() for t in (u, delta, A, B, C, D, state))
        z, ctx.apart = (None, 0) if z is None else _rows(z)
        (batch, L, E), N = u.shape, A.shape[1]
        y, last, entries = torch.empty_like(u), torch.empty_like(state), None
        shapes = _shapes(batch, L, E, N, u.element_size())
        if any(ctx.needs_input_grad):
            entries = u.new_empty(shapes["entries"])
            ctx.save_for_backward(u, delta, A, B, C, D, z, entries)
        given = dict(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, state=state, y=y, last=last, entries=entries)
        _call("forward", u.dtype, _with(shapes, given, ctx.apart), batch, L, E, N, ctx.apart)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, D, z, entries = ctx.saved_tensors
        (batch, L, E), N = u.shape, A.shape[1]
        dy, dlast = dy.contiguous(), dlast.contiguous()
        shares = max(1, min(torch.get_num_threads(), entries.shape[2]))
        du, ddelta, dA, dD, dstate = (torch.empty_like(t) for t in (u, delta, A, D, dlast))
        dz = None if z is None else torch.empty_like(u)
        dB, dC = B.new_empty(shares, *B.shape), C.new_empty(shares, *C.shape)
        given = dict(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, entries=entries, dy=dy, dlast=dlast)
        given |= dict(du=du, ddelta=ddelta, dA=dA, dB=dB, dC=dC, dD=dD, dz=dz, dstate=dstate)
        shapes = _shapes(batch, L, E, N, u.element_size(), shares)
        _call("backward", u.dtype, _with(shapes, given, ctx.apart), batch, L, E, N, ctx.apart, shares)
        return du, ddelta, dA, dB.sum(0), dC.sum(0), dD, dstate, dz


def _shapes(batch: int, L: int, E: int, N: int, element_size: int, shares: int = 1) -> dict[str, tuple[int, ...]]:
    """What scan.cpp takes each array to be. dB and dC hold one part a share of the channels."""
    lanes, chunk = loaded().lanes(element_size), loaded().chunk_length()
    steps, states = (
        dict.fromkeys(("u", "delta", "z", "y"), (batch, L, E)),
        dict.fromkeys(("state", "last"), (batch, E, N)),
    )
    shapes = {**steps, **states, "A": (E, N), "B": (batch, L, N), "C": (batch, L, N), "D": (E,)}
    shapes |= {f"d{name}": shape for name, shape in shapes.items()}
    shapes |= {"dB": (shares, batch, L, N), "dC": (shares, batch, L, N)}
    return {**shapes, "entries": (batch, -(-L // chunk), -(-E // lanes), N, lanes)}


def _with(shapes: dict, given: dict, apart: int) -> dict:
    """name -> (tensor, shape) in the order of the C++ function's arguments; the rows of z lie `apart`."""
    return {name: (t, shapes[name], apart) if name == "z" else (t, shapes[name]) for name, t in given.items()}


class Convolution(torch.autograd.Function):
    """silu(causal depthwise convolution): u (B, L, E), past (B, K - 1, E), weight (E, K), bias (E,) -> (B, L, E)."""

    @staticmethod
    def forward(ctx, u, past, weight, bias):
        u, ctx.apart = _rows(u)
        past, taps, bias = past.contiguous(), weight.T.contiguous(), bias.contiguous()  # (K, E)
        (batch, L, E), K = u.shape, len(taps)
        ctx.save_for_backward(u, past, taps, bias)
        y = u.new_empty(batch, L, E)
        tensors = _taken(u, past, taps, bias, ctx.apart) | {"y": (y, (batch, L, E))}
        _call("conv_forward", u.dtype, tensors, batch, L, E, K, ctx.apart)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        u, past, taps, bias = ctx.saved_tensors
        (batch, L, E), K = u.shape, len(taps)
        shares = max(1, torch.get_num_threads())
        inner, du = dy.new_empty(batch, L, E), dy.new_empty(batch, L, E)
        dw, dbias = taps.new_empty(shares, K, E), bias.new_empty(shares, E)
        tensors = _taken(u, past, taps, bias, ctx.apart)
        tensors |= {name: (t, (batch, L, E)) for name, t in (("dy", dy.contiguous()), ("inner", inner), ("du", du))}
        tensors |= {"dw": (dw, (shares, K, E)), "dbias": (dbias, (shares, E))}
        _call("conv_backward", u.dtype, tensors, batch, L, E, K, ctx.apart, shares)
        return du, None, dw.sum(0).T, dbias.sum(0)  # the past is a state: no gradient is asked of it


def _taken(u, past, taps, bias, apart: int) -> dict:
    """What both functions of conv.cpp read, with the shapes that they take it to have."""
    (batch, L, E), K = u.shape, len(taps)
    return {
        "u": (u, (batch, L, E), apart),
        "past": (past, (batch, K - 1, E)),
        "taps": (taps, (K, E)),
        "bias": (bias, (E,)),
    }
