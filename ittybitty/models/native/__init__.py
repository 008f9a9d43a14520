"""C++ for the CPU (scan.cpp, conv.cpp, decode.cpp): compiled on first use, cached, and silently absent where it cannot be.

The files know no header of PyTorch and are called through ctypes with bare pointers: they compile in seconds with any
C++17 compiler, and no version of torch can make their symbols undefined. `status()` says what happened.
Set ITTYBITTY_NATIVE=0 to leave it out.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from ...paths import cache_dir

SOURCES = [Path(__file__).with_name(name) for name in ("scan.cpp", "conv.cpp", "decode.cpp")]
HEADERS = [Path(__file__).with_name("lanes.h")]
FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wno-psabi",
]
VARIABLE = "ITTYBITTY_NATIVE"


class NativeError(RuntimeError):
    """Why there is no native scan here; never reaches a user, who gets the path in plain PyTorch."""


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise NativeError("no C++ compiler found (install g++ or clang++ for a faster scan)")


def _target() -> str:
    """What the machine code depends on beside the source: compiler, flags and processor."""
    version = subprocess.run([_compiler(), "--version"], capture_output=True, text=True).stdout
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        processor += next(
            (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), ""
        )
    return f"{version}{FLAGS}{processor}"


def _build() -> Path:
    """Path of the compiled library, built now unless the cache has it. Two processes may build at once: the last rename wins."""
    code = b"".join(path.read_bytes() for path in SOURCES + HEADERS)
    key = hashlib.sha256(code + _target().encode()).hexdigest()[:16]
    folder = cache_dir() / "native"
    library = folder / f"ittybitty-{key}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise NativeError(f"the cache {folder} is not writable ({error.strerror})") from None
    with scratch as work:
        made = Path(work) / library.name
        # First choice: compiled for OpenMP but linked without its library. The symbols resolve to the runtime that
        # torch has already loaded, so there is one pool of threads and not two that fight for the cores.
        for compile_flags, link_flags in ((["-fopenmp"], []), (["-fopenmp"], ["-fopenmp"]), ([], [])):
            objects = [str(Path(work) / f"{source.stem}.o") for source in SOURCES]
            steps = [[*FLAGS, *compile_flags, "-c", str(source), "-o", o] for source, o in zip(SOURCES, objects)]
            steps.append(["-shared", *link_flags, *objects, "-o", str(made)])
            if all(
                subprocess.run([_compiler(), *step], capture_output=True).returncode == 0 for step in steps
            ) and _opens(made):
                os.replace(made, library)
                return library
    raise NativeError(f"{_compiler()} could not compile it")


def _opens(library: Path) -> bool:
    try:
        ctypes.CDLL(str(library))
        return True
    except OSError:
        return False


@functools.cache
def library() -> ctypes.CDLL | NativeError:
    try:
        if os.environ.get(VARIABLE) == "0":
            raise NativeError(f"switched off by {VARIABLE}=0")
        made = ctypes.CDLL(str(_build()))
    except (NativeError, OSError) as error:
        return error if isinstance(error, NativeError) else NativeError(str(error))
    for name in ("chunk_length", "lanes", "block_size", "matrix_size", "thread_count"):
        getattr(made, name).restype = ctypes.c_int64
    return made


def status() -> tuple[bool, str]:
    """Is the native scan here, and why (not)?"""
    made = library()
    if isinstance(made, NativeError):
        return False, str(made)
    return True, f"compiled with {Path(_compiler()).name} for this processor, {made.lanes(4)} channels a vector"


def _call(name: str, kind: torch.dtype, *arguments) -> None:
    function = getattr(library(), f"{name}_{'float' if kind == torch.float32 else 'double'}")
    function(
        *(
            ctypes.c_void_p(a.data_ptr())
            if isinstance(a, torch.Tensor)
            else ctypes.c_void_p()
            if a is None
            else ctypes.c_int64(a)
            for a in arguments
        )
    )


def _rows(t: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(B, L, E) that may be a slice of a wider array, and how far apart its rows lie; copied only if it is laid out otherwise."""
    if t.stride(2) != 1 or t.stride(0) != t.shape[1] * t.stride(1):
        t = t.contiguous()
    return t, t.stride(1)


class Scan(torch.autograd.Function):
    """(u, delta, A, B, C, D, state, z) -> (y, last state); shapes as in scan.selective_scan, z may be None."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, state, z):
        u, delta, A, B, C, D, state = (t.contiguous() for t in (u, delta, A, B, C, D, state))
        z, ctx.apart = (None, 0) if z is None else _rows(z)
        (batch, L, E), N = u.shape, A.shape[1]
        y, last, entries = torch.empty_like(u), torch.empty_like(state), None
        if any(ctx.needs_input_grad):
            lanes, chunk = library().lanes(u.element_size()), library().chunk_length()
            entries = u.new_empty(batch, -(-L // chunk), -(-E // lanes), N, lanes)
            ctx.save_for_backward(u, delta, A, B, C, D, z, entries)
        _call("forward", u.dtype, u, delta, A, B, C, D, z, state, y, last, entries, batch, L, E, N, ctx.apart)
        return y, last

    @staticmethod
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, D, z, entries = ctx.saved_tensors
        (batch, L, E), N = u.shape, A.shape[1]
        dy, dlast = dy.contiguous(), dlast.contiguous()
        shares = max(1, min(torch.get_num_threads(), entries.shape[2]))
        du, ddelta, dA, dD, dstate = (torch.empty_like(t) for t in (u, delta, A, D, dlast))
        dz = None if z is None else torch.empty_like(u)
        dB, dC = B.new_empty(shares, *B.shape), C.new_empty(shares, *C.shape)
        gradients = (du, ddelta, dA, dB, dC, dD, dz, dstate)
        _call(
            "backward",
            u.dtype,
            u,
            delta,
            A,
            B,
            C,
            D,
            z,
            entries,
            dy,
            dlast,
            *gradients,
            batch,
            L,
            E,
            N,
            ctx.apart,
            shares,
        )
        return du, ddelta, dA, dB.sum(0), dC.sum(0), dD, dstate, dz


class Convolution(torch.autograd.Function):
    """silu(causal depthwise convolution): u (B, L, E), past (B, K - 1, E), weight (E, K), bias (E,) -> (B, L, E)."""

    @staticmethod
    def forward(ctx, u, past, weight, bias):
        u, ctx.apart = _rows(u)
        past, taps = past.contiguous(), weight.T.contiguous()  # (K, E)
        (batch, L, E), K = u.shape, len(taps)
        ctx.save_for_backward(u, past, taps, bias)
        y = u.new_empty(batch, L, E)
        _call("conv_forward", u.dtype, u, past, taps, bias, y, batch, L, E, K, ctx.apart)
        return y

    @staticmethod
    def backward(ctx, dy):
        u, past, taps, bias = ctx.saved_tensors
        (batch, L, E), K = u.shape, len(taps)
        shares = max(1, torch.get_num_threads())
        inner, du = dy.new_empty(batch, L, E), dy.new_empty(batch, L, E)
        dw, dbias = taps.new_empty(shares, K, E), bias.new_empty(shares, E)
        _call(
            "conv_backward",
            u.dtype,
            u,
            past,
            taps,
            bias,
            dy.contiguous(),
            inner,
            du,
            dw,
            dbias,
            batch,
            L,
            E,
            K,
            ctx.apart,
            shares,
        )
        return du, None, dw.sum(0).T, dbias.sum(0)  # the past is a state: no gradient is asked of it
