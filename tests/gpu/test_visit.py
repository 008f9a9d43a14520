"""A whole visit at size nano on a CPU, in a Python that has only what a rented machine has; killed once while it trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import visits

from ittybitty import checkpoint
from ittybitty.gpu import parcel, run, step

BUDGET = 120  # s


def pace() -> float:
    """1 on an idle machine; on a busy one, how many times longer everything takes now, told by an import that takes 2 s."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch"], check=True, env=visits.environment())
    return max(1.0, (time.monotonic() - began) / 3)


def lines_of(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def trained_steps(out: Path) -> dict[str, int]:
    return {row: checkpoint.newest(out.with_name("out.work") / "runs" / row).step for row in ("hybrid", "notes-hybrid")}


@pytest.mark.slow
def test_rehearsal_killed_once_and_gone_on_with_then_a_second_visit_from_weights(tmp_path, performance):
    pack, out = visits.packed(tmp_path, performance), tmp_path / "out"
    common = ["run", pack, "--out", out, "--preset", "nano", "--cpu", "--json"]

    seconds = round(BUDGET * pace())
    killed_while_training(visits.command(*common, "--seconds", seconds), out, seconds)
    joined = parcel.join(out, tmp_path / "joined")  # what came home is a model that plays
    assert list(joined) == ["hybrid"] and checkpoint.load(joined["hybrid"]).system == "hybrid"
    before = checkpoint.newest(tmp_path / "out.work" / "runs" / "hybrid").step
    race = step.result_file(tmp_path / "out.work", "race").read_bytes()

    seconds = round(52 * pace())
    began = time.monotonic()
    second = visits.ran(*common, "--seconds", seconds)
    assert second.returncode == 0, second.stderr
    summary = json.loads(second.stdout)
    # each step ends itself within GRACE of its share; then the command itself starts and ends, which the load decides
    assert time.monotonic() - began < seconds + 6 * run.GRACE + 15 * pace()
    whys = {one["step"]: one.get("why") for one in summary["steps"]}
    # on a busy machine Python alone may need longer to start than the last step may take; a training has brought home before
    assert whys.pop("home") in (None, "took longer than its share, and was ended")
    assert whys == {
        "unpack": None, "check": "kept from before", "race": "kept from before", "train hybrid": None, "train notes-hybrid": None,
    }, second.stderr  # fmt: skip  # a command is read as a line
    assert step.result_file(tmp_path / "out.work", "race").read_bytes() == race
    assert summary["rows"]["hybrid"]["steps"] > before >= 1
    assert len(summary["files"]) <= parcel.FILES and max(summary["files"].values()) <= parcel.SHARD_BYTES
    assert_the_rate_fell_to_nothing(tmp_path / "out.work" / "runs" / "notes-hybrid" / "log.jsonl")

    again = visits.ran(
        "run", pack, "--out", tmp_path / "again", "--preset", "nano", "--cpu", "--json", "--row", "notes-hybrid", "--from", out,
        "--seconds", round(60 * pace()), "--set", "train.steps=12", "--set", "train.batch_size=4",
    )  # fmt: skip  # a command is read as a line
    assert again.returncode == 0, again.stderr
    trained = tmp_path / "again.work" / "runs" / "notes-hybrid"
    first = lines_of(trained / "log.jsonl")[0]
    untrained = lines_of(tmp_path / "out.work" / "runs" / "notes-hybrid" / "log.jsonl")[0]
    assert first["nll"] < untrained["nll"]  # it began where the first visit ended …
    assert checkpoint.read_config(trained)["configs"]["train"].warmup == 5  # … after a short warm-up
    assert json.loads(again.stdout)["rows"]["notes-hybrid"]["steps"] == 12


def killed_while_training(command: list[str], out: Path, seconds: float) -> None:
    """Start a visit, and kill all of it as soon as a first parcel is there."""
    process = subprocess.Popen(
        command, env=visits.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True
    )  # fmt: skip  # a command is read as a line
    end = time.monotonic() + seconds
    while not (out / parcel.FOLDER / parcel.LIST).exists():
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def assert_the_rate_fell_to_nothing(log: Path) -> None:
    """The schedule follows the time: at the end of the share, the learning rate is a small part of what it was."""
    rates = [record["lr"] for record in lines_of(log) if "lr" in record]
    assert rates[-1] < 0.35 * max(rates)


@pytest.mark.slow
def test_a_step_that_fails_each_time_does_not_end_the_rest(tmp_path, performance):
    """Its race cannot write what it finds, however often it is run: a row is trained all the same."""
    pack, work = visits.packed(tmp_path, performance), tmp_path / "work"
    (work / "race.json").mkdir(parents=True)
    done = visits.ran(
        "run", pack, "--out", tmp_path / "out", "--work", work, "--preset", "nano", "--cpu", "--json", "--row", "notes-hybrid",
        "--seconds", round(120 * pace()), "--set", "train.steps=8",
    )  # fmt: skip  # a command is read as a line
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert [one["ok"] for one in summary["steps"][:4]] == [True, True, False, True]
    assert "json" in summary["steps"][2]["why"]
    assert "notes-hybrid" in parcel.read(tmp_path / "out")[0]["rows"]


@pytest.mark.slow
def test_bad_input_is_one_line_on_such_a_machine(tmp_path, performance):
    pack = visits.packed(tmp_path, performance)
    for arguments, says in (
        (["run", pack, "--out", tmp_path / "out"], "no CUDA device is here"),
        (["run", pack, "--out", tmp_path / "out", "--cpu", "--seconds", "5"], "too short for one checkpoint"),
        (["run", tmp_path, "--out", tmp_path / "out", "--cpu"], "holds no packed tokens"),
    ):
        done = visits.ran(*arguments)
        assert done.returncode == 2 and says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    plan = visits.ran("run", pack, "--out", tmp_path / "out", "--plan")
    assert plan.returncode == 0 and "selective scan" in plan.stdout and "expected" in plan.stdout
