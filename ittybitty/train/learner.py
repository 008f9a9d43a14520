"""A model with its optimizer, and one step of training: gradients of all micro-batches, clipping, and the update of the weights.

The gradient is that of the mean loss over all targets of the global batch, however it is split into devices, processes and
micro-batches. So one device and several follow the same learning curve.

Left out: the learning rate (optimizer.py), and when to validate, save and stop (loop.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch

from .. import systems
from ..config import TrainConfig
from ..models import IGNORED
from ..models.mamba import warm_up
from .optimizer import Autocast, optimizer, precision
from .parallel import Parallel


class Sums(NamedTuple):
    """What one step of training measures."""

    loss: torch.Tensor  # sum over this rank's targets
    nats: torch.Tensor  # the same without label smoothing
    targets: float  # their number, over all ranks
    norm: torch.Tensor  # of the gradient, before clipping


class Learner:
    """A model on this process's device, wrapped for its parallelism, with optimizer and gradient scaler.

    The first weights are drawn with `train.seed`.
    """

    def __init__(self, configs: Mapping, group: Parallel):
        self.config: TrainConfig = configs["train"]
        self.group = group
        torch.manual_seed(self.config.seed)
        self.model = systems.build_model(configs).to(group.device)
        dtype = precision(self.config.precision, group.device)
        self.precision = str(dtype or torch.float32).removeprefix("torch.")  # as resolved, for records
        self.optimizer = optimizer(self.model, self.config, dtype)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=dtype is torch.float16)
        if group.kind == "dp":
            warm_up(self.model, [torch.device("cuda", i) for i in range(torch.cuda.device_count())], dtype)
        self.wrapped = group.wrap(Autocast(self.model, group.device.type, dtype))

    def step(self, x: torch.Tensor, y: torch.Tensor, rate: float, number: int) -> Sums:
        """Step `number` of the optimizer at learning rate `rate`, on this rank's windows x (B, L) with the targets y (B, L)."""
        config, device = self.config, self.group.device
        torch.manual_seed(_seed(config.seed, number, self.group.rank))  # for dropout
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate * parameters.get("scale", 1.0)
        self.wrapped.train()
        (count,) = self.group.sum(float((y != IGNORED).sum()))
        micro = list(zip(x.chunk(config.accumulation), y.chunk(config.accumulation)))
        loss_sum = nats = torch.zeros((), device=device)
        for i, (ids, targets) in enumerate(micro):
            # processes exchange gradients after the last micro-batch only
            with self.group.quiet(self.wrapped) if i + 1 < len(micro) else nullcontext():
                out = self.wrapped(
                    ids.to(device, non_blocking=True), targets.to(device, non_blocking=True), config.label_smoothing
                )
                loss, nll, _ = (value.sum() for value in out)  # one value a device
                # DistributedDataParallel averages over ranks what should be summed
                self.scaler.scale(loss * (self.group.world / count)).backward()
            loss_sum, nats = loss_sum + loss.detach(), nats + nll.detach()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return Sums(loss_sum, nats, count, norm)


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
