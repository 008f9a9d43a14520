"""An n-gram model of token ids with interpolated, modified Kneser–Ney smoothing: a baseline from counts alone.

For a history h of n - 1 ids and h' the same without its oldest,

    p_n(w | h) = max(c(h w) - D(c), 0) / c(h .) + g(h) p_{n-1}(w | h'),      g(h) = sum_w D(c)(h w) / c(h .)

[1] eq. 20. At the highest order c counts occurrences; below it, the number of different ids that precede h w [2]. The
discounts D(1), D(2), D(3 and more) of an order come from its counts of counts [1] eq. 26; order 0 is uniform over the
vocabulary, so that every id has a probability and all of them add up to one (a test checks this).

No maintained library that installs everywhere gives these probabilities for ids: KenLM is for words in text files
and is not on the package index, and NLTK would loop in Python over fifteen million tokens. Here an n-gram is a
pair (number of its first n - 1 ids among the distinct histories, last id) in one 64-bit integer, and an order is one sort.

[1] Chen and Goodman 1999, An empirical study of smoothing techniques for language modeling.
[2] Kneser and Ney 1995, Improved backing-off for m-gram language modeling.
[3] Heafield et al. 2013, Scalable modified Kneser–Ney language model estimation: its program's --discount_fallback.

Left out: pruning and saving, since counting all of MAESTRO takes a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, CorpusError

LARGEST_ORDER = 12
FALLBACK = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class _Counts:
    """Counts of one kind of the n-grams of one order, ready for eq. 20: by n-gram the discounted, by history the rest."""

    discounted: np.ndarray  # (G,) max(c - D(c), 0) / c(h .)
    backoff: np.ndarray  # (H,) g(h); 1 for a history that was never followed


@dataclass(frozen=True)
class _Order:
    """The distinct n-grams of an order, sorted. Number i of `keys` is that n-gram's number as a history."""

    keys: np.ndarray  # (G,) int64: number of the history * V + last id
    raw: _Counts  # occurrences: for a model whose highest order this is
    continuation: _Counts  # different ids before it: for models of a higher order


