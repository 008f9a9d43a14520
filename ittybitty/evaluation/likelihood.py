"""Bits of each token of a piece: -log2 of the probability that a model gives it, every token scored exactly once.

A window of `context` tokens slides over the piece by `stride`. In each window only the tokens that no earlier window has
scored are counted, so that a scored token sees at least `context - stride` tokens before it, or the whole piece so far if
that is shorter. All systems are measured with the same two numbers (bits.py). `unbroken_bits` uses the whole piece so far as
context instead, which shows what a longer context is worth.

Bits per note is the sum over all tokens of a piece, end token included, divided by the notes of the performance that was
encoded: unlike loss per token it can be compared between tokenizers.

**Bits by attribute.** An id of a byte-pair vocabulary stands for several base tokens, of pitch, velocity, duration … Its
bits are divided among them by the chain rule, over the ids whose spelling begins alike: with S_j the probability of all
ids that begin with the first j base tokens of the id that came (S_0 = 1), base token j costs log2(S_{j-1} / S_j). What is
left, log2(S_k / p), is the cost of ending there instead of being a longer id. It carries information about the next base token,
and is counted with that. The parts add up to -log2 p for every vocabulary.

Left out: the choice of pieces, and the errors of the encoding; both are in bits.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import CheckpointError, ConfigError
from ..models.lm import LanguageModel
from ..tokenizers.protocol import ATTRIBUTES, Tokenizer

CONTEXT, STRIDE = 1024, 512  # steps of the model (a step reads one id, or the four ids of an event), in every table
CHUNK = 1024  # tokens that `unbroken_bits` reads at a time
# ids (B, L) -> logits (B, L, V) of the id after each; a LanguageModel is one
Scorer = Callable[[torch.Tensor], torch.Tensor]


def spans(length: int, context: int, stride: int, grain: int = 1) -> list[tuple[int, int, int]]:
    """(start, end, first): inputs [start, end) predict the tokens start + 1 … end, of which those from `first` on count.

    The last window is moved back to full length, so that every token has as much context as possible. Every window
    begins at a multiple of `grain`, the number of ids of an event.
    """
    if not 1 <= stride <= context:
        raise ConfigError(f"stride is {stride}: give 1 to {context} (the context)")
    inputs = length - 1
    cuts = [(0, min(context, inputs), 1)]
    while cuts[-1][1] < inputs:
        end = min(cuts[-1][1] + stride, inputs)
        cuts.append(((end - context) // grain * grain, end, cuts[-1][1] + 1))
    return cuts if inputs > 0 else []


def piece_bits(
    model: Scorer, ids: np.ndarray, context: int = CONTEXT, stride: int = STRIDE, batch_size: int = 8
) -> np.ndarray:
    """Bits of each of ids[1:], (L - 1,) float64, for ids (L,) [BOS … EOS]. The model's mode is not changed.

    CheckpointError if the model gives a number that is not finite, or if an id is beyond its vocabulary.
    """
    bits = np.full(max(0, len(ids) - 1), np.nan)
    for first, logits, targets in _scored(model, ids, context, stride, batch_size):
        bits[first - 1 : first - 1 + len(targets)] = F.cross_entropy(
            logits, targets, reduction="none"
        ).cpu().double().numpy() / math.log(2)
    return _finite(bits)


def piece_bits_by_attribute(
    model: Scorer,
    ids: np.ndarray,
    spelling: Spelling,
    context: int = CONTEXT,
    stride: int = STRIDE,
    batch_size: int = 8,
) -> np.ndarray:
    """Bits (L - 1, 6) of each of ids[1:], divided among ATTRIBUTES; each row adds up to `piece_bits`, except that the bits
    of an id's ending are in the row of the next id."""
    size = max(0, len(ids) - 1)
    bits, endings = np.zeros((size, len(ATTRIBUTES))), np.zeros(size)
    for first, logits, targets in _scored(model, ids, context, stride, batch_size):
        rows = slice(first - 1, first - 1 + len(targets))
        bits[rows], endings[rows] = spelling.divide(logits, targets)
    if size:
        opens = spelling.says[np.asarray(ids[2:], np.int64), 0]  # what the next id begins with
        bits[np.arange(1, size), opens] += endings[:-1]
        bits[-1, ATTRIBUTES.index("other")] += endings[-1]
    return _finite(bits)


