"""Values as JSON has them: what NumPy and torch return is turned into plain numbers, lists and null."""

from __future__ import annotations

import math
from collections.abc import Mapping


def jsonable(value: object) -> object:
    """`value` with NumPy numbers and arrays, paths and tuples as JSON has them; a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and torch, without importing them
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, int, str, type(None))) else str(value)
