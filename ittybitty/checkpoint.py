"""Reads and writes run folders: all that a model needs to be used, and all that a training needs to be resumed.

    config.json          format, system, preset, model, data, train, tokenizer hash, metrics; and trained_on, the
                         {"corpus", "licence"} of each corpus that the model was trained on, if that is known
    tokenizer.json
    model.safetensors    the best weights by validation (or model-0000i-of-0000n.safetensors with an index)
    last/                model.safetensors, optimizer.safetensors, state.json: what --resume starts from
    log.jsonl            the training log, one record per line

`last` is written completely beside the old one and then renamed; the old one is removed after that. If the process is killed
at any moment, a complete checkpoint remains under one of three names, and `newest` finds it. A run therefore holds at most
two `last` folders and two model.safetensors at any time.

Nothing is unpickled: tensors are safetensors and numbers are JSON, so reading a file never runs code.
Left out: a history of checkpoints; a run keeps its best weights and its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from . import config, paths, systems
from .errors import CheckpointError, ConfigError, OutputError, TokenizerError
from .jsonable import dumps
from .tokenizers.protocol import Tokenizer

if TYPE_CHECKING:  # PyTorch is imported where tensors are read or written: a piece can be continued without it
    import torch

    from .models.lm import LanguageModel

FORMAT = 1
MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"  # the index as Hugging Face writes it
LAST, WRITING, PREVIOUS = "last", "last.writing", "last.previous"
FILES = (
    "config.json",
    "tokenizer.json",
    MODEL,
    "log.jsonl",
)  # of a run, each written beside its old version and renamed


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode, with its tokenizer and configuration."""

    model: LanguageModel
    tokenizer: Tokenizer
    configs: dict
    system: str
    path: Path
    metrics: dict = field(default_factory=dict)
    trained_on: list[dict] | None = None  # {"corpus", "licence"} of each corpus; None where that is not recorded


@dataclass(frozen=True)
class Last:
    """A training checkpoint on disk: its folder, and the content of state.json."""

    path: Path
    state: dict

    @property
    def step(self) -> int:
        """Number of optimizer steps before it was written."""
        return self.state["step"]


def find(name: str | Path) -> Path:
    """The run folder that `name` means: a path, a shipped or fetched model, or the end of the path of a run attached on Kaggle.

    CheckpointError names the nearest name for an unknown one.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    shipped = sorted(p.parent for p in paths.pretrained_dir().glob("*/config.json"))
    fetched = sorted(p.parent for p in paths.fetched_dir().glob("*/config.json"))
    for candidate in (*shipped, *fetched, *paths.attached_runs()):
        if candidate.parts[-len(folder.parts) :] == folder.parts:
            return candidate
    if folder.exists():
        raise CheckpointError(
            f"{name}: is not a run folder (no config.json in it); give the folder that `ittybitty train` wrote"
        )
    hint = (
        config.nearest(str(name), [p.name for p in shipped]) if shipped else "no trained model ships with this version"
    )
    raise CheckpointError(f"{name}: no such run folder or shipped model; {hint}")


def load(name: str | Path, device: str = "cpu") -> Loaded:
    """Load a run folder or shipped model onto a device ("auto", "cpu", "cuda:1" …); float16 weights become float32.

    CheckpointError if a file is missing, damaged or of another version, or if the tokenizer is not the one that the
    weights were trained with.
    """
    from . import devices

    place = devices.device(device)
    folder, header, tokenizer = opened(name)
    model = systems.build_model(header["configs"])
    put_weights(model, read_weights(folder), folder)
    return Loaded(
        model.eval().to(place),
        tokenizer,
        header["configs"],
        header["system"],
        folder,
        header.get("metrics", {}),
        header.get("trained_on"),
    )


def opened(name: str | Path) -> tuple[Path, dict, Tokenizer]:
    """Folder, content of config.json and tokenizer of a run folder or shipped model; errors as for `load`."""
    from .tokenizers import load_tokenizer

    folder = find(name)
    header = read_config(folder)
    try:
        tokenizer = load_tokenizer(folder / "tokenizer.json")
    except (TokenizerError, OSError) as error:
        raise CheckpointError(f"{folder}: its tokenizer cannot be read: {error}") from None
    check_tokenizer(header["tokenizer_hash"], tokenizer, folder)
    return folder, header, tokenizer


def read_config(folder: Path) -> dict:
    """Read config.json, with its parts as dataclasses under "configs". CheckpointError if this version cannot read it."""
    path = Path(folder) / "config.json"
    header = _read_json(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {header.get('format')!r} is not {FORMAT}; use the version that wrote it")
    if missing := [key for key in ("system", "model", "data", "train", "tokenizer_hash") if key not in header]:
        raise CheckpointError(f"{path}: lacks {missing[0]!r}; take the file from a complete run folder")
    if not all(isinstance(one, dict) and {"corpus", "licence"} <= one.keys() for one in header.get("trained_on") or ()):
        raise CheckpointError(f"{path}: trained_on is damaged; take the file from a complete run folder")
    try:
        systems.system(header["system"])
        return {**header, "configs": config.from_json(header)}
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def write_config(
    folder: Path,
    configs: Mapping,
    system: str,
    preset: str,
    tokenizer_hash: str,
    metrics: Mapping,
    trained_on: list[dict] | None = None,
) -> None:
    """Write config.json, atomically; `trained_on` as in `Loaded`."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        made_by = version("ittybitty")
    except PackageNotFoundError:  # run from a clone that was not installed
        made_by = "unknown"
    head = {"format": FORMAT, "system": system, "preset": preset, "version": made_by, "tokenizer_hash": tokenizer_hash}
    head |= {} if trained_on is None else {"trained_on": trained_on}
    text = dumps({**head, "metrics": dict(metrics), **json.loads(config.to_json(configs))}, indent=1)
    with paths.atomic_path(Path(folder) / "config.json") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def check_tokenizer(expected: str, tokenizer: Tokenizer, where: Path) -> None:
    """CheckpointError unless the tokenizer's content hash is `expected`."""
    if tokenizer.content_hash != expected:
        raise CheckpointError(
            f"{where}: the weights were trained with tokenizer {expected[:12]}, not {tokenizer.content_hash[:12]}; "
            "use the tokenizer.json that was saved with them"
        )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The unwrapped model's tensors on the CPU, ready for safetensors."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}


