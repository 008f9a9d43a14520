"""The C++ scan (native.cpp): compiled on first use, cached, and silently absent where it cannot be.

The file knows no header of PyTorch and is called through ctypes with bare pointers: it compiles in seconds with any
C++17 compiler, and no version of torch can make its symbols undefined. `status()` says what happened.
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

from ..paths import cache_dir

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi"]
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
        processor += next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    return f"{version}{FLAGS}{processor}"


def _build() -> Path:
    """Path of the compiled library, built now unless the cache has it. Two processes may build at once: the last rename wins."""
    key = hashlib.sha256(SOURCE.read_bytes() + _target().encode()).hexdigest()[:16]
    folder = cache_dir() / "native"
    library = folder / f"scan-{key}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise NativeError(f"the cache {folder} is not writable ({error.strerror})") from None
    with scratch as work:
        made, compiled = Path(work) / "scan.o", Path(work) / "scan.so"
        # First choice: compiled for OpenMP but linked without its library. The symbols resolve to the runtime that
        # torch has already loaded, so there is one pool of threads and not two that fight for the cores.
        for compile_flags, link_flags in ((["-fopenmp"], []), (["-fopenmp"], ["-fopenmp"]), ([], [])):
            compile_ = [_compiler(), *FLAGS, *compile_flags, "-c", str(SOURCE), "-o", str(made)]
            link = [_compiler(), "-shared", *link_flags, str(made), "-o", str(compiled)]
            if all(subprocess.run(command, capture_output=True).returncode == 0 for command in (compile_, link)) and _opens(compiled):
                os.replace(compiled, library)
                return library
    raise NativeError(f"{_compiler()} could not compile the scan")


def _opens(library: Path) -> bool:
    try:
        ctypes.CDLL(str(library))
        return True
    except OSError:
        return False


@functools.cache
def _library() -> ctypes.CDLL | NativeError:
    try:
        if os.environ.get(VARIABLE) == "0":
            raise NativeError(f"switched off by {VARIABLE}=0")
        library = ctypes.CDLL(str(_build()))
    except (NativeError, OSError) as error:
        return error if isinstance(error, NativeError) else NativeError(str(error))
    for name in ("chunk_length", "lanes"):
        getattr(library, name).restype = ctypes.c_int64
    return library


def status() -> tuple[bool, str]:
    """Is the native scan here, and why (not)?"""
    library = _library()
    if isinstance(library, NativeError):
        return False, str(library)
    return True, f"compiled with {Path(_compiler()).name} for this processor, {library.lanes(4)} channels a vector"


def _call(name: str, kind: torch.dtype, *arguments) -> None:
    function = getattr(_library(), f"{name}_{'float' if kind == torch.float32 else 'double'}")
    function(*(
        ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_void_p() if a is None else ctypes.c_int64(a)
        for a in arguments
    ))


class Scan(torch.autograd.Function):
    """(u, delta, A, B, C, state) -> (y without the skip D u, last state); shapes as in scan.selective_scan."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, state):
        u, delta, A, B, C, state = (t.contiguous() for t in (u, delta, A, B, C, state))
        (batch, L, E), N = u.shape, A.shape[1]
        y, last, entries = torch.empty_like(u), torch.empty_like(state), None
        if any(ctx.needs_input_grad):
            lanes, chunk = _library().lanes(u.element_size()), _library().chunk_length()
            entries = u.new_empty(batch, -(-L // chunk), -(-E // lanes), N, lanes)
            ctx.save_for_backward(u, delta, A, B, C, entries)
        _call("forward", u.dtype, u, delta, A, B, C, state, y, last, entries, batch, L, E, N)
        return y, last

    @staticmethod
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, entries = ctx.saved_tensors
        (batch, L, E), N = u.shape, A.shape[1]
        dy, dlast = dy.contiguous(), dlast.contiguous()
        shares = max(1, min(torch.get_num_threads(), entries.shape[2]))
        du, ddelta, dA, dstate = torch.empty_like(u), torch.empty_like(u), torch.empty_like(A), torch.empty_like(dlast)
        dB, dC = B.new_empty(shares, *B.shape), C.new_empty(shares, *C.shape)
        _call("backward", u.dtype, u, delta, A, B, C, entries, dy, dlast, du, ddelta, dA, dB, dC, dstate, batch, L, E, N, shares)
        return du, ddelta, dA, dB.sum(0), dC.sum(0), dstate
