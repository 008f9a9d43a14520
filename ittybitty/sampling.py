"""Logits -> the next id: pure functions, with the source of chance passed in.

The order is the usual one: repetition penalty, mask, temperature, the k likeliest [1], the nucleus of probability p [2],
one draw. A draw takes exactly one random number a row and reads it off the cumulated probabilities from the likeliest
on, so that logits that differ by rounding (another device, another path) nearly always give the same id.

[1] Fan et al. 2018, Hierarchical Neural Story Generation.  [2] Holtzman et al. 2020, The Curious Case of Neural Text
Degeneration.  [3] Keskar et al. 2019, CTRL.  Left out: beams and contrastive search.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def repetition_penalty(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Logits (…, V) with those of ids in `history` (…, L) made less likely [3] section 4.1; 1 changes nothing.

    Positive logits are divided by `penalty`, negative ones multiplied, however often an id occurred.
    """
    if penalty == 1.0 or history.shape[-1] == 0:
        return logits
    seen = logits.gather(-1, history)
    return logits.scatter(-1, history, torch.where(seen > 0, seen / penalty, seen * penalty))


def mask_logits(logits: Tensor, mask: Tensor | np.ndarray | None) -> Tensor:
    """Logits (…, V) with -inf where `mask` (V,) or (…, V) is False; ValueError if a row allows nothing."""
    if mask is None:
        return logits
    if not mask.any(-1).all():
        raise ValueError("the mask allows no id: the sequence has ended")
    return torch.where(torch.as_tensor(mask, device=logits.device), logits, -torch.inf)


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (…, V) with -inf for all but the `top_k` likeliest (0: all) and, of these, the nucleus.

    The nucleus is the fewest likeliest ids whose probability reaches `top_p`; never empty.
    """
    ranked, ids = _ranked(logits, top_k)
    outside = torch.from_numpy(~_nucleus(ranked.numpy(force=True), top_p)[1]).to(logits.device)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, ranked.masked_fill(outside, -torch.inf))


def sample(
    logits: Tensor,
    generator: torch.Generator | None,
    temperature: float = 0.95,
    top_k: int = 0,
    top_p: float = 0.97,
    mask: Tensor | np.ndarray | None = None,
) -> Tensor:
    """One id for logits (V,), or (B,) ids for (B, V), drawn from softmax(logits / temperature) within mask, k and p.

    `generator` is a CPU generator wherever the logits are, so that one seed gives the same music on every device.
    ValueError if the logits are not finite numbers.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give more than 0, or call greedy()")
    ranked, ids = _ranked(mask_logits(logits, mask), top_k)
    cumulated, kept = _nucleus(ranked.numpy(force=True) / temperature, top_p)  # small from here on: NumPy is quicker
    total = (cumulated * kept).max(-1, keepdims=True)  # probability of the whole nucleus
    chance = torch.rand(total.shape, generator=generator, dtype=torch.float64).numpy() * total
    rank = ((cumulated <= chance) & (cumulated < total)).sum(-1, keepdims=True)  # the first id above chance
    return ids.gather(-1, torch.from_numpy(rank).to(ids.device)).squeeze(-1)


def greedy(logits: Tensor, mask: Tensor | np.ndarray | None = None) -> Tensor:
    """The likeliest id of logits (V,) or (B, V) within the mask."""
    return mask_logits(logits, mask).argmax(-1)


def _ranked(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The `top_k` largest logits (0: all), largest first, and their ids, both (…, k)."""
    return logits.float().topk(min(top_k or logits.shape[-1], logits.shape[-1]), -1)


def _nucleus(ranked: np.ndarray, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """Cumulated probabilities (…, k) of ranked logits, and bool (…, k) of those in the nucleus."""
    if not np.isfinite(ranked[..., 0]).all():
        raise ValueError("the logits are not finite: the model has diverged")
    probabilities = np.exp(ranked.astype(np.float64) - ranked[..., :1])
    cumulated = probabilities.cumsum(-1)
    before = cumulated - probabilities  # probability of all likelier ones
    return cumulated, (before < top_p * cumulated[..., -1:]) & (probabilities > 0)