def weights_hash(model: torch.nn.Module) -> str:
    """Hash of the weights' values (16 hex digits); results store it, so that it is known which weights they belong to."""
    digest = hashlib.sha256()
    for name, value in sorted(weights(model).items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:16]


def save_model(folder: Path, model: torch.nn.Module) -> None:
    """Write model.safetensors, atomically: the old file is kept until the new one is complete."""
    _save_tensors(weights(model), Path(folder) / MODEL)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read weights as float32: the best ones, else sharded ones, else the last. Removes the prefix "module." of DataParallel."""
    tensors = _all_of(Path(folder), read_tensors)
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """`read_weights` as NumPy arrays, without importing PyTorch; ValueError for a type that NumPy does not know (bfloat16)."""
    from safetensors.numpy import load_file

    def read(path: Path) -> dict[str, np.ndarray]:
        try:
            return load_file(path)
        except (SafetensorError, OSError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: {error}") from None

    arrays = _all_of(Path(folder), read)
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}


T = TypeVar("T")


def _all_of(folder: Path, read: Callable[[Path], dict[str, T]]) -> dict[str, T]:
    """The tensors of the best weights, else of sharded ones, else of the last, each file read by `read`."""
    if (folder / MODEL).is_file():
        tensors = read(folder / MODEL)
    elif (folder / INDEX).is_file():
        tensors = {}
        for shard in sorted(set(_read_json(folder / INDEX).get("weight_map", {}).values())):
            if Path(shard).name != shard:
                raise CheckpointError(
                    f"{folder / INDEX}: names a file outside its folder ({shard}); take the folder as it was exported"
                )
            tensors.update(read(folder / shard))
    elif last := newest(folder):
        tensors = read(last.path / MODEL)
    else:
        raise CheckpointError(f"{folder}: holds no weights ({MODEL}); train it, or take a complete run folder")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def put_weights(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: Path) -> None:
    """Copy tensors into the model. CheckpointError unless names and shapes are exactly the model's."""
    own = model.state_dict()
    for trouble, names in (("lack", own.keys() - tensors.keys()), ("hold unknown", tensors.keys() - own.keys())):
        if names:
            some = ", ".join(sorted(names)[:3])
            raise CheckpointError(
                f"{where}: the weights {trouble} {some} ({len(names)} in all); they are of another model"
            )
    for name, value in own.items():
        if tensors[name].shape != value.shape:
            shapes = f"{tuple(tensors[name].shape)}, the model's is {tuple(value.shape)}"
            raise CheckpointError(f"{where}: {name} has shape {shapes}; the weights are of another model")
    model.load_state_dict(tensors)


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
            _sync(path)
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


def _read_json(path: Path) -> dict:
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a complete run folder") from None
    except ValueError:
        raise CheckpointError(f"{path}: is damaged (not JSON); take it from a complete run folder") from None
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{path}: is damaged (no JSON object); take it from a complete run folder")
    return parsed


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; CheckpointError where it is damaged or missing."""
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt"):  # the header is checked before anything is read
            return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: is damaged or not safetensors ({error}); take it from a complete run folder"
        ) from None


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    with paths.atomic_path(path) as temporary:
        try:
            write_tensors(tensors, temporary)
        except SafetensorError as error:  # safetensors reports a full disk as an error of its own
            raise OutputError(f"{path}: cannot be written ({error}); free some space, the old file is kept") from None
        _sync(temporary)


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with the file mode of this process's umask; safetensors itself would write mode 0600."""
    from safetensors.torch import save_file

    path.touch()  # with the umask's mode, which can be read without setting it for all threads
    mode = path.stat().st_mode & 0o777
    save_file(dict(tensors), path, metadata=dict(metadata) if metadata else None)
    path.chmod(mode)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
