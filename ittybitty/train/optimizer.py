"""What one optimizer step is made of: weight decay groups, learning rate, precision.

[1] Loshchilov, Hutter 2019, Decoupled weight decay regularization.  [2] Micikevicius et al. 2018, Mixed precision training.
Left out: schedulers with a memory. The learning rate is a function of the step, so there is nothing to save.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ..config import TrainConfig
from ..errors import ConfigError

PRECISIONS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def learning_rate(step: int, config: TrainConfig, steps_per_epoch: int = 1) -> float:
    """Linear warm-up, then a cosine that reaches `min_learning_rate` at the last step, or stairs of so many epochs each."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    if config.schedule == "stairs":
        return config.learning_rate * config.decay ** (step // (config.decay_epochs * steps_per_epoch))
    if config.schedule != "cosine":
        raise ConfigError(f"train.schedule is {config.schedule!r}: give 'cosine' or 'stairs'")
    part = min(1.0, (step - config.warmup) / max(1, config.steps - 1 - config.warmup))
    return (
        config.min_learning_rate
        + (config.learning_rate - config.min_learning_rate) * (1 + math.cos(math.pi * part)) / 2
    )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay on matrices only: not on embeddings, convolutions, vectors, or what carries `_no_weight_decay` (A_log, D)."""
    exempt = {
        id(p)
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.modules.conv._ConvNd))
        for p in module.parameters(recurse=False)
    }
    decayed, plain = [], []
    for name, p in model.named_parameters():
        free = p.ndim < 2 or id(p) in exempt or getattr(p, "_no_weight_decay", False) or name.endswith("A_log")
        (plain if free else decayed).append(p)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW [1] over the model's parameters; the fused kernel gives the same result each time, on a CPU too."""
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )


def precision(name: str, device: torch.device) -> torch.dtype | None:
    """Autocast's dtype, None for plain float32. "auto": bfloat16 where every card has it, else float16, float32 on a CPU."""
    if name == "auto":
        if device.type != "cuda":
            return None
        capability = min(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
        return torch.bfloat16 if capability >= (8, 0) else torch.float16  # a T4 is (7, 5)
    if name not in PRECISIONS:
        raise ConfigError(f"train.precision is {name!r}: give auto, {', '.join(PRECISIONS)}")
    if name == "float16" and device.type != "cuda":
        raise ConfigError("train.precision float16 needs a CUDA device: give float32 or auto on a CPU")
    return PRECISIONS[name]


class Autocast(nn.Module):
    """Opens autocast inside forward: DataParallel's replica threads inherit its on and off, but not its dtype.

    Returns (loss_sum, nll_sum, count), each (1,), so that replicas' results are gathered by concatenation.
    """

    def __init__(self, model: nn.Module, device_type: str, dtype: torch.dtype | None):
        super().__init__()
        self.model, self.device_type, self.dtype = model, device_type, dtype

    def forward(self, ids: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0):
        with torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype is not None):
            return self.model(ids, targets, label_smoothing=label_smoothing)
