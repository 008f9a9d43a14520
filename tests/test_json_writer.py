"""Whatever is written as JSON is JSON: no Infinity, no NaN, from whichever library a number comes."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ittybitty.jsonable import dumps
from ittybitty.train.log import TrainingLog, read_log

PACKAGE = Path(__file__).parents[1] / "ittybitty"
INFINITE = [float("inf"), float("-inf"), float("nan"), np.float32("inf"), torch.tensor(float("nan"))]


def strict(text: str) -> object:
    def refuse(constant: str):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", INFINITE, ids=repr)
def test_what_is_not_finite_becomes_null(value):
    assert strict(dumps({"a": [value, 1.5], "b": {"c": (value,)}})) == {"a": [None, 1.5], "b": {"c": [None]}}


def test_an_overflow_leaves_a_log_that_others_can_read(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl", 10, progress=False)
    log.write({"step": 1, "grad_norm": float("inf"), "nll": 2.0})
    log.close()
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert strict(line) == {"step": 1, "grad_norm": None, "nll": 2.0}
    TrainingLog(tmp_path / "log.jsonl", 10, step=1, progress=False).close()  # written again when a run goes on
    assert read_log(tmp_path / "log.jsonl") == [strict(line)]


def writes_json(call: ast.Call) -> bool:
    """Is this a call that writes what json.dumps returns, or json.dump?"""
    name = ast.unparse(call.func)
    inner = [ast.unparse(node.func) for node in ast.walk(call) if isinstance(node, ast.Call)]
    return name == "json.dump" or (name.endswith((".write", ".write_text")) and "json.dumps" in inner)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_has_a_json_writer_of_its_own(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [ast.unparse(call)[:80] for call in calls if writes_json(call)], "use jsonable.dumps"
