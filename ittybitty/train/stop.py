"""Stop requests: SIGINT, SIGTERM, SIGHUP and a limit of hours. Also: deterministic operations during a training.

Left out: what a stop request does; loop.py writes a checkpoint after the current step.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from .. import paths
from ..errors import ConfigError

KAGGLE_HOURS = 11.0  # of the 12 h a session may last: the rest is for installing, tokens and the notebook's last cells


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP (a closed terminal) into a stop request, which the loop reads after each step.

    A second Ctrl-C stops at once. SIGHUP counts as SIGTERM, and stays ignored where it is (nohup).
    """

    def __init__(self):
        self.received = ""  # "", "SIGINT" or "SIGTERM"

    def __enter__(self) -> StopSignals:
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            numbers = [signal.SIGINT, signal.SIGTERM]
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                numbers.append(signal.SIGHUP)
            for number in numbers:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = "SIGINT" if number == signal.SIGINT else "SIGTERM"
        # print is not safe here: the signal may have come while it was writing. Where stderr is redirected to something
        # that is no file, nothing is said: its fileno raises an OSError
        with suppress(OSError, AttributeError):
            os.write(sys.stderr.fileno(), b"checkpointing at the end of this step; Ctrl-C again stops at once\n")


def budget(max_hours: float | None) -> float:
    """Seconds that a training may take. Without `max_hours` it is Kaggle's limit on Kaggle, and no limit elsewhere."""
    if max_hours is None:
        return KAGGLE_HOURS * 3600 if paths.on_kaggle() else math.inf
    if not max_hours > 0:
        raise ConfigError(f"max_hours is {max_hours}: give a number above 0")
    return max_hours * 3600


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Context in which torch's operations on a CPU are deterministic: sums have a fixed order. CUDA does not guarantee it."""
    memory: Any = torch.utils.deterministic  # a module with a property
    before, fill = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # only a debugging aid, and slow
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = fill
