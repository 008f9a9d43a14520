"""Timing for the benchmarks: contestants take turns, medians are compared, and the machine's own limits are measured too.

Shared machines are noisy. So whatever is compared runs in turns (A B C A B C …) and a ratio is the median of the
ratios of each turn, in which the noise of the moment cancels. The floors say what the same machine, in the same
minutes, could do at best: read memory, multiply matrices.

CUDA calls return before the device has finished: with `device` given, a turn ends when the device is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import devices
from ..errors import ResultError

# glibc's allocator: give freed memory back at once, so that a peak is seen; or keep all of it, so that no page is faulted in twice
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62), "MALLOC_TOP_PAD_": str(2**26)}
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timing:
    """Seconds of every turn of one function, in order."""

    turns: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, s."""
        return float(np.median(self.turns))

    @property
    def spread(self) -> tuple[float, float]:
        """Quartiles, s."""
        low, high = np.percentile(self.turns, [25, 75])
        return float(low), float(high)

    def ratio(self, other: Timing) -> float:
        """Time relative to `other`: the median over turns of the ratio of neighbouring turns."""
        return float(np.median(np.array(self.turns) / np.array(other.turns)))


def in_turns(
    functions: Mapping[str, Callable[[], object]], turns: int = 5, warm_up: int = 1, device: str = "cpu"
) -> dict[str, Timing]:
    """Time functions alternately: A B C A B C …; the first `warm_up` turns are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + turns):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if device != "cpu":
                devices.wait(devices.device(device))
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return {name: Timing(tuple(each)) for name, each in seconds.items()}


def read_bandwidth(gigabytes: float = 1.0, turns: int = 5, device: str = "cpu") -> float:
    """Highest rate, in bytes per second, at which all threads read a buffer too large for any cache."""
    buffer = torch.ones(int(gigabytes * 2**30) // 4, device=devices.device(device))
    return buffer.nbytes / min(in_turns({"sum": buffer.sum}, turns, device=device)["sum"].turns)


def matmul_rate(size: int = 2048, turns: int = 5, device: str = "cpu") -> float:
    """Highest rate of a float32 matrix product, in floating-point operations per second."""
    a, b = (torch.randn(size, size, device=devices.device(device)) for _ in range(2))
    return 2 * size**3 / min(in_turns({"product": lambda: a @ b}, turns, device=device)["product"].turns)


def peak_memory(function: Callable[[], object], device: str = "cpu") -> int:
    """Peak bytes of resident memory, or of a GPU's memory, that `function` used beyond those in use before.

    Exact to a page where the kernel can reset its high-water mark (Linux). Elsewhere the mark of the whole life of the
    process stands in, which is right only for calls that need more than anything before them. Call it in a `child`
    with the allocator `RETURNING`: else reused memory is not seen.
    """
    gc.collect()
    place = devices.device(device)
    if place.type == "cuda":
        devices.wait(place)
        before = torch.cuda.memory_allocated(place)
        torch.cuda.reset_peak_memory_stats(place)
        function()
        devices.wait(place)
        return torch.cuda.max_memory_allocated(place) - before
    _trim()
    before = _resident("VmRSS")
    try:
        RESET.write_text("5")
    except OSError:
        before = max(before, _resident("VmHWM"))
    function()
    return max(0, _resident("VmHWM") - before)


def _trim() -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> int:
    """Bytes of a field of /proc/self/status; elsewhere the process's highest resident size."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(module: str, function: str, allocator: Mapping[str, str] = RETURNING, **arguments: Any) -> Any:
    """What `ittybitty.bench.<module>.<function>(**arguments)` returns in a fresh process; arguments and result are JSON."""
    program = (
        "import importlib, json, sys; name, function, arguments = sys.argv[1:]; "
        "result = getattr(importlib.import_module(name), function)(**json.loads(arguments)); "
        "print(json.dumps(result))"
    )
    command = [sys.executable, "-c", program, f"{__package__}.{module}", function, json.dumps(arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **allocator})
    if run.returncode:
        why = (run.stderr.strip().splitlines() or [f"ended with {run.returncode}"])[-1]
        raise ResultError(
            f"{module}.{function} failed in its own process: {why}; give it a smaller size, or close other programs"
        )
    return json.loads(run.stdout.splitlines()[-1])
