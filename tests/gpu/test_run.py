"""How a visit takes its steps: what fails is run again within its share, and nothing ends the rest."""

from __future__ import annotations

import time

import pytest
import torch
from test_parcel import run_folder

from ittybitty.errors import OutputError
from ittybitty.gpu import parcel, plan, run, training
from ittybitty.gpu.step import read_result, result_file


@pytest.fixture
def visit(tmp_path):
    """A visit whose processes are never started: `outcomes` are theirs, `started` what was asked of them."""
    made = run._Visit(tmp_path, {"preset": "nano", "rows": ["hybrid"]}, time.monotonic() + 100, True, lambda line: None)
    made.outcomes, made.started = [], []

    def taken(step, end, attempt):
        made.started.append((step.name, attempt))
        return made.outcomes.pop(0)

    made._run = taken
    result_file(tmp_path, "unpack").write_text('{"hybrid": {"folder": "tokens"}}')
    return made


FAILED, DONE, LATE = (
    (1, "a kernel ended it", False),
    (0, "", False),
    (1, "took longer than its share, and was ended", True),
)
TRAIN = plan.Step("train", 60, "hybrid")


def test_a_step_that_dies_is_run_again_within_its_share(visit):
    visit.outcomes = [FAILED, DONE]
    visit.take(TRAIN, [TRAIN])
    assert visit.started == [("train", 0), ("train", 1)]
    assert visit.done == [{"step": "train hybrid", "ok": True, "seconds": 0.0, "attempts": 2}]


def test_a_step_that_always_dies_is_passed_over(visit):
    visit.outcomes = [FAILED] * 3
    visit.take(TRAIN, [TRAIN])
    assert len(visit.started) == run.ATTEMPTS["train"] and visit.done[0]["why"] == "a kernel ended it"
    assert not visit.done[0]["ok"]


@pytest.mark.parametrize("seconds", [60.0, run.LEAST_AGAIN - 1])
def test_a_step_whose_share_is_spent_is_not_run_again(visit, seconds):
    visit.outcomes = [LATE if seconds > run.LEAST_AGAIN else FAILED]
    visit.take(plan.Step("check", seconds), [])
    assert visit.started == [("check", 0)] and not visit.done[0]["ok"]


def test_a_check_that_a_kill_of_the_visit_cut_short_is_done_again_and_one_that_spent_its_share_is_kept(visit, tmp_path):
    result_file(tmp_path, "check").write_text('{"off": ["triton"], "done": false}')
    visit.outcomes = [LATE]
    visit.take(plan.Step("check", 60), [])
    visit.take(plan.Step("check", 60), [])
    assert visit.started == [("check", 0)] and visit.done[1]["why"] == "kept from before"
    assert read_result(tmp_path, "check") == {"off": ["triton"], "done": True}


def test_later_attempts_of_a_training_run_in_simpler_ways():
    way = {"path": "triton", "mode": "graph", "batch": 32, "precision": "bfloat16", "ms": 40.0}
    said: list[str] = []
    first, second, third = (training._simpler(way, attempt, said.append) for attempt in range(3))
    assert first == way and (second["mode"], second["path"]) == ("eager", "triton")
    assert (third["mode"], third["path"]) == ("eager", "chunked") and len(said) == 2
    assert training._simpler(None, 1, said.append) is None


def test_a_parcel_that_cannot_be_written_does_not_end_the_training(tmp_path):
    def full():
        raise OutputError("the disk is full")

    said: list[str] = []
    seen = training._Watch(tmp_path, full, said.append)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    seen(1, {})
    seen.close()
    assert said == ["no result was written: the disk is full"]


def test_what_a_training_brought_home_counts_where_the_last_step_is_ended(visit, tmp_path):
    runs = {"notes-hybrid": run_folder(tmp_path / "run")}
    visit.job["out"] = str(tmp_path / "out")
    visit.outcomes = [LATE]
    visit.take(plan.Step("home", 10), [])
    with pytest.raises(OutputError, match="no result was written; home: took longer"):
        visit.summary()
    parcel.write(runs, {}, tmp_path / "out")
    assert set(visit.summary()["files"]) == {"parcel.json", "weights-00001-of-00001.safetensors"}


def test_a_graph_is_not_used_for_several_micro_batches():
    """Its gradients have one place: the second micro-batch would overwrite the first."""
    way = {"mode": "graph", "precision": "bfloat16"}
    one, two = (plan.configs("hybrid", "nano", settings={"train.accumulation": n}) for n in (1, 2))
    assert training._prepare(one, way, 4) is not None and training._prepare(two, way, 4) is None


def test_too_little_memory_makes_smaller_micro_batches_and_says_so(tmp_path, monkeypatch):
    asked, said = [], []

    def trained(row, configs, *given, **named):
        asked.append(configs["train"].accumulation)
        if len(asked) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"steps": 1}

    monkeypatch.setattr(training, "train", trained)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    configs = plan.configs("hybrid", "nano", settings={"train.batch_size": 8})
    deadline = time.monotonic() + 60
    assert training.learn("hybrid", configs, None, tmp_path / "run", deadline, say=said.append) == {
        "steps": 1,
        "micro_batch": 2,
    }
    assert asked == [1, 2, 4]
    assert said == [f"hybrid: the GPU's memory is full; micro-batches of {n} windows from here on" for n in (4, 2)]
