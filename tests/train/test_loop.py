"""One loop: interrupted or not, on one device or several, the same weights; and what stands on disk is always whole."""

from __future__ import annotations

import io
import json
import math
import os
import random
import shutil
import signal
import sys

import pytest
import torch
from safetensors.torch import load_file

from ittybitty import checkpoint, systems
from ittybitty.config import TrainConfig
from ittybitty.errors import CheckpointError, ConfigError, OutputError
from ittybitty.export import export
from ittybitty.models import PianoHybridModel
from ittybitty.notes import Performance
from ittybitty.tokenizers import make_tokenizer
from ittybitty.train import loop, parallel
from ittybitty.train.log import TrainingLog, read_log
from ittybitty.train.optimizer import Autocast, learning_rate, parameter_groups, precision
from ittybitty.train.stop import KAGGLE_HOURS, StopSignals, budget
from runs import processes, random_notes, small_configs, small_store, train_group, train_process

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    played = Performance.of(
        [(0.25 * i, 0.2, 40 + 7 * i % 40, 40 + i % 60) for i in range(60)], [(1.0 * i, 0.8) for i in range(12)]
    )
    return small_store(tmp_path_factory.mktemp("tokens") / "remi", played)


def train(store, run_dir, changes=None, **options):
    return loop.train("hybrid", small_configs(**(changes or {})), store, run_dir, progress=False, **options)


def weights(run_dir):
    return load_file(run_dir / checkpoint.LAST / checkpoint.MODEL)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory):
    """An uninterrupted run of 12 steps."""
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    return run_dir, train(store, run_dir)


# ---------------------------------------------------------------- interrupted


def test_resume_is_uninterrupted(store, straight, tmp_path):
    """Weights, optimizer and best weights after 2N steps are those of N, an end, and N more, bit for bit."""
    run_dir = tmp_path / "run"
    stop = train(store, run_dir, on_step=lambda step, _: step == 6 and os.kill(os.getpid(), signal.SIGTERM))
    assert (stop["stopped"], stop["steps"]) == ("SIGTERM", 6)
    torch.manual_seed(99)  # whatever the second session did before
    assert train(store, run_dir, resume=True)["steps"] == 12
    for file in ("model.safetensors", "last/model.safetensors", "last/optimizer.safetensors"):
        assert same(load_file(run_dir / file), load_file(straight[0] / file)), file
    assert _curve(run_dir) == _curve(straight[0])


def _curve(run_dir):
    return [(r["step"], r.get("validation_nll")) for r in read_log(run_dir / "log.jsonl") if "validation_nll" in r]


def test_resuming_says_where_it_starts(store, tmp_path, capsys):
    for steps, words in ((1, "holds no run yet; starts at step 0"), (2, "goes on from step 1 of 2")):
        loop.train("hybrid", small_configs(**{"train.steps": steps}), store, tmp_path / "run", resume=True)
        assert capsys.readouterr().err.splitlines() == [f"{tmp_path / 'run'}: {words}"]


def test_ctrl_c_checkpoints_and_is_passed_on(store, straight, tmp_path):
    run_dir = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(store, run_dir, on_step=lambda step, _: step == 5 and os.kill(os.getpid(), signal.SIGINT))
    assert checkpoint.newest(run_dir).step == 5
    assert signal.getsignal(signal.SIGINT) is before
    train(store, run_dir, resume=True)
    assert same(weights(run_dir), weights(straight[0]))


def test_a_signal_may_come_while_something_is_printed(monkeypatch, capfd):
    """print() in a signal handler ends in a RuntimeError where the signal has interrupted print()."""

    class Interrupted:
        def write(self, text):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

        flush = isatty = lambda self: None

        def fileno(self):
            return 2

    monkeypatch.setattr(sys, "stderr", Interrupted())
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received == "SIGTERM" and "checkpointing at the end of this step" in capfd.readouterr().err


