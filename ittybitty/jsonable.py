"""Writes values as standard JSON: numbers and arrays of NumPy and torch become plain numbers, lists and null.

JSON has no infinity and no NaN. Python's json module writes them anyway, and other programs then refuse the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def dumps(value: object, indent: int | None = None) -> str:
    """`value` as standard JSON text."""
    return json.dumps(jsonable(value), indent=indent, allow_nan=False)


def jsonable(value: object) -> object:
    """`value` with NumPy numbers and arrays, paths and tuples converted to JSON's types; a non-finite number becomes null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and torch, without importing them
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, int, str, type(None))) else str(value)
