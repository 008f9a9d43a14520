"""A released model is fetched, checked, joined and found by its name; whatever is wrong with a mirror is one line."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import tomllib
from pathlib import Path

import pytest
import torch

from ittybitty import REPOSITORY, checkpoint, cli, export, fetch, systems
from ittybitty.errors import CheckpointError, ConfigError, OutputError
from ittybitty.tokenizers import make_tokenizer


@pytest.fixture
def model(tmp_path, monkeypatch):
    """An exported nano model in several shards."""
    torch.manual_seed(0)
    configs, tokenizer, run = systems.build("notes-hybrid", "nano"), make_tokenizer("notes"), tmp_path / "run"
    run.mkdir()
    tokenizer.save(run / "tokenizer.json")
    checkpoint.write_config(run, configs, "notes-hybrid", "nano", tokenizer.content_hash, {})
    checkpoint.save_model(run, systems.build_model(configs))
    monkeypatch.setattr(export, "SHARD_BYTES", 100_000)
    export.export(run, tmp_path / "model")
    assert len(list((tmp_path / "model").glob("model-*"))) > 2
    monkeypatch.setenv("ITTYBITTY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "model"


@pytest.fixture
def mirror(model, tmp_path):
    """The address of a folder with the release `small` in it."""
    fetch.release(model, tmp_path / "mirror", "small")
    return (tmp_path / "mirror").as_uri()


def folder_of(mirror: str) -> Path:
    return Path(mirror.removeprefix("file://"))


def test_a_release_is_fetched_joined_and_found_by_its_name(model, mirror, tmp_path):
    found = fetch.fetch("small", mirror)
    out = Path(found["out"])
    assert found["fetched"] and not list(out.glob("model-*")) and (out / "model.safetensors").is_file()
    ours, theirs = checkpoint.load("small"), checkpoint.load(model)
    assert checkpoint.weights_hash(ours.model) == checkpoint.weights_hash(theirs.model)
    assert not fetch.fetch("small", "file:///nowhere")["fetched"]  # it is there already
    export.export("small", tmp_path / "weights")  # as the Kaggle bundle does
    assert checkpoint.weights_hash(checkpoint.load(tmp_path / "weights").model) == checkpoint.weights_hash(ours.model)
    assert [path.name for path in out.parent.iterdir()] == ["small"]


def test_a_server_on_this_machine_and_the_environment_variable(mirror, monkeypatch, capsys):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder_of(mirror)))
    handler.log_message = lambda *given: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv(fetch.VARIABLE, f"http://127.0.0.1:{server.server_port}")
        assert cli.main(["fetch", "small", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["fetched"]
        assert cli.main(["fetch", "large"]) == 2
        assert "large.json: the server answers 404" in capsys.readouterr().err
    finally:
        server.shutdown()
        server.server_close()


def _edit(place: Path, change) -> None:
    listed = json.loads(place.read_text())
    change(listed)
    place.write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda home: (home / "small.json").unlink(), "small.json: cannot be read"),
        (lambda home: (home / "small.json").write_text("<html>"), "is not the list of a release"),
        (lambda home: _edit(home / "small.json", lambda read: read.update(format=9)), "has format 9"),
        (lambda home: _edit(home / "small.json", lambda read: read["files"].pop("config.json")), "no whole model"),
        (lambda home: _edit(home / "small.json", lambda read: read["files"].update({"../x": {"bytes": 1, "sha256": ""}})), "not a file of a model"),
        (lambda home: _edit(home / "small.json", lambda read: read["files"]["config.json"].update(bytes=10**12)), "are the most that is taken"),
        (lambda home: (home / "small.tokenizer.json").unlink(), "small.tokenizer.json: cannot be read"),
        (lambda home: (home / "small.config.json").write_text("{}"), "is not the file that the release lists"),
        (lambda home: next(home.glob("*.safetensors")).write_bytes(b"long" * 10**6), "is not the file that the release lists"),
    ],
)  # fmt: skip  # one case a line
def test_what_is_wrong_with_a_mirror_is_one_line_and_nothing_is_left(mirror, tmp_path, damage, says, capsys):
    damage(folder_of(mirror))
    assert cli.main(["fetch", "small", "--mirror", mirror]) == 2
    error = capsys.readouterr().err
    assert says in error and len([line for line in error.splitlines() if line.startswith("ittybitty:")]) == 1
    models = tmp_path / "cache" / "models"
    assert not models.exists() or not list(models.iterdir())


def test_addresses_and_names_that_are_not_taken(mirror, tmp_path):
    for address in ("http://example.org/models", "ftp://example.org", "models"):
        with pytest.raises(ConfigError, match="begins with https:// or file://"):
            fetch.fetch("small", address)
    with pytest.raises(ConfigError, match="not a valid name of a model"):
        fetch.fetch("../small", mirror)
    with pytest.raises(CheckpointError, match="no such run folder or shipped model"):
        fetch.release("nowhere", tmp_path / "out", "small")


def test_a_full_disk_is_one_line_and_leaves_nothing(mirror, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch.checkpoint, "write_tensors", full)
    with pytest.raises(OutputError, match="No space left on device"):
        fetch.fetch("small", mirror, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def test_the_default_mirror_is_the_release_page_that_pyproject_names():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"]["Repository"] == f"https://github.com/{REPOSITORY}"
    assert fetch.MIRROR.startswith(project["urls"]["Repository"] + "/releases/")
