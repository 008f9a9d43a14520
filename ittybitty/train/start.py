"""Decides what a training starts from: nothing, the run that its folder holds, or the weights of another run.

`find_start` is called once, before anything is tokenized or written, and refuses a folder in which something would be lost.
`check_same_run` is called once the tokens are there: a resumed run continues with its own system, settings, tokenizer and pieces.
On Kaggle `adopt_attached` first copies what a former version of the notebook left.

Left out: reading and writing the files of a run folder (checkpoint/).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import checkpoint, paths
from ..checkpoint import Last, newest
from ..errors import CheckpointError, ConfigError, OutputError
from ..tokenizers.protocol import Tokenizer
from .windows import Store

BEFORE_A_CHECKPOINT = {"config.json", "tokenizer.json", "log.jsonl"}  # all that a run has written until then
# settings that a resumed run may change; any other would make it another run
FREE = {
    "steps",
    "minutes",
    "epochs",
    "checkpoint_every",
    "validate_every",
    "validation_windows",
    "patience",
    "accumulation",
    "precision",
}


@dataclass(frozen=True)
class Start:
    """What a training in `run_dir` starts from."""

    run_dir: Path
    resume: bool = False
    own: dict | None = None  # config.json of the run in `run_dir`, as checkpoint.read_config gives it
    origin: Path | None = None  # the folder of another run, whose weights are taken
    origins: dict | None = None  # its config.json

    @property
    def header(self) -> dict | None:
        """The configuration that settings are taken from where none are given; None for a training that starts from nothing."""
        return self.own or self.origins

    @property
    def tokenizer_folder(self) -> Path | None:
        """Where the tokenizer of `header` is."""
        return self.run_dir if self.own else self.origin


def find_start(run_dir: str | Path, resume: bool = False, init_from: str | Path | None = None) -> Start:
    """What `resume` and `init_from` mean for this folder; on Kaggle a run that is attached is copied there first.

    CheckpointError for a folder that holds a run and is not to be resumed, or weights that would be lost; OutputError for one
    that holds other things or cannot be written.
    """
    run_dir = Path(run_dir).expanduser()
    if resume and paths.on_kaggle() and (source := adopt_attached(run_dir)):
        print(f"{run_dir}: taken over from {source}", flush=True)
    last = newest(run_dir)
    if last is not None and not resume:
        raise CheckpointError(
            f"{run_dir}: holds a run of {last.step} steps; --resume goes on with it, or give another folder"
        )
    if last is None and (wrong := _weights_without_checkpoint(run_dir)):
        raise CheckpointError(
            f"{run_dir}: {wrong}; give another folder, and --from {run_dir} to start from its weights"
        )
    if not resume and (other := _other_things(run_dir)):
        raise OutputError(f"{run_dir}: is a folder with other things in it ({other}); give a new one")
    there = next(folder for folder in (run_dir, *run_dir.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise OutputError(f"{run_dir}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK):
        raise OutputError(f"{run_dir}: no folder can be made in {there}; choose a place you may write to")
    own = checkpoint.read_config(run_dir) if resume and (run_dir / "config.json").is_file() else None
    if last is not None or init_from is None:
        return Start(run_dir, resume, own)
    origin = checkpoint.find(init_from)
    return Start(run_dir, resume, own, origin, checkpoint.read_config(origin))


def _weights_without_checkpoint(run_dir: Path) -> str:
    """Why no run may start in a folder without a complete checkpoint (weights in it would be lost), or "" if one may."""
    if (run_dir / "README.md").exists():
        return "is an exported model, not a run"
    if (run_dir / checkpoint.LAST).exists():
        return f"its {checkpoint.LAST}/ is incomplete, so the run cannot go on"
    if (run_dir / checkpoint.MODEL).exists():  # never written before the first checkpoint
        return f"holds weights but no {checkpoint.LAST}/, so the run cannot go on"
    return ""


def _other_things(run_dir: Path) -> str:
    """The name of something in the folder that no run has written before its first checkpoint, or ""."""
    if not run_dir.is_dir():
        return ""
    known = {*BEFORE_A_CHECKPOINT, checkpoint.WRITING, checkpoint.PREVIOUS}
    return next((p.name for p in sorted(run_dir.iterdir()) if p.name not in known and p.name[0] != "."), "")


def check_same_run(
    start: Start, last: Last, system: str, configs: Mapping, tokenizer: Tokenizer, pieces_hash: str
) -> None:
    """ConfigError or CheckpointError unless a resumed run continues with its own settings; those in FREE may change."""
    run_dir, header = start.run_dir, start.own or checkpoint.read_config(start.run_dir)
    checkpoint.check_tokenizer(header["tokenizer_hash"], tokenizer, run_dir)
    if header["system"] != system:
        raise ConfigError(f"{run_dir}: is a run of {header['system']}, not of {system}; give another folder")
    for part, theirs in header["configs"].items():
        for name, value in dataclasses.asdict(theirs).items():
            ours = getattr(configs[part], name)
            if ours != value and not (part == "train" and name in FREE):
                raise ConfigError(
                    f"{run_dir}: was trained with {part}.{name} {value!r}, not {ours!r}; use that, or another folder"
                )
    if last.state.get("music", pieces_hash) != pieces_hash:  # runs from before this was written do not say
        known = ", ".join(one["corpus"] for one in header.get("trained_on") or ())
        raise ConfigError(
            f"{run_dir}: was trained on other pieces{f' (of {known})' if known else ''}; give the --data it was begun with, "
            f"or another folder and --from {run_dir}"
        )


def pieces_hash(store: Store) -> str:
    """Hash of the pieces, their splits and lengths in tokens: all that the choice and the order of windows depend on."""
    pieces = [[piece.name, piece.split, piece.length] for piece in store.pieces]
    return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()[:16]


def make_folder(run_dir: Path) -> None:
    """Make the run folder where it is missing; OutputError where that cannot be."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{run_dir}: no run folder can be made there ({error.strerror}); give another --out"
        ) from None


def adopt(sources: Iterable[Path], folder: Path) -> Path | None:
    """Copy the run with the most steps among `sources` to `folder`, unless `folder` has as many. Returns the source, or None.

    For Kaggle, where the output of a notebook's former version is mounted read only. The copy is renamed when it is complete.
    """
    folder = Path(folder)
    here = last.step if (last := newest(folder)) else -1
    found = [(last.step, Path(source)) for source in sources if (last := newest(source))]
    step, source = max(found, default=(-1, None))
    if source is None or step <= here:
        return None
    copying = folder.with_name(f".{folder.name}.adopting")
    try:
        shutil.rmtree(copying, ignore_errors=True)
        shutil.copytree(source, copying, copy_function=shutil.copyfile)  # not the mount's read-only modes
        for path in (copying, *copying.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(copying, folder)
    except OSError as error:
        shutil.rmtree(copying, ignore_errors=True)
        raise OutputError(f"{folder}: the run of {source} cannot be copied there ({error}); free some space") from None
    return source


def adopt_attached(folder: Path) -> Path | None:
    """On Kaggle, copy the run that a former version of the notebook left in the same folder of its output. Returns the source.

    Nothing happens if `folder` has as many steps already. Under torchrun all ranks may call it; one of them copies.
    """
    from filelock import FileLock

    folder = Path(folder).absolute()
    try:
        place = folder.relative_to(paths.kaggle_working().absolute()).parts
    except ValueError:
        place = folder.parts[-1:]
    sources = [run for run in paths.attached_runs() if run.parts[-len(place) :] == place and newest(run)]
    if not sources:
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            return adopt(sources, folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose a place you may write to") from None
