"""One row's training within its share of the budget, with something to bring home from the first checkpoint on.

The loop is that of `ittybitty train`. What is added here: the time (the learning rate follows it, and the run ends with it), a
micro-batch that fits the memory, the way of running a step that race.py found fastest, and a parcel after every checkpoint.

Left out: what is brought home (parcel.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from .. import checkpoint
from ..config import override
from ..models import scan
from ..tokenizers.store import TokenStore
from ..train import train
from . import modes
from .floors import IDS_PER_EVENT
from .plan import CHECKPOINT_SECONDS

LAST_SECONDS = {"cuda": 6.0, "cpu": 3.0}  # for the last validation, checkpoint and parcel
SECONDS_PER_STEP = 0.2  # where race.py measured nothing


def learn(
    row: str,
    configs: Mapping,
    store: TokenStore,
    run_dir: str | Path,
    deadline: float,
    fastest: Mapping | None = None,
    start: str | Path | None = None,
    preset: str = "small",
    saved: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> dict:
    """Train `row` until `deadline` (of time.monotonic()), less what the end takes; the loop's summary.

    `fastest` is a way of race.py; `start` a run folder to take weights from; `saved` is called after each checkpoint.
    A run that is in `run_dir` already is gone on with. For a process of its own: the scan path is forced in its environment. Where memory ends, micro-batches are halved, and that is said.
    """
    run_dir, device = Path(run_dir), "cuda" if torch.cuda.is_available() else "cpu"
    whole = configs["train"].batch_size
    micro = min(whole, fastest["batch"]) if fastest else whole
    pace = fastest["ms"] / 1e3 * whole / fastest["batch"] if fastest else SECONDS_PER_STEP
    every = max(1, round(CHECKPOINT_SECONDS / pace)) if configs["train"].steps > 1000 else 10
    changes: dict = {"train.checkpoint_every": every, "train.validate_every": 2 * every}
    if fastest:
        changes["train.precision"] = fastest["precision"]
        os.environ[scan.VARIABLE] = fastest["path"]  # in DataParallel's threads too
    seen = _Watch(run_dir, saved)
    while True:
        accumulation = -(-whole // micro)
        now = override(configs, {**changes, "train.accumulation": accumulation})
        resume = checkpoint.newest(run_dir) is not None
        try:
            return train(
                row, now, store, run_dir, resume=resume, progress=True, preset=preset,
                init_from=None if resume else start, on_step=seen, deadline=deadline - LAST_SECONDS[device],
                prepare=_prepare(now, fastest, micro),
            )  # fmt: skip  # arguments in groups
        except torch.OutOfMemoryError:
            if micro == 1:
                raise
            micro = max(1, micro // 2)
            say(f"{row}: memory ended; micro-batches of {micro} windows from here on")
            torch.cuda.empty_cache()
            if time.monotonic() > deadline:
                raise


def _prepare(configs: Mapping, fastest: Mapping | None, micro: int) -> Callable[[torch.nn.Module], None] | None:
    """What makes the model run in the fastest mode; None where it runs as it is."""
    if not fastest or fastest["mode"] == "eager":
        return None
    context, dtype = configs["data"].context, {"bfloat16": torch.bfloat16, "float16": torch.float16}
    steps = -(-context // IDS_PER_EVENT) if configs["model"].events else context
    return lambda model: modes.apply(model, fastest["mode"], micro, steps, dtype.get(fastest["precision"]))


class _Watch:
    """Called after each step: calls `saved` when the run folder holds other weights than before."""

    def __init__(self, run_dir: Path, saved: Callable[[], None]):
        self.files = [run_dir / checkpoint.MODEL, run_dir / checkpoint.LAST / "state.json"]
        self.saved, self.before = saved, self._stamp()

    def _stamp(self) -> list[int]:
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in self.files]

    def __call__(self, step: int, record: dict) -> None:
        if (now := self._stamp()) != self.before:
            self.before = now
            self.saved()