@torch.no_grad()
def unbroken_bits(model: Scorer, ids: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
    """Bits (L - 1,) of ids[1:] with the whole piece before each token as context, read in chunks of `chunk` tokens.

    Memory does not grow with the number of chunks. A model that is no LanguageModel gets the whole piece at once.
    Raises the errors of `piece_bits`.
    """
    tokens, place = _checked(model, ids), _place(model)
    if len(tokens) < 2:
        return np.zeros(0)
    x, y = tokens[:-1].to(place)[None], tokens[1:].to(place)
    if not isinstance(model, LanguageModel):
        return _finite(F.cross_entropy(model(x)[0].float(), y, reduction="none").cpu().double().numpy() / math.log(2))
    state, nats = model.init_state(1), []
    for at in range(0, x.shape[1], chunk):
        nats.append(
            F.cross_entropy(
                model.read(x[:, at : at + chunk], state)[0].float(), y[at : at + chunk], reduction="none"
            ).cpu()
        )
    return _finite(torch.cat(nats).double().numpy() / math.log(2))


@torch.no_grad()
def _scored(
    model: Scorer, ids: np.ndarray, context: int, stride: int, batch_size: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """(first, logits (n, V), targets (n,)) for runs of tokens first … first + n - 1 that together are ids[1:], each once."""
    tokens, place = _checked(model, ids), _place(model)
    grain = ids_per_step(model)
    cuts = spans(len(tokens), context * grain, stride * grain, grain)
    for at in _runs(cuts, batch_size):
        batch = cuts[at]
        x = torch.stack([tokens[start:end] for start, end, _ in batch]).to(place)  # (B, L)
        logits = model(x)  # (B, L, V)
        for (start, end, first), row in zip(batch, logits):
            yield first, row[first - 1 - start :].float(), tokens[first : end + 1].to(place)


def ids_per_step(model: Scorer) -> int:
    """Ids that one step of the model's backbone reads: 4 for a model of events, else 1. Contexts count steps."""
    return len(model.config.events) or 1 if isinstance(model, LanguageModel) else 1


def _runs(cuts: list[tuple[int, int, int]], most: int) -> Iterator[slice]:
    """Slices of at most `most` consecutive windows of the same length."""
    first = 0
    for i in range(1, len(cuts) + 1):
        full = i - first == most
        if i == len(cuts) or full or cuts[i][1] - cuts[i][0] != cuts[first][1] - cuts[first][0]:
            yield slice(first, i)
            first = i


def _checked(model: Scorer, ids: np.ndarray) -> torch.Tensor:
    tokens = torch.as_tensor(np.asarray(ids, np.int64))
    if isinstance(model, LanguageModel) and len(tokens) and int(tokens.max()) >= model.config.vocab_size:
        raise CheckpointError(
            f"token {int(tokens.max())} is not among the model's {model.config.vocab_size}: use the tokenizer saved with it"
        )
    return tokens


def _place(model: Scorer) -> torch.device:
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    return next((p.device for p in parameters), torch.device("cpu"))


def _finite(bits: np.ndarray) -> np.ndarray:
    if not np.isfinite(bits).all():
        raise CheckpointError(
            "the model gives probabilities that are not numbers: the weights have diverged; take others"
        )
    return bits


@dataclass(frozen=True)
class Spelling:
    """The ids of a tokenizer, sorted by their base tokens, so that all ids with the same beginning are neighbours.

    The probability of all ids that begin with given base tokens is then a difference of two cumulative sums.
    """

    order: np.ndarray  # (V,) ids, by spelling
    ranges: np.ndarray  # (V, K, 2) places in `order` of the ids that begin with the first k + 1 base tokens of id v
    lengths: np.ndarray  # (V,) base tokens of each id
    says: np.ndarray  # (V, K) index into ATTRIBUTES of each base token

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Spelling:
        """From `tokenizer.base_names` and `tokenizer.attributes`, which name each base token of an id and what it says."""
        size = tokenizer.vocab_size
        spelt = [tuple(tokenizer.base_names(id)) for id in range(size)]
        lengths = np.array([len(word) for word in spelt])
        order = np.array(sorted(range(size), key=spelt.__getitem__))
        says = np.full((size, lengths.max()), ATTRIBUTES.index("other"))
        ranges = np.zeros((size, lengths.max(), 2), np.int64)
        for id in range(size):
            says[id, : lengths[id]] = [ATTRIBUTES.index(what) for what in tokenizer.attributes(id)]
        for k in range(lengths.max()):
            prefixes = [spelt[id][: k + 1] if lengths[id] > k else (spelt[id], id) for id in order]
            begins = [i for i in range(size) if i == 0 or prefixes[i] != prefixes[i - 1]]
            for start, end in zip(begins, [*begins[1:], size]):
                ranges[order[start:end], k] = start, end
        return cls(order, ranges, lengths, says)

    def divide(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Bits (n, 6) of each target by attribute, and bits (n,) of its ending, for logits (n, V) and targets (n,)."""
        targets = targets.to(logits.device)
        order = torch.as_tensor(self.order, device=logits.device)
        places = torch.as_tensor(self.ranges, device=logits.device)[targets]  # (n, K, 2)
        logits = logits.double() if logits.device.type != "mps" else logits.cpu().double()
        spent = F.cross_entropy(logits, targets, reduction="none")
        total = F.pad(logits.softmax(-1)[:, order].cumsum(-1), (1, 0))  # (n, V + 1)
        alike = total.gather(1, places[..., 1]) - total.gather(1, places[..., 0])  # S_1 … S_K, (n, K)
        # between p and 1, and decreasing: differences of sums near 1 are inexact for very unlikely ids
        left = (-alike.clamp(min=1e-300).log()).clamp(min=0).minimum(spent[:, None]).cummax(1).values.cpu().numpy()
        ids, whole = targets.cpu().numpy(), spent.cpu().numpy()
        inside = np.arange(left.shape[1]) < self.lengths[ids][:, None]  # (n, K)
        steps = np.where(inside, np.diff(left, axis=1, prepend=0.0), 0.0)
        bits = np.zeros((len(ids), len(ATTRIBUTES)))
        np.add.at(bits, (np.arange(len(ids))[:, None], self.says[ids]), steps)
        return bits / math.log(2), (whole - steps.sum(1)) / math.log(2)
