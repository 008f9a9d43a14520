"""torchrun on one machine: a worker is killed, the group starts again from the last checkpoint, and nothing is lost but time.

Its processes import torch five times, which is most of what this takes; the run it is compared with is forked (runs.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ittybitty import checkpoint
from ittybitty.notes import Performance
from ittybitty.train.log import read_log
from runs import small_store, train_group

pytestmark = pytest.mark.slow

CHANGES = {"train.steps": 12, "train.checkpoint_every": 3, "train.validate_every": 6}
KILLED_AT = 7  # steps; the last checkpoint is that of step 6

# What torchrun starts. The audit hook sees every file that Python opens for writing, makes, renames or removes.
WORKER = """
import json, os, signal, sys
from pathlib import Path

os.environ["ITTYBITTY_NATIVE"] = "0"
import torch
from ittybitty.train import loop
from ittybitty.tokenizers.store import TokenStore
from runs import small_configs

store, run_dir, changes, witness, kill = json.loads(sys.argv[1])
torch.set_num_threads(1)
rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
touched = Path(witness) / f"attempt{attempt}-rank{rank}"


def watch(event, arguments):
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and str(arguments[0]).startswith(run_dir + os.sep):
        changed.append(event)


def step_done(step, record):
    touched.write_text(str(len(changed)))
    marker = Path(witness) / "killed"
    if kill and rank == "1" and step == kill and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


changed = []
sys.addaudithook(watch)
options = {"resume": True, "parallel": "ddp", "progress": False, "on_step": step_done}
loop.train("hybrid", small_configs(**changes), TokenStore.open(store), run_dir, **options)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tokens and the worker's program."""
    folder = tmp_path_factory.mktemp("elastic")
    played = Performance.of([(0.25 * i, 0.2, 40 + 7 * i % 40, 40 + i % 60) for i in range(60)])
    small_store(folder / "tokens", played)
    (folder / "worker.py").write_text(WORKER, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """A run of two processes that nothing happened to."""
    train_group(str(folder / "tokens"), str(folder / "whole"), CHANGES)
    return folder / "whole"


@pytest.fixture(scope="module")
def survivor(folder):
    """A run by torchrun whose second worker was killed in the middle; the run folder and what was said."""
    witness, run_dir = folder / "witness", folder / "survivor"
    witness.mkdir()
    arguments = [str(folder / "tokens"), str(run_dir), CHANGES, str(witness), KILLED_AT]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
    }
    command += [str(folder / "worker.py"), json.dumps(arguments)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as group:
        try:
            said = group.communicate(timeout=600)[1]
        finally:
            group.terminate()  # torchrun takes its workers along
    assert group.returncode == 0, said[-3000:]
    return run_dir, said


def test_a_killed_worker_costs_only_the_steps_since_the_last_checkpoint(whole, survivor):
    """The group starts again by itself and ends in the weights, bit for bit, of one that was left alone."""
    run_dir, said = survivor
    assert (run_dir.parent / "witness" / "killed").exists() and "exitcode: -9" in said
    assert checkpoint.newest(run_dir).step == CHANGES["train.steps"]
    for file in ("model.safetensors", "last/model.safetensors", "last/optimizer.safetensors"):
        ours, theirs = load_file(run_dir / file), load_file(whole / file)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours), file


def test_the_log_tells_each_step_once(whole, survivor):
    steps = [
        [record["step"] for record in read_log(run / "log.jsonl") if "loss" in record] for run in (whole, survivor[0])
    ]
    assert steps[0] == steps[1] == sorted(set(steps[0]))


@pytest.mark.parametrize("attempt", [0, 1])
def test_only_rank_0_writes(survivor, attempt):
    """Of the run folder no other rank opens, makes, renames or removes anything, before the kill and after it."""
    witness = survivor[0].parent / "witness"
    rank0, rank1 = (int((witness / f"attempt{attempt}-rank{rank}").read_text()) for rank in (0, 1))
    assert rank0 > 0 and rank1 == 0
