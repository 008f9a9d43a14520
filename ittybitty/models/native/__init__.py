"""C++ for the CPU (scan.cpp, conv.cpp, decode.cpp, events.cpp), and the check before every call.

C++ gets bare pointers, so nothing there can notice an array of another type, device, shape or layout: `address` (memory.py)
does, and every pointer in this package is made by it. build.py compiles the files on first use, and reports why if it cannot.
PyTorch is imported with the first name of differentiable.py, and not for decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .build import VARIABLE, NativeError, library, status
from .memory import address, loaded

if TYPE_CHECKING:
    from .differentiable import NAMES, Convolution, Scan, accepts

__all__ = [
    "NAMES",
    "VARIABLE",
    "Convolution",
    "NativeError",
    "Scan",
    "accepts",
    "address",
    "library",
    "loaded",
    "status",
]


def __getattr__(name: str):
    if name not in ("NAMES", "Convolution", "Scan", "accepts"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import differentiable

    globals()[name] = value = getattr(differentiable, name)
    return value
