"""Bits per token of a piece: what a model needs to write it down, every token scored exactly once.

A window of `context` tokens slides over the piece by `stride`; of each window only the tokens that no earlier one has
scored count, so that a scored token sees at least `context - stride` tokens before it, or the whole past where that
is shorter. All systems are measured with the same two numbers (evaluation.py).

Bits per note is the sum over all tokens of a piece, end token included, divided by the notes of the performance that was
encoded: unlike loss per token it can be compared between tokenizers.

Left out: which pieces, and what the code loses; both in evaluation.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .errors import CheckpointError, ConfigError

CONTEXT, STRIDE = 1024, 512  # tokens; the yardstick of every table


def windows(length: int, context: int, stride: int) -> list[tuple[int, int, int]]:
    """(start, end, first): inputs [start, end) predict the tokens start + 1 … end, of which those from `first` on count.

    The last window is moved back to full length, so that no token is scored with less past than there is.
    """
    if not 1 <= stride <= context:
        raise ConfigError(f"stride is {stride}: give 1 to {context} (the context)")
    inputs = length - 1
    cuts = [(0, min(context, inputs), 1)]
    while cuts[-1][1] < inputs:
        end = min(cuts[-1][1] + stride, inputs)
        cuts.append((end - context, end, cuts[-1][1] + 1))
    return cuts if inputs > 0 else []


@torch.no_grad()
def piece_bits(model, ids: np.ndarray, context: int = CONTEXT, stride: int = STRIDE, batch_size: int = 8) -> np.ndarray:
    """Bits of each of ids[1:] (L - 1,) float64 for ids (L,) [BOS … EOS]; the model's mode is left as it is.

    Raises CheckpointError where the model gives no finite number, or an id is beyond its vocabulary.
    """
    tokens = torch.as_tensor(np.asarray(ids, np.int64))
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", None)
    if vocabulary is not None and len(tokens) and int(tokens.max()) >= vocabulary:
        raise CheckpointError(f"token {int(tokens.max())} is not among the model's {vocabulary}: use the tokenizer saved with it")
    place = next((p.device for p in model.parameters()), torch.device("cpu")) if hasattr(model, "parameters") else torch.device("cpu")
    bits = np.full(max(0, len(tokens) - 1), np.nan)
    cuts = windows(len(tokens), context, stride)
    for at in range(0, len(cuts), batch_size):  # all windows of a piece have one length
        batch = cuts[at : at + batch_size]
        x = torch.stack([tokens[start:end] for start, end, _ in batch]).to(place)  # (B, L)
        y = torch.stack([tokens[start + 1 : end + 1] for start, end, _ in batch]).to(place)
        logits = model(x).float()  # (B, L, V)
        nats = logits.logsumexp(-1) - logits.gather(-1, y[..., None])[..., 0]
        for (start, end, first), row in zip(batch, nats.cpu().double().numpy() / math.log(2)):
            bits[first - 1 : end] = row[first - 1 - start :]
    if not np.isfinite(bits).all():
        raise CheckpointError("the model gives probabilities that are not numbers: the weights have diverged; take others")
    return bits
