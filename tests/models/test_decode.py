"""The native decoder is the model's own step, in float32 and in int8, for one piece and for a batch."""

import dataclasses

import numpy as np
import pytest
import torch

from ittybitty.config import SCALE_PRESETS
from ittybitty.errors import ConfigError
from ittybitty.models import PianoHybridModel, native
from ittybitty.models.decode import Decoder, decoder
from ittybitty.models.quantize import quantized, rounded

pytestmark = pytest.mark.slow

NANO = dataclasses.replace(SCALE_PRESETS["nano"]["model"], vocab_size=61, pattern="MF MFA M")
needs_compiler = pytest.mark.skipif(not native.status()[0], reason=f"no native code here: {native.status()[1]}")


def model(**changes):
    torch.manual_seed(0)
    made = PianoHybridModel(dataclasses.replace(NANO, **changes)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def ids(B, L=200):
    return torch.randint(0, 61, (B, L), generator=torch.Generator().manual_seed(1))


@needs_compiler
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("B", [1, 3, 4, 9])
def test_decoder_is_the_models_own_step(precision, B):
    made, x = model(), ids(B)
    truth = made if precision == "float32" else quantized(made)
    fast = decoder(made, precision)
    assert isinstance(fast, Decoder)
    with torch.no_grad():
        a, b = truth.init_state(B), fast.init_state(B)
        truth.prefill(x[:, :50], a)
        fast.prefill(x[:, :50], b)
        for t in range(50, x.shape[1]):
            torch.testing.assert_close(fast.step(x[:, t], b), truth.step(x[:, t], a), atol=1e-4, rtol=1e-4)


@needs_compiler
@pytest.mark.parametrize(
    "changes", [{"attn_bias": "alibi"}, {"attn_bias": "none"}, {"d_state": 5, "d_conv": 2}, {"d_model": 44, "d_ff": 51}]
)
def test_decoder_follows_every_setting(changes):
    made, x = model(**changes), ids(2, 120)
    fast = decoder(made)
    with torch.no_grad():
        whole, state = made(x), fast.init_state(2)
        steps = torch.stack([fast.step(x[:, t], state).clone() for t in range(x.shape[1])], dim=1)
    torch.testing.assert_close(steps, whole, atol=1e-4, rtol=1e-4)


@needs_compiler
@pytest.mark.parametrize("length", [1, 64, 150])
def test_a_prompt_that_is_read_at_once_is_the_one_read_by_the_model(length):
    made, x = model(), ids(1)
    fast = decoder(made)
    a, b = made.init_state(1), fast.init_state(1)
    with torch.no_grad():
        for first in (0, length):  # from the beginning, and from within a piece
            part = x.repeat(1, 2)[:, first : first + length]
            torch.testing.assert_close(fast.prefill(part, b), made.prefill(part, a), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(b[0].ssm), a[0].ssm, atol=1e-4, rtol=1e-4)


@needs_compiler
def test_arrays_of_either_library_give_the_same_logits():
    fast, x = decoder(model()), ids(1)
    a, b = fast.init_state(1), fast.init_state(1)
    first, second = fast.prefill(x, a).clone(), fast.prefill(x.numpy(), b).copy()
    assert isinstance(second, np.ndarray) and np.array_equal(first.numpy(), second)
    assert np.array_equal(fast.step(x[:, 0], a).numpy(), fast.step(x[:, 0].numpy(), b))


@needs_compiler
def test_model_and_decoder_take_turns_on_one_state():
    made, x = model(), ids(1)
    fast = decoder(made)
    with torch.no_grad():
        whole, state = made(x), made.init_state(1)
        for t in range(x.shape[1]):
            logits = (made if t % 3 else fast).step(x[:, t], state)
    torch.testing.assert_close(logits, whole[:, -1], atol=1e-4, rtol=1e-4)


@needs_compiler
def test_two_pieces_at_once_do_not_mix():
    made, x = model(), ids(2)
    fast = decoder(made)
    with torch.no_grad():
        whole = made(x)
        states = [fast.init_state(1), fast.init_state(1)]
        for t in range(x.shape[1]):
            logits = [fast.step(x[i : i + 1, t], states[i]).clone() for i in (0, 1)]
    torch.testing.assert_close(torch.cat(logits), whole[:, -1], atol=1e-4, rtol=1e-4)


def test_rounding_is_within_half_a_level():
    weight = torch.randn(7, 33, generator=torch.Generator().manual_seed(0))
    levels, scale = rounded(weight)
    assert levels.dtype == torch.int8 and levels.abs().max() == 127
    assert ((levels * scale[:, None] - weight).abs() <= scale[:, None] / 2 + 1e-6).all()


def test_without_native_code_the_model_itself_decodes(monkeypatch):
    monkeypatch.setattr(native, "status", lambda: (False, "for this test"))
    made = model()
    assert decoder(made) is made
    with pytest.raises(ConfigError, match="int4"):
        decoder(made, "int4")
