"""Whole events drawn in native code are the ids that are drawn one by one from the logits of the model's own step."""

import dataclasses
from itertools import islice

import numpy as np
import pytest
import torch

from ittybitty import sampling, systems
from ittybitty.config import GenerationConfig
from ittybitty.evaluation.ears.faults import largest_share
from ittybitty.generation import generate_tokens
from ittybitty.models import decode_events, native
from ittybitty.models.decode import PRECISIONS, decoder
from ittybitty.models.decode_events import Choice, EventDecoder
from ittybitty.models.parts import EOS, NONE, G
from ittybitty.models.quantize import quantized
from ittybitty.tokenizers import make_tokenizer
from ittybitty.tokenizers.events import grammar as event_grammar
from performances import random_performance

pytestmark = pytest.mark.skipif(not native.status()[0], reason=f"no native code here: {native.status()[1]}")
SETTINGS = [
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0},
    {"temperature": 0.8, "top_k": 7, "top_p": 0.9},
    {"temperature": 3.0, "top_k": 0, "top_p": 0.7},
]


def model(spread=0.05, **changes):
    torch.manual_seed(1)
    configs = systems.build("notes-hybrid", "nano")
    changes = {"pattern": "MF MFA M", "attn_window": 8, "attn_stride": 4, "attn_reach": 16, **changes}
    configs["model"] = dataclasses.replace(configs["model"], **changes)
    made = systems.build_model(configs).eval()
    for p in made.parameters():  # zero-initialised outputs would make all ids alike
        p.data.add_(spread * torch.randn_like(p))
    return made


TOKENIZER = make_tokenizer("notes")
TIMES = TOKENIZER.grid.times.tolist()
PROMPT = TOKENIZER.encode(random_performance(3, notes=12), eos=False)[: 1 + 4 * 10].astype(int).tolist()


def one_by_one(player, prompt, count, end=False, seed=0, **settings):
    """Ids as generate_tokens draws them without whole events, and the rules and the state behind them."""
    grammar, generator = TOKENIZER.grammar(), torch.Generator().manual_seed(seed)
    rules, state, ids = grammar.start(prompt), player.init_state(1), []
    with torch.no_grad():
        logits = player.prefill(torch.tensor([prompt]), state)
        while len(ids) < count:
            mask = grammar.mask(rules)
            mask[EOS] &= end
            drawn = sampling.sample(logits, generator, mask=mask, **settings)
            ids.append(int(drawn))
            if ids[-1] == EOS:
                break
            rules, logits = grammar.advance(rules, ids[-1]), player.step(drawn, state)
    return ids, rules, state


