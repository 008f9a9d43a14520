"""Measures a model on held-out windows while it is trained.

Bits per note here are an estimate: every window starts with an empty past. `ittybitty evaluate` measures whole pieces.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from .parallel import Parallel
from .windows import Windows, batches


@torch.no_grad()
def measure(
    model: nn.Module, windows: Windows, limit: int, batch_size: int, notes_per_id: torch.Tensor, group: Parallel
) -> dict[str, float]:
    """{"validation_nll": nats per token, "bits_per_note"} over the first `limit` windows (0: all), on all ranks together.

    `model(ids, targets)` returns sums as `optimizer.Autocast` does; the nats are those without label smoothing.
    """
    model.eval()
    steps = min(windows.steps_per_epoch, -(-(limit or len(windows)) // batch_size))
    nats = count = notes = 0.0
    for x, y in batches(windows, 0, steps):
        out = model(x.to(group.device), y.to(group.device))
        nats, count = nats + float(out[1].sum()), count + float(out[2].sum())
        notes += float(notes_per_id[y[y >= 0]].sum())
    nats, count, notes = group.sum(nats, count, notes)
    return {
        "validation_nll": round(nats / count, 5),
        "bits_per_note": round(nats / math.log(2) / max(notes, 1), 4),
    }
