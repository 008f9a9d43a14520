"""Models that take one step per event: the same probabilities on every path, and exact sums."""

import numpy as np
import pytest
import torch

from ittybitty import systems
from ittybitty.errors import ConfigError
from ittybitty.models import IGNORED
from ittybitty.tokenizers import make_tokenizer
from performances import random_performance

pytestmark = pytest.mark.slow

ROWS = [name for name, row in systems.SYSTEMS.items() if row.tokenizer.startswith("notes")]


@pytest.fixture(scope="module", params=ROWS)
def model(request):
    torch.manual_seed(1)
    model = systems.build_model(systems.build(request.param, "nano")).eval()
    for p in model.parameters():  # zero-initialised outputs would hide what they read
        p.data.add_(0.05 * torch.randn_like(p))
    return model


@pytest.fixture(scope="module")
def ids():
    tokenizer = make_tokenizer("notes")
    pieces = [tokenizer.encode(random_performance(seed, notes=40), eos=False).astype(np.int64)[:121] for seed in (3, 4)]
    return torch.from_numpy(np.stack(pieces))


def test_step_is_forward(model, ids):
    logits = model(ids)
    state = model.init_state(len(ids))
    for i in range(ids.shape[1]):
        assert torch.allclose(model.step(ids[:, i], state), logits[:, i], atol=2e-4), i


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6, 30, 63])
def test_reading_in_pieces_is_forward(model, ids, cut):
    logits, state = model(ids), model.init_state(len(ids))
    first = model.read(ids[:, :cut], state)
    second = model.read(ids[:, cut:70], state)
    assert torch.allclose(torch.cat([first, second], 1), logits[:, :70], atol=2e-4)
    assert torch.allclose(model.prefill(ids[:, 70:90], state), logits[:, 89], atol=2e-4)
    assert torch.allclose(model.step(ids[:, 90], state), logits[:, 90], atol=2e-4)


def test_the_future_does_not_leak(model, ids):
    changed = ids.clone()
    changed[:, 60:] = torch.cat([ids[1:, 60:], ids[:1, 60:]])
    assert torch.allclose(model(changed)[:, :60], model(ids)[:, :60], atol=1e-5)


@pytest.mark.parametrize("start", [0, 4, 8, 1, 2, 3, 7])
def test_loss_is_that_of_the_logits(model, ids, start):
    x, y = ids[:, start:-1], ids[:, start + 1 :].clone()
    y[0, 10:14] = IGNORED
    loss, nats, count = model(x, y)
    expected = torch.nn.functional.cross_entropy(
        model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    assert int(count) == int((y != IGNORED).sum())
    assert float(nats) == pytest.approx(float(expected), rel=1e-4) and float(loss) == pytest.approx(float(nats))


def test_probabilities_stand_only_where_an_id_can(model, ids):
    tokenizer = make_tokenizer("notes")
    possible = torch.isfinite(model(ids))
    state = (grammar := tokenizer.grammar(None)).start()
    for i, id in enumerate(ids[0].tolist()):
        state = grammar.advance(state, id)
        allowed = torch.from_numpy(grammar.mask(state))
        assert (possible[0, i] | ~allowed).all(), i  # whatever the grammar allows has a probability
        assert possible[0, i, ids[0, i + 1] if i + 1 < ids.shape[1] else int(allowed.nonzero()[0])]
    total = torch.softmax(model(ids), -1).sum(-1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_sizes_that_do_not_fit_are_refused():
    configs = systems.override(systems.build("notes-mamba", "nano"), {"model.events": "271,91,128,32"})
    with pytest.raises(ConfigError, match=r"model\.events"):
        systems.build_model(configs)


def test_rows_know_the_sizes_of_their_encoding():
    for name in ROWS:
        configs = systems.build(name, "tiny")
        tokenizer = systems.build_tokenizer(configs)
        assert configs["model"].events == tokenizer.sizes and configs["model"].vocab_size == tokenizer.vocab_size
