"""A continuation of a given length closes where the model finds an end likeliest, and nothing of it is half written."""

import numpy as np
import pytest
import torch

from ittybitty import drawing, endings, generation, systems
from ittybitty.config import DataConfig, GenerationConfig
from ittybitty.generation import continuation
from ittybitty.notes import Performance
from ittybitty.tokenizers import make_tokenizer
from performances import random_performance

pytestmark = pytest.mark.slow

ROWS = ("notes-hybrid", "mamba", "lstm-remi")


def row(name: str):
    torch.manual_seed(3)
    configs = systems.build(name, "nano")
    tokenizer = systems.build_tokenizer(configs)
    configs = systems.override(configs, {"model.vocab_size": tokenizer.vocab_size})
    model = systems.build_model(configs).eval()
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return model, tokenizer, configs["data"]


def played(name: str, listen=None, **options):
    model, tokenizer, data = row(name)
    wanted = GenerationConfig(max_new_tokens=4000, temperature=1.0, top_k=0, top_p=1.0, seconds=8.0, seed=5, **options)
    seed = random_performance(1, notes=60, seconds=12)
    return continuation(model, tokenizer, seed, data, wanted, listen=listen), tokenizer


@pytest.mark.parametrize("name", ROWS)
def test_the_last_note_begins_near_the_length_asked_for(name):
    made, _ = played(name, ending=True)
    seed_end = float(made.seed.notes["onset"].max())
    assert len(made.new) and made.new.notes["onset"].max() <= seed_end + 8.0 + endings.AFTER


@pytest.mark.parametrize("name", ROWS[:2])
def test_an_ending_is_made_of_whole_notes(name):
    made, tokenizer = played(name, ending=True)
    assert list(made.ids) == endings.whole(tokenizer, [tokenizer.bos_id], list(made.ids))


def test_without_an_ending_the_piece_is_cut():
    cut, closed = played("notes-hybrid")[0], played("notes-hybrid", ending=True)[0]
    assert cut.new.notes["onset"].max() < float(cut.seed.notes["onset"].max()) + 8.0
    assert cut.ids != closed.ids


def test_the_same_number_gives_the_same_ending():
    assert played("notes-hybrid", ending=True)[0].ids == played("notes-hybrid", ending=True)[0].ids


def test_who_listens_gets_the_same_ending_unless_the_music_is_stopped():
    heard: list = []
    closed = played("notes-hybrid", ending=True)[0]
    assert played("notes-hybrid", lambda notes: heard.extend(notes), ending=True)[0].ids == closed.ids
    assert 1 < len(heard) <= len(closed.new)
    heard.clear()
    stopped = played("notes-hybrid", lambda notes: heard.extend(notes) or len(heard) >= 1, ending=True)[0]
    assert stopped.ids == closed.ids[: len(stopped.ids)] and len(stopped.new) < len(closed.new)


def test_the_likeliest_place_is_chosen():
    """The end is likely after one key alone: the piece ends with that key."""
    _, tokenizer, _ = row("notes-mamba")
    key = tokenizer.first_ids[1] + 40
    phrase = Performance.of([(0.5 * i, 0.4, 50 + i, 64) for i in range(20)])
    ids = tokenizer.encode(phrase, bos=False, eos=False).tolist()
    after_the_key = ids.index(key) + 3

    def draw(take):
        return ((id, -1.0 if i == after_the_key else -9.0) for i, id in enumerate(ids))

    reader = tokenizer.reader()
    found = endings.close(tokenizer, [tokenizer.bos_id], reader, (0.0, 20.0), draw)
    assert found.ids[-3] == key and found.log_probability == -1.0 and reader.clock == 0.0


def test_no_place_within_the_span_is_no_ending():
    _, tokenizer, _ = row("notes-mamba")
    ids = tokenizer.encode(Performance.of([(0.0, 0.4, 60, 64)]), bos=False, eos=False).tolist()
    found = endings.close(
        tokenizer, [tokenizer.bos_id], tokenizer.reader(), (5.0, 9.0), lambda take: ((id, -1.0) for id in ids)
    )
    assert found is None and np.isfinite(endings.BEFORE)


@pytest.mark.parametrize(("lifted", "end"), [(None, 2.5 + endings.RING), (2.4, 2.4), (1.0, 1.0)])
def test_a_pedal_that_is_down_at_the_end_rings(lifted, end):
    held = Performance.of([(0.0, 0.4, 60, 64), (2.5, 0.3, 62, 64)], [(0.5, (lifted or 2.8) - 0.5)]).pedals
    found = endings.ring(held, 2.5, 2.8)
    assert (found["onset"] + found["duration"]).tolist() == pytest.approx([end])


@pytest.mark.parametrize(("rings", "end"), [(False, 2.3), (True, 2.0 + endings.RING)])
def test_a_piece_that_closes_rings_in_the_file_too(rings, end):
    tokenizer = make_tokenizer("notes")
    seed = Performance.of([(0.0, 0.4, 60, 64)])
    prompt = generation.make_prompt(seed, tokenizer, DataConfig())
    piece = Performance.of([(0.0, 0.4, 60, 64), (1.0, 0.4, 62, 64), (2.0, 0.3, 64, 64)], [(1.5, 9.0)])
    new = tokenizer.encode(piece, eos=False).tolist()[len(prompt.ids) : -4]  # the pedal does not come up
    for music in generation._joined(seed, prompt, new, tokenizer, np.inf, rings=rings):
        assert (music.pedals["onset"] + music.pedals["duration"]).tolist() == pytest.approx([end], abs=0.02)


@pytest.mark.parametrize("name", ROWS)
def test_takes_are_drawn_with_the_models_own_probability_of_the_end(name):
    """The same numbers as from logits of the whole sequence at once."""
    model, tokenizer, _ = row(name)
    prompt = [tokenizer.bos_id]
    config = GenerationConfig(max_new_tokens=60, temperature=1.0, top_k=0, top_p=1.0, seed=5)
    pairs = list(drawing.drawn(drawing.begin(model, tokenizer, prompt), config, ends=True))
    whole = torch.tensor([[*prompt, *(id for id, _ in pairs)]])
    with torch.no_grad():
        expected = model(whole)[0].log_softmax(-1)[:-1, tokenizer.eos_id].tolist()
    told = [(mine, truth) for (_, mine), truth in zip(pairs, expected) if np.isfinite(mine)]
    assert len(told) >= 5 and np.allclose(*zip(*told), atol=1e-4)
