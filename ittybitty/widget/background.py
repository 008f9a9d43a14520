"""Threads that end with the interpreter: each is asked to stop, and waited for, before Python takes itself apart.

A daemon thread that is still inside PyTorch when the interpreter ends is torn out of C++ code, which aborts the process
("terminate called without an active exception"). A thread that is no daemon would keep the process alive until its music is finished.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable

PATIENCE = 5.0  # s in all that the end of the process waits
_running: dict[threading.Thread, Callable[[], None]] = {}


def started(run: Callable[[], None], name: str, stop: Callable[[], None] = lambda: None) -> threading.Thread:
    """A thread that runs `run` from now on; `stop` asks it to end soon."""

    def work() -> None:
        try:
            run()
        finally:
            _running.pop(thread, None)

    thread = threading.Thread(target=work, name=name, daemon=True)
    _running[thread] = stop
    thread.start()
    return thread


@atexit.register
def stop_all() -> None:
    """Ask every thread to stop, and wait until all have ended, for PATIENCE seconds at most."""
    threads, end = list(_running.items()), time.monotonic() + PATIENCE
    for _, stop in threads:
        stop()
    for thread, _ in threads:
        thread.join(max(0.0, end - time.monotonic()))
