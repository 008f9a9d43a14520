"""The memory that native decoding reads (native/decode.cpp): its C structures, and one arena that holds all weights.

A step reads every weight once, in the same order. `laid_out` therefore copies them into one block of memory in that order,
in pages of 2 MB where the system has them, and writes their addresses into the structures.

Left out: which weights a model has (decode.py, decode_events.py).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from . import native

KINDS = {"packed": "int8", "half": "uint16"}  # type of a part, by its field; float32 for all others


class Matrix(ctypes.Structure):
    """A matrix in one of three forms: float32, float16, or int8 with a scale for each row; and its bias."""

    _fields_ = [(n, ctypes.c_void_p) for n in ("weight", "half", "packed", "scale", "bias")] + [
        (n, ctypes.c_int64) for n in ("rows", "columns")
    ]


class Block(ctypes.Structure):
    """One block of the stack: weights, sizes, and the addresses of its state. Names are those of decode.cpp."""

    _fields_ = [
        ("kind", ctypes.c_int64),
        ("norm", ctypes.c_void_p),
        *[(n, Matrix) for n in ("in_", "out", "x_proj", "dt_proj")],
        *[(n, ctypes.c_void_p) for n in ("conv", "conv_bias", "A", "D")],
        *[(n, ctypes.c_int64) for n in ("N", "K", "R")],
        ("bias", ctypes.c_void_p),
        *[(n, ctypes.c_int64) for n in ("most", "H", "window", "stride", "reach", "marks")],
        *[(n, ctypes.c_void_p) for n in ("s0", "s1", "s2", "s3")],
        ("position", ctypes.c_int64),
    ]


class Ends(ctypes.Structure):
    """The embedding, before the blocks, and the norm after them."""

    _fields_ = [("embedding", ctypes.c_void_p), ("norm", ctypes.c_void_p)]


class Part(NamedTuple):
    """One array that a step reads, and the structure's field that holds its address."""

    owner: ctypes.Structure
    field: str
    array: np.ndarray
    shape: tuple[int, ...]  # what decode.cpp takes it to be


def laid_out(parts: Iterable[Part]) -> np.ndarray:
    """Copy all parts into one arena in their order, each once, and write their addresses; the arena must outlive these."""
    places: dict[tuple, int] = {}  # of an array -> its place
    parts, size = list(parts), 0
    for part in parts:
        if _key(part.array) not in places:
            places[_key(part.array)], size = size, size + -(-part.array.nbytes // 64) * 64
    arena = _arena(size)
    for owner, field, array, shape in parts:
        first = places[_key(array)]
        copied = arena[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
        copied[...] = array
        setattr(owner, field, native.address(f"the model's {field}", copied, KINDS.get(field, "float32"), shape).value)
    return arena


def _key(array: np.ndarray) -> tuple:
    return array.ctypes.data, array.dtype, array.shape, array.strides


def _arena(size: int) -> np.ndarray:
    """(size,) bytes of memory, in pages of 2 MB where the system has them: a step reads all weights once, and with pages
    of 4 KB it would look up some 25,000 addresses on the way."""
    page = 2**21
    memory = np.empty(size + page, np.uint8)
    start = -memory.ctypes.data % page
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no such call here: small pages
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(memory.ctypes.data + start), ctypes.c_size_t(size), 14
        )  # MADV_HUGEPAGE
    return memory[start : start + size]
