"""The parts of an optimizer step: which parameter is trained by which rule, the learning rate, the precision.

[1] Loshchilov and Hutter 2019, Decoupled weight decay regularization (AdamW).
[2] Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks; its Newton-Schulz coefficients.
[3] Liu et al. 2025, Muon is scalable for LLM training, arXiv:2502.16982.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..config import TrainConfig
from ..errors import ConfigError

TRAINING_DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
NOT_HIDDEN = ("x_proj", "dt_proj")  # Mamba's small projections steer the scan: AdamW
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # [2]: a X + b (X X^T) X + c (X X^T)^2 X, five times


def learning_rate(step: int, config: TrainConfig, steps_per_epoch: int = 1, seconds: float = 0.0) -> float:
    """Linear warm-up, then the schedule. With `minutes` it follows the `seconds` spent training, else the steps."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    if config.schedule == "stairs":
        return config.learning_rate * config.decay ** (step // (config.decay_epochs * steps_per_epoch))
    part = min(1.0, (step - config.warmup) / max(1, config.steps - 1 - config.warmup))
    if config.minutes:
        part = min(1.0, max(part, seconds / (60 * config.minutes)))
    if config.schedule == "stable":  # warm-up, stable, decay (Hu et al. 2024, MiniCPM, arXiv:2404.06395)
        height = min(1.0, (1 - part) / config.cooldown)
    else:
        height = (1 + math.cos(math.pi * part)) / 2
    return config.min_learning_rate + (config.learning_rate - config.min_learning_rate) * height


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay on matrices only: not on embeddings, convolutions, vectors, or parameters marked `_no_weight_decay` (A_log, D)."""
    exempt = {
        id(p)
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.modules.conv._ConvNd))
        for p in module.parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        free = p.ndim < 2 or id(p) in exempt or getattr(p, "_no_weight_decay", False) or name.endswith("A_log")
        (plain if free else decayed).append(p)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Matrices from hidden vector to hidden vector, which Muon trains: no embedding, no output matrix, no x_proj or dt_proj."""
    found = []
    for name, module in model.named_modules():
        output = name == "head" or name.startswith("head.out")
        if isinstance(module, (nn.Linear, nn.LSTM)) and not output and not name.endswith(NOT_HIDDEN):
            found += [p for p in module.parameters(recurse=False) if p.ndim == 2]
    return found


def optimizer(model: nn.Module, config: TrainConfig, dtype: torch.dtype | None = None) -> torch.optim.Optimizer:
    """AdamW, or Muon with AdamW, as `train.optimizer` says; ConfigError if no matrix is left for Muon.

    `dtype` is autocast's; Muon's matrix products run in it where it is bfloat16.
    """
    if config.optimizer == "adamw":
        return adamw(model, config)
    matrices = hidden_matrices(model)
    if not matrices:
        raise ConfigError("train.optimizer is 'muon', but this model has no hidden matrices: give 'adamw'")
    own = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in own]
    return MuonAdamW(matrices, rest, config, torch.bfloat16 if dtype is torch.bfloat16 else torch.float32)


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW [1] over the model's parameters; the fused kernel gives the same result each time, on a CPU too."""
    groups = parameter_groups(model, config.weight_decay)
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


