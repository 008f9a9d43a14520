"""A parcel: few files of bounded size, whole at any moment, and the weights that went in."""

from __future__ import annotations

import json

import pytest
import torch

from ittybitty import checkpoint, systems
from ittybitty.errors import CheckpointError, OutputError
from ittybitty.gpu import parcel
from ittybitty.tokenizers import make_tokenizer

ROW = "notes-hybrid"


def run_folder(folder, seed: int = 0):
    """A run folder of the row at size nano that holds weights."""
    torch.manual_seed(seed)
    configs, tokenizer = systems.build(ROW, "nano"), make_tokenizer("notes")
    folder.mkdir(parents=True)
    tokenizer.save(folder / "tokenizer.json")
    checkpoint.write_config(folder, configs, ROW, "nano", tokenizer.content_hash, {"bits_per_note": 20.0})
    (folder / "log.jsonl").write_text('{"step": 1}\n')
    checkpoint.save_model(folder, systems.build_model(configs))
    return folder


def halves(folder) -> dict[str, torch.Tensor]:
    return {name: t.half() for name, t in checkpoint.read_weights(folder).items()}


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_joined_weights_are_the_float16_of_those_that_went_in(tmp_path, monkeypatch):
    runs = {"a": run_folder(tmp_path / "a"), "b": run_folder(tmp_path / "b", 1)}
    monkeypatch.setattr(parcel, "SHARD_BYTES", 100_000)  # so that tensors are cut
    written = parcel.write(runs, {"check": {"off": []}}, tmp_path / "out", tmp_path / "work")
    shards = [size for name, size in written["files"].items() if name.endswith(".safetensors")]
    assert 2 <= len(shards) < parcel.FILES and max(shards) <= 100_000 and written["left_out"] == []
    listed, found = parcel.read(tmp_path / "out")
    for row, folder in runs.items():
        assert_same(found[row], halves(folder))
    assert listed["reports"] == {"check": {"off": []}}
    keys = [key for name in listed["shards"] for key in checkpoint.read_tensors(tmp_path / "out" / "home" / name)]
    assert any(parcel.CUT.fullmatch(key) for key in keys)
    joined = parcel.join(tmp_path / "out", tmp_path / "runs")
    assert checkpoint.load(joined["b"]).metrics == {"bits_per_note": 20.0}
    with pytest.raises(OutputError, match="is there already"):
        parcel.join(tmp_path / "out", tmp_path / "runs")


def test_rows_beyond_the_files_that_may_travel_stay_and_are_named(tmp_path, monkeypatch):
    runs = {row: run_folder(tmp_path / row, seed) for seed, row in enumerate("abcd")}
    size = sum(t.nbytes for t in halves(runs["a"]).values())
    monkeypatch.setattr(parcel, "SHARD_BYTES", size // 2)
    written = parcel.write(runs, {}, tmp_path / "out")
    assert written["rows"] and written["left_out"] and written["rows"] + written["left_out"] == list("abcd")
    assert set(parcel.read(tmp_path / "out")[1]) == set(written["rows"])
    assert len(written["files"]) <= parcel.FILES


def test_two_models_of_size_small_fit():
    """Shapes alone decide: nothing is allocated."""
    halves = {}
    with torch.device("meta"):
        for row in ("hybrid", "notes-hybrid"):
            halves[row] = {
                k: v.half() for k, v in systems.build_model(systems.build(row, "small")).state_dict().items()
            }
    assert len(parcel._shards(halves)) + 1 <= parcel.FILES


def test_a_kill_at_any_moment_leaves_a_whole_parcel(tmp_path, monkeypatch):
    """Every file operation is once the last one that happens."""
    out, first, second = tmp_path / "out", run_folder(tmp_path / "first"), run_folder(tmp_path / "second", 1)
    survived = 0
    for last in range(40):
        parcel.write({"a": first}, {}, out)
        done = kills_after(monkeypatch, last)
        try:
            parcel.write({"a": second}, {}, out)
            survived += 1
        except KeyboardInterrupt:
            pass
        monkeypatch.undo()
        _, found = parcel.read(out)
        same = torch.equal(found["a"]["embedding.weight"], halves(second)["embedding.weight"])
        assert_same(found["a"], halves(second if same else first))
        if done[0] <= last:
            break
    assert survived == 1 and last >= 4  # every operation before was a kill


def kills_after(monkeypatch, last: int) -> list[int]:
    """Operation number `last` and all that follow are interrupted; how many there were."""
    count = [0]

    def interrupted(function):
        def called(*arguments, **named):
            count[0] += 1
            if count[0] > last:
                raise KeyboardInterrupt
            return function(*arguments, **named)

        return called

    for module, name in ((parcel.os, "rename"), (parcel.checkpoint, "write_tensors"), (parcel.shutil, "rmtree")):
        monkeypatch.setattr(module, name, interrupted(getattr(module, name)))
    return count


def test_numbers_beyond_float16_are_clipped_and_said(tmp_path):
    folder = run_folder(tmp_path / "a")
    model = checkpoint.load(folder).model
    with torch.no_grad():
        model.norm.weight[0] = 1e6
    checkpoint.save_model(folder, model)
    parcel.write({"a": folder}, {}, tmp_path / "out")
    listed, found = parcel.read(tmp_path / "out")
    assert listed["rows"]["a"]["clipped"] == ["norm.weight"]
    assert float(found["a"]["norm.weight"][0]) == parcel.LARGEST_HALF


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda home: next(home.glob("weights*")).unlink(), "lacks weights"),
        (lambda home: next(home.glob("weights*")).write_bytes(b"no"), "damaged"),
        (lambda home: (home / "parcel.json").write_text("{"), "damaged"),
        (
            lambda home: (home / "parcel.json").write_text(json.dumps({"format": 9, "rows": {}, "shards": []})),
            "another version",
        ),
        (lambda home: (home / "parcel.json").unlink(), "holds no parcel"),
    ],
)
def test_damage_is_named(tmp_path, damage, says):
    parcel.write({"a": run_folder(tmp_path / "a")}, {}, tmp_path / "out")
    damage(tmp_path / "out" / "home")
    with pytest.raises(CheckpointError, match=says):
        parcel.read(tmp_path / "out")


def test_a_full_disk_and_runs_without_weights_are_a_line(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no weights yet"):
        parcel.write({"a": tmp_path / "empty"}, {}, tmp_path / "out")
    folder = run_folder(tmp_path / "a")

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parcel.checkpoint, "write_tensors", full)
    with pytest.raises(OutputError, match="No space left"):
        parcel.write({"a": folder}, {}, tmp_path / "out")
