"""Rounds weights: to int8 with a scale for each row, and to float16 where that loses nothing.

    float16: a matrix whose float32 values are all float16 numbers, as those of the shipped models are, is kept as float16. Each
    value is widened to the same float32 number when it is read, so nothing changes but the bytes.
    int8: each row of a matrix is rounded to 255 levels of its own scale [1]. It takes a quarter of the bytes of float32.

Arrays may be PyTorch's or NumPy's: PyTorch is imported only where a tensor is given.

[1] Dettmers et al. 2022, LLM.int8(), section 2.1, absmax quantization per row.
Left out: rounding of activations and states, which stay float32.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    from .lm import LanguageModel

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def numpy_of(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """The same numbers as a NumPy array, in the same memory where they lie on the CPU."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


def like(other: Array, array: np.ndarray) -> Array:
    """`array`, in the same memory, as an array of the library that `other` is of."""
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array)


def rounded(weight: Array) -> tuple[Array, Array]:
    """(rows, columns) -> int8 of the same shape and (rows,) scales, with weight ≈ int8 * scale."""
    exact = numpy_of(weight)
    scale = np.abs(exact).max(1).clip(min=1e-12) / np.float32(127)
    return like(weight, np.rint(exact / scale[:, None]).astype(np.int8)), like(weight, scale)


def quantized(model: LanguageModel) -> LanguageModel:
    """A copy in float32 whose matrices hold exactly the values that int8 decoding uses: for measuring what rounding costs."""
    import torch
    from torch import nn

    model = copy.deepcopy(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Embedding, nn.LSTM)):
                for matrix in (p for p in module.parameters(recurse=False) if p.dim() == 2):
                    levels, scale = rounded(matrix.float())
                    matrix.copy_(levels * scale[:, None])
    return model


def half_bits(weight: np.ndarray) -> np.ndarray | None:
    """The bits (uint16) of the same numbers in float16; None if some of them are no float16 numbers."""
    with np.errstate(over="ignore"):
        for part in (weight[:1], weight):  # most weights that do not fit show it in their first row
            half = part.astype(np.float16)
            if not np.array_equal(half.astype(np.float32), part) or not np.isfinite(half).all():
                return None
    return half.view(np.uint16)
