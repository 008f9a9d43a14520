"""Tensors on disk: safetensors files read and written, the hash of weights, and putting weights into a model.

Nothing is unpickled, so reading a file never runs code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from .. import paths
from ..errors import CheckpointError, OutputError

if TYPE_CHECKING:  # PyTorch is imported where tensors are read or written: a piece can be continued without it
    import torch


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The unwrapped model's tensors on the CPU, ready for safetensors."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}


def weights_hash(model: torch.nn.Module) -> str:
    """Hash of the weights' values (16 hex digits); results store it, so that it is known which weights they belong to."""
    digest = hashlib.sha256()
    for name, value in sorted(weights(model).items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:16]


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


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; CheckpointError if it is damaged or missing."""
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt"):  # the header is checked before anything is read
            return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: is damaged or not safetensors ({error}); take it from a complete run folder"
        ) from None


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with the file mode of this process's umask; safetensors itself would write mode 0600."""
    from safetensors.torch import save_file

    path.touch()  # with the umask's mode, which can be read without setting it for all threads
    mode = path.stat().st_mode & 0o777
    save_file(dict(tensors), path, metadata=dict(metadata) if metadata else None)
    path.chmod(mode)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file atomically; OutputError if the disk is full, and the old file is kept."""
    with paths.atomic_path(path) as temporary:
        try:
            write_tensors(tensors, temporary)
        except SafetensorError as error:  # safetensors reports a full disk as an error of its own
            raise OutputError(f"{path}: cannot be written ({error}); free some space, the old file is kept") from None
        sync(temporary)


def sync(path: Path) -> None:
    """Wait until the file is on the disk, not only in the system's memory."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
