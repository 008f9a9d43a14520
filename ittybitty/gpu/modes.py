"""Runs the same training step in one of three ways: eager, compiled, or as a CUDA graph.

    eager      PyTorch runs one operation after the other
    compile    torch.compile of the backbone; scan and convolution stay calls of their own kernels
    graph      forward and backward of the backbone as two CUDA graphs: no launches to wait for (CUDA only)

Only the backbone is changed, which has one shape of input in all steps but the last of an epoch; that one runs as it is.
A state dict has the same names in every mode.

Left out: which is fastest (race.py measures it).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..errors import ConfigError
from ..models import mamba
from ..models.lm import LanguageModel

MODES = ("eager", "compile", "graph")


def apply(model: LanguageModel, mode: str, batch: int, steps: int, dtype: torch.dtype | None) -> None:
    """Make `model` run in `mode` for batches of `batch` windows, `steps` steps of the backbone each. ConfigError for no such mode."""
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}: give {', '.join(MODES)}")
    if mode == "compile":
        _call_kernels_as_they_are(model)
        _only_for(model.backbone, torch.compile(model.backbone.forward, dynamic=False), (batch, steps))
    if mode == "graph":
        _graph(model, batch, steps, dtype)


def _call_kernels_as_they_are(model: LanguageModel) -> None:
    """The compiler may not look into scan and convolution: they launch kernels under a lock."""
    mamba.selective_scan = torch.compiler.disable(mamba.selective_scan)
    mamba.causal_convolution = torch.compiler.disable(mamba.causal_convolution)


def _only_for(backbone: nn.Module, fast: Callable, shape: tuple[int, int]) -> None:
    """Call `fast` for inputs of this shape in training, and the backbone as it is for all others.

    Otherwise the last batch of an epoch and the first validation would cause another compilation in the middle of the training.
    """
    plain = type(backbone).forward

    def forward(x: torch.Tensor, state: list | None = None) -> torch.Tensor:
        same = state is None and backbone.training and torch.is_grad_enabled() and x.requires_grad
        return fast(x) if same and tuple(x.shape[:2]) == shape else plain(backbone, x, state)

    backbone.forward = forward


def _graph(model: LanguageModel, batch: int, steps: int, dtype: torch.dtype | None) -> None:
    weight = next(model.parameters())
    if weight.device.type != "cuda":
        raise ConfigError(f"mode 'graph' needs a CUDA device, and the model is on {weight.device.type}: give 'eager'")
    backbone = model.backbone
    sample = torch.zeros(batch, steps, model.config.d_model, device=weight.device, requires_grad=True)
    backbone.train()
    with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None, cache_enabled=False):
        torch.cuda.make_graphed_callables(backbone, (sample,))
    _only_for(backbone, backbone.forward, (batch, steps))