class KneserNey:
    """The model: `fit` counts, `bits` scores a piece, `probabilities` gives the whole distribution after a history.

    A piece is [BOS … EOS] as tokenizers write it. Its first id is given, and also fills the histories before it.
    """

    def __init__(self, vocab_size: int, orders: Sequence[_Order]):
        self.vocab_size, self._orders = vocab_size, tuple(orders)

    @property
    def order(self) -> int:
        """Number of ids of the longest n-gram; the model uses order - 1 ids as context."""
        return len(self._orders)

    @property
    def size(self) -> int:
        """Distinct n-grams of all orders."""
        return sum(len(order.keys) for order in self._orders)

    @classmethod
    def fit(cls, pieces: Iterable[np.ndarray], vocab_size: int, order: int = 5) -> KneserNey:
        """Count pieces of ids; CorpusError for none, ConfigError for an order below 1 or an id beyond the vocabulary."""
        if not 1 <= order <= LARGEST_ORDER:
            raise ConfigError(f"order is {order}: give 1 to {LARGEST_ORDER}")
        pieces = [np.asarray(piece, np.int64) for piece in pieces if len(piece) > 1]
        if not pieces:
            raise CorpusError(
                "an n-gram model needs at least one training piece of two tokens; give a corpus that has some"
            )
        ids = np.concatenate([_padded(piece, order) for piece in pieces])
        if ids.max() >= vocab_size:
            raise ConfigError(f"token {ids.max()} is not among {vocab_size}: use the tokenizer that made these ids")
        pad = _padding(order)
        scored = np.concatenate([np.arange(len(piece) + pad) > pad for piece in pieces])
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        numbers, counts = np.zeros(len(ids), np.int64), []
        for n in range(1, order + 1):
            # the history of the n-gram that ends at t is the (n - 1)-gram that ends at t - 1
            history = np.concatenate([[0], numbers[:-1]]) if n > 1 else np.zeros(len(ids), np.int64)
            keys, where, numbers = np.unique(history * vocab_size + ids, return_index=True, return_inverse=True)
            counts.append(np.bincount(numbers, scored, len(keys)))
            found.append((keys, where, numbers.astype(np.int32) if n < order else np.empty(0, np.int32)))
        orders = []
        for n, (keys, _, numbers) in enumerate(found):
            histories = len(found[n - 1][0]) if n else 1
            raw = _discounted(keys // vocab_size, counts[n], histories)
            lower = raw
            if (
                n + 1 < order
            ):  # each distinct (n + 1)-gram that occurs says that its last n ids have one more id before them
                real = counts[n + 1] > 0
                before = np.bincount(numbers[found[n + 1][1][real]], minlength=len(keys))
                lower = _discounted(keys // vocab_size, before.astype(float), histories)
            orders.append(_Order(keys, raw, lower))
        return cls(vocab_size, orders)

    def bits(self, ids: np.ndarray) -> np.ndarray:
        """Bits (L - 1,) of each of ids[1:]."""
        return self.bits_by_order(ids)[-1]

    def bits_by_order(self, ids: np.ndarray) -> np.ndarray:
        """Bits (order, L - 1) of ids[1:] under the Kneser–Ney models of orders 1, 2, … that these counts make."""
        if len(ids) < 2:
            return np.zeros((self.order, 0))
        line = _padded(np.asarray(ids, np.int64), self.order)
        at = np.arange(_padding(self.order) + 1, len(line))
        return -np.log2(self._probabilities(line, at, line[at]))

    def probabilities(self, history: Sequence[int]) -> np.ndarray:
        """(V,) of the id that follows [BOS …]; they add up to one."""
        line = np.append(_padded(np.asarray(history, np.int64), self.order), 0)
        at = np.full(self.vocab_size, len(line) - 1)
        return self._probabilities(line, at, np.arange(self.vocab_size))[-1]

    def _probabilities(self, line: np.ndarray, at: np.ndarray, last: np.ndarray) -> np.ndarray:
        """(order, T): of id last[t] at place at[t] of a padded line, under the model of each order."""
        lower = np.full(len(at), 1.0 / self.vocab_size)
        ended = np.zeros(
            len(line), np.int64
        )  # number of the n - 1 ids that end at each place, -1 where they were never met
        result: list[np.ndarray] = []
        for order in self._orders:
            history = ended[at - 1] if result else np.zeros(len(at), np.int64)
            known = history >= 0
            place, met = _find(order.keys, np.where(known, history * self.vocab_size + last, -1))
            higher, lower = (
                np.where(met, counts.discounted[place], 0.0)
                + np.where(known, counts.backoff[np.maximum(history, 0)], 1.0) * lower
                for counts in (order.raw, order.continuation)
            )  # [1] eq. 20
            result.append(higher)
            before = np.concatenate([[-1], ended[:-1]]) if len(result) > 1 else ended
            place, met = _find(order.keys, np.where(before >= 0, before * self.vocab_size + line, -1))
            ended = np.where(met, place, -1)
        return np.stack(result)


def _padded(piece: np.ndarray, order: int) -> np.ndarray:
    """The piece with its first id repeated, so that every id has a complete history before it."""
    return np.concatenate([np.full(_padding(order), piece[0]), piece])


def _padding(order: int) -> int:
    return max(0, order - 2)


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of each wanted key among the sorted ones, and whether it is there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def _discounted(history: np.ndarray, counts: np.ndarray, histories: int) -> _Counts:
    """Eq. 20's two terms for n-grams with these histories and counts."""
    discount = np.concatenate([[0.0], _discounts(counts)])[np.minimum(counts, 3).astype(np.int64)]
    total = np.bincount(history, counts, histories)
    taken = np.bincount(history, discount, histories)
    divisor = np.where(total > 0, total, 1.0)
    return _Counts(np.maximum(counts - discount, 0) / divisor[history], np.where(total > 0, taken / divisor, 1.0))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D(1), D(2), D(3 and more) [1] eq. 26; [3]'s 0.5, 1, 1.5 where a small corpus does not give three that make sense."""
    of = np.bincount(np.minimum(counts, 5).astype(np.int64), minlength=6).astype(float)
    if of[1:5].all():
        y = of[1] / (of[1] + 2 * of[2])
        found = np.array([i - (i + 1) * y * of[i + 1] / of[i] for i in (1, 2, 3)])
        if (found > 0).all():
            return found
    return np.array(FALLBACK)
