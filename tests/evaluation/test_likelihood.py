"""Every token is scored once, with the past it is said to have, and the sum is the length of a code."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ittybitty.config import preset
from ittybitty.errors import CheckpointError, ConfigError
from ittybitty.evaluation.likelihood import Spelling, piece_bits, piece_bits_by_attribute, spans, unbroken_bits
from ittybitty.models import PianoHybridModel
from ittybitty.tokenizers.protocol import ATTRIBUTES

V = 37


def uniform(x):
    return torch.zeros(*x.shape, V)


class LooksBack:
    """Certain of the next token exactly if it can see `distance` tokens before it; knows nothing otherwise."""

    def __init__(self, distance):
        self.distance = distance

    def __call__(self, x):  # ids count upwards, so that the token after x is x + 1
        logits = torch.zeros(*x.shape, V)
        sees = torch.arange(x.shape[1]) + 1 >= self.distance
        return logits.masked_fill((torch.nn.functional.one_hot((x + 1) % V, V) * sees[None, :, None]).bool(), 100.0)


@pytest.mark.parametrize("length", [2, 3, 16, 17, 18, 31, 32, 33, 100, 101])
@pytest.mark.parametrize("context, stride", [(16, 8), (16, 16), (16, 1), (7, 3)])
def test_every_token_is_scored_once_with_enough_past(length, context, stride):
    scored = np.zeros(length, int)
    for start, end, first in spans(length, context, stride):
        assert 0 <= start < end <= length - 1 and end - start <= context
        for token in range(first, end + 1):
            scored[token] += 1
            assert token - start >= min(token, context - stride + 1)
    assert scored[0] == 0 and (scored[1:] == 1).all()


@pytest.mark.parametrize("length", [2, 10, 33, 200])
def test_uniform_costs_log2_of_the_vocabulary(length):
    bits = piece_bits(uniform, np.arange(length) % V, context=32, stride=16, batch_size=3)
    assert bits.shape == (length - 1,) and bits.dtype == np.float64
    assert np.allclose(bits, math.log2(V))


def test_a_scored_token_sees_at_least_half_a_window():
    ids = np.arange(300) % V
    bits = piece_bits(LooksBack(17), ids, context=32, stride=16)
    assert np.allclose(bits[:16], math.log2(V)) and np.allclose(bits[16:], 0, atol=1e-6)
    assert piece_bits(LooksBack(18), ids, context=32, stride=16)[16:].max() > 1  # and what no window shows is not


def test_batches_do_not_change_the_bits():
    torch.manual_seed(0)
    table = torch.randn(V, V)
    ids = np.random.default_rng(0).integers(0, V, 150)
    one, many = (piece_bits(lambda x: table[x], ids, 32, 8, batch_size=b) for b in (1, 5))
    expected = -torch.log_softmax(table, -1)[ids[:-1], ids[1:]].numpy() / math.log(2)
    assert np.allclose(one, many) and np.allclose(one, expected, atol=1e-5)


def test_one_window_is_the_models_own_loss():

    torch.manual_seed(0)
    model = PianoHybridModel(preset("nano")["model"]).eval()
    ids = torch.randint(0, 512, (90,))
    _, nats, count = model(ids[None, :-1], ids[None, 1:])
    bits = piece_bits(model, ids.numpy(), context=128, stride=64)
    assert bits.sum() == pytest.approx(float(nats) / math.log(2), rel=1e-4) and len(bits) == int(count)


@pytest.mark.parametrize("length", [0, 1])
def test_a_sequence_of_at_most_one_id_has_no_bits(length):
    assert len(piece_bits(uniform, np.zeros(length, int))) == 0


def test_bad_input_is_one_line_that_names_it():
    with pytest.raises(ConfigError, match="stride"):
        piece_bits(uniform, np.arange(9), context=8, stride=9)
    with pytest.raises(CheckpointError, match="diverged"):
        piece_bits(lambda x: torch.full((*x.shape, V), torch.nan), np.arange(9))
    with pytest.raises(CheckpointError, match="tokenizer"):
        piece_bits(PianoHybridModel(replace(preset("nano")["model"], vocab_size=5)), np.arange(9))


class ThreeWords:
    """Base tokens P (pitch) and V (velocity); ids: end, P, V, and the byte pair PV."""

    vocab_size = 4
    base_names = staticmethod(lambda id: [["EOS"], ["P"], ["V"], ["P", "V"]][id])
    attributes = staticmethod(lambda id: [["other"], ["pitch"], ["velocity"], ["pitch", "velocity"]][id])


def test_bits_are_divided_by_the_chain_rule():
    """By hand: P(begins with P) = 0.4 + 0.1, P(V | P) = 0.1 / 0.5, and P alone ends there with 0.4 / 0.5."""
    logits = torch.tensor([0.2, 0.4, 0.3, 0.1]).log()
    bits = piece_bits_by_attribute(
        lambda x: logits.expand(*x.shape, 4), np.array([0, 3, 1, 2, 0]), Spelling.of(ThreeWords)
    )
    pitch, velocity, other = (ATTRIBUTES.index(name) for name in ("pitch", "velocity", "other"))
    assert bits[0, pitch] == pytest.approx(1) and bits[0, velocity] == pytest.approx(-math.log2(0.2))  # PV
    assert bits[1, pitch] == pytest.approx(1)  # P
    assert bits[2, velocity] == pytest.approx(-math.log2(0.3) - math.log2(0.8))  # V, told in part by P's not being PV
    assert bits[3, other] == pytest.approx(-math.log2(0.2))  # end
    assert bits.sum() == pytest.approx(-math.log2(0.1) - math.log2(0.4) - math.log2(0.3) - math.log2(0.2))


def test_attributes_add_up_to_all_bits_with_a_real_vocabulary():
    from ittybitty.paths import pretrained_dir
    from ittybitty.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(pretrained_dir() / "tiny-remi")
    size = tokenizer.vocab_size
    torch.manual_seed(0)
    table = 6 * torch.randn(64, size)  # some ids all but impossible
    model = lambda x: table[x % 64]  # noqa: E731
    ids = np.append(np.random.default_rng(0).integers(0, size, 400), tokenizer.eos_id)
    bits = piece_bits_by_attribute(model, ids, Spelling.of(tokenizer), context=64, stride=32)
    assert bits.min() >= 0 and bits.sum() == pytest.approx(piece_bits(model, ids, 64, 32).sum(), rel=1e-6)
    assert (bits.sum(0) > 0).all()


def test_an_id_has_only_the_attributes_that_it_spells():
    bits = piece_bits_by_attribute(lambda x: torch.zeros(*x.shape, 4), np.array([0, 1, 1]), Spelling.of(ThreeWords))
    assert set(np.flatnonzero(bits.sum(0))) == {
        ATTRIBUTES.index("pitch"),
        ATTRIBUTES.index("other"),
    }  # other: no id after the last


@pytest.mark.parametrize("chunk", [7, 64, 1000])
def test_unbroken_bits_see_the_whole_past_whatever_the_chunks(chunk):

    torch.manual_seed(0)
    model = PianoHybridModel(preset("nano")["model"]).eval()
    ids = np.random.default_rng(0).integers(0, 512, 150)
    whole = piece_bits(model, ids, context=256, stride=128)  # one window: the whole piece
    assert unbroken_bits(model, ids, chunk) == pytest.approx(whole, abs=1e-3)
    assert unbroken_bits(lambda x: model(x), ids) == pytest.approx(whole, abs=1e-4)  # a model that keeps no state
    assert len(unbroken_bits(model, ids[:1])) == 0
