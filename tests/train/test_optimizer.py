"""Muon and AdamW side by side, and schedules that follow steps or time."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from ittybitty import systems
from ittybitty.config import TrainConfig, override
from ittybitty.errors import ConfigError
from ittybitty.train.optimizer import MuonAdamW, hidden_matrices, learning_rate, optimizer, orthogonal


def matrix(rows: int, columns: int, decay: float = 3.0) -> torch.Tensor:
    """Singular values from 1 down to exp(-decay)."""
    least = min(rows, columns)
    U, V = torch.linalg.qr(torch.randn(rows, least))[0], torch.linalg.qr(torch.randn(columns, least))[0]
    return U * torch.exp(-torch.linspace(0, decay, least)) @ V.T


@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (64, 16)])
def test_orthogonal_brings_singular_values_near_one(shape):
    torch.manual_seed(0)
    batch = torch.stack([matrix(*shape), matrix(*shape)])
    values = torch.linalg.svdvals(orthogonal(batch))
    assert values.min() > 0.3 and values.max() < 1.25


@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (64, 16)])
def test_gram_iteration_is_newton_schulz(shape):
    torch.manual_seed(0)
    X = G = matrix(*shape).double()
    X = X / X.norm()
    X = X.T if shape[0] > shape[1] else X
    for _ in range(5):
        S = X @ X.T
        X = 3.4445 * X + (-4.7750 * S + 2.0315 * S @ S) @ X
    X = X.T if shape[0] > shape[1] else X
    assert torch.allclose(orthogonal(G.float()[None])[0].double(), X, atol=1e-3)
    assert (orthogonal(G.bfloat16()[None])[0].double() - X).norm() / X.norm() < 0.1


def test_muon_takes_torchs_steps():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(32, 16)) for _ in range(2))
    config = TrainConfig(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.02, weight_decay=0.1)
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        pytest.skip("this torch has no Muon to compare with")
    a, b = MuonAdamW([ours], [], config), muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    for group in a.param_groups:
        group["lr"] = 1e-3 * group["scale"]
    for _ in range(4):
        gradient = matrix(32, 16)
        for p, o in ((ours, a), (theirs, b)):
            p.grad = gradient.clone()
            o.step()
    moved = (theirs - 1).norm()
    assert moved > 0.1 and (ours - theirs).norm() < 0.05 * moved


@pytest.mark.parametrize("row", ["notes-hybrid", "notes-llama", "hybrid", "hybrid-cfc", "lstm-remi", "ssm"])
def test_muon_trains_hidden_matrices_only(row):
    model = systems.build_model(systems.build(row, "nano"))
    own = {id(p) for p in hidden_matrices(model)}
    names = {name for name, p in model.named_parameters() if id(p) in own}
    assert names and all(p.ndim == 2 for p in model.parameters() if id(p) in own)
    banned = ("embedding", "x_proj", "dt_proj", "A_log", "head.out", "condition", "bias", "head.weight")
    assert not [name for name in names if any(word in name for word in banned)]
    if row.startswith("notes"):
        assert any(name.startswith("head.inner") for name in names)


def test_muon_without_hidden_matrices_is_refused():
    with pytest.raises(ConfigError, match="no hidden matrices"):
        optimizer(nn.Embedding(4, 4), TrainConfig(optimizer="muon"))


def test_a_misspelt_optimizer_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'muon'"):
        override(systems.build("hybrid", "nano"), {"train.optimizer": "muom"})


def test_stable_schedule_falls_in_the_last_part():
    config = TrainConfig(
        steps=101, warmup=1, schedule="stable", cooldown=0.25, learning_rate=1.0, min_learning_rate=0.1
    )
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == rates[74] == 1.0 and rates[-1] == pytest.approx(0.1)
    assert all(b < a for a, b in pairwise(rates[76:]))


def test_minutes_move_the_schedule():
    config = TrainConfig(steps=10**6, warmup=0, minutes=2.0, learning_rate=1.0, min_learning_rate=0.0)
    assert learning_rate(5, config, seconds=60) == pytest.approx(0.5)
    assert learning_rate(5, config, seconds=121) == pytest.approx(0.0)
