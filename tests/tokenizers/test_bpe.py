"""Byte pairs applied with NumPy alone are those of the `tokenizers` library."""

from __future__ import annotations

import numpy as np
import pytest

from ittybitty.tokenizers import bpe

BAR = 3


@pytest.fixture(scope="module")
def merges() -> bpe.Merges:
    """Pairs learnt from noisy repetitions: base ids 0 to 11, of which 3 is the bar line."""
    words = [bpe.bars(_music(seed, 40), BAR) for seed in range(30)]
    return bpe.read_merges(bpe.learn(words, 12, 120, 3), 12, BAR)


def _music(seed: int, bars: int) -> np.ndarray:
    """Bars of motifs, some of one id over and over, where pairs overlap."""
    random = np.random.default_rng(seed)
    motifs = [random.integers(4, 12, size=random.integers(2, 9)) for _ in range(4)] + [np.full(7, 5), np.full(8, 5)]
    return np.concatenate(
        [
            np.concatenate([[BAR], *(motifs[random.integers(6)] for _ in range(random.integers(0, 4)))])
            for _ in range(bars)
        ]
    ).astype(np.int64)


@pytest.mark.parametrize("seed", range(100, 120))
def test_arrays_merge_as_the_library_does(merges, seed):
    base = _music(seed, 20)
    for part in (base, base[2:], base[:1], base[:0]):  # a window may begin within a bar
        expected = merges.merge(part)
        assert merges.merge_arrays(part).tolist() == expected.tolist()
    assert len(merges.merge(base)) < 0.6 * len(base)  # there is something to merge


def test_the_library_is_not_needed(merges, monkeypatch):
    base = _music(1, 20)
    expected = merges.merge(base).tolist()
    other = bpe.Merges([merges.spell(i).tolist() for i in range(merges.size)], merges.pairs, merges.results, BAR)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)  # importing it raises ImportError
    assert other.merge(base).tolist() == expected
