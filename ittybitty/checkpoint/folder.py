"""A run folder: finding it, its configuration, tokenizer and weights, and loading all three as a model that can play.

Its weights are one file, or shards with an index as Hugging Face writes them, or those of its last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from safetensors import SafetensorError

from .. import config, paths, systems
from ..errors import CheckpointError, ConfigError, TokenizerError
from ..jsonable import dumps
from ..tokenizers.protocol import Tokenizer
from .last import FORMAT, MODEL, newest
from .tensors import put_weights, read_tensors, save_tensors, weights

if TYPE_CHECKING:  # PyTorch is imported where tensors are read or written: a piece can be continued without it
    import torch

    from ..models.lm import LanguageModel

INDEX = "model.safetensors.index.json"  # as Hugging Face writes it
T = TypeVar("T")


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


def find(name: str | Path) -> Path:
    """Find the run folder of a name: a path, a shipped or fetched model, or the end of the path of a run attached on Kaggle.

    CheckpointError suggests the nearest known name.
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
    from .. import devices

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
    from ..tokenizers import load_tokenizer

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
    if "format" not in header:
        raise CheckpointError(f"{path}: lacks 'format'; take the file from a complete run folder")
    if header["format"] != FORMAT:
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


def save_model(folder: Path, model: torch.nn.Module) -> None:
    """Write model.safetensors, atomically: the old file is kept until the new one is complete."""
    save_tensors(weights(model), Path(folder) / MODEL)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read weights as float32: the best ones, else sharded ones, else the last. Removes the prefix "module." of DataParallel."""
    tensors = _all_of(Path(folder), read_tensors)
    _refuse_unless(folder, {name: bool(tensor.isfinite().all()) for name, tensor in tensors.items()})
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
    _refuse_unless(folder, {name: bool(np.isfinite(array).all()) for name, array in arrays.items()})
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def _refuse_unless(folder: Path, finite: Mapping[str, bool]) -> None:
    """CheckpointError that names the first tensor that is not finite."""
    for name, good in finite.items():
        if not good:
            raise CheckpointError(
                f"{folder}: {name} holds values that are not numbers (the training has diverged); take other weights"
            )


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


def _read_json(path: Path) -> dict:
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a complete run folder") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: is damaged (not JSON); take it from a complete run folder") from None
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{path}: is damaged (no JSON object); take it from a complete run folder")
    return parsed
