"""Quotes lines of the page's script, and runs its Mamba block in Node.js on given weights: for notebook 04."""

from __future__ import annotations

import base64
import inspect
import json
import shutil
import subprocess
from collections.abc import Callable
from importlib import resources
from typing import Any, cast

import torch
from torch import nn

from ..errors import ConfigError
from ..models.mamba import Mamba
from ..models.quantize import quantized
from .weights import pack

RUN = """
const { folder, index, weights, inputs } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const load = (name) => import(require("node:url").pathToFileURL(`${folder}/${name}`));
Promise.all([load("mamba.js"), load("weights.js")]).then(([{ Mamba }, { Weights, fromBase64 }]) => {
  const block = new Mamba(new Weights(index, fromBase64(weights)), "block"), state = block.initState();
  console.log(JSON.stringify(inputs.map((x) => Array.from(block.step(Float32Array.from(x), state)))));
});
"""


def lines(source: str | Callable, *words: str) -> str:
    """The lines that contain any of `words`, of a file in js/ or of a Python function, without their indentation."""
    text = inspect.getsource(source) if callable(source) else _folder().joinpath(source).read_text(encoding="utf-8")
    return "\n".join(line.strip() for line in text.splitlines() if any(word in line for word in words))


def mamba_steps(block: Mamba, x: torch.Tensor) -> torch.Tensor | None:
    """Outputs (L, D) of js/mamba.js for inputs (L, D), one step each, with the block's matrices in 8 bits.

    They are those of ``in_8_bits(block)``. None where there is no Node.js; ConfigError where it cannot run the script.
    """
    node = shutil.which("node")
    if node is None:
        return None
    index, data = pack(nn.ModuleDict({"block": block}))
    with resources.as_file(_folder()) as folder:
        told = {"folder": str(folder), "index": index, "weights": base64.b64encode(data).decode(), "inputs": x.tolist()}
        run = subprocess.run([node, "-e", RUN], input=json.dumps(told), capture_output=True, text=True)
    if run.returncode:
        raise ConfigError(
            f"{node} cannot run the page's script; Node.js 20 or newer is needed: {run.stderr.strip()[-200:]}"
        )
    return torch.tensor(json.loads(run.stdout))


def in_8_bits(block: Mamba) -> Mamba:
    """A copy of the block whose matrices hold the values that the page has."""
    return cast(Mamba, quantized(cast(Any, block)))


def _folder():
    return resources.files(__package__).joinpath("js")
