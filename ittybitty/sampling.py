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
    allowed = torch.as_tensor(mask, device=logits.device)
    if not bool(allowed.any(-1).all()):
        raise ValueError("the mask allows no id: the sequence has ended")
    return logits.masked_fill(~allowed, -torch.inf)


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (…, V) with -inf for all but the `top_k` likeliest (0: all) and, of these, the nucleus.

    The nucleus is the fewest likeliest ids whose probability reaches `top_p`; never empty.
    """
    ranked, ids, kept = _nucleus(logits, top_k, top_p)
    ranked = ranked.masked_fill(~kept, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, ranked)


def sample(
    logits: Tensor,
    generator: torch.Generator | None,
    temperature: float = 0.9,
    top_k: int = 50,
    top_p: float = 0.95,
    mask: Tensor | np.ndarray | None = None,
) -> Tensor:
    """One id for logits (V,), or (B,) ids for (B, V), drawn from softmax(logits / temperature) within mask, k and p.

    `generator` must live on the logits' device. ValueError if logits are not numbers.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give more than 0, or call greedy()")
    scaled = mask_logits(logits.float(), mask) / temperature
    ranked, ids, kept = _nucleus(scaled, top_k, top_p)
    cumulated = torch.softmax(ranked, -1).mul(kept).double().cumsum(-1)
    total = cumulated[..., -1:]
    if not bool(torch.isfinite(total).all()):
        raise ValueError("the logits are not finite: the model has diverged")
    chance = torch.rand(total.shape, generator=generator, device=logits.device, dtype=torch.float64) * total
    rank = torch.searchsorted(cumulated, chance, right=True)  # the first id whose cumulated probability is above chance
    last = kept.sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(rank, last)).squeeze(-1)


def greedy(logits: Tensor, mask: Tensor | np.ndarray | None = None) -> Tensor:
    """The likeliest id of logits (V,) or (B, V) within the mask."""
    return mask_logits(logits, mask).argmax(-1)


def _nucleus(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor, Tensor]:
    """(ranked logits, their ids, bool which are kept), likeliest first, all (…, k)."""
    k = min(top_k, logits.shape[-1]) if top_k > 0 else logits.shape[-1]
    ranked, ids = logits.topk(k, -1)
    before = torch.softmax(ranked, -1).cumsum(-1).roll(1, -1)  # probability of all likelier ones
    before[..., 0] = 0
    return ranked, ids, (before < top_p) & (ranked > -torch.inf)
