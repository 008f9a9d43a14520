"""What each family is held to: ncps for CfC, transformers for LLaMA, the selective scan for the plain SSM, torch for LSTM."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ittybitty.config import SCALE_PRESETS
from ittybitty.models import build
from ittybitty.models.cfc import CfC
from ittybitty.models.scan import scan_sequential
from ittybitty.models.ssm import PlainSSM, fft_convolution

pytestmark = pytest.mark.slow

NANO = dataclasses.replace(SCALE_PRESETS["nano"]["model"], vocab_size=60)
D = NANO.d_model


# ---------------------------------------------------------------------- CfC


def cfc(sweeps: int, like: CfC | None = None, units: int = 0) -> CfC:
    torch.manual_seed(0)
    made = CfC(dataclasses.replace(NANO, cfc_sweeps=sweeps, d_cfc=units))
    if like is not None:
        made.load_state_dict(like.state_dict())
    return made.double()


@pytest.fixture
def reference():
    """ncps's own recurrent network with one layer of backbone, and our recurrent cell with its weights."""
    from ncps.torch import CfC as Reference

    ours = cfc(0)
    theirs = Reference(D, D, backbone_units=ours.backbone[0].out_features, backbone_layers=1).double()
    ours.load_state_dict(theirs.rnn_cell.state_dict())  # a state dict goes both ways
    return ours, theirs


def test_recurrent_cfc_is_ncps_in_value_and_gradient(reference):
    ours, theirs = reference
    x = torch.randn(2, 20, D, dtype=torch.float64, requires_grad=True)
    a, (b, last) = ours(x), theirs(x)
    torch.testing.assert_close(a, b)
    weight = torch.randn_like(a)
    for one, two in zip(
        torch.autograd.grad((a * weight).sum(), [x, *ours.parameters()]),
        torch.autograd.grad((b * weight).sum(), [x, *theirs.parameters()]),
    ):
        torch.testing.assert_close(one, two)
    state = ours.init_state(2)
    ours(x.detach(), state)
    torch.testing.assert_close(state[:, 0], last)


@pytest.mark.parametrize("sweeps", [2, 3, 5])
def test_parallel_cfc_is_the_recurrent_one_for_as_many_tokens_as_it_sweeps(sweeps):
    recurrent = cfc(0)
    parallel, x = cfc(sweeps, recurrent), torch.randn(2, 12, D, dtype=torch.float64)
    with torch.no_grad():
        one, two = recurrent(x), parallel(x)
        torch.testing.assert_close(two[:, :sweeps], one[:, :sweeps])
        assert not torch.allclose(two[:, sweeps], one[:, sweeps])
        # token t is that of a recurrent cell which begins, with h = 0, at token t - sweeps + 1
        torch.testing.assert_close(two[:, 9], recurrent(x[:, 10 - sweeps : 10])[:, -1])


def test_more_sweeps_come_closer():
    recurrent, x = cfc(0), torch.randn(2, 60, D, dtype=torch.float64)
    with torch.no_grad():
        errors = [float((cfc(k, recurrent)(x) - recurrent(x)).abs().max()) for k in (2, 4, 8, 60)]
    assert errors[0] > errors[1] > errors[2] > errors[3] and errors[3] < 1e-12


def test_one_sweep_is_the_gate_of_ncps_with_an_empty_past(reference):
    recurrent, theirs = reference
    ours = cfc(1, units=recurrent.backbone[0].out_features)
    weights = dict(theirs.rnn_cell.state_dict())
    weights["backbone.0.weight"] = weights["backbone.0.weight"][:, :D]  # what would read h is left out
    ours.load_state_dict(weights)
    x = torch.randn(3, 7, D, dtype=torch.float64)
    expected, _ = theirs.rnn_cell(x.flatten(0, 1), torch.zeros(21, D, dtype=torch.float64), 1.0)
    torch.testing.assert_close(ours(x), expected.view(3, 7, D))


