"""Logits -> the next id: pure functions, with the source of chance passed in.

The order is the usual one: repetition penalty, mask, temperature, the k likeliest [1], the nucleus of probability p [2],
one draw. A draw takes exactly one random number a row and reads it off the cumulated probabilities from the likeliest
on, so that logits that differ by rounding (another device, another path) nearly always give the same id.

`draw` and `penalized` work on NumPy arrays and are what generation uses; the other functions are the same for tensors, and
import PyTorch. `Chance` gives the random numbers of PyTorch's own generator, so that one seed number gives the same music
where PyTorch is imported and where it is not.

[1] Fan et al. 2018, Hierarchical Neural Story Generation.  [2] Holtzman et al. 2020, The Curious Case of Neural Text
Degeneration.  [3] Keskar et al. 2019, CTRL.  [4] Matsumoto and Nishimura 1998, Mersenne Twister.
Left out: beams and contrastive search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NOT_FINITE = "the logits are not finite: the model has diverged"


class Chance:
    """A source of random numbers: MT19937 [4], seeded and read as `torch.rand(n, dtype=torch.float64)` does on a CPU."""

    def __init__(self, seed: int):
        self._words = np.random.RandomState(seed % 2**32)

    def __call__(self, count: int) -> np.ndarray:
        """(count,) float64 numbers in [0, 1): the low 53 bits of two words each."""
        words = self._words.randint(0, 2**32, 2 * count, dtype=np.uint32).astype(np.uint64)
        return ((words[0::2] << np.uint64(32) | words[1::2]) & np.uint64(2**53 - 1)) * 2.0**-53


def draw(
    logits: np.ndarray,
    chances: np.ndarray,
    temperature: float = 0.95,
    top_k: int = 0,
    top_p: float = 0.97,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Ids (…) for logits (…, V), drawn from softmax(logits / temperature) within mask, k and p by `chances` (…) in [0, 1).

    ValueError if the logits are not finite numbers, or a row of the mask (V,) or (…, V) allows nothing.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give more than 0, or call greedy()")
    if mask is not None:
        _check_mask(mask)
        logits = np.where(mask, logits, np.float32(-np.inf))
    if not (logits < np.inf).all():  # NaN cannot be ranked either
        raise ValueError(NOT_FINITE)
    ids = np.argsort(-logits, axis=-1, kind="stable")[..., : top_k or None]
    ranked = np.take_along_axis(logits, ids, -1)
    cumulated, kept = _nucleus(ranked / np.float32(temperature), top_p)
    total = (cumulated * kept).max(-1, keepdims=True)  # probability of the whole nucleus
    chance = np.asarray(chances)[..., None] * total
    rank = ((cumulated <= chance) & (cumulated < total)).sum(-1, keepdims=True)  # the first id above chance
    return np.take_along_axis(ids, rank, -1)[..., 0]


def penalized(logits: np.ndarray, history: np.ndarray, penalty: float) -> np.ndarray:
    """Logits (V,) with those of ids in `history` (L,) made less likely [3] section 4.1; 1 changes nothing.

    Positive logits are divided by `penalty`, negative ones multiplied, however often an id occurred.
    """
    changed = logits.copy()
    changed[history] = np.where(logits[history] > 0, logits[history] / penalty, logits[history] * penalty)
    return changed


def log_probability(logits: np.ndarray, id: int) -> float:
    """Logarithm of the probability that softmax(logits) (V,) gives to an id."""
    top = logits.max()
    return float(logits[id] - top - np.log(np.exp((logits - top).astype(np.float64)).sum()))


def mask_logits(logits: Tensor, mask: Tensor | np.ndarray | None) -> Tensor:
    """Logits (…, V) with -inf where `mask` (V,) or (…, V) is False; ValueError if a row allows nothing."""
    import torch

    if mask is None:
        return logits
    _check_mask(mask)
    return torch.where(torch.as_tensor(mask, device=logits.device), logits, -torch.inf)


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (…, V) with -inf for all but the `top_k` likeliest (0: all) and, of these, the nucleus.

    The nucleus is the fewest likeliest ids whose probability reaches `top_p`; never empty.
    """
    import torch

    ranked, ids = logits.float().topk(min(top_k or logits.shape[-1], logits.shape[-1]), -1)
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
    """`draw` for tensors: one id for logits (V,), or (B,) ids for (B, V).

    `generator` is a CPU generator wherever the logits are, so that one seed gives the same music on every device.
    """
    import torch

    chances = torch.rand(logits.shape[:-1], generator=generator, dtype=torch.float64).numpy()
    allowed = mask.numpy(force=True) if isinstance(mask, torch.Tensor) else mask
    drawn = draw(logits.float().numpy(force=True), chances, temperature, top_k, top_p, allowed)
    return torch.as_tensor(drawn, device=logits.device)


def greedy(logits: Tensor, mask: Tensor | np.ndarray | None = None) -> Tensor:
    """The likeliest id of logits (V,) or (B, V) within the mask."""
    return mask_logits(logits, mask).argmax(-1)


def _check_mask(mask: Tensor | np.ndarray) -> None:
    if not mask.any(-1).all():
        raise ValueError("the mask allows no id: the sequence has ended")


def _nucleus(ranked: np.ndarray, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """Cumulated probabilities (…, k) of ranked logits, and bool (…, k) of those in the nucleus."""
    if not np.isfinite(ranked[..., 0]).all():
        raise ValueError(NOT_FINITE)
    probabilities = np.exp(ranked.astype(np.float64) - ranked[..., :1])
    cumulated = probabilities.cumsum(-1)
    before = cumulated - probabilities  # probability of all likelier ones
    return cumulated, (before < top_p * cumulated[..., -1:]) & (probabilities > 0)
