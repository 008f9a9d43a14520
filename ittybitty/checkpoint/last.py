"""The last checkpoint of a training: weights, optimizer and counters, from which the run is resumed exactly.

`last` is written completely beside the old one and then renamed; the old one is removed after that. If the process is killed
at any moment, a complete checkpoint remains under one of three names, and `newest` finds it. A run therefore holds at most
two `last` folders at any time.

Left out: whether a run may be resumed with given settings (train/start.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from ..errors import CheckpointError, OutputError
from ..jsonable import dumps
from .tensors import put_weights, read_tensors, sync, weights, write_tensors

if TYPE_CHECKING:  # PyTorch is imported where tensors are read or written: a piece can be continued without it
    import torch

FORMAT = 1
MODEL = "model.safetensors"
LAST, WRITING, PREVIOUS = "last", "last.writing", "last.previous"
FILES = (
    "config.json",
    "tokenizer.json",
    MODEL,
    "log.jsonl",
)  # of a run, each written beside its old version and renamed


@dataclass(frozen=True)
class Last:
    """A training checkpoint on disk: its folder, and the content of state.json."""

    path: Path
    state: dict

    @property
    def step(self) -> int:
        """Number of optimizer steps before it was written."""
        return self.state["step"]


def save_last(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: Mapping) -> None:
    """Write a new last/ beside the old one, then replace the old one. `state` is written as JSON and must have "step".

    OutputError if the disk is full or not writable; the old checkpoint is then unchanged.
    """
    folder = Path(folder)
    writing = folder / WRITING
    settle(folder)
    try:
        writing.mkdir()
        write_tensors(weights(model), writing / MODEL)
        write_tensors(_flatten(model, optimizer), writing / "optimizer.safetensors")
        files = {p.name: p.stat().st_size for p in writing.iterdir()}
        # written last: a folder with a state.json is complete
        (writing / "state.json").write_text(dumps({**state, "format": FORMAT, "files": files}), encoding="utf-8")
        for path in writing.iterdir():
            sync(path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(writing, ignore_errors=True)
        raise OutputError(
            f"{folder}: no checkpoint could be written ({error}); free some space, the last one is kept"
        ) from None
    if (folder / LAST).exists():
        os.rename(folder / LAST, folder / PREVIOUS)
    os.rename(writing, folder / LAST)
    shutil.rmtree(folder / PREVIOUS, ignore_errors=True)


def newest(folder: Path) -> Last | None:
    """The complete checkpoint with the most steps, also after a kill at any moment; None if there is none."""
    found = [last for name in (LAST, WRITING, PREVIOUS) if (last := _complete(Path(folder) / name))]
    return max(found, key=lambda last: last.step, default=None)


def settle(folder: Path) -> Last | None:
    """Rename the newest complete checkpoint to last/, and delete all others and what a killed process left half-written."""
    folder = Path(folder)
    last = newest(folder)
    if last is not None and last.path.name != LAST:
        shutil.rmtree(folder / LAST, ignore_errors=True)
        os.rename(last.path, folder / LAST)
        last = Last(folder / LAST, last.state)
    for name in (WRITING, PREVIOUS):
        shutil.rmtree(folder / name, ignore_errors=True)
    for written in FILES:
        stem, suffix = written.split(".")
        for leftover in folder.glob(f".{stem}-*.{suffix}"):  # names of paths.atomic_path
            leftover.unlink(missing_ok=True)
    return last


def restore(last: Last, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint's weights and optimizer state into `model` and `optimizer`, exactly."""
    put_weights(model, read_tensors(last.path / MODEL), last.path)
    tensors = read_tensors(last.path / "optimizer.safetensors")
    names = _names(model, optimizer)
    values: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        what, _, name = key.partition(":")
        if name not in names:
            raise CheckpointError(f"{last.path}: optimizer state of unknown {name}; the checkpoint is of another model")
        values.setdefault(names.index(name), {})[what] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


def _names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Parameter names in the optimizer's own order, by which its state dict counts."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def _flatten(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = _names(model, optimizer)
    return {
        f"{what}:{names[place]}": value.detach().cpu().contiguous()
        for place, values in optimizer.state_dict()["state"].items()
        for what, value in values.items()
    }


def _complete(folder: Path) -> Last | None:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        whole = state["format"] == FORMAT and all(
            (folder / n).stat().st_size == size for n, size in state["files"].items()
        )
        return Last(folder, state) if whole and isinstance(state["step"], int) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
