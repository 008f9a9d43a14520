"""Compiles the C++ files beside this one on first use and loads the library; it reports why if it cannot.

The files include no header of PyTorch and are called through ctypes with bare pointers: they compile in seconds with
any C++17 compiler, and no version of torch can make their symbols undefined. `status()` reports the outcome.

    ITTYBITTY_NATIVE=0           leaves the native code out
    ITTYBITTY_NATIVE=sanitize    builds it with AddressSanitizer and UndefinedBehaviorSanitizer (make test-sanitizers)
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ...paths import cache_dir

SOURCES = [Path(__file__).with_name(name) for name in ("scan.cpp", "conv.cpp", "decode.cpp", "events.cpp")]
HEADERS = [Path(__file__).with_name(name) for name in ("lanes.h", "step.h")]
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
SANITIZED = [
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]  # after FLAGS: the last -O counts
VARIABLE = "ITTYBITTY_NATIVE"
_BUILDING = threading.Lock()


class NativeError(RuntimeError):
    """Why there is no native scan here; never reaches a user, who gets the path in plain PyTorch."""


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise NativeError("no C++ compiler found (install g++ or clang++ for a faster scan)")


def _flags() -> list[str]:
    """Options of the compiler; the linker needs those of the sanitizers again."""
    return FLAGS + (SANITIZED if os.environ.get(VARIABLE) == "sanitize" else [])


def _target() -> str:
    """What the machine code depends on beside the source: compiler, flags and processor."""
    version = subprocess.run([_compiler(), "--version"], capture_output=True, text=True).stdout
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        processor += next(
            (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), ""
        )
    return f"{version}{_flags()}{processor}"


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
        # torch has already loaded, so there is one pool of threads and not two that fight for the cores; without torch
        # to the one that `_load` has opened.
        for compile_flags, link_flags in ((["-fopenmp"], []), (["-fopenmp"], ["-fopenmp"]), ([], [])):
            objects = [str(Path(work) / f"{source.stem}.o") for source in SOURCES]
            steps = [[*_flags(), *compile_flags, "-c", str(source), "-o", o] for source, o in zip(SOURCES, objects)]
            steps.append(["-shared", *_flags(), *link_flags, *objects, "-o", str(made)])
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


def library() -> ctypes.CDLL | NativeError:
    """The compiled functions, or why there are none. Threads that ask at once wait for one build."""
    with _BUILDING:
        return _load()


@functools.cache
def _load() -> ctypes.CDLL | NativeError:
    try:
        if os.environ.get(VARIABLE) == "0":
            raise NativeError(f"switched off by {VARIABLE}=0")
        if "torch" not in sys.modules:
            with contextlib.suppress(OSError):
                ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
        made = ctypes.CDLL(str(_build()))
    except (NativeError, OSError) as error:
        return error if isinstance(error, NativeError) else NativeError(str(error))
    for name in (
        "chunk_length",
        "lanes",
        "block_size",
        "matrix_size",
        "thread_count",
        "decode_step",
        "head_size",
        "rules_size",
        "event_read",
        "event_draw",
        "halves",
    ):
        getattr(made, name).restype = ctypes.c_int64
    made.compiler = Path(_compiler()).name  # type: ignore[attr-defined]  # read by `status`
    return made


def status() -> tuple[bool, str]:
    """Is the native code here, and why (not)?"""
    made = library()
    if isinstance(made, NativeError):
        return False, str(made)
    return True, f"compiled with {made.compiler} for this processor, {made.lanes(4)} channels a vector"