def whole(player, prompt, count, end=False, seed=0, **settings):
    """The same by `events`."""
    grammar = TOKENIZER.grammar()
    rules, state = grammar.start(prompt), player.init_state(1)
    player.prefill(torch.tensor([prompt]), state)
    choice = Choice(
        grammar.times,
        grammar.longest,
        grammar.span,
        grammar.max_share,
        grammar.pedals,
        end,
        *((settings[k],) * G for k in ("temperature", "top_k", "top_p")),
    )
    events = list(islice(player.events(state, rules, choice, sampling.Chance(seed)), count // G))
    return [id for event in events for id in event.ids], state


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("B", [1, 3])
def test_decoder_is_the_models_own_step(precision, B):
    made = model()
    truth, fast = made if precision == "float32" else quantized(made), decoder(made, precision)
    assert isinstance(fast, EventDecoder)
    ids = torch.tensor([PROMPT] * B)
    ids[:, 5:] += torch.arange(B)[:, None] * (ids[:, 5:] > 10) * (ids[:, 5:] < 100)
    a, b = truth.init_state(B), fast.init_state(B)
    with torch.no_grad():
        truth.prefill(ids[:, :9], a)
        fast.prefill(ids[:, :9], b)
        for t in range(9, ids.shape[1]):
            torch.testing.assert_close(fast.step(ids[:, t], b), truth.step(ids[:, t], a), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("ids", [[TOKENIZER.bos_id], PROMPT * 7, PROMPT[:-1], PROMPT[3:], PROMPT[4:30]], ids=len)
def test_a_prompt_that_is_read_at_once_is_the_one_read_by_the_model(precision, ids):
    made = model()
    truth, fast = made if precision == "float32" else quantized(made), decoder(made, precision)
    a, b = truth.init_state(1), fast.init_state(1)
    with torch.no_grad():
        for _ in range(2):  # from the beginning, and from within a piece
            expected, found = truth.prefill(torch.tensor([ids]), a), fast.prefill(torch.tensor([ids]), b)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(b.backbone[4].keys), a.backbone[4].keys, atol=1e-4, rtol=1e-4)
    assert b.backbone[4].position == a.backbone[4].position and len(b.ids) == len(a.ids)


def test_the_probability_of_the_end_comes_with_every_event():
    made = model(spread=0.3)
    fast, state, choice = decoder(made), made.init_state(1), Choice(TIMES, 100, 720, 0.3, True, False)
    rules = TOKENIZER.grammar().start(PROMPT)
    with torch.no_grad():
        logits = made.prefill(torch.tensor([PROMPT]), state)
        other = fast.init_state(1)
        fast.prefill(np.array([PROMPT]), other)
        for event in islice(fast.events(other, rules, choice, sampling.Chance(0)), 5):
            assert event.log_end == pytest.approx(float(logits[0].log_softmax(-1)[EOS]), abs=1e-4)
            for id in event.ids:
                logits = made.step(torch.tensor([id]), state)


def test_float16_weights_are_read_as_the_same_numbers_in_half_the_bytes():
    made = model()
    exact = decoder(made)
    for p in made.parameters():
        p.data = p.data.half().float()
    fast = decoder(made)
    if not fast._library.halves():
        pytest.skip("this processor does not widen float16 numbers")
    assert fast._blocks[0].in_.half and not exact._blocks[0].in_.half
    assert fast._arena.nbytes < 0.7 * exact._arena.nbytes
    ids, state = torch.tensor([PROMPT]), made.init_state(1)
    with torch.no_grad():
        truth = made(ids)
        for t in range(ids.shape[1]):
            torch.testing.assert_close(fast.step(ids[:, t], state), truth[:, t], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("changes", [{"d_model": 44, "d_ff": 51, "n_heads": 2}, {"d_state": 5, "d_conv": 2}])
def test_decoder_follows_every_setting(changes):
    made = model(**changes)
    fast, ids = decoder(made), torch.tensor([PROMPT])
    state = fast.init_state(1)
    with torch.no_grad():
        truth = made(ids)
        for t in range(ids.shape[1]):
            torch.testing.assert_close(fast.step(ids[:, t], state), truth[:, t], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s['temperature']} {s['top_k']} {s['top_p']}")
@pytest.mark.parametrize("prompt", [[TOKENIZER.bos_id], PROMPT], ids=["from nothing", "from a seed"])
def test_whole_events_are_the_ids_drawn_one_by_one(precision, settings, prompt):
    fast = decoder(model(spread=0.3), precision)
    expected, rules, a = one_by_one(fast, prompt, 4 * 150, **settings)
    ids, b = whole(fast, prompt, 4 * 150, **settings)
    assert ids == expected and len(set(ids)) > 20
    assert np.array_equal(a.h, b.h) and b.ids == []
    assert TOKENIZER.grammar().start([*prompt, *ids]) == rules


def test_whole_events_are_those_of_the_model_itself():
    made = model(spread=0.2)
    ids, _ = whole(decoder(made), PROMPT, 4 * 40, **SETTINGS[0])
    assert ids == one_by_one(made, PROMPT, 4 * 40, **SETTINGS[0])[0]


def test_the_pedal_moves_and_keys_at_one_instant_rise():
    """The rules of C++ are those of the grammar, wherever chance leads: all of it is likely here."""
    fast = decoder(model(spread=0.01))
    grammar = TOKENIZER.grammar()
    ids, _ = whole(fast, [TOKENIZER.bos_id], 4 * 1500, **SETTINGS[0])
    rules, seen = grammar.start([TOKENIZER.bos_id]), set()
    for id in ids:
        assert grammar.mask(rules)[id]
        rules = grammar.advance(rules, id)
        seen |= {name for name in ("waited", "pedal", "fresh", "is_note") if getattr(rules, name)}
    assert seen == {"waited", "pedal", "fresh", "is_note"}


def test_no_silence_reaches_the_limit_however_often_the_pedal_moves():
    """Long times and the pedal are likely here; the rules of C++ and of the grammar draw the same."""
    made = model(spread=0.05)
    made.head.out[0].bias.data[60:] += 4
    made.head.out[1].bias.data[88:] += 6
    fast = decoder(made)
    ids, _ = whole(fast, PROMPT, 4 * 600, **SETTINGS[0])
    assert ids == one_by_one(fast, PROMPT, 4 * 600, **SETTINGS[0])[0]
    events = torch.tensor(ids).view(-1, G)
    assert (events[:, 2] == NONE).sum() > 300
    onsets = torch.tensor([0.0, *TOKENIZER.decode([TOKENIZER.bos_id, *ids]).notes["onset"]])
    assert 3.5 < onsets.diff().max() < 4


def test_no_key_takes_over_however_likely_it_is():
    """One key is very likely here, another one next to it less so; the rules of C++ and of the grammar draw the same."""
    made = model(spread=0.05)
    made.head.out[0].bias.data[20:] -= 4
    made.head.out[1].bias.data[40] += 9
    made.head.out[1].bias.data[60] += 6
    fast = decoder(made)
    ids, _ = whole(fast, PROMPT, 4 * 1200, **SETTINGS[0])
    assert ids == one_by_one(fast, PROMPT, 4 * 1200, **SETTINGS[0])[0]
    played = TOKENIZER.decode([*PROMPT, *ids])
    assert played.notes["onset"][-1] > 40
    assert 0.25 < largest_share(played) < 0.45  # above the limit of 0.3 where the music slows down after the strikes


def test_notes_beyond_those_that_are_remembered_are_forgotten_alike():
    """With a span of hours no note grows old: the oldest goes when there is no room, in C++ and in the grammar."""
    assert decode_events.MOST_RECENT == event_grammar.MOST_RECENT
    fast, grammar = decoder(model(spread=0.05)), TOKENIZER.grammar()
    grammar.span, grammar.pedals = 10**9, False
    note = [TOKENIZER.first_ids[0] + 5, TOKENIZER.first_ids[1] + 40, TOKENIZER.first_ids[2], TOKENIZER.first_ids[3]]
    # the remembered notes are one key to a third, and are about to lose many of it
    others = [[note[0], note[1] + 1 + i % 3, *note[2:]] for i in range(2 * event_grammar.MOST_RECENT // 3)]
    prompt = [TOKENIZER.bos_id, *note * (event_grammar.MOST_RECENT // 3), *[id for one in others for id in one]]
    rules, state = grammar.start(prompt), fast.init_state(1)
    fast.prefill(np.array([prompt]), state)
    choice = Choice(grammar.times, grammar.longest, grammar.span, grammar.max_share, False, False)
    allowed = []
    for event in islice(fast.events(state, rules, choice, sampling.Chance(0)), 300):
        for id in event.ids:
            allowed.append(grammar.mask(rules)[TOKENIZER.first_ids[1] + 40])
            assert grammar.mask(rules)[id]
            rules = grammar.advance(rules, id)
    assert len(rules.recent) == event_grammar.MOST_RECENT
    assert 40 in [key for _, key in rules.recent[-100:]]  # barred at first, struck again when the share had fallen
    assert not any(allowed[: 4 * 50]) and any(allowed)


def test_a_piece_may_end_and_nothing_comes_after():
    made = model(spread=0.2)
    made.head.out[0].bias.data[0] += 4  # the end becomes likely
    fast = decoder(made)
    expected, _, _ = one_by_one(fast, PROMPT, 4 * 200, end=True, **SETTINGS[0])
    ids, _ = whole(fast, PROMPT, 4 * 200, end=True, **SETTINGS[0])
    assert ids == expected and ids[-1] == EOS and len(ids) % G == 1
    assert EOS not in whole(fast, PROMPT, 4 * 50, **SETTINGS[0])[0]


@pytest.mark.parametrize("tokens", [1, 4, 10, 101])
def test_generation_plays_whole_events_and_stops_at_the_token_asked_for(tokens, monkeypatch):
    fast = decoder(model(spread=0.2))
    config = GenerationConfig(max_new_tokens=tokens, seed=5, temperature=1.0, top_k=0, top_p=1.0)
    ids = list(generate_tokens(fast, TOKENIZER, PROMPT, config))
    assert ids == one_by_one(fast, PROMPT, tokens, seed=5, **SETTINGS[0])[0] and len(ids) == tokens
    monkeypatch.setattr(fast, "events", None)
    cut = list(generate_tokens(fast, TOKENIZER, PROMPT[:-1], config))  # within an event: one by one
    assert cut == one_by_one(fast, PROMPT[:-1], tokens, seed=5, **SETTINGS[0])[0]


def test_whole_events_and_single_ids_take_turns_on_one_state():
    made = model(spread=0.2)
    fast, choice = decoder(made), Choice(TIMES, 100, 720, 0.3, True, False)
    rules, state = TOKENIZER.grammar().start(PROMPT), made.init_state(1)
    made.prefill(torch.tensor([PROMPT]), state)
    ids = list(PROMPT)
    for _ in range(6):
        ids += next(fast.events(state, rules, choice, sampling.Chance(len(ids)))).ids
        for id in PROMPT[1:5]:
            with torch.no_grad():
                logits = (made if len(ids) % 3 else fast).step(torch.tensor([id]), state)
            ids.append(id)
        rules = TOKENIZER.grammar().start(ids)
    torch.testing.assert_close(logits, made(torch.tensor([ids]))[:, -1], atol=1e-4, rtol=1e-4)


def test_weights_that_are_no_numbers_and_a_state_within_an_event_are_refused():
    made = model()
    made.head.out[2].bias.data[3] = torch.nan
    fast, choice = decoder(made), Choice(TIMES, 100, 720, 0.3, True, False)
    rules, state = TOKENIZER.grammar().start(PROMPT), made.init_state(1)
    made.prefill(torch.tensor([PROMPT]), state)
    with pytest.raises(ValueError, match="not finite"):
        list(islice(fast.events(state, rules, choice, sampling.Chance(0)), 20))
    made.prefill(torch.tensor([PROMPT[:-1]]), state := made.init_state(1))
    with pytest.raises(ValueError, match="within an event"):
        next(fast.events(state, rules, choice, sampling.Chance(0)))
    with pytest.raises(ValueError, match="vocabulary"):
        fast.step(torch.tensor([10**6]), state)
    with pytest.raises(ValueError, match="classes of time"):
        next(
            fast.events(
                made.init_state(1), rules, Choice([*TIMES, 9999], 100, 720, 0.3, True, False), sampling.Chance(0)
            )
        )
    with pytest.raises(ValueError, match="temperature"):
        cold = Choice(TIMES, 100, 720, 0.3, True, False, temperature=(1.0, 0.0, 1.0, 1.0))
        next(fast.events(made.init_state(1), rules, cold, sampling.Chance(0)))
