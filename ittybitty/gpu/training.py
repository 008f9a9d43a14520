"""Trains one row within its share of the time budget, and writes a parcel after every checkpoint.

The loop is that of `ittybitty train`. This module adds the time limit (the learning rate follows the time, and the run ends with
it), a micro-batch that fits into memory, and the way of running a step that race.py found fastest.

Left out: the contents of the parcel (parcel.py).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from .. import checkpoint
from ..config import override
from ..errors import IttyBittyError
from ..models import scan
from ..models.lm import LanguageModel
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
    saved: Callable[[], object] = lambda: None,
    say: Callable[[str], None] = print,
    attempt: int = 0,
    started: float = 0.0,
) -> dict:
    """Train `row` until `deadline` (of time.monotonic()), less what the end takes; the loop's summary and "micro_batch".

    `fastest` is a way of race.py; `start` a run folder to take weights from; `saved` is called after each checkpoint, in a
    thread. A run that is in `run_dir` already is continued. `attempt` counts attempts that failed: the second runs the
    fastest way without compiling or graphs, the third plain PyTorch. `started` is how long this process took to come here, s: on a
    busy machine the end takes longer too. For a process of its own: the scan path is forced in its environment. Where memory
    is full, micro-batches are halved, and a line says so.
    """
    run_dir, device = Path(run_dir), "cuda" if torch.cuda.is_available() else "cpu"
    fastest = _simpler(fastest, attempt, say)
    last = max(LAST_SECONDS[device], min(started, (deadline - time.monotonic()) / 4))
    whole = configs["train"].batch_size
    micro = min(whole, fastest["batch"]) if fastest else whole
    pace = fastest["ms"] / 1e3 * whole / fastest["batch"] if fastest else SECONDS_PER_STEP
    every = max(1, round(CHECKPOINT_SECONDS / pace)) if configs["train"].steps > 1000 else 10
    changes: dict = {"train.checkpoint_every": every, "train.validate_every": 2 * every}
    if fastest:
        changes["train.precision"] = fastest["precision"]
        os.environ[scan.VARIABLE] = fastest["path"]  # in DataParallel's threads too
    while True:
        accumulation = -(-whole // micro)
        seen = _Watch(run_dir, saved, say)
        now = override(configs, {**changes, "train.accumulation": accumulation})
        resume = checkpoint.newest(run_dir) is not None
        try:
            done = train(
                row, now, store, run_dir, resume=resume, progress=True, preset=preset,
                init_from=None if resume else start, on_step=seen, deadline=deadline - last,
                prepare=_prepare(now, fastest, micro),
            )  # fmt: skip  # arguments in groups
            return {**done, "micro_batch": micro}
        except torch.OutOfMemoryError:
            if micro == 1:
                raise
            micro = max(1, micro // 2)
            say(f"{row}: the GPU's memory is full; micro-batches of {micro} windows from here on")
            torch.cuda.empty_cache()
            if time.monotonic() > deadline:
                raise
        finally:
            seen.close()


def _simpler(fastest: Mapping | None, attempt: int, say: Callable[[str], None]) -> Mapping | None:
    """The way of a later attempt: eager, then plain PyTorch too."""
    if fastest and attempt:
        path = fastest["path"] if attempt == 1 else "chunked"
        say(f"attempt {attempt + 1}: eager, scan path {path}")
        return {**fastest, "mode": "eager", "path": path}
    return fastest


def _prepare(configs: Mapping, fastest: Mapping | None, micro: int) -> Callable[[LanguageModel], None] | None:
    """What makes the model run in the fastest mode; None where it runs as it is.

    A graph writes its gradients to one place each time: with several micro-batches the second would overwrite the first.
    """
    if not fastest or fastest["mode"] == "eager" or (fastest["mode"] == "graph" and configs["train"].accumulation > 1):
        return None
    context, dtype = configs["data"].context, {"bfloat16": torch.bfloat16, "float16": torch.float16}
    steps = -(-context // IDS_PER_EVENT) if configs["model"].events else context
    return lambda model: modes.apply(model, fastest["mode"], micro, steps, dtype.get(fastest["precision"]))


class _Watch:
    """Called after each step: calls `saved`, in a thread, when the run folder holds other weights than before.

    What `saved` reads are files that are replaced whole, so the training need not wait for it. Its errors are printed, and
    do not end the training.
    """

    def __init__(self, run_dir: Path, saved: Callable[[], object], say: Callable[[str], None]):
        self.files = [run_dir / checkpoint.MODEL, run_dir / checkpoint.LAST / "state.json"]
        self.saved, self.say, self.before = saved, say, self._stamp()
        self.thread: threading.Thread | None = None

    def _stamp(self) -> list[int]:
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in self.files]

    def __call__(self, step: int, record: dict) -> None:
        if self.thread is not None and self.thread.is_alive():
            return
        if (now := self._stamp()) != self.before:
            self.before = now
            self.thread = threading.Thread(target=self._save)
            self.thread.start()

    def _save(self) -> None:
        try:
            self.saved()
        except (IttyBittyError, OSError) as error:
            self.say(f"no result was written: {' '.join(str(error).split())}")

    def close(self) -> None:
        """Wait for what is being written, and save what has changed since."""
        if self.thread is not None:
            self.thread.join()
        if self._stamp() != self.before:
            self.before = self._stamp()
            self._save()
