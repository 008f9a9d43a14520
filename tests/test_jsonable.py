"""What is written as JSON: plain numbers, lists and null, whatever NumPy and torch return."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ittybitty.jsonable import jsonable


@pytest.mark.parametrize(
    "value, plain",
    [
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        ((1, 2), [1, 2]),
        (math.nan, None),
        (np.float64("inf"), None),
        (Path("a") / "b", str(Path("a") / "b")),
        ({1: (np.int8(2), None)}, {"1": [2, None]}),
        ("text", "text"),
    ],
)
def test_every_value_becomes_a_type_of_json(value, plain):
    assert jsonable(value) == plain
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == plain


def test_true_stays_true_and_does_not_become_a_number():
    assert jsonable({"complete": np.bool_(True), "one": np.int64(1)})["complete"] is True
