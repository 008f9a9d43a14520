"""Ways to run the same training step: as it is, compiled, or as a CUDA graph.

    eager      as it is
    compile    torch.compile of the backbone; the selective scan stays a call of its own kernel
    graph      forward and backward of the backbone as two CUDA graphs: no launches to wait for (CUDA only)

Only the backbone is changed, which has one shape of input in all steps but the last of an epoch; that one runs as it is.
A state dict has the same names in every mode.

Left out: which is fastest (race.py measures it).
"""

from __future__ import annotations

import torch
from torch import nn

from ..errors import ConfigError
from ..models import mamba

MODES = ("eager", "compile", "graph")


def apply(model: nn.Module, mode: str, batch: int, steps: int, dtype: torch.dtype | None) -> None:
    """Make `model` run in `mode` for batches of `batch` windows, `steps` steps of the backbone each. ConfigError for no such mode."""
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}: give {', '.join(MODES)}")
    if mode == "compile":
        _call_scan_as_it_is(model)
        model.backbone.compile(dynamic=False)
    if mode == "graph":
        _graph(model, batch, steps, dtype)


def _call_scan_as_it_is(model: nn.Module) -> None:
    """The compiler may not look into the scan: it launches kernels under a lock. Which path it takes is settled beforehand."""
    path = mamba.chosen(next(model.parameters()).device.type)
    mamba.chosen = lambda device="cpu": path
    mamba.selective_scan = torch.compiler.disable(mamba.selective_scan)


def _graph(model: nn.Module, batch: int, steps: int, dtype: torch.dtype | None) -> None:
    weight = next(model.parameters())
    if weight.device.type != "cuda":
        raise ConfigError(f"mode 'graph' needs a CUDA device, and the model is on {weight.device.type}: give 'eager'")
    backbone, plain = model.backbone, model.backbone.forward
    sample = torch.zeros(batch, steps, model.config.d_model, device=weight.device, requires_grad=True)
    backbone.train()
    with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None, cache_enabled=False):
        torch.cuda.make_graphed_callables(backbone, (sample,))
    captured = backbone.forward

    def forward(x: torch.Tensor, state: list | None = None) -> torch.Tensor:
        same = state is None and backbone.training and torch.is_grad_enabled() and x.requires_grad
        same = same and x.shape == sample.shape and x.dtype == sample.dtype
        return captured(x) if same else plain(x, state)

    backbone.forward = forward
