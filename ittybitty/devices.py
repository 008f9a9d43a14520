"""Chooses the device that a model runs on, and describes it for the record of a result.

    device("auto")      the first CUDA device if there is one, else the CPU
    ran_on(model)       {"device", "scan_path", "threads", "precision"} for the device of this model's tensors

Left out: training over several devices (train/parallel.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import ConfigError
from .models.decode import Decoder

if TYPE_CHECKING:
    import torch

NAMES = "auto, cpu, cuda or cuda:N"


def device(name: str = "auto") -> torch.device:
    """The device of that name; ConfigError for an unknown name or a GPU that is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ConfigError(f"the device {name!r} is not known: give {NAMES}")
    if found.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (found.index or 0) >= count:
        there = f"only cuda:0 to cuda:{count - 1}" if count > 1 else "only cuda:0" if count else "no CUDA device"
        raise ConfigError(f"the device {name!r} is not here: PyTorch sees {there}; give cpu or auto")
    return torch.device("cuda", found.index or 0)


def title(place: torch.device) -> str:
    """The name of a device for a record: that of the GPU, or the numbers of the CPU's cores and threads."""
    import torch

    if place.type == "cuda":
        return torch.cuda.get_device_name(place)
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def ran_on(model: torch.nn.Module | Decoder, precision: str = "") -> dict[str, object]:
    """Where and how a model ran, as resolved, for the record of a result: never "auto".

    {"device", "threads", "precision"}, and "scan_path" if the model has a selective scan. Give `precision`
    if it differs from that of the weights (int8 decoding, autocast).
    """
    if isinstance(model, Decoder):
        place = f"CPU, {os.cpu_count()} cores, {model.threads} threads"
        return {"device": place, "threads": model.threads, "precision": model.precision, "scan_path": "native"}
    import torch

    from .models.mamba import Mamba
    from .models.scan import chosen

    weight = next(model.parameters())
    found = {
        "device": title(weight.device),
        "threads": torch.get_num_threads(),
        "precision": precision or _precision(weight),
    }
    if any(isinstance(module, Mamba) for module in model.modules()):
        found["scan_path"] = chosen(weight.device.type)
    return found


def _precision(weight: torch.Tensor) -> str:
    """The type of the weights; for float32 on a GPU also whether matrix products may be rounded to TF32."""
    import torch

    name = str(weight.dtype).removeprefix("torch.")
    rounded = weight.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return f"{name} (TF32 products)" if rounded and name == "float32" else name


def wait(place: torch.device) -> None:
    """Wait until the device has finished its work, because CUDA runs asynchronously."""
    if place.type == "cuda":
        import torch

        torch.cuda.synchronize(place)
