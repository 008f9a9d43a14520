"""The check finds what is wrong, the race keeps what is fast; on a CPU both run the paths that a CPU has."""

from __future__ import annotations

import pytest
import torch

from ittybitty import systems
from ittybitty.errors import ConfigError
from ittybitty.gpu import check, modes, race
from ittybitty.models import scan

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_sound_device_passes_and_every_part_is_reported(monkeypatch):
    monkeypatch.setenv("ITTYBITTY_NATIVE", "0")
    report = check.check(("hybrid", "notes-hybrid"), CPU, 300, tokens=12)
    assert report["off"] == [] and all(one["ok"] for one in report["scans"]["chunked"].values())
    assert report["convolution"]["ok"] and all(one["ok"] for one in report["models"].values())
    assert all(one == {"ok": True, "tokens": 12} for one in report["greedy"].values())


@pytest.mark.parametrize("wrong", [lambda y, last: (y * 1.01, last), lambda y, last: (y, last * float("nan")), None])
def test_a_path_that_is_wrong_or_fails_is_switched_off(monkeypatch, wrong):
    def broken(*inputs):
        if wrong is None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return wrong(*scan.scan_sequential(*inputs))

    monkeypatch.setitem(scan.PATHS, "chunked", broken)
    monkeypatch.setattr(check, "available", lambda device: ["chunked"])
    monkeypatch.setattr(check, "SIZES", {"short": (1, 5, 4, 3)})
    assert check.check((), CPU, 300)["off"] == ["chunked"]


def test_ids_that_differ_where_logits_do_are_found(monkeypatch):
    drawn = iter([([5, 6, 7], [1.0, 0.5, 0.2]), ([5, 9, 7], [1.0, 0.5, 0.2])])
    monkeypatch.setattr(check, "_drawn", lambda *given: next(drawn))
    monkeypatch.setattr(check, "started", lambda row, preset: torch.nn.Linear(1, 1))
    monkeypatch.setattr(check, "music", lambda *given: torch.zeros(1))
    assert check.greedy("hybrid", CPU, 3) == {"ok": False, "tokens": 3, "first_difference": 1, "gap": 0.5}


def nano(row: str = "hybrid") -> dict:
    return systems.build(row, "nano", {"data.context": 16})


def test_the_fastest_way_that_computes_the_same_wins(monkeypatch):
    rates = {4: 100.0, 8: 190.0, 16: 191.0}
    losses = {"chunked": 5.0, "sequential": 9.0}
    kept = []

    def measured(configs, way, device):
        if way.batch > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {
            "tokens_per_second": rates[way.batch] * (2 if way.path == "sequential" else 1),
            "loss": losses[way.path],
        }

    monkeypatch.setattr(race, "measure", measured)
    monkeypatch.setattr(race, "available", lambda device: ["chunked", "sequential"])
    report = race.race(
        "hybrid", nano(), CPU, 100, (), 0.4, lambda found: kept.append(len(found["ways"])), (4, 8, 16, 32)
    )
    assert report["fastest"]["batch"] in (8, 16) and report["fastest"]["path"] == "chunked"
    assert [one["why"] for one in report["failed"]] == ["loss 9.0000, not 5.0000"]
    assert report["fastest"]["notes_per_second"] == pytest.approx(0.4 * report["fastest"]["tokens_per_second"])
    assert kept[:3] == [1, 2, 3]
    assert race.race("hybrid", nano(), CPU, 100, ("chunked",), batches=(4,))["fastest"]["path"] == "sequential"


def test_memory_that_ends_ends_the_larger_batches(monkeypatch):
    def measured(configs, way, device):
        if way.batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"tokens_per_second": 100.0, "loss": 5.0}

    monkeypatch.setattr(race, "measure", measured)
    report = race.race("hybrid", nano(), CPU, 100)
    assert report["fastest"]["batch"] == 4 and "out of memory" in report["failed"][0]["why"]


@pytest.mark.parametrize("row", ["hybrid", "notes-hybrid"])
def test_a_way_is_measured_by_running_it(row):
    found = race.measure(nano(row), race.Way("chunked", "float32", 2), CPU)
    assert found["tokens_per_second"] > 0 and 0 < found["loss"] < 20


def test_a_mode_that_does_not_run_here_is_refused_and_names_stay_in_a_compiled_one():
    model = systems.build_model(nano())
    names = list(model.state_dict())
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        modes.apply(model, "graph", 2, 16, None)
    with pytest.raises(ConfigError, match="eager, compile, graph"):
        modes.apply(model, "fast", 2, 16, None)
    modes.apply(model, "eager", 2, 16, None)
    assert list(model.state_dict()) == names
