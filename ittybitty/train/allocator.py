"""Let the C library keep freed memory while a training runs.

Every step allocates and frees the same large tensors. By default glibc hands them back to the system each time, and the system
clears every page again at the next step: about a tenth of a step's time on a CPU.

Left out: other C libraries, which have no such switch.
"""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> None:
    """From now on memory comes from the heap, and what is freed stays with this process. Does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**26)
