"""The sampler draws what the model says, within mask, top-k and top-p, and the same for the same seed."""

import numpy as np
import pytest
import torch

from ittybitty.sampling import Chance, draw, filter_logits, greedy, log_probability, mask_logits, penalized, sample


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(*shape: int, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(*shape, generator=chance(seed)) * scale


def test_same_generator_same_ids():
    a, b = (sample(logits(64, 50), chance(7)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, sample(logits(64, 50), chance(8)))


def test_shapes_follow_logits():
    assert sample(logits(20), chance()).shape == ()
    assert sample(logits(3, 20), chance()).shape == (3,)
    assert sample(logits(3, 20), chance()).dtype == torch.int64
    assert greedy(logits(3, 20)).shape == (3,)


def test_frequencies_are_softmax():
    row = logits(6, scale=1.0)
    ids = sample(row.expand(40_000, 6), chance(), temperature=0.7, top_k=0, top_p=1.0)
    frequency = torch.bincount(ids, minlength=6) / len(ids)
    assert torch.allclose(frequency, torch.softmax(row / 0.7, -1), atol=0.01)


def test_only_top_k_is_drawn():
    row = logits(30, scale=0.1)
    drawn = set(sample(row.expand(2000, 30), chance(), top_k=5, top_p=1.0).tolist())
    assert drawn == set(row.topk(5).indices.tolist())


def test_nucleus_is_the_fewest_that_reach_p():
    row = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    kept = [int(torch.isfinite(filter_logits(row, top_p=p)).sum()) for p in (0.01, 0.5, 0.51, 0.79, 0.94, 0.96, 1.0)]
    assert kept == [1, 1, 2, 2, 3, 4, 4]


def test_nucleus_is_taken_among_top_k():
    row = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1]))
    kept = torch.isfinite(filter_logits(row, top_k=2, top_p=0.55))  # 0.4 is 0.57 of the two likeliest
    assert kept.tolist() == [True, False, False, False]


def test_kept_logits_are_unchanged():
    row = logits(4, 40)
    filtered = filter_logits(row, top_k=10, top_p=0.9)
    kept = torch.isfinite(filtered)
    assert kept.any(-1).all() and torch.equal(filtered[kept], row[kept])


@pytest.mark.parametrize("options", [dict(top_k=1), dict(top_p=1e-6), dict(temperature=1e-4)])
def test_extremes_are_greedy(options):
    rows = logits(50, 80)
    assert torch.equal(sample(rows, chance(), **options), greedy(rows))


def test_masked_ids_are_never_drawn():
    rows = logits(500, 40)
    mask = np.zeros(40, bool)
    mask[[3, 17, 31]] = True
    assert set(sample(rows, chance(), top_k=50, mask=mask).tolist()) == {3, 17, 31}
    assert set(greedy(rows, mask).tolist()) <= {3, 17, 31}


def test_unlikeliest_id_is_drawn_when_it_alone_is_allowed():
    row = logits(40)
    row[5] = -1e4
    mask = np.arange(40) == 5
    assert sample(row, chance(), top_k=1, mask=mask) == 5


def test_empty_mask_is_refused():
    with pytest.raises(ValueError, match="allows no id"):
        mask_logits(logits(5), np.zeros(5, bool))


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        sample(torch.full((5,), torch.nan), chance())
    with pytest.raises(ValueError, match="temperature"):
        sample(logits(5), chance(), temperature=0)


def test_penalty_lowers_seen_ids_only():
    row = np.array([2.0, -2.0, 1.0, -1.0], np.float32)
    assert penalized(row, np.array([0, 1, 1]), 2.0).tolist() == [1.0, -4.0, 1.0, -1.0]
    assert penalized(row, np.array([0, 1]), 1.0).tolist() == row.tolist() == [2.0, -2.0, 1.0, -1.0]


@pytest.mark.parametrize("seed", [0, 5, 2**32 + 5, 2**63 - 1])
def test_chance_is_that_of_pytorchs_generator(seed):
    mine = Chance(seed)
    expected = torch.rand(1000, generator=chance(seed), dtype=torch.float64).numpy()
    assert np.array_equal(np.concatenate([mine(1), mine(700), mine(299)]), expected)


def test_logits_that_are_not_numbers_are_refused_at_every_index():
    row = np.zeros(5, np.float32)
    row[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        draw(row, np.array(0.5))
    assert draw(row, np.array(0.5), mask=np.arange(5) < 3) in (0, 1, 2)


def test_the_probability_of_an_id_is_softmax():
    row = logits(9)
    assert log_probability(row.numpy(), 4) == pytest.approx(float(row.log_softmax(-1)[4]), abs=1e-6)


def test_one_number_a_draw():
    a, b = chance(3), chance(3)
    sample(logits(9, seed=1), a)
    sample(logits(9, seed=2), b, top_k=3)
    assert torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b))


def test_rounding_does_not_change_the_draw():
    rows = logits(2000, 60)
    noisy = rows + 1e-6 * logits(2000, 60, seed=9)
    same = (sample(rows, chance(4)) == sample(noisy, chance(4))).float().mean()
    assert same > 0.999