class MuonAdamW(torch.optim.AdamW):
    """Muon [2] for `matrices`, AdamW without decay for the `rest`; the entry "muon" of a group says which rule is its own.

    A group's learning rate is the schedule's times its "scale", so that one schedule serves both. Matrices of one shape
    are orthogonalised together, in bfloat16 where the training runs in bfloat16. `torch.optim.Muon` takes the same steps
    in bfloat16, one matrix at a time (a test compares them).
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        rest: list[nn.Parameter],
        config: TrainConfig,
        dtype: torch.dtype = torch.float32,
    ):
        scale = config.muon_learning_rate / config.learning_rate if config.learning_rate else 1.0
        groups = [{"params": matrices, "muon": True, "scale": scale, "weight_decay": config.weight_decay}]
        if rest:
            groups.append({"params": rest, "muon": False, "scale": 1.0, "weight_decay": 0.0})
        super().__init__(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)
        self.momentum, self.dtype = config.momentum, dtype
        self._step_supports_amp_scaling = False  # GradScaler must skip both rules where a gradient overflowed

    def __setstate__(self, state: dict) -> None:
        """As every optimizer does: AdamW's own expects an entry "step" of each parameter, which Muon's have not."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both rules."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._orthogonal_step(group)
        return loss

    def _orthogonal_step(self, group: dict) -> None:
        """[2] algorithm 2 with Nesterov momentum; decay and scale of the update as in [3] section 2.2 and `torch.optim.Muon`."""
        by_shape: dict[torch.Size, list[tuple[nn.Parameter, torch.Tensor]]] = {}
        for p in group["params"]:
            if p.grad is not None:
                by_shape.setdefault(p.shape, []).append((p, p.grad))
        for shape, alike in by_shape.items():
            updates = []
            for p, gradient in alike:
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                state["momentum_buffer"].lerp_(gradient, 1 - self.momentum)
                updates.append(gradient.lerp(state["momentum_buffer"], self.momentum))
            rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
            for (p, _), update in zip(alike, orthogonal(torch.stack(updates).to(self.dtype)).unbind(0)):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """(n, rows, columns) -> the same with all singular values near 1, by Newton-Schulz [2]; float32 and bfloat16 stay so.

    In bfloat16 as written. In float32 it runs on the Gram matrices, for which half precision would be too coarse. With
    X_0 = G / |G| and S_k = X_k X_k^T, each step is X_{k+1} = P_k X_k with P_k = a I + b S_k + c S_k^2, and all P_k commute
    with S_k. So all products but two are of (rows, rows) matrices.
    """
    a, b, c = NEWTON_SCHULZ
    X = matrices
    tall = X.shape[1] > X.shape[2]
    X = X.mT if tall else X
    X = X / (X.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    if X.dtype != torch.float32:
        for _ in range(steps):
            S = X @ X.mT
            X = torch.baddbmm(X, torch.baddbmm(S, S, S, beta=b, alpha=c), X, beta=a)
        return X.mT if tall else X
    S = X @ X.mT  # (n, rows, rows), symmetric
    one = torch.eye(S.shape[1], device=S.device, dtype=S.dtype)
    Q = None
    for k in range(steps):
        P = torch.baddbmm(a * one + b * S, S, S, alpha=c)
        Q = P if Q is None else P @ Q
        if k + 1 < steps:
            S = P @ S @ P
    X = Q @ X
    return X.mT if tall else X


def precision(name: str, device: torch.device) -> torch.dtype | None:
    """Autocast's dtype, None for plain float32. "auto": bfloat16 where every card has it, else float16, float32 on a CPU."""
    if name == "auto":
        if device.type != "cuda":
            return None
        capability = min(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
        return torch.bfloat16 if capability >= (8, 0) else torch.float16  # a T4 is (7, 5)
    if name not in TRAINING_DTYPES:
        raise ConfigError(f"train.precision is {name!r}: give auto, {', '.join(TRAINING_DTYPES)}")
    if name == "float16" and device.type != "cuda":
        raise ConfigError("train.precision float16 needs a CUDA device: give float32 or auto on a CPU")
    return TRAINING_DTYPES[name]


class Autocast(nn.Module):
    """Opens autocast inside forward: DataParallel's replica threads inherit its on and off, but not its dtype.

    Returns (loss_sum, nll_sum, count), each (1,), so that replicas' results are gathered by concatenation.
    """

    def __init__(self, model: nn.Module, device_type: str, dtype: torch.dtype | None):
        super().__init__()
        self.model, self.device_type, self.dtype = model, device_type, dtype

    def forward(self, ids: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> Any:
        with torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype is not None):
            return self.model(ids, targets, label_smoothing=label_smoothing)
