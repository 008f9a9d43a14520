"""The check finds what is wrong, the race keeps what is fast; on a CPU both run the paths that a CPU has."""

from __future__ import annotations

import json
import time

import pytest
import torch

from ittybitty import systems
from ittybitty.errors import ConfigError
from ittybitty.gpu import check, modes, race
from ittybitty.models import scan

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_sound_device_passes_and_every_part_is_reported():
    report = check.check(("hybrid", "notes-hybrid"), CPU, 300, tokens=12)
    assert report["off"] == [] and all(one["ok"] for one in report["scans"]["chunked"].values())
    assert all(one["ok"] for one in report["models"].values())
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


def test_the_check_compiles_the_scan_once_with_masks_and_once_as_a_training_runs_it():
    """A backward takes five seconds to compile, in each of two precisions, and the check has a minute."""
    triton_scan = pytest.importorskip("ittybitty.models.triton_scan", reason="Triton has no wheel for this system")
    compiled = {(E, N, triton_scan.full(L, E, N)) for _, L, E, N in check.SIZES.values()}
    assert len(compiled) == 2 and {full for *_, full in compiled} == {True, False}
    small = systems.build("hybrid", "small")
    assert triton_scan.full(small["data"].context, 2 * small["model"].d_model, small["model"].d_state)


def test_ids_that_differ_where_logits_do_are_found(monkeypatch):
    drawn = iter([([5, 6, 7], [1.0, 0.5, 0.2]), ([5, 9, 7], [1.0, 0.5, 0.2])])
    monkeypatch.setattr(check, "_drawn", lambda *given: next(drawn))
    monkeypatch.setattr(check, "started", lambda row, preset: torch.nn.Linear(1, 1))
    monkeypatch.setattr(check, "music", lambda *given: torch.zeros(1))
    assert check.greedy("hybrid", CPU, 3) == {"ok": False, "tokens": 3, "first_difference": 1, "gap": 0.5}


def nano(row: str = "hybrid") -> dict:
    return systems.build(row, "nano", {"data.context": 16})


def raced(sizes=race.BATCHES, off=(), keep=lambda found: None, seconds: float = 100, **given) -> dict:
    """The report of a race of a nano model over these batches."""
    one = race.Race("hybrid", nano(), CPU, off, 0.4, keep, **given)
    one.batches(sizes, time.monotonic() + seconds)
    return one.report


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
    report = raced((4, 8, 16, 32), keep=lambda found: kept.append(len(found["ways"])))
    assert report["fastest"]["batch"] in (8, 16) and report["fastest"]["path"] == "chunked"
    assert [one["why"] for one in report["failed"]] == ["loss 9.0000, not 5.0000"]
    assert report["fastest"]["notes_per_second"] == pytest.approx(0.4 * report["fastest"]["tokens_per_second"])
    assert kept[:4] == [0, 1, 1, 2]  # before and after each
    assert raced((4,), ("chunked",))["fastest"]["path"] == "sequential"


def test_memory_that_ends_ends_the_larger_batches(monkeypatch):
    def measured(configs, way, device):
        if way.batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"tokens_per_second": 100.0, "loss": 5.0}

    monkeypatch.setattr(race, "measure", measured)
    report = raced()
    assert report["fastest"]["batch"] == 4 and "out of memory" in report["failed"][0]["why"]


def test_a_way_that_ends_the_process_is_passed_over_by_the_next_attempt(monkeypatch):
    """The report as it stands while a way is measured is what a dead process leaves; the next attempt measures the others."""
    left, tried = [], []

    def measured(configs, way, device):
        tried.append(way.batch)
        return {"tokens_per_second": 100.0 * way.batch, "loss": 5.0}

    monkeypatch.setattr(race, "measure", measured)
    monkeypatch.setattr(race, "available", lambda device: ["chunked"])
    raced((4, 8), keep=lambda found: left.append(json.loads(json.dumps(found))))
    dead = next(found for found in left if found["trying"] and found["trying"]["batch"] == 8)
    tried.clear()
    report = raced((4, 8), before=dead)
    assert 4 not in tried and 8 not in {one["batch"] for one in report["ways"] if one["path"] == "chunked"}
    assert report["failed"][0]["batch"] == 8 and report["failed"][0]["why"] == "ended the process"
    assert report["fastest"]["batch"] == 4


def test_a_mode_that_compiles_for_longer_than_it_gains_does_not_win():
    quick, late = {"tokens_per_second": 100.0, "start_s": 1.0}, {"tokens_per_second": 130.0, "start_s": 60.0}
    short, long = (race.Race("hybrid", nano(), CPU, training=seconds) for seconds in (180, 3600))
    assert short.worth(quick) > short.worth(late) and long.worth(quick) < long.worth(late)


def test_what_ends_the_process_that_checks_is_off_and_the_rest_is_checked_by_the_next(monkeypatch):
    monkeypatch.setattr(check, "available", lambda device: ["sequential", "chunked"])
    monkeypatch.setattr(check, "SIZES", {"short": (1, 5, 4, 3)})
    left = []
    check.check((), CPU, 300, keep=lambda report: left.append(json.loads(json.dumps(report))))
    dead = next(report for report in left if report["trying"] == ["scans", "chunked", "float32"])
    assert dead["off"] == ["chunked"] and not dead["done"]  # even if no other attempt follows
    report = check.check((), CPU, 300, before=dead)
    assert report["done"] and report["off"] == ["chunked"]
    assert report["scans"]["chunked"]["float32"] == {"ok": False, "why": "ended the process"}
    assert all(one["ok"] for one in report["scans"]["sequential"].values())


def test_a_comparison_that_leaves_the_device_unusable_ends_the_attempt(monkeypatch):
    monkeypatch.setattr(check, "available", lambda device: ["chunked"])
    monkeypatch.setattr(check, "SIZES", {"short": (1, 5, 4, 3)})
    monkeypatch.setattr(check, "usable", lambda device: False)
    left = []
    with pytest.raises(RuntimeError, match="scans chunked float32 leaves the device unusable"):
        check.check((), CPU, 300, keep=lambda report: left.append(report["trying"]))
    assert left[-1] is None  # the next attempt goes on behind it


@pytest.mark.parametrize("row", [pytest.param("hybrid", marks=pytest.mark.slow), "notes-hybrid"])
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


def test_a_fast_backbone_is_called_for_its_own_shape_in_training_only():
    """The last batch of an epoch and validation run as they are: nothing is compiled in the midst of a training."""
    model, calls = systems.build_model(nano()), []

    def fast(x):
        calls.append(tuple(x.shape))
        return type(model.backbone).forward(model.backbone, x)

    modes._only_for(model.backbone, fast, (2, 16))
    ids = torch.randint(3, 100, (3, 16))
    model.train()(ids[:2], ids[:2])
    model(ids, ids)
    model.eval()(ids[:2], ids[:2])
    with torch.no_grad():
        model.train()(ids[:2], ids[:2])
    assert calls == [(2, 16, model.config.d_model)]