def test_a_stop_request_says_nothing_where_stderr_is_redirected(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received == "SIGTERM" and not capfd.readouterr().err


def test_an_exception_leaves_nothing_open(store, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(TrainingLog, "close", lambda self: closed.append("log"))
    made = loop.batches

    def watched(*arguments):
        try:
            yield from made(*arguments)
        finally:
            closed.append("batches")

    monkeypatch.setattr(loop, "batches", watched)

    def fail(step, record):
        raise ZeroDivisionError

    try:
        train(store, tmp_path / "run", on_step=fail)
    except ZeroDivisionError as error:  # its traceback holds the loop's frame: nothing is closed by being collected
        assert closed == ["batches", "log"]
        del error
    else:
        pytest.fail("the exception is lost")


def test_a_second_ctrl_c_is_immediate():
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_time_budget_ends_a_run_cleanly(store, straight, tmp_path):
    run_dir = tmp_path / "run"
    summary = train(store, run_dir, max_hours=1e-9)
    assert (summary["stopped"], summary["steps"]) == ("time", 1)
    train(store, run_dir, resume=True, max_hours=1)
    assert same(weights(run_dir), weights(straight[0]))


def test_kaggles_limit_is_the_default_there(monkeypatch):
    assert budget(None) == math.inf
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert budget(None) == KAGGLE_HOURS * 3600 < 12 * 3600
    with pytest.raises(ConfigError, match="max_hours"):
        budget(0)


KILLS = int(os.environ.get("TRAINING_KILLS", 20))  # `make kills` asks for 200
KILLS_SEED = int(os.environ.get("KILLS_SEED", 0))  # other moments than last time


def test_kills_lose_nothing_but_time(store, tmp_path):
    """A real process is killed KILLS times at random changes of its run folder; the resumed run ends with the same bits."""
    changes = {"train.steps": 40, "train.checkpoint_every": 1, "train.validate_every": 7}
    print(f"{KILLS} kills at random changes drawn with seed {KILLS_SEED}")
    context, dice, killed, reached = processes(), random.Random(KILLS + KILLS_SEED), 0, set()

    def start(run_dir, kill=None):
        process = context.Process(
            target=train_process, args=(str(store.path), str(run_dir), changes, {}, {"resume": True}, kill)
        )
        process.start()
        process.join()
        return process.exitcode

    assert start(tmp_path / "whole") == 0
    run_dir = tmp_path / "killed"
    for _ in range(KILLS):
        # before the run folder exists, in the middle of a checkpoint, or some steps further; half of the kills fall
        # a little after a change has begun: into the writing of a file
        code = start(run_dir, (dice.randint(1, 40), dice.choice((0.0, dice.uniform(0.0, 0.01)))))
        killed += code == -signal.SIGKILL
        last = checkpoint.newest(run_dir)
        reached.add(last.step if last else 0)
        if last and last.step == 40:
            shutil.rmtree(run_dir)  # it came to its end: once more from the beginning
    assert killed >= 0.9 * KILLS and len(reached - {0, 40}) >= 4, "the kills did not fall into the training"
    assert start(run_dir) == 0
    for file in ("model.safetensors", "last/model.safetensors", "last/optimizer.safetensors"):
        assert same(load_file(run_dir / file), load_file(tmp_path / "whole" / file)), file
    steps = [record["step"] for record in read_log(run_dir / "log.jsonl") if "validation_nll" in record]
    assert steps == sorted(set(steps)), "the log repeats steps that were trained twice"
    assert not [p for p in run_dir.iterdir() if p.name.startswith((".", "last."))], "a kill's leftovers were not swept"


def test_a_full_disk_does_not_end_a_run(store, straight, tmp_path, monkeypatch):
    run_dir, save = tmp_path / "run", checkpoint.save_last

    def full(folder, model, optimizer, state):
        if state["step"] == 8:
            raise OutputError(f"{folder}: no checkpoint could be written")
        save(folder, model, optimizer, state)

    monkeypatch.setattr(checkpoint, "save_last", full)
    assert train(store, run_dir)["steps"] == 12
    assert same(weights(run_dir), weights(straight[0]))


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(store, tmp_path, monkeypatch):
    def full(folder, *_):
        raise OutputError(f"{folder}: no checkpoint could be written")

    monkeypatch.setattr(checkpoint, "save_last", full)
    with pytest.raises(OutputError, match="no checkpoint"):
        train(store, tmp_path / "run", {"train.steps": 1})


# ---------------------------------------------------------------- cut into pieces


def test_accumulation_is_the_same_step(store, tmp_path):
    curves = []
    for accumulation in (1, 3):
        run_dir = tmp_path / str(accumulation)
        train(store, run_dir, {"train.accumulation": accumulation, "model.dropout": 0.0, "train.steps": 10})
        curves.append((weights(run_dir), read_log(run_dir / "log.jsonl")[-2:]))
    for name, value in curves[0][0].items():
        torch.testing.assert_close(value, curves[1][0][name], rtol=1e-3, atol=1e-4)
    assert curves[0][1][0]["nll"] == pytest.approx(curves[1][1][0]["nll"], abs=1e-4)


def test_two_processes_are_one(store, tmp_path):
    """torchrun's environment, gloo on loopback: the loss of one process at equal global batch, one writer, one log."""
    changes = {"model.dropout": 0.0, "train.steps": 10, "train.validate_every": 5}
    train(store, tmp_path / "one", changes)
    train_group(str(store.path), str(tmp_path / "two"), changes)
    one, two = (read_log(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert [r["step"] for r in one] == [r["step"] for r in two]
    for a, b in zip(one, two):
        assert a["tokens"] == b["tokens"]
        for key in ("nll", "validation_nll", "loss"):
            assert a.get(key) == pytest.approx(b.get(key), abs=2e-4)


def test_dataparallel_replicas_add_up_to_one_device():
    """What nn.DataParallel does on two cards, in turn on a CPU: unequal shares of rows, results gathered, summed."""
    torch.manual_seed(0)
    model = Autocast(PianoHybridModel(small_configs(**{"model.dropout": 0.0})["model"]), "cpu", None)
    x = torch.randint(0, 512, (5, 32))
    y = x.roll(-1, 1)
    y[0, 3:] = y[4] = -100  # padding, and a row without targets

    whole = [value.sum() for value in model(x, y, 0.1)]
    (whole[0] / whole[2]).backward()
    gradient = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    parts = [model(a, b, 0.1) for a, b in zip(x.chunk(2), y.chunk(2))]
    gathered = [torch.cat(values).sum() for values in zip(*parts)]
    (gathered[0] / gathered[2]).backward()
    torch.testing.assert_close(gathered[:2], whole[:2])
    assert gathered[2] == whole[2] == (y >= 0).sum()
    for ours, theirs in zip(gradient, model.parameters()):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-6)


class InTurn(torch.nn.Module):
    """nn.DataParallel without its GPUs: the batch is cut as there, and the shares are run one after the other."""

    def __init__(self, module, devices=2):
        super().__init__()
        self.module, self.devices = module, devices

    def forward(self, x, y, label_smoothing=0.0):
        outs = [self.module(a, b, label_smoothing) for a, b in zip(x.chunk(self.devices), y.chunk(self.devices))]
        return tuple(torch.cat(values) for values in zip(*outs))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_replicas_follow_the_curve_of_one_device(store, tmp_path, monkeypatch, accumulation):
    """The published training's way, at equal global batch; neither a batch nor the epoch divides by the devices."""
    from ittybitty.train.windows import Windows

    assert len(Windows(store, "train", 32, 5)) % 5, "the last batch of an epoch was to be short"
    changes = {"model.dropout": 0.0, "train.steps": 20, "train.batch_size": 5, "train.validate_every": 10}
    train(store, tmp_path / "one", changes)
    monkeypatch.setattr(torch.nn, "DataParallel", InTurn)
    train(store, tmp_path / "two", {**changes, "train.accumulation": accumulation}, parallel="dp")
    one, two = (read_log(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        for key in ("nll", "loss", "validation_nll", "grad_norm"):
            assert a.get(key) == pytest.approx(b.get(key), abs=1e-3)
    assert not [name for name in weights(tmp_path / "two") if "module" in name]


def test_dataparallel_writes_unwrapped_weights(store, straight, tmp_path):
    train(store, tmp_path / "run", parallel="dp")
    assert same(weights(tmp_path / "run"), weights(straight[0]))


def test_torchrun_is_recognised(monkeypatch):
    assert parallel.choose(None) in ("none", "dp")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert parallel.choose(None) == "ddp"
    with pytest.raises(ConfigError, match="torchrun"):
        parallel.open_parallel("ddp")
    with pytest.raises(ConfigError, match="none, dp, ddp"):
        parallel.choose("both")


# ---------------------------------------------------------------- what is learnt, and what is said


def test_training_learns_and_reports_it(store, tmp_path):
    summary = train(
        store, tmp_path / "run", {"train.steps": 60, "train.learning_rate": 1e-2, "train.validate_every": 20}
    )
    log = read_log(tmp_path / "run" / "log.jsonl")
    steps, validations = [r for r in log if "loss" in r], [r for r in log if "validation_nll" in r]
    assert steps[-1]["nll"] < steps[0]["nll"] - 0.8
    assert all(r["loss"] > r["nll"] for r in steps[-1:]), "label smoothing costs, and the reported nats are without it"
    assert {"step", "epoch", "loss", "nll", "lr", "tokens", "seconds", "tokens_per_second"} <= steps[0].keys()
    best = min(validations, key=lambda r: r["validation_nll"])
    assert (summary["best_step"], summary["validation_nll"]) == (best["step"], best["validation_nll"])
    assert 0 < summary["bits_per_note"] < 40
    loaded = checkpoint.load(tmp_path / "run")
    assert loaded.metrics == best
    assert loaded.configs["model"].vocab_size == loaded.tokenizer.vocab_size == store.tokenizer().vocab_size


def test_tokens_count_targets_not_padding(store, tmp_path):
    from ittybitty.train.windows import Windows

    per_epoch = Windows(store, "train", 32, 3).steps_per_epoch
    off = {"data.pitch_shift": 0, "data.velocity_shift": 0, "data.tempo_stretch": 0.0}
    summary = train(store, tmp_path / "run", {**off, "train.steps": per_epoch, "train.validate_every": 1000})
    assert summary["tokens"] == sum(store.pieces[i].length - 1 for i in store.split("train"))
    assert summary["epoch"] == 1


def test_patience_stops_a_run_that_gains_nothing(store, tmp_path):
    summary = train(
        store,
        tmp_path / "run",
        {"train.learning_rate": 0.0, "train.min_learning_rate": 0.0, "train.validate_every": 1, "train.patience": 3},
    )
    assert (summary["stopped"], summary["steps"], summary["best_step"]) == ("patience", 4, 1)
    again = train(
        store,
        tmp_path / "run",
        {"train.learning_rate": 0.0, "train.min_learning_rate": 0.0, "train.validate_every": 1, "train.patience": 3},
        resume=True,
    )
    assert (again["stopped"], again["steps"]) == ("patience", 4)


def test_without_a_validation_split_the_last_weights_are_played(tmp_path, performance):
    store = small_store(tmp_path / "tokens", performance, validation=False)
    summary = train(store, tmp_path / "run", {"train.steps": 2})
    assert summary["validation_nll"] is None
    assert same(load_file(tmp_path / "run" / checkpoint.MODEL), weights(tmp_path / "run"))


def test_a_run_can_start_from_another(store, straight, tmp_path):
    train(
        store,
        tmp_path / "run",
        {"train.steps": 1, "train.learning_rate": 0.0, "train.min_learning_rate": 0.0},
        init_from=straight[0],
    )
    assert same(weights(tmp_path / "run"), load_file(straight[0] / checkpoint.MODEL))


def test_a_run_records_all_the_corpora_it_learnt_from(store, straight, tmp_path, monkeypatch):
    first, second = {"corpus": "test", "licence": "CC0"}, {"corpus": "songs", "licence": "CC BY 4.0"}
    assert checkpoint.load(straight[0]).trained_on == [first]
    monkeypatch.setattr(store, "corpus", str(tmp_path / "songs"))
    monkeypatch.setattr(store, "licence", "CC BY 4.0")
    train(store, tmp_path / "run", {"train.steps": 1}, init_from=straight[0])
    assert checkpoint.load(tmp_path / "run").trained_on == [first, second]
    train(store, tmp_path / "run", {"train.steps": 2, "train.checkpoint_every": 1}, resume=True)
    assert checkpoint.load(tmp_path / "run").trained_on == [first, second]


def test_what_starts_from_a_run_without_a_record_has_none(store, straight, tmp_path):
    shutil.copytree(straight[0], tmp_path / "older")
    header = json.loads((tmp_path / "older" / "config.json").read_text())
    del header["trained_on"]
    (tmp_path / "older" / "config.json").write_text(json.dumps(header))
    train(store, tmp_path / "run", {"train.steps": 1}, init_from=tmp_path / "older")
    assert checkpoint.load(tmp_path / "run").trained_on is None


def test_weights_of_another_grid_of_events_are_said_to_be_taken_over(tmp_path, capsys):
    def trained(encoding: str, **options) -> str:
        grid = make_tokenizer(encoding)
        stored = small_store(tmp_path / "tokens" / encoding, random_notes(), encoding=encoding)
        changes = {"data.tokenizer": encoding, "model.events": grid.sizes, "model.vocab_size": grid.vocab_size}
        configs = systems.build("notes-hybrid", "nano", {**changes, "train.steps": 1, "train.batch_size": 1})
        loop.train("notes-hybrid", configs, stored, tmp_path / encoding, **options)
        return capsys.readouterr().err

    assert "grid" not in trained("notes")
    origin = tmp_path / "notes"
    said = f"{origin}: its events are of another grid; each class starts from the nearest one of it"
    assert said in trained("notes-performance", init_from=origin)


def test_a_folder_that_holds_a_run_is_not_overwritten(store, straight):
    before = weights(straight[0])
    with pytest.raises(CheckpointError, match="--resume"):
        train(store, straight[0])
    assert same(weights(straight[0]), before)


def test_an_exported_model_is_not_trained_over(store, straight, tmp_path):
    folder = tmp_path / "exported"
    export(straight[0], folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CheckpointError, match="exported model.*--from"):
        train(store, folder, resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_is_resumed_with_its_own_music_only(store, straight, tmp_path):
    shutil.copytree(straight[0], tmp_path / "run")
    other = small_store(tmp_path / "other", Performance.of([(0.25 * i, 0.2, 50 + 5 * i % 30, 70) for i in range(50)]))
    before = (tmp_path / "run" / "last" / "state.json").read_bytes()
    with pytest.raises(ConfigError, match=r"other pieces \(of test\); give the --data it was begun with"):
        train(other, tmp_path / "run", {"train.steps": 14}, resume=True)
    assert (tmp_path / "run" / "last" / "state.json").read_bytes() == before


@pytest.mark.parametrize("how", ["removed", "cut short"])
def test_weights_without_a_checkpoint_are_never_lost(store, straight, tmp_path, how):
    run_dir = tmp_path / "run"
    shutil.copytree(straight[0], run_dir)
    if how == "removed":
        shutil.rmtree(run_dir / checkpoint.LAST)
    else:
        whole = run_dir / checkpoint.LAST / "optimizer.safetensors"
        whole.write_bytes(whole.read_bytes()[:100])
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(
        CheckpointError, match="cannot go on; give another folder, and --from .*run to start from its weights"
    ):
        train(store, run_dir, resume=True)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
    train(store, tmp_path / "next", {"train.steps": 1}, init_from=run_dir)


def test_the_best_weights_never_stand_without_a_checkpoint(store, tmp_path):
    """So that a run killed before its first regular checkpoint goes on too."""
    changes = {"train.validate_every": 2, "train.checkpoint_every": 100}
    seen = []
    train(
        store,
        tmp_path / "run",
        changes,
        on_step=lambda step, _: seen.append(
            (step, (tmp_path / "run" / checkpoint.MODEL).exists(), checkpoint.newest(tmp_path / "run"))
        ),
    )
    assert next(step for step, model, _ in seen if model) == 2
    assert all(last is not None for _, model, last in seen if model)


@pytest.mark.parametrize(
    "change", [{"model.d_ff": 20}, {"train.seed": 1}, {"train.batch_size": 2}, {"data.context": 16}]
)
def test_a_resumed_run_cannot_become_another(store, straight, change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        train(store, straight[0], change, resume=True)


def test_a_finished_run_can_be_made_longer(store, straight, tmp_path):
    shutil.copytree(straight[0], tmp_path / "run")
    assert train(store, tmp_path / "run", {"train.steps": 14}, resume=True)["steps"] == 14


def test_a_loss_that_is_not_a_number_stops_the_run_before_it_is_saved(store, tmp_path):
    run_dir, model = tmp_path / "run", []

    def spoil(step, _):
        if step == 5:
            next(model[0].parameters()).data.fill_(math.nan)

    changes = {"train.validate_every": 100, "train.checkpoint_every": 1}
    with pytest.raises(ConfigError, match="not a number"):
        train(store, run_dir, changes, prepare=model.append, on_step=spoil)
    assert checkpoint.newest(run_dir).step == 5, "what was good is kept, and nothing after it"
    assert all(bool(torch.isfinite(value).all()) for value in weights(run_dir).values())


# ---------------------------------------------------------------- the recipe


def test_learning_rate_warms_up_and_follows_a_cosine():
    config = TrainConfig(steps=1000, warmup=200, learning_rate=3e-4, min_learning_rate=3e-5)
    rates = [learning_rate(step, config) for step in range(1000)]
    assert rates[0] == pytest.approx(3e-4 / 200)
    assert max(rates) == rates[199] == pytest.approx(3e-4)
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[-1] == pytest.approx(3e-5)
    assert rates[200 + 400] == pytest.approx((3e-4 + 3e-5) / 2, rel=0.01)


def test_stairs_fall_every_so_many_epochs():
    config = TrainConfig(schedule="stairs", learning_rate=1e-4, decay=0.1, decay_epochs=3, warmup=0)
    rates = [learning_rate(step, config, steps_per_epoch=10) for step in range(70)]
    assert rates == pytest.approx([1e-4] * 30 + [1e-5] * 30 + [1e-6] * 10)


def test_epochs_decide_the_steps_and_a_run_of_epochs_is_resumed(store, tmp_path):
    changes = {"train.steps": 12, "train.epochs": 2}
    made = train(store, tmp_path / "run", changes)
    assert made["epoch"] == 2 and made["steps"] != 12
    assert train(store, tmp_path / "run", changes, resume=True)["steps"] == made["steps"]


def test_weight_decay_falls_on_matrices_only():
    model = PianoHybridModel(small_configs()["model"])
    decayed, plain = parameter_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in (decayed, plain))
    assert decayed | plain == set(names.values()) and not decayed & plain
    assert not [
        n
        for n in decayed
        if "embedding" in n or "A_log" in n or "conv" in n or n.endswith((".bias", ".D", "norm.weight"))
    ]
    assert [n for n in decayed if "in_proj" in n] and [n for n in plain if "A_log" in n]


def test_precision_follows_the_device(monkeypatch):
    assert precision("auto", torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for capability, expected in (((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i, c=capability: c)
        assert precision("auto", torch.device("cuda")) is expected
    with pytest.raises(ConfigError, match="float17"):
        precision("float17", torch.device("cpu"))
    with pytest.raises(ConfigError, match="CUDA"):
        precision("float16", torch.device("cpu"))


def test_bfloat16_trains_on_a_cpu_too(store, tmp_path):
    assert train(store, tmp_path / "run", {"train.precision": "bfloat16", "train.steps": 2})["steps"] == 2


def test_a_pipe_gets_lines_and_a_resumed_log_no_step_twice(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ittybitty.train.log.LINE_EVERY", 0.0)
    path = tmp_path / "log.jsonl"
    log = TrainingLog(path, steps=100)
    for step in (10, 20, 30):
        log.write({"step": step, "nll": 3.0})
    log.advance(30, {"nll": 3.0, "tokens_per_second": 500.0, "seconds_per_step": 36.0}, {"validation_nll": 2.5})
    assert "step 30/100  nll 3.000  500 tokens/s  validation 2.500  0.7 h left" in capsys.readouterr().err
    with path.open("a") as file:
        file.write('{"step": 40, "nl')  # the kill
    TrainingLog(path, steps=100, step=20, progress=False)
    assert [record["step"] for record in read_log(path)] == [10, 20]


def test_minutes_end_a_run_and_a_longer_time_resumes_it(store, tmp_path):
    changes = {"train.steps": 10_000, "train.minutes": 0.02, "train.schedule": "stable", "train.warmup": 1}
    first = train(store, tmp_path / "run", changes)
    assert first["stopped"] == "finished" and 1 <= first["steps"] < 10_000 and first["seconds"] >= 1.2
    again = train(store, tmp_path / "run", {**changes, "train.minutes": 0.04}, resume=True)
    assert again["steps"] > first["steps"] and again["seconds"] >= 2.4
    rates = [record["lr"] for record in read_log(tmp_path / "run" / "log.jsonl") if "lr" in record]
    assert rates[-1] < max(rates)  # the cooldown was reached
