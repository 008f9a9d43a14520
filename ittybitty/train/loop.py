"""One training loop for a CPU, a GPU, DataParallel and torchrun.

    ittybitty train hybrid --preset tiny --data DIR --out runs/tiny

A step (learner.py) is a pure function of weights, optimizer state and step number: windows come from (seed, epoch, step), dropout
is reseeded from (seed, step, rank), the learning rate is computed from the step. So weights and optimizer state
are all that a resumed run needs, and on a CPU it ends with the same bits as a run that was not interrupted.

Left out: parameter averaging, sharding, and any search over settings.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from .. import checkpoint, devices, systems
from ..errors import ConfigError, OutputError
from ..models.events import with_other_classes
from ..models.lm import LanguageModel
from ..tokenizers import load_tokenizer
from ..tokenizers.events import EventTokenizer
from .allocator import keep_freed_memory
from .learner import Learner
from .log import Tally, TrainingLog
from .optimizer import learning_rate
from .parallel import Parallel, open_parallel
from .start import Start, check_same_run, find_start, make_folder, pieces_hash
from .stop import StopSignals, budget, deterministic
from .validation import measure
from .windows import TrainingStore, Windows, batches, loaders

LOG_EVERY = 10  # steps that one line of log.jsonl averages


def train(
    system: str,
    configs: Mapping,
    store: TrainingStore,
    run_dir: str | Path,
    resume: bool = False,
    parallel: str | None = None,
    max_hours: float | None = None,
    progress: bool = True,
    on_step: Callable[[int, dict], None] | None = None,
    init_from: str | Path | None = None,
    preset: str = "custom",
    deadline: float | None = None,
    prepare: Callable[[LanguageModel], None] | None = None,
    start: Start | None = None,
) -> dict:
    """Train `system` on a token store into `run_dir` and return a summary.

    `resume` continues from the folder's newest checkpoint, on the same pieces, or starts a new run if there is none; on
    Kaggle also from the attached output of a former version. `init_from` starts from the weights of another run or shipped
    model. A caller that has called `find_start` itself passes its result as `start`; then these two are not read.
    `parallel` is "none", "dp", "ddp", or None for what the machine offers.

    After `max_hours`, on SIGTERM and on Ctrl-C, a checkpoint is written after the current step; Ctrl-C then raises
    KeyboardInterrupt. With a `deadline` (of time.monotonic) the schedule ends then, whatever `train.minutes` says.
    `on_step(step, record)` is called after each step with the newest record of the log. `prepare(model)` is called once
    before the first step, on one device only: to compile the model, for example.

    Raises ConfigError, CheckpointError, CorpusError or OutputError with a line that says what to do.
    """
    keep_freed_memory()
    if start is None:
        start = find_start(run_dir, resume, init_from)
    group = open_parallel(parallel)  # torchrun's processes meet here, before the first of them writes anything
    try:
        with deterministic(group.device), StopSignals() as stop:
            trainer = _Trainer(system, dict(configs), store, start, group, preset, progress)
            trainer.begin()
            # DataParallel copies the module, not what was put in its place
            if prepare is not None and group.kind != "dp":
                prepare(trainer.model)
            if deadline is not None:
                trainer.end_at(deadline)
            summary = trainer.run(stop, budget(max_hours), on_step)
    finally:
        group.close()
    if summary["stopped"] == "SIGINT":
        raise KeyboardInterrupt
    return summary


class _Trainer:
    """The state of a training between two steps: the learner, windows, counters, log."""

    def __init__(
        self,
        system: str,
        configs: dict,
        store: TrainingStore,
        start: Start,
        group: Parallel,
        preset: str,
        progress: bool,
    ):
        self.start, self.run_dir = start, start.run_dir
        self.tokenizer = store.tokenizer()
        # the tokens decide the vocabulary: a small corpus learns fewer merges than a preset asks for
        vocabulary = dataclasses.replace(configs["model"], vocab_size=self.tokenizer.vocab_size)
        if self.tokenizer.sizes:
            vocabulary = dataclasses.replace(vocabulary, events=self.tokenizer.sizes)
        self.configs, self.config = {**configs, "model": vocabulary}, configs["train"]
        self.system, self.preset, self.group, self.progress = systems.system(system).name, preset, group, progress
        self.windows = self._windows(store, "train")
        if self.config.epochs:
            self.config = dataclasses.replace(self.config, steps=self.config.epochs * self.windows.steps_per_epoch)
            self.configs["train"] = self.config
        splits = {piece.split for piece in store.pieces}
        self.held_out = self._windows(store, "validation") if "validation" in splits else None
        self.learner = Learner(self.configs, group)
        self.model = self.learner.model
        self.notes_per_id = torch.from_numpy(np.asarray(self.tokenizer.notes_per_id, np.float64))
        self.music = pieces_hash(store)
        own = {"corpus": Path(store.corpus).name, "licence": store.licence} if store.corpus else None
        self.trained_on: list[dict] | None = None if own is None else [own]
        self.step = self.tokens = 0
        self.seconds = self.rate = 0.0  # s spent training, learning rate of the last step
        self.best: dict = {}  # validation record of the best weights
        self.stale = 0  # validations since then
        self.last_validation: dict = {}

    def _windows(self, store: TrainingStore, split: str) -> Windows:
        data = self.configs["data"]
        return Windows(
            store,
            split,
            data.context,
            self.config.batch_size,
            self.tokenizer,
            data if split == "train" else None,
            self.config.seed,
            self.group.rank,
            self.group.world,
        )

    # ------------------------------------------------------------------ beginning

    def begin(self) -> None:
        """Make the run folder, or load the run that is in it."""
        if self.group.main:
            make_folder(self.run_dir)
            checkpoint.settle(self.run_dir)
        self.group.wait()
        last = checkpoint.newest(self.run_dir)
        if last is not None:
            self._resume(last)
        other_grid = False
        if last is None and self.start.origin is not None and self.start.origins is not None:
            other_grid = self._take_weights(self.start.origin, self.start.origins)
        self.saved = last is not None
        if self.group.main and last is None:
            self.tokenizer.save(self.run_dir / "tokenizer.json")
            self._write_config()
        self.log = TrainingLog(self.run_dir / "log.jsonl", self.config.steps, self.step, self.progress, self.group.main)
        if last is not None:
            self.log.say(f"{self.run_dir}: goes on from step {self.step} of {self.config.steps}")
        elif self.start.resume:
            self.log.say(f"{self.run_dir}: holds no run yet; starts at step 0")
        if other_grid:
            self.log.say(
                f"{self.start.origin}: its events are of another grid; each class starts from the nearest one of it"
            )

    def _take_weights(self, origin: Path, header: Mapping) -> bool:
        """Load the weights of the origin. Returns whether their classes were replaced, since its events are of another grid."""
        tensors = checkpoint.read_weights(origin)
        other_grid = header["tokenizer_hash"] not in self.tokenizer.extends
        if other_grid:
            theirs, ours = load_tokenizer(origin), self.tokenizer
            if isinstance(theirs, EventTokenizer) and isinstance(ours, EventTokenizer):
                sizes = self.configs["model"].events, header["configs"]["model"].events
                tensors = with_other_classes(tensors, ours.nearest_ids(theirs), *sizes)
            else:
                checkpoint.check_tokenizer(header["tokenizer_hash"], self.tokenizer, origin)
        self._learnt_before(header)
        checkpoint.put_weights(self.model, tensors, origin)
        return other_grid

    def _resume(self, last: checkpoint.Last) -> None:
        check_same_run(self.start, last, self.system, self.configs, self.tokenizer, self.music)
        self._learnt_before(self.start.own or {})
        checkpoint.restore(last, self.model, self.learner.optimizer)
        state = last.state
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.best, self.stale, self.last_validation = state["best"], state["stale"], state["last_validation"]
        if self.learner.scaler.is_enabled() and state["scaler"]:
            self.learner.scaler.load_state_dict(state["scaler"])

    def _learnt_before(self, header: Mapping) -> None:
        """Add the corpora of the weights' origin to those of this run; unknown if the origin does not record them."""
        before = header.get("trained_on")
        if before is None or self.trained_on is None:
            self.trained_on = None
        else:
            self.trained_on = [*before, *(one for one in self.trained_on if one not in before)]

    def _write_config(self) -> None:
        metrics = self.best or self.last_validation
        checkpoint.write_config(
            self.run_dir, self.configs, self.system, self.preset, self.tokenizer.content_hash, metrics, self.trained_on
        )

    def end_at(self, deadline: float) -> None:
        """Set the minutes of the schedule so that it ends at `deadline`, the same on every rank."""
        (left,) = self.group.sum(deadline - time.monotonic())
        minutes = max(1e-3, (self.seconds + left / self.group.world) / 60)
        self.config = dataclasses.replace(self.config, minutes=minutes)
        self.configs["train"] = self.config

    # ------------------------------------------------------------------ the loop

    def run(self, stop: StopSignals, seconds: float, on_step) -> dict:
        """Train until all steps are done, patience or time has run out, or a stop is requested; always ends with a checkpoint."""
        began, before = time.monotonic(), self.seconds
        slowest = 0.0  # s of the slowest step yet, validation and checkpoint included
        reason = "finished" if self._done else "patience" if self._out_of_patience else ""
        tally, record = Tally(self.group.sum), {}
        workers = loaders(self.group.world) if self.group.device.type == "cuda" else 0
        reader = batches(self.windows, self.step, self.config.steps, workers)
        with closing(self.log), closing(reader):  # whatever ends it, worker processes and progress bar end too
            while not reason:
                at = time.monotonic()
                self.rate = self._learning_rate(self.step)
                sums = self.learner.step(*next(reader), self.rate, self.step)
                self.tokens += int(sums.targets)
                tally.add(*sums)
                self.step += 1
                self.seconds = before + time.monotonic() - began
                done = self._done
                if self.step % LOG_EVERY == 0 or done:
                    record = self._log(tally)
                if done or self.step % self._validate_every == 0:
                    self._validate()
                if self._out_of_patience:
                    reason = "patience"
                if done:
                    reason = "finished"
                elif self.step % self.config.checkpoint_every == 0 and not reason:
                    self._save(final=False)
                left = 60 * self.config.minutes - self.seconds if self.config.minutes else math.inf
                self.log.advance(self.step, record, self.last_validation, left)
                if on_step is not None:
                    on_step(self.step, record)
                slowest = max(slowest, time.monotonic() - at)
                out_of_time = time.monotonic() - began + 2 * slowest > seconds
                reason = reason or self._agreed(stop.received, out_of_time)
            self._end(tally)
        return self._summary(reason)

    @property
    def _out_of_patience(self) -> bool:
        return bool(self.config.patience) and self.stale >= self.config.patience

    @property
    def _validate_every(self) -> int:
        return self.config.validate_every or self.windows.steps_per_epoch

    def _agreed(self, received: str, out_of_time: bool) -> str:
        """The reason to stop, or "". It is the same on every rank, since all must leave the loop at the same step."""
        interrupt, terminate, late = self.group.sum(received == "SIGINT", received == "SIGTERM", out_of_time)
        return "SIGINT" if interrupt else "SIGTERM" if terminate else "time" if late else ""

    def _learning_rate(self, step: int) -> float:
        seconds = 0.0
        if self.config.minutes:  # the same on every rank, whose clocks differ
            seconds = self.group.sum(self.seconds)[0] / self.group.world
        return learning_rate(step, self.config, self.windows.steps_per_epoch, seconds)

    @property
    def _done(self) -> bool:
        """True if all steps are taken, or all minutes are spent."""
        minutes = self.config.minutes
        spent = bool(minutes) and self.group.sum(self.seconds)[0] / self.group.world >= 60 * minutes
        return spent or self.step >= self.config.steps

    def _log(self, tally: Tally) -> dict:
        loss, nll, count, norm, seconds, steps = tally.read()
        record = {
            "step": self.step,
            "epoch": round(self.step / self.windows.steps_per_epoch, 4),
            "loss": round(loss, 5),
            "nll": round(nll, 5),
            "lr": self.rate,
            "grad_norm": round(norm, 4),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 2),
            "tokens_per_second": round(count / seconds, 1),
            "seconds_per_step": round(seconds / steps, 4),
        }
        if not math.isfinite(loss):
            raise ConfigError(
                f"{self.run_dir}: the loss is not a number at step {self.step}; --resume goes on from the last checkpoint, "
                "and a lower train.learning_rate in a new run avoids it"
            )
        self.log.write(record)
        return record

    # ------------------------------------------------------------------ validation and checkpoints

    def _validate(self) -> None:
        """Measure the held-out pieces, and keep the weights when they are the best yet."""
        if self.held_out is None:
            return
        limit, size = self.config.validation_windows, self.config.batch_size
        found = measure(self.learner.wrapped, self.held_out, limit, size, self.notes_per_id, self.group)
        record = {
            "step": self.step,
            "epoch": round(self.step / self.windows.steps_per_epoch, 4),
            **found,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 2),
        }
        self.log.write(record)
        self.last_validation = record
        self.stale += 1
        if record["validation_nll"] < self.best.get("validation_nll", math.inf):
            self.best, self.stale = record, 0
            if (
                not self.saved
            ):  # a folder with weights always has a checkpoint too, which records whose weights they are
                self._save(final=False)
            if self.group.main:
                self._guard(self._save_model, final=False)

    def _save(self, final: bool) -> None:
        if not self.group.main:
            return
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            return  # the log stops the run within LOG_EVERY steps; the checkpoint before it stays good
        state = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "best": self.best,
            "stale": self.stale,
            "last_validation": self.last_validation,
            "scaler": self.learner.scaler.state_dict(),
            "music": self.music,
        }
        self._guard(lambda: checkpoint.save_last(self.run_dir, self.model, self.learner.optimizer, state), final)
        self.saved = True
        if final and not self.best:  # nothing was validated: the last weights are what the folder plays
            self._guard(self._save_model, final)

    def _save_model(self) -> None:
        checkpoint.save_model(self.run_dir, self.model)
        self._write_config()

    def _guard(self, write: Callable[[], object], final: bool) -> None:
        """Call `write`. A full disk is reported and does not end the training while steps are left."""
        try:
            write()
        except OutputError as error:
            if final:
                raise
            self.log.say(str(error))

    def _end(self, tally: Tally) -> None:
        if tally.steps:
            self._log(tally)
        self._save(final=True)
        self.group.wait()

    def _summary(self, reason: str) -> dict:
        return {
            "system": self.system,
            "run_dir": str(self.run_dir),
            "stopped": reason,
            "steps": self.step,
            "epoch": round(self.step / self.windows.steps_per_epoch, 3),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9), 1),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "validation_nll": self.best.get("validation_nll"),
            "bits_per_note": self.best.get("bits_per_note"),
            "best_step": self.best.get("step"),
            "ran_on": devices.ran_on(self.model, self.learner.precision),
        }
