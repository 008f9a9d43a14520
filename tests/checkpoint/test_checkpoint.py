"""Run folders: what is saved comes back, and nothing that stood is lost or trusted half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ittybitty import checkpoint, paths, systems
from ittybitty.errors import CheckpointError, OutputError
from ittybitty.tokenizers import PianoTokenizer
from ittybitty.train import start
from ittybitty.train.optimizer import adamw
from runs import small_configs


@pytest.fixture
def run(tmp_path):
    """A run folder with its best weights and one checkpoint at step 3, and what they were written from."""
    folder = tmp_path / "run"
    folder.mkdir()
    tokenizer = PianoTokenizer()
    configs = small_configs(**{"model.vocab_size": tokenizer.vocab_size})
    torch.manual_seed(1)
    model = systems.build_model(configs)
    optimizer = adamw(model, configs["train"])
    _step(model, optimizer, tokenizer)
    tokenizer.save(folder / "tokenizer.json")
    checkpoint.write_config(folder, configs, "hybrid", "nano", tokenizer.content_hash, {"validation_nll": 1.5})
    checkpoint.save_model(folder, model)
    checkpoint.save_last(folder, model, optimizer, {"step": 3})
    return folder, model, optimizer


def _step(model, optimizer, tokenizer):
    ids = torch.randint(0, tokenizer.vocab_size, (2, 9))
    model(ids[:, :-1], ids[:, 1:])[0].sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_folder_needs_nothing_else(run):
    folder, model, _ = run
    loaded = checkpoint.load(folder)
    assert same(loaded.model.state_dict(), model.state_dict())
    assert not loaded.model.training
    assert (loaded.system, loaded.metrics) == ("hybrid", {"validation_nll": 1.5})
    assert loaded.tokenizer.vocab_size == loaded.configs["model"].vocab_size


def test_weights_have_a_hash_that_a_single_changed_number_changes(run):
    folder, model, _ = run
    before = checkpoint.weights_hash(model)
    assert re.fullmatch("[0-9a-f]{16}", before) and checkpoint.weights_hash(checkpoint.load(folder).model) == before
    with torch.no_grad():
        next(model.parameters()).view(-1)[-1] += 1e-3
    assert checkpoint.weights_hash(model) != before


def test_float16_weights_come_back_as_float32(run):
    folder, model, _ = run
    save_file({k: v.half() for k, v in model.state_dict().items()}, folder / checkpoint.MODEL)
    for name, value in checkpoint.load(folder).model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, model.state_dict()[name].half().float())


def test_shards_and_dataparallel_names_are_read(run):
    folder, model, _ = run
    names = sorted(model.state_dict())
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, keys in parts.items():
        save_file({f"module.{k}": model.state_dict()[k] for k in keys}, folder / shard)
    index = {"weight_map": {f"module.{k}": shard for shard, keys in parts.items() for k in keys}}
    (folder / checkpoint.INDEX).write_text(json.dumps(index))
    (folder / checkpoint.MODEL).unlink()
    assert same(checkpoint.load(folder).model.state_dict(), model.state_dict())


def test_an_index_cannot_name_files_elsewhere(run):
    folder, *_ = run
    (folder / checkpoint.MODEL).unlink()
    (folder / checkpoint.INDEX).write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside"):
        checkpoint.load(folder)


def test_before_the_first_validation_the_last_weights_are_played(run):
    folder, model, _ = run
    (folder / checkpoint.MODEL).unlink()
    assert same(checkpoint.load(folder).model.state_dict(), model.state_dict())


def test_optimizer_state_comes_back_exactly(run):
    folder, model, optimizer = run
    torch.manual_seed(2)
    fresh = systems.build_model(small_configs(**{"model.vocab_size": model.config.vocab_size}))
    other = adamw(fresh, small_configs()["train"])
    checkpoint.restore(checkpoint.newest(folder), fresh, other)
    assert same(fresh.state_dict(), model.state_dict())
    ours, theirs = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert ours.keys() == theirs.keys() and all(same(ours[i], theirs[i]) for i in ours)


def test_nothing_in_a_run_folder_is_pickled(run):
    folder, *_ = run
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".safetensors", ".json"}
    for path in files:
        load_file(path) if path.suffix == ".safetensors" else json.loads(path.read_text())


def test_a_run_folder_is_as_readable_as_other_files(run):
    """A group's shared disk, a data set uploaded by another account: safetensors alone would write for one user's eyes."""
    folder, *_ = run
    (folder / "ordinary").touch()
    assert {oct(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {
        oct((folder / "ordinary").stat().st_mode)
    }


@pytest.mark.parametrize("where", [checkpoint.LAST, checkpoint.WRITING, checkpoint.PREVIOUS])
def test_a_kill_between_two_renames_loses_nothing(run, where):
    folder, model, _ = run
    (folder / checkpoint.LAST).rename(folder / where)
    assert checkpoint.newest(folder).step == 3
    last = checkpoint.settle(folder)
    assert last.path == folder / checkpoint.LAST and last.path.is_dir()
    assert same(load_file(last.path / checkpoint.MODEL), model.state_dict())


@pytest.mark.parametrize("damage", ["cut", "missing", "no state", "half a state"])
def test_a_half_written_checkpoint_is_not_taken_for_a_newer_one(run, damage):
    folder, *_ = run
    writing = folder / checkpoint.WRITING
    shutil.copytree(folder / checkpoint.LAST, writing)
    state = json.loads((writing / "state.json").read_text()) | {"step": 9}
    (writing / "state.json").write_text(json.dumps(state))
    assert checkpoint.newest(folder).step == 9
    if damage == "cut":
        (writing / checkpoint.MODEL).write_bytes((writing / checkpoint.MODEL).read_bytes()[:-1])
    elif damage == "missing":
        (writing / "optimizer.safetensors").unlink()
    elif damage == "no state":
        (writing / "state.json").unlink()
    else:
        (writing / "state.json").write_text(json.dumps(state)[:-9])
    assert checkpoint.newest(folder).step == 3
    checkpoint.settle(folder)
    assert not writing.exists() and checkpoint.newest(folder).step == 3


def test_a_full_disk_leaves_the_last_checkpoint(run, monkeypatch):
    folder, model, optimizer = run
    before = {p.name: p.read_bytes() for p in (folder / checkpoint.LAST).iterdir()}

    def full(tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        checkpoint.save_last(folder, model, optimizer, {"step": 4})
    with pytest.raises(OutputError):
        checkpoint.save_model(folder, model)
    assert {p.name: p.read_bytes() for p in (folder / checkpoint.LAST).iterdir()} == before
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "last", "model.safetensors", "tokenizer.json"]
    assert checkpoint.load(folder)


def test_a_new_checkpoint_takes_the_place_of_the_old(run):
    folder, model, optimizer = run
    checkpoint.save_last(folder, model, optimizer, {"step": 4})
    assert checkpoint.newest(folder).step == 4
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "last", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize("name", checkpoint.FILES)
def test_what_a_kill_leaves_of_a_file_is_removed(run, name):
    """Found by `make kills SEED=7`: a kill while log.jsonl is rewritten left a hidden copy of it for good."""
    folder, *_ = run
    with pytest.raises(ZeroDivisionError), paths.atomic_path(folder / name) as temporary:
        temporary.write_text("half")
        half = shutil.copy(temporary, folder / "kept")  # what a kill would leave: no handler removes it
        raise ZeroDivisionError
    shutil.move(half, temporary)
    before = {path.name for path in folder.iterdir()} - {temporary.name}
    checkpoint.settle(folder)
    assert {path.name for path in folder.iterdir()} == before


def test_the_run_with_the_most_steps_is_adopted(run, tmp_path):
    """Kaggle mounts the output of a notebook's former version read only."""
    folder, model, optimizer = run
    older, work = tmp_path / "older", tmp_path / "work"
    shutil.copytree(folder, older)
    checkpoint.save_last(folder, model, optimizer, {"step": 8})
    for path in (folder / "last", folder):
        path.chmod(0o555)
    try:
        assert start.adopt([older, folder, tmp_path / "nothing"], work) == folder
    finally:
        for path in (folder, folder / "last"):
            path.chmod(0o755)
    assert checkpoint.newest(work).step == 8 and checkpoint.load(work)
    checkpoint.save_last(work, model, optimizer, {"step": 9})
    assert start.adopt([older, folder], work) is None, "what was trained here goes further"
    assert checkpoint.newest(work).step == 9


