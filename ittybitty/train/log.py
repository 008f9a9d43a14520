"""The training log: log.jsonl for machines, one live line for people.

A terminal or a notebook sees a progress bar; a log file or a pipe gets a line a minute.
A full disk ends the log, not the training. Left out: dashboards; `plots.training_curve` draws what is in log.jsonl.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import paths
from ..jsonable import dumps

if TYPE_CHECKING:
    import torch

LINE_EVERY = 60.0  # s between lines when stderr is no terminal


def read_log(path: str | Path) -> list[dict]:
    """The records of a log.jsonl; a line that a kill cut short is skipped."""
    records = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


class TrainingLog:
    """Appends records to `path` and shows them; writes and shows nothing when `enabled` is False (another rank's)."""

    def __init__(self, path: Path, steps: int, step: int = 0, progress: bool = True, enabled: bool = True):
        self.path, self.enabled, self.steps = path, enabled, steps
        self._shown, self._bar = time.monotonic(), None
        self._lines = enabled and progress
        if enabled and path.exists():
            self._drop_records_after(step)
        if self._lines and (sys.stderr.isatty() or _in_notebook()):
            from tqdm import tqdm

            self._bar = tqdm(total=steps, initial=step, unit="step", mininterval=0.5, dynamic_ncols=True)

    def _drop_records_after(self, step: int) -> None:
        """Steps after the checkpoint that a resumed run starts from are trained again, and logged again."""
        kept = [record for record in read_log(self.path) if record.get("step", 0) <= step]
        with paths.atomic_path(self.path) as temporary:
            temporary.write_text("".join(dumps(record) + "\n" for record in kept), encoding="utf-8")

    def write(self, record: dict) -> None:
        """One line of log.jsonl."""
        if not self.enabled:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(dumps(record) + "\n")
        except OSError as error:
            warnings.warn(f"{self.path}: a record is lost ({error.strerror}); free some space", stacklevel=2)

    def advance(self, step: int, record: dict, validation: dict, most_seconds: float = math.inf) -> None:
        """Show that `step` steps are done; the run ends after `most_seconds` more at the latest."""
        if self._bar is not None:
            self._bar.set_postfix_str(_summary(record, validation), refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._lines and record and time.monotonic() - self._shown >= LINE_EVERY:
            self._shown = time.monotonic()
            left = min(most_seconds, (self.steps - step) * record["seconds_per_step"])
            self.say(f"step {step}/{self.steps}  {_summary(record, validation)}  {left / 3600:.1f} h left")

    def say(self, line: str) -> None:
        """A line for people."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self._lines:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the file and the progress bar, which stays visible."""
        if self._bar is not None:
            self._bar.close()


class Tally:
    """Sums between two lines of the log, kept on the device: reading one at every step would stall a GPU.

    `over_ranks` adds up values of all processes, as parallel.Parallel.sum does.
    """

    def __init__(self, over_ranks: Callable[..., list[float]]):
        self.over_ranks = over_ranks
        self._clear()

    def _clear(self) -> None:
        self.loss: float | torch.Tensor = 0.0
        self.nats: float | torch.Tensor = 0.0
        self.norm: float | torch.Tensor = 0.0
        self.count, self.steps, self.since = 0.0, 0, time.monotonic()

    def add(self, loss: torch.Tensor, nats: torch.Tensor, count: float, norm: torch.Tensor) -> None:
        """One step: this rank's sums of loss and nats, the targets of all ranks, the gradient's norm."""
        self.loss, self.nats, self.norm = self.loss + loss, self.nats + nats, self.norm + norm
        self.count, self.steps = self.count + count, self.steps + 1

    def read(self) -> tuple[float, float, float, float, float, int]:
        """(loss and nats a target, targets, mean gradient norm, seconds, steps), over all ranks; the sums start again at 0."""
        loss, nats = self.over_ranks(float(self.loss), float(self.nats))
        result = (loss / self.count, nats / self.count, self.count, float(self.norm) / self.steps)
        seconds, steps = time.monotonic() - self.since, self.steps
        self._clear()
        return *result, seconds, steps


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _summary(record: dict, validation: dict) -> str:
    parts = [f"nll {record['nll']:.3f}", f"{record['tokens_per_second']:,.0f} tokens/s"] if record else []
    if validation.get("validation_nll") is not None:  # null in the file is a number that was not finite
        parts.append(f"validation {validation['validation_nll']:.3f}")
    return "  ".join(parts)
