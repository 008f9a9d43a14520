"""Threads are used while they help: a team of a simulated machine finds the quicker size and leaves a busy core alone."""

import dataclasses

import pytest
import torch

from ittybitty.config import SCALE_PRESETS
from ittybitty.models import PianoHybridModel, decode, native
from ittybitty.models.team import FIRST, LAST, PATIENCE, TRIAL, Team

pytestmark = pytest.mark.slow


def play(team, steps, seconds):
    """Sizes of so many steps on a machine where `size` threads take seconds[size]."""
    sizes = []
    for _ in range(steps):
        sizes.append(team.size)
        team.took(seconds[team.size])
    return sizes


def test_idle_cores_are_used():
    sizes = play(Team(2), 1000, {1: 1.0, 2: 0.6})
    assert sizes[:TRIAL] == [1] * TRIAL and sizes.count(2) > 900


def test_taken_cores_are_left_after_two_slow_steps():
    team = Team(2)
    play(team, 200, {1: 1.0, 2: 0.6})
    assert team.size == 2
    sizes = play(team, 1000, {1: 1.2, 2: 40.0})
    assert sizes[:PATIENCE] == [2] * PATIENCE and sizes[PATIENCE : FIRST + PATIENCE] == [1] * FIRST
    assert sizes.count(2) <= PATIENCE * 6  # trials of 2 are given up early, and become rarer


def test_threads_that_do_not_help_are_not_used():
    assert play(Team(8), 3000, {1: 1.0, 8: 1.05}).count(8) < 300


def test_cores_that_become_free_are_found_again():
    team = Team(2)
    play(team, 5000, {1: 1.0, 2: 40.0})
    assert 2 in play(team, LAST + 1, {1: 1.0, 2: 0.6}) and team.size == 2


def test_one_core_has_one_thread_and_no_trials():
    assert play(Team(1), 100, {1: 1.0}) == [1] * 100


@pytest.mark.skipif(not native.status()[0], reason=f"no native code here: {native.status()[1]}")
def test_the_logits_are_the_same_bits_in_one_thread_and_in_many(monkeypatch):
    torch.manual_seed(0)
    nano = SCALE_PRESETS["nano"]["model"]
    model = PianoHybridModel(dataclasses.replace(nano, vocab_size=61, pattern="MF MFA M")).eval()
    monkeypatch.setattr(decode, "SMALL", 0)
    monkeypatch.setattr(native.loaded(), "thread_count", lambda: 3)
    many = decode.decoder(model)
    assert many._team.most == 3
    many._team.took = lambda seconds: None
    many._team.size = 3
    monkeypatch.setattr(decode, "SMALL", 2**40)
    one = decode.decoder(model)
    assert one._team.most == 1
    a, b = many.init_state(2), one.init_state(2)
    for ids in torch.randint(0, 61, (50, 2)):
        assert torch.equal(many.step(ids, a), one.step(ids, b))
