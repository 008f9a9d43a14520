"""Holding music near its seed: running means, the range in which nothing happens, and the tilt outside of it."""

import json
import math

import numpy as np
import pytest

from ittybitty import drawing, paths, sampling, systems
from ittybitty.config import GenerationConfig
from ittybitty.errors import ConfigError
from ittybitty.generation import generate_tokens
from ittybitty.models.decode import decoder
from ittybitty.notes import LOWEST_PITCH, Performance
from ittybitty.tokenizers import make_tokenizer
from ittybitty.tokenizers.events import hold
from ittybitty.tokenizers.events.grammar import TIME, VELOCITY, WHAT, EventState
from ittybitty.tokenizers.events.hold import Hold
from performances import random_performance

TOKENIZER = make_tokenizer("notes")
GRAMMAR = TOKENIZER.grammar()
RATE = TOKENIZER.grid.ticks_per_second


def even(pitch: int, velocity: int, gap: float, count: int = 60) -> Performance:
    """One note every `gap` seconds."""
    return Performance.of([(gap * (i + 1), 0.2, pitch + i % 2, velocity) for i in range(count)])


def after(music: Performance) -> EventState:
    return GRAMMAR.start(TOKENIZER.encode(music, eos=False).tolist())


def test_the_figures_are_those_that_were_measured():
    found = json.loads((paths.repository_root() / "paper/results/drift_pianists.json").read_text())["habits"]
    for habit, measured in zip(hold.PIANISTS, found.values()):
        for name, value in habit._asdict().items():
            assert value == pytest.approx(measured[name], rel=5e-3), name


def test_running_means_are_those_of_the_notes():
    music = random_performance(3, notes=80)
    state, ids = after(music), TOKENIZER.encode(music)
    notes = TOKENIZER.decode(ids).notes
    assert state.notes == len(notes) < hold.HORIZON
    gaps = np.diff(np.round(notes["onset"] * RATE), prepend=0)
    assert state.means == pytest.approx((gaps.mean(), notes["pitch"].mean() - LOWEST_PITCH, notes["velocity"].mean()))


def test_old_notes_are_forgotten():
    soft, loud = even(60, 30, 0.1, 300), even(60, 90, 0.1, 900)
    late = loud.notes.copy()
    late["onset"] += soft.end
    state = after(Performance.of([*soft.notes.tolist(), *late.tolist()]))
    assert state.means[2] == pytest.approx(90, abs=3)


def test_nothing_happens_between_the_seed_and_what_pianists_play_after_it():
    state = after(even(40, 30, 0.5))  # low, soft, slow
    held = GRAMMAR.hold(state, 1.0)
    assert held.slopes(state.means) == (0.0, 0.0, 0.0)
    expected = [habit.intercept + habit.slope * x for habit, x in zip(hold.PIANISTS, (1.0, 40.5, 30.0))]
    there = RATE / 2 ** expected[0], expected[1] - LOWEST_PITCH, expected[2]
    assert held.slopes(there) == (0.0, 0.0, 0.0)
    beyond = [RATE / 2 ** (expected[0] + 1), expected[1] - LOWEST_PITCH + 9, expected[2] + 20]
    time, key, velocity = held.slopes(beyond)
    assert time > 0 > key and velocity < 0  # slower, lower, softer
    time, key, velocity = held.slopes((RATE * 4, 40.5 - LOWEST_PITCH - 12, 3.0))
    assert time < 0 < key and velocity > 0  # faster, higher, louder


def test_the_tilt_grows_with_the_hold_and_leaves_pedal_and_end_alone():
    state = after(even(60, 60, 0.25))
    far = EventState(WHAT, waited=True, notes=200, means=(12.0, 70.0, 60.0))
    logits = np.zeros(TOKENIZER.vocab_size, np.float32)
    once, twice = (GRAMMAR.tilted(logits, far, GRAMMAR.hold(state, strength)) for strength in (1.0, 2.0))
    first = TOKENIZER.first_ids[1]
    keys = slice(first, first + 88)
    np.testing.assert_allclose(twice[keys], 2 * once[keys], rtol=1e-5)
    assert (np.diff(once[keys]) < 0).all() and not once[first + 88 :].any() and not once[:first].any()
    assert abs(once[first + 70]) < 1e-6  # a key at the mean
    slow = EventState(TIME, notes=200, means=(200.0, 39.0, 60.0))
    tilted = GRAMMAR.tilted(logits, slow, GRAMMAR.hold(state, 1.0))
    times = slice(TOKENIZER.first_ids[0], first)
    assert (np.diff(tilted[times]) < 0).all() and tilted[TOKENIZER.eos_id] == 0
    pedal = EventState(VELOCITY, is_note=False, notes=200, means=(12.0, 39.0, 120.0))
    assert GRAMMAR.tilted(logits, pedal, GRAMMAR.hold(state, 1.0)) is logits


@pytest.mark.parametrize("music", [Performance(), even(60, 60, 0.25, hold.FEWEST - 1)], ids=["nothing", "too little"])
def test_a_seed_of_a_few_notes_holds_nothing(music):
    assert GRAMMAR.hold(after(music), 1.0) == Hold() and Hold().slopes((1e9, 0.0, 0.0)) == (0.0, 0.0, 0.0)


def test_a_chord_without_end_is_no_error():
    assert math.isfinite(hold.pace(0.0)) and all(map(math.isfinite, Hold(1.0).slopes((0.0, 0.0, 0.0))))


@pytest.fixture(scope="module")
def player():
    import torch

    torch.manual_seed(1)
    model = systems.build_model(systems.build("notes-hybrid", "nano")).eval()
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    return decoder(model)


def test_native_events_are_held_like_single_ids(player):
    prompt = TOKENIZER.encode(even(50, 40, 0.1), eos=False)
    free, config = (GenerationConfig(max_new_tokens=1200, seed=2, top_p=1.0, hold=how) for how in (0.0, 3.0))
    begun = drawing.begin(player, TOKENIZER, prompt)
    native = [id for id, _ in drawing.drawn(begun.copy(), config)]
    single = drawing._single_ids(begun.copy(), sampling.Chance(2), config, False)
    assert native == [id for (id, _), _ in zip(single, native)]
    assert native != [id for id, _ in drawing.drawn(begun.copy(), free)]


def test_a_model_without_taste_is_held_near_the_seed(player):
    """Untrained, it plays keys, times and velocities evenly, far outside the range; held, its means are near the range."""
    prompt = TOKENIZER.encode(even(50, 40, 0.1), eos=False)
    held = GRAMMAR.hold(GRAMMAR.start(prompt.tolist()), 1.0)

    def off(how: float) -> np.ndarray:
        config = GenerationConfig(max_new_tokens=4000, seed=1, temperature=1.0, top_p=1.0, hold=how)
        means = GRAMMAR.start([*prompt.tolist(), *generate_tokens(player, TOKENIZER, prompt, config)]).means
        return np.abs(held.slopes(means))  # in proportion to what lies outside

    assert (off(40.0) < 0.25 * off(0.0)).all()


def test_only_models_of_events_are_held():
    with pytest.raises(ConfigError, match="hold is -1: give 0"):
        GenerationConfig(hold=-1)
    with pytest.raises(ConfigError, match="hold are for models"):
        next(generate_tokens(None, make_tokenizer("remi"), [], GenerationConfig(hold=1.0)))
    assert systems.sampling("notes-hybrid").hold == 1 and systems.sampling("mamba").hold == 0
