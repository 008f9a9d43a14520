"""A model's tensors as one sequence of bytes: matrices in 8 bits with one scale per row, the others in float32, by their names.

The rounding is that of `models.quantize`, so the page plays what Python plays with ``precision="int8"``.
"""

from __future__ import annotations

import torch
from torch import nn

from ..models.quantize import rounded


def pack(model: nn.Module) -> tuple[dict[str, dict], bytes]:
    """(index, bytes) of a model: name -> {"shape", "at"} of a float32 tensor, {"shape", "at", "scale"} of an int8 matrix.

    `at` and `scale` count bytes from the beginning; numbers are little-endian. All float32 come first, so that they are aligned.
    """
    matrices = _matrices(model)
    index: dict[str, dict] = {}
    parts: list[bytes] = []
    size = 0

    def add(tensor: torch.Tensor, kind: str) -> int:
        nonlocal size
        data = tensor.detach().cpu().contiguous().numpy().astype(kind).tobytes()
        parts.append(data)
        size += len(data)
        return size - len(data)

    levels: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        index[name] = {"shape": list(tensor.shape)}
        if name in matrices:
            levels[name], scale = rounded(tensor.float())
            index[name]["scale"] = add(scale, "<f4")
        else:
            index[name]["at"] = add(tensor, "<f4")
    for name, tensor in levels.items():
        index[name]["at"] = add(tensor, "i1")
    return index, b"".join(parts)


def _matrices(model: nn.Module) -> set[str]:
    """Names of the tensors that `models.quantize.quantized` rounds."""
    return {
        f"{place}.{name}" if place else name
        for place, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding, nn.LSTM))
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 2
    }
