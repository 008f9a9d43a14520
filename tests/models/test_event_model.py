"""Models that take one step per event: the same probabilities on every path, and exact sums."""

import dataclasses

import numpy as np
import pytest
import torch

from ittybitty import sampling, systems
from ittybitty.config import GenerationConfig
from ittybitty.errors import ConfigError
from ittybitty.generation import generate_tokens
from ittybitty.models import IGNORED
from ittybitty.models.decode import decoder
from ittybitty.models.events import with_other_classes
from ittybitty.tokenizers import PianoTokenizer, make_tokenizer
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


def test_ids_that_the_grammar_allows_have_a_probability(model, ids):
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


def test_parts_of_an_event_are_drawn_in_ways_of_their_own(model, ids):
    tokenizer, prompt = make_tokenizer("notes"), ids[0, :81]
    config = GenerationConfig(
        120, temperature=1.0, top_k=0, top_p=1.0, time_temperature=1e-4, expression_top_p=1e-6, seed=3
    )
    drawn = list(generate_tokens(model, tokenizer, prompt, config))
    rules = (grammar := tokenizer.grammar()).start(prompt.tolist())
    with torch.no_grad():
        logits = model(torch.cat([prompt, torch.tensor(drawn)])[None])[0, len(prompt) - 1 :]
    likeliest = [[] for _ in range(4)]
    for id, row in zip(drawn, logits):
        mask = grammar.mask(rules)
        mask[tokenizer.eos_id] = False
        likeliest[rules.place].append(id == int(sampling.greedy(row, mask)))
        rules = grammar.advance(rules, id)
    assert all(likeliest[0]) and all(likeliest[2]) and all(likeliest[3]) and not all(likeliest[1])


def test_the_decoder_draws_parts_as_the_model_does(model, ids):
    config = GenerationConfig(
        200, temperature=1.0, top_k=0, top_p=0.9, time_top_p=1.0, expression_temperature=0.5, seed=4
    )
    plain, fast = (
        list(generate_tokens(player, make_tokenizer("notes"), ids[0, :81], config))
        for player in (model, decoder(model))
    )
    other = dataclasses.replace(config, time_top_p=None, expression_temperature=None)
    assert plain == fast != list(generate_tokens(decoder(model), make_tokenizer("notes"), ids[0, :81], other))


def test_a_temperature_that_is_changed_holds_for_every_part_of_an_event():
    usual = GenerationConfig(temperature=0.97, top_p=0.98, time_temperature=1.0, expression_top_p=1.0)
    assert usual.changed(temperature=0.97, seed=3) == dataclasses.replace(usual, seed=3)
    cooler = usual.changed(temperature=0.5)
    assert [cooler.of_part(part)[0] for part in range(4)] == [0.5] * 4 and cooler.of_part(2)[2] == 1.0
    assert usual.changed(temperature=0.5, time_temperature=0.9).of_part(0)[0] == 0.9
    assert usual.changed(top_p=0.5).of_part(3) == (0.97, 0, 0.5)


def test_parts_fall_back_on_what_all_are_drawn_with():
    usual = {"temperature": 0.9, "top_k": 50, "top_p": 0.9}
    whole, parts = GenerationConfig(**usual), GenerationConfig(**usual, time_top_p=1.0, expression_temperature=0.7)
    assert not whole.by_part and {whole.of_part(part) for part in range(-1, 4)} == {(0.9, 50, 0.9)}
    assert [parts.of_part(part) for part in range(4)] == [
        (0.9, 50, 1.0),
        (0.9, 50, 0.9),
        (0.7, 50, 0.9),
        (0.7, 50, 0.9),
    ]
    for wrong in ({"time_top_p": 1.5}, {"expression_temperature": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is"):
            GenerationConfig(**wrong)


def test_parts_of_their_own_need_a_model_that_writes_in_parts():
    with pytest.raises(ConfigError, match="leave them out here"):
        next(generate_tokens(None, PianoTokenizer(), [], GenerationConfig(time_top_p=1.0)))


def test_weights_for_finer_classes_share_the_probability_of_the_old_ones():
    """The old model's distribution, spread evenly over the new classes that mean nearest the same."""
    torch.manual_seed(2)
    coarse, fine = make_tokenizer("notes"), make_tokenizer("notes-performance")
    old = systems.build_model(systems.build("notes-hybrid", "nano")).eval()
    for p in old.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    changes = {"data.tokenizer": "notes-performance", "model.events": fine.sizes, "model.vocab_size": fine.vocab_size}
    new = systems.build_model(systems.build("notes-hybrid", "nano", changes)).eval()
    meant = fine.nearest_ids(coarse)
    new.load_state_dict(with_other_classes(old.state_dict(), meant, fine.sizes, coarse.sizes))
    ids = torch.from_numpy(fine.encode(random_performance(3, notes=20), eos=False).astype(np.int64))[None]
    ours, theirs = new(ids).softmax(-1)[0], old(torch.from_numpy(meant)[ids]).softmax(-1)[0]
    for place in range(4):  # the first event's time follows BOS
        spread = torch.zeros_like(theirs[place]).index_add_(0, torch.from_numpy(meant), ours[place])
        told = theirs[place] * (spread > 0)
        assert torch.allclose(spread, told / told.sum(), atol=1e-5), place
        twins = ours[place][meant == meant[int(ids[0, place + 1])]]
        assert torch.allclose(twins, twins[:1].expand_as(twins))