def test_cfc_has_the_parameters_of_a_feed_forward():
    for sweeps in (0, 1, 2):
        made = sum(p.numel() for p in cfc(sweeps).parameters())
        assert abs(made / (2 * D * NANO.d_ff) - 1) < 0.06  # biases, and U is a whole number


# ---------------------------------------------------------------------- LLaMA


def test_llama_is_transformers_llama_for_causal_lm():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    ours = build(dataclasses.replace(NANO, family="llama", n_layers=2)).eval()
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60,
            hidden_size=D,
            intermediate_size=NANO.d_ff,
            num_hidden_layers=2,
            num_attention_heads=NANO.n_heads,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    names = {"backbone.llama.": "model.", "embedding.": "model.embed_tokens."}
    weights = {
        name.replace(a, b): value
        for name, value in ours.state_dict().items()
        for a, b in names.items()
        if name.startswith(a)
    }
    assert theirs.load_state_dict(weights, strict=False) == (["lm_head.weight"], [])  # which is the embedding
    x = torch.randint(0, 60, (2, NANO.attn_reach))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x).logits)


def test_llama_beyond_its_reach_is_the_same_wherever_a_piece_begins():
    """Scores depend on distances alone, and what is out of reach is forgotten: one layer hears `reach` tokens and no more."""
    torch.manual_seed(0)
    made = build(dataclasses.replace(NANO, family="llama", n_layers=1, attn_reach=16)).eval()
    x = torch.randint(0, 60, (1, 100))
    with torch.no_grad():
        torch.testing.assert_close(made(x)[:, -1], made(x[:, -16:])[:, -1], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(made(x)[:, -1], made(x[:, -15:])[:, -1], atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------------- plain SSM


def test_plain_ssm_is_a_scan_whose_choices_are_constant():
    torch.manual_seed(0)
    made, u = PlainSSM(NANO).double(), torch.randn(2, 50, 2 * D, dtype=torch.float64, requires_grad=True)
    delta = torch.nn.functional.softplus(made.dt)
    fast = fft_convolution(u, made.kernel(50)) + made.D * u
    one = torch.ones(2, 50, NANO.d_state, dtype=torch.float64)
    slow = made.D * u
    for n in range(NANO.d_state):  # B and C differ from channel to channel, which the scan's may not: a state at a time
        y, _ = scan_sequential(
            u * made.B[:, n],
            delta.expand_as(u),
            -torch.exp(made.A_log[:, n : n + 1]),
            one[..., :1],
            one[..., :1],
            torch.zeros_like(made.D),
            u.new_zeros(2, 2 * D, 1),
        )
        slow = slow + y * made.C[:, n]
    torch.testing.assert_close(fast, slow)
    weight, inputs = torch.randn_like(u), (u, made.dt, made.A_log, made.B, made.C)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), inputs) for y in (fast, slow))):
        torch.testing.assert_close(a, b)


# ---------------------------------------------------------------------- LSTM


def test_lstm_of_equal_layers_is_torchs_stack_of_them():
    torch.manual_seed(0)
    made = build(dataclasses.replace(NANO, family="lstm", lstm_sizes=(24, 24, 24))).eval()
    whole = torch.nn.LSTM(NANO.d_embedding, 24, num_layers=3, batch_first=True)
    layers = enumerate(made.backbone.layers)
    whole.load_state_dict(
        {name.replace("_l0", f"_l{i}"): value for i, layer in layers for name, value in layer.state_dict().items()}
    )
    x = torch.randint(0, 60, (2, 30))
    with torch.no_grad():
        torch.testing.assert_close(made(x), made.head(whole(made.embedding(x))[0]))


def test_float_input_is_the_id_in_parts_of_the_vocabulary():
    made = build(dataclasses.replace(NANO, family="lstm", lstm_input="float"))
    torch.testing.assert_close(made.embedding(torch.tensor([0, 30, 59])), torch.tensor([[0.0], [0.5], [59 / 60]]))
    assert "embedding" not in made.parameters_by_part()
