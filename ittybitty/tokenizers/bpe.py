"""Byte-pair encoding of base tokens: pairs that often follow each other become one token.

The `tokenizers` library learns the merges, as it does for miditok; applied to arrays of ids it needs none of miditok's
Python objects. No merge crosses a bar line, so a bar of music is always spelt alike [1].

[1] Fradet et al. 2023, Byte Pair Encoding for Symbolic Music.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

FIRST_CHARACTER = 33  # miditok writes base token i as chr(33 + i)


class Merges:
    """Learnt merges: the pair `pairs[k]` of ids is replaced by the id `results[k]`, in the order of k."""

    def __init__(self, spelling: list[list[int]], pairs: ArrayLike, results: ArrayLike, bar_id: int):
        """`spelling[id]` are the base ids of an id; `bar_id` is the base id that no merge crosses."""
        self.bar_id = bar_id
        self.pairs = np.asarray(pairs, np.int64).reshape(-1, 2)  # (M, 2)
        self.results = np.asarray(results, np.int64)  # (M,)
        self.lengths = np.array([len(s) for s in spelling])  # (V,) base tokens of each id
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.flat = np.concatenate([np.array(s) for s in spelling])  # base ids of all ids, one after the other

    @property
    def size(self) -> int:
        """Ids in all, V."""
        return len(self.lengths)

    def spell(self, id: int) -> np.ndarray:
        """The base ids of one id."""
        return self.flat[self.starts[id] : self.starts[id] + self.lengths[id]]

    def expand(self, ids: np.ndarray) -> np.ndarray:
        """Base ids of a sequence."""
        lengths = self.lengths[ids]
        shift = np.repeat(self.starts[ids] - (np.cumsum(lengths) - lengths), lengths)
        return self.flat[shift + np.arange(len(shift))]

    def merge_arrays(self, base: np.ndarray) -> np.ndarray:
        """The same with NumPy alone, for machines without `tokenizers`: in each round every bar merges its first-learnt pair."""
        ids = np.array(base, np.int64)
        bar = np.cumsum(ids == self.bar_id)
        none = len(self.pairs)
        while len(ids) > 1:
            rank = np.where(bar[1:] == bar[:-1], self._ranks(ids[:-1], ids[1:]), none)  # of the pair that begins here
            best = np.full(bar[-1] + 1, none)
            np.minimum.at(best, bar[:-1], rank)
            at = np.flatnonzero((rank < none) & (rank == best[bar[:-1]]))
            if not len(at):
                break
            # of pairs that overlap, as in "a a a", the left one goes first: every other one of a run
            run = np.cumsum(np.diff(at, prepend=-2) > 1)
            first = np.flatnonzero(np.diff(run, prepend=0))
            at = at[(np.arange(len(at)) - first[run - 1]) % 2 == 0]
            ids[at] = self.results[rank[at]]
            ids, bar = np.delete(ids, at + 1), np.delete(bar, at + 1)
        return ids

    def _ranks(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """When each pair was learnt; the number of merges for a pair that was not."""
        keys, order = self._sorted_pairs
        wanted = left * self.size + right
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, order[place], len(keys))

    @cached_property
    def _sorted_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        keys = self.pairs[:, 0] * self.size + self.pairs[:, 1]
        order = np.argsort(keys)
        return keys[order], order

    @cached_property
    def _has_library(self) -> bool:
        try:
            import tokenizers  # noqa: F401
        except ImportError:
            return False
        return True

    @cached_property
    def _model(self):
        from tokenizers import models

        spelling = [characters(self.spell(k)) for k in range(self.size)]
        merges = [(spelling[a], spelling[b]) for a, b in self.pairs.tolist()]
        return models.BPE(vocab={s: i for i, s in enumerate(spelling)}, merges=merges, cache_capacity=0)

    def merge(self, base: np.ndarray) -> np.ndarray:
        """The ids of base ids, merged as learnt, bar by bar."""
        if len(self.pairs) == 0:
            return np.asarray(base)
        if not self._has_library:
            return self.merge_arrays(base)
        ids: list[int] = []
        for bar in bars(base, self.bar_id):
            ids += [token.id for token in self._model.tokenize(bar)]
        return np.array(ids, np.int64)


def characters(base: ArrayLike) -> str:
    """Base ids as a string, one character an id."""
    return (np.asarray(base) + FIRST_CHARACTER).astype("<u4").tobytes().decode("utf-32-le")


def bars(base: np.ndarray, bar_id: int) -> list[str]:
    """Base ids as strings, one a bar."""
    line = chr(FIRST_CHARACTER + bar_id)
    head, *rest = characters(base).split(line)
    return ([head] if head else []) + [line + bar for bar in rest]


def learn(words: Iterable[list[str]], base_size: int, vocab_size: int, specials: int, progress: bool = False) -> str:
    """The JSON of a `tokenizers` BPE model learnt on words (bars), a list of them for each piece; deterministic.

    The first `specials` base tokens stay out of every merge.
    """
    from tokenizers import Tokenizer, models, trainers

    alphabet = [chr(FIRST_CHARACTER + i) for i in range(base_size)]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=progress, special_tokens=alphabet[:specials], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer.to_str()


def read_merges(model_json: str, base_size: int, bar_id: int) -> Merges:
    """The merges in the JSON of a `tokenizers` BPE model; ValueError if they belong to other base tokens."""
    model = json.loads(model_json)["model"]
    vocabulary: dict[str, int] = model["vocab"]
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("its ids are not 0, 1, 2, …")
    if any(vocabulary.get(chr(FIRST_CHARACTER + i)) != i for i in range(base_size)):
        raise ValueError("its base tokens are not those of the settings")
    pairs = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    spelling = [[ord(c) - FIRST_CHARACTER for c in s] for s in sorted(vocabulary, key=lambda word: vocabulary[word])]
    if any(not 0 <= i < base_size for s in spelling for i in s):
        raise ValueError("a token is spelt with unknown base tokens")
    try:
        ids = np.array([(vocabulary[a], vocabulary[b], vocabulary[a + b]) for a, b in pairs]).reshape(-1, 3)
    except KeyError:
        raise ValueError("a merge makes a token that has no id") from None
    return Merges(spelling, ids[:, :2], ids[:, 2], bar_id)
