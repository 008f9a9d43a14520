"""What is compared computes what it says, and exponents and peaks are those that were there."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ittybitty.bench import complexity, timing
from ittybitty.errors import ResultError
from ittybitty.models.ssm import fft_convolution

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_convolution_is_recurrence():
    mixer, L = complexity.MIXERS["ssm"](16), 37
    u = torch.randn(2, L, mixer.E)
    delta, A = F.softplus(mixer.dt), -torch.exp(mixer.A_log)
    state, outputs = torch.zeros(2, mixer.E, mixer.N), []
    for t in range(L):
        state = torch.exp(delta[:, None] * A) * state + (delta * u[:, t])[..., None] * mixer.B
        outputs.append((state * mixer.C).sum(-1))
    torch.testing.assert_close(fft_convolution(u, mixer.kernel(L)), torch.stack(outputs, 1), rtol=1e-4, atol=1e-5)


def test_fused_attention_is_attention():
    plain, fused = (complexity.MIXERS[name](16) for name in ("attention", "fused"))
    fused.load_state_dict(plain.state_dict())
    x = torch.randn(2, 21, 16)
    torch.testing.assert_close(plain(x), fused(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", complexity.MIXERS)
def test_no_mixer_depends_on_later_tokens(name):
    mixer, x = complexity.MIXERS[name](16).eval(), torch.randn(1, 20, 16)
    other = x.clone()
    other[:, 12:] += 1
    torch.testing.assert_close(mixer(x)[:, :12], mixer(other)[:, :12], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mixer(x)[:, 12:], mixer(other)[:, 12:])


@pytest.mark.parametrize("name", complexity.MIXERS)
def test_a_step_reaches_every_weight(name):
    mixer = complexity.MIXERS[name](16)
    mixer(torch.randn(1, 20, 16)).square().sum().backward()
    without = [key for key, p in mixer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_exponents_are_recovered():
    lengths = (256, 512, 1024, 2048)
    assert complexity.exponent(lengths, [3e-6 * n**2 for n in lengths]) == pytest.approx(2)
    assert complexity.exponent(lengths, [7e-6 * n for n in lengths]) == pytest.approx(1)


def test_peak_memory_includes_what_was_freed_again():
    peaks = timing.child("complexity", "memory", name="attention", lengths=[64, 512, 1024], width=16, threads=1)
    matrix = complexity.HEADS * 1024**2 * 4  # bytes of one matrix of weights
    assert matrix < peaks[2] < 8 * matrix and peaks[2] > 2.5 * peaks[1]


def test_functions_take_turns():
    order = []
    times = timing.in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, turns=3, warm_up=1)
    assert "".join(order) == "ab" * 4 and len(times["a"].turns) == 3
    assert timing.Timing((2.0, 4.0, 9.0)).ratio(timing.Timing((1.0, 1.0, 3.0))) == 3


def test_a_failure_in_a_child_process_is_one_line():
    with pytest.raises(ResultError, match="KeyError") as caught:
        timing.child("complexity", "memory", name="nothing", lengths=[4], width=8, threads=1)
    assert "\n" not in str(caught.value)