def _other_tokenizer(folder):
    PianoTokenizer("remi-published").save(folder / "tokenizer.json")


def _edit(**changes):
    def edit(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json.*damaged"),
    "config of another format": (_edit(format=99), "format 99"),
    "config of an unknown system": (_edit(system="hybird"), "did you mean 'hybrid'"),
    "config of unknown corpora": (_edit(trained_on=["maestro"]), "trained_on is damaged"),
    "config with unknown settings": (_edit(model={"d_modle": 3}), "d_modle"),
    "config of another width": (_edit(model={"d_model": 8, "n_heads": 2}), "another model"),
    "another tokenizer": (_other_tokenizer, "tokenizer"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "weights cut short": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:500]),
        "is damaged or not safetensors",
    ),
    "weights not safetensors": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"),
        "is damaged or not safetensors",
    ),
    "weights of nothing": (lambda f: save_file({}, f / "model.safetensors"), "another model"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_refused_in_one_line(run, damage):
    folder, *_ = run
    harm, message = DAMAGE[damage]
    harm(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_an_unknown_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "pretrained_dir", lambda: tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    assert checkpoint.find("tiny") == tmp_path / "tiny"
    with pytest.raises(CheckpointError, match="did you mean 'tiny'"):
        checkpoint.load("tyni")


def test_the_mode_of_a_file_is_read_without_setting_it_for_other_threads(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask belongs to all threads"))
        checkpoint.write_tensors({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
        assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640
    finally:
        monkeypatch.undo()
        os.umask(before)
