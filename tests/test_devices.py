"""A device that is asked for is used or refused in one line, and records name the one that was used."""

import json
import subprocess

import pytest
import torch

from ittybitty import checkpoint, devices
from ittybitty.cli import main
from ittybitty.errors import ConfigError
from ittybitty.evaluation import results
from ittybitty.models.scan import VARIABLE


@pytest.fixture
def cards(monkeypatch):
    """As on a machine with two cards, which nothing may touch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place=None: f"Card {getattr(place, 'index', None)}")


def test_auto_is_the_first_gpu_or_the_cpu(cards, monkeypatch):
    assert devices.device("auto") == devices.device("cuda") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.device("auto") == torch.device("cpu")


def test_a_gpu_is_chosen_by_its_number(cards):
    assert devices.device("cuda:1") == torch.device("cuda", 1) and devices.device("cuda") == torch.device("cuda", 0)
    with pytest.raises(ConfigError, match="'cuda:2' is not here.*cuda:0 to cuda:1"):
        devices.device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "meta", ""])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(ConfigError, match="auto, cpu, cuda or cuda:N"):
        devices.device(name)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "tiny", "--data", "embedded", "--limit", "1"],
        ["evaluate", "tiny", "--data", "embedded", "--music"],
        ["evaluate", "xz", "--data", "embedded"],
        ["continue", "SEED", "-o", "out.mid"],
        ["bench", "scan"],
        ["bench", "decode"],
        ["bench", "stream"],
        ["bench", "train", "--preset", "nano"],
    ],
    ids=" ".join,
)
def test_every_verb_that_runs_a_model_refuses_a_missing_gpu_in_one_line(
    words, midi_file, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    words = [str(midi_file) if word == "SEED" else word for word in words]
    assert main([*words, "--device", "cuda"]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1 and ("'cuda' is not here" in said or "CPU alone" in said)


def test_a_record_names_the_cpu_if_a_model_ran_there_beside_a_gpu(cards, tmp_path):
    loaded = checkpoint.load("tiny")  # the usual device of generation
    ran = devices.ran_on(loaded.model)
    assert (
        ran["device"].startswith("CPU") and ran["precision"] == "float32" and ran["threads"] == torch.get_num_threads()
    )
    provenance = results.record({"ran_on": ran}, tmp_path / "a.json")["provenance"]
    assert provenance["device"].startswith("CPU") and provenance["scan_path"] == ran["scan_path"]
    assert results.record({}, tmp_path / "b.json")["provenance"]["device"].startswith("CPU")


def test_what_ran_is_recorded_as_resolved(monkeypatch):
    model = checkpoint.load("tiny").model
    monkeypatch.setenv(VARIABLE, "sequential")
    assert devices.ran_on(model)["scan_path"] == "sequential"
    assert devices.ran_on(model.bfloat16())["precision"] == "bfloat16"
    assert devices.ran_on(model, "int8")["precision"] == "int8"
    assert "scan_path" not in devices.ran_on(torch.nn.Linear(2, 2))


def test_continue_and_evaluate_say_where_they_ran(midi_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["continue", str(midi_file), "-o", "out.mid", "--tokens", "8", "--device", "cpu", "--json"]
    assert main([*words, "--precision", "int8"]) == 0
    assert json.loads(capsys.readouterr().out)["ran_on"] | {"threads": 0} == {
        "device": devices.title(torch.device("cpu")),
        "precision": "int8",
        "threads": 0,
        "scan_path": devices.ran_on(checkpoint.load("tiny").model)["scan_path"],
    }
    words = ["evaluate", "tiny", "--data", "embedded", "--split", "test", "--limit", "1", "--record", "figures.json"]
    assert main([*words, "--device", "cpu"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["ran_on"].items() <= figures["provenance"].items() and figures["ran_on"]["precision"] == "float32"


def test_a_module_that_git_does_not_know_makes_the_commit_unclean(tmp_path, monkeypatch):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "ittybitty").mkdir()
    (tmp_path / "ittybitty" / "one.py").write_text("1\n")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    monkeypatch.setattr(results, "repository_root", lambda: tmp_path)
    head = git("rev-parse", "HEAD")
    (tmp_path / "figures.json").write_text("{}")  # what is recorded is no module
    (tmp_path / "ittybitty" / "one.pyc").write_text("")  # nor is what git ignores
    assert results._commit() == head
    (tmp_path / "ittybitty" / "two.py").write_text("2\n")
    assert results._commit() == f"{head}+"
