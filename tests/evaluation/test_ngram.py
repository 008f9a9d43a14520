"""A Kneser–Ney model is a probability, the one that can be counted by hand, and better than knowing nothing."""

import numpy as np
import pytest

from ittybitty.errors import ConfigError, CorpusError
from ittybitty.evaluation.ngram import KneserNey

BOS, EOS, A, B, C = 0, 1, 2, 3, 4


def music(length=400, seed=0):
    """A piece that mostly counts upwards."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random(length) < 0.8, 1, rng.integers(0, 20, length))
    return np.concatenate([[BOS], 2 + np.cumsum(steps) % 20, [EOS]])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_after_any_history_sum_to_one(order):
    model = KneserNey.fit([music(seed=i) for i in range(3)], 25, order)
    for history in ([BOS], [BOS, 3], [BOS, 3, 4, 5], [BOS, 9, 2, 17, 2, 5], [BOS, 24, 24]):  # met and never met
        p = model.probabilities(history)
        assert p.shape == (25,) and p.min() > 0 and p.sum() == pytest.approx(1)


def test_every_order_is_a_probability_at_every_place():
    """Each order of `bits_by_order` sums to one over all ids that could stand at a place."""
    model, line = KneserNey.fit([music(), music(seed=1)], 25, 4), music(40, seed=2)
    total = sum(2.0 ** -model.bits_by_order(np.append(line[:30], id))[:, -1] for id in range(25))
    assert total == pytest.approx(np.ones(4))


def test_a_bigram_by_hand():
    """[BOS A B A C EOS], with the discounts 0.5, 1, 1.5 of a corpus too small to say its own."""
    model = KneserNey.fit([[BOS, A, B, A, C, EOS]], 5, 2)
    # five distinct pairs; A is preceded by two different ids (BOS and B), B, C and EOS by one
    left = (3 * 0.5 + 1) / 5  # what the discounts set free
    unigram = {A: (2 - 1) / 5 + left / 5, B: (1 - 0.5) / 5 + left / 5, BOS: left / 5}
    # all five pairs occur once: D = 0.5. After A: B and C once each
    after_a = model.probabilities([BOS, A])
    assert after_a[B] == pytest.approx(0.5 / 2 + (0.5 + 0.5) / 2 * unigram[B])
    assert after_a[A] == pytest.approx(0.5 * unigram[A]) and after_a[BOS] == pytest.approx(0.5 * unigram[BOS])
    assert model.bits([BOS, A, B])[1] == pytest.approx(-np.log2(after_a[B]))


def test_bits_are_those_of_the_probabilities():
    model, piece = KneserNey.fit([music(seed=i) for i in range(4)], 25, 4), music(60, seed=9)
    by_hand = [-np.log2(model.probabilities(piece[:t])[piece[t]]) for t in range(1, len(piece))]
    assert model.bits(piece) == pytest.approx(by_hand)


def test_lower_orders_are_models_of_their_own():
    pieces, held_out = [music(seed=i) for i in range(3)], music(seed=7)
    whole = KneserNey.fit(pieces, 25, 4).bits_by_order(held_out)
    for order in (1, 2, 3):
        assert whole[order - 1] == pytest.approx(KneserNey.fit(pieces, 25, order).bits(held_out), rel=1e-6)


def test_counting_beats_uniform_and_longer_histories_help():
    model, held_out = KneserNey.fit([music(2000, seed=i) for i in range(4)], 25, 3), music(500, seed=8)
    unigram, bigram, trigram = model.bits_by_order(held_out).mean(1)
    assert bigram < unigram <= np.log2(25) and trigram < bigram + 0.1
    assert bigram < 2.2  # the source's own entropy is 1.97: 0.81 bits for one step of 20, and its surprises


def test_pieces_do_not_run_into_one_another():
    model = KneserNey.fit([[BOS, A, B, EOS]] * 3, 5, 3)
    assert model.probabilities([BOS, A, B])[EOS] > 0.5 and model.probabilities([BOS, A, B, EOS])[BOS] < 0.3
    assert model.bits([BOS]).shape == (0,)


def test_bad_input_is_one_line_that_names_it():
    with pytest.raises(ConfigError, match="order"):
        KneserNey.fit([music()], 25, 0)
    with pytest.raises(ConfigError, match="token 21"):
        KneserNey.fit([music()], 10, 2)
    with pytest.raises(CorpusError, match="training piece"):
        KneserNey.fit([], 25, 2)
