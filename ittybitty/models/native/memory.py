"""The check before every call into C++: whether an array has the type, shape and layout that the function expects."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .build import NativeError, library

if TYPE_CHECKING:
    import torch


def loaded() -> ctypes.CDLL:
    """The library; NativeError where there is none."""
    made = library()
    if isinstance(made, NativeError):
        raise made
    return made


def address(
    name: str,
    array: np.ndarray | torch.Tensor,
    dtype: str | torch.dtype,
    shape: Sequence[int],
    apart: int | None = None,
) -> ctypes.c_void_p:
    """Where the elements of an array lie, once it is certain that C++ may read or write all of `shape` there.

    `dtype` is a type of PyTorch or its name. With `apart`, rows of the last dimension may lie so many elements apart; else the
    array must be contiguous. Raises ValueError in one line for another type, device, shape or layout.
    """
    if not isinstance(array, np.ndarray):
        return _of_tensor(name, array, dtype, shape, apart)
    if array.dtype != dtype or array.shape != tuple(shape):
        raise ValueError(f"native code: {name} is {array.dtype} {array.shape} where {dtype} {tuple(shape)} is expected")
    if not array.flags.c_contiguous:
        raise ValueError(f"native code: {name} {array.shape} is laid out with strides {array.strides}")
    return ctypes.c_void_p(array.ctypes.data)


def _of_tensor(
    name: str, tensor: torch.Tensor, dtype: str | torch.dtype, shape: Sequence[int], apart: int | None
) -> ctypes.c_void_p:
    import torch

    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_neg():
        raise ValueError(f"native code reads plain CPU tensors, and {name} is on {tensor.device} ({tensor.layout})")
    if tensor.dtype != dtype or tensor.shape != torch.Size(shape):
        raise ValueError(
            f"native code: {name} is {tensor.dtype} {tuple(tensor.shape)} where {dtype} {tuple(shape)} is expected"
        )
    dense = tensor.is_contiguous() if apart is None else tensor.stride() == (shape[1] * apart, apart, 1)
    if not dense and tensor.numel():
        raise ValueError(f"native code: {name} {tuple(shape)} is laid out with strides {tensor.stride()}")
    return ctypes.c_void_p(tensor.data_ptr())
