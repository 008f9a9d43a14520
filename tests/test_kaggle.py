"""What Kaggle is given is what Kaggle takes, and what a session leaves there the next one goes on with."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import ittybitty
from ittybitty import REPOSITORY, checkpoint, paths, systems
from ittybitty.errors import CheckpointError, ConfigError
from ittybitty.train import loop, start
from runs import small_configs, small_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "kaggle"
KERNELS = ("train", "evaluate", "quickstart")
DATASETS = ("package", "weights")
KEYS = set(
    "id title code_file language kernel_type is_private enable_gpu enable_internet machine_shape dataset_sources kernel_sources "
    "model_sources competition_sources docker_image docker_image_pinning_type".split()
)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIRST_CELL = (FOLDER / "first_cell.py").read_text(encoding="utf-8")


def load(name: str):
    """A script of kaggle/, which is no package."""
    specification = importlib.util.spec_from_file_location(f"kaggle_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


bundle = load("bundle")


def header(name: str) -> dict:
    kind = "kernel" if name in KERNELS else "dataset"
    return json.loads((FOLDER / name / f"{kind}-metadata.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------- metadata


@pytest.fixture(scope="module")
def client():
    """The official client, not logged in, with nothing behind it."""
    extended = pytest.importorskip(
        "kaggle.api.kaggle_api_extended", reason="the official client is not here: pip install kaggle six"
    )
    api = extended.KaggleApi()
    api.config_values = {api.CONFIG_NAME_USER: "someone"}
    return api


class Server:
    """What stands for Kaggle: keeps what it is sent."""

    def __init__(self, sent: list):
        answer = SimpleNamespace(save_kernel=lambda request: sent.append(request))
        self.kernels = SimpleNamespace(kernels_api_client=answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("name", KERNELS)
def test_the_official_client_accepts_the_kernel(client, monkeypatch, tmp_path, capsys, name):
    sent = []
    monkeypatch.setattr(client, "build_kaggle_client", lambda: Server(sent))
    head = bundle.metadata(FOLDER / name / "kernel-metadata.json", "someone")
    (tmp_path / "kernel-metadata.json").write_text(json.dumps(head))
    (tmp_path / head["code_file"]).write_text('{"cells": []}')
    client.kernels_push(str(tmp_path))
    (request,) = sent
    assert request.slug == head["id"].replace("OWNER", "someone") and not request.enable_internet
    assert (request.machine_shape or None) == ("NvidiaTeslaT4" if name == "train" else None)
    assert "does not resolve" not in capsys.readouterr().out  # the title makes the id
    head["kernel_type"] = "novel"
    (tmp_path / "kernel-metadata.json").write_text(json.dumps(head))
    with pytest.raises(ValueError, match="kernel type"):
        client.kernels_push(str(tmp_path))


@pytest.mark.parametrize("name", DATASETS)
def test_the_official_client_accepts_the_data_set(client, monkeypatch, tmp_path, name):
    class Reached(Exception):
        pass

    def ask(reference):
        raise Reached  # all checks are done before it is asked whether the name is taken

    monkeypatch.setattr(client, "dataset_status", ask)
    head = bundle.metadata(FOLDER / name / "dataset-metadata.json", "someone")
    (tmp_path / "dataset-metadata.json").write_text(json.dumps(head))
    with pytest.raises(Reached):
        client.dataset_create_new(str(tmp_path))
    assert (
        head["licenses"] == [{"name": {"package": "CC-BY-NC-SA-4.0", "weights": "other"}[name]}]
        and 20 <= len(head["subtitle"]) <= 80
    )
    (tmp_path / "dataset-metadata.json").write_text(json.dumps({**head, "subtitle": "short"}))
    with pytest.raises(ValueError, match="Subtitle"):
        client.dataset_create_new(str(tmp_path))


def test_the_official_client_can_be_imported_beside_our_folder():
    if importlib.util.find_spec("kagglesdk") is None:
        pytest.skip("the official client is not here: pip install kaggle six")
    run = subprocess.run(
        [sys.executable, "-c", "import kaggle; print(kaggle.KaggleApi.__name__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.stdout.split()[-1:] == ["KaggleApi"], run.stderr  # before it stands how to log in


@pytest.mark.parametrize("name", KERNELS)
def test_no_key_or_machine_is_one_that_kaggle_would_ignore(name):
    """The client takes any key and any machine; Kaggle then silently runs on another."""
    head = header(name)
    assert head.keys() <= KEYS
    assert head.get("machine_shape") == (
        "NvidiaTeslaT4" if head["enable_gpu"] else None
    )  # 2xT4; its default P100 is too old for this torch
    assert isinstance(head["enable_internet"], bool) and head["is_private"]
    assert head["id"].startswith("OWNER/") and f"{bundle.OWNER}/itty-bitty-package" in head["dataset_sources"]


@pytest.mark.parametrize("name", KERNELS)
def test_parameters_are_those_of_the_notebook(name):
    parameters = yaml.safe_load((FOLDER / name / "parameters.yaml").read_text(encoding="utf-8"))
    notebook = json.loads((ROOT / "notebooks" / header(name)["code_file"]).read_text(encoding="utf-8"))
    (cell,) = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    targets = [target for node in ast.parse("".join(cell["source"])).body for target in node.targets]
    known = {leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
    assert parameters.keys() <= known


def test_full_size_is_the_published_recipe():
    parameters = yaml.safe_load((FOLDER / "train" / "parameters.yaml").read_text(encoding="utf-8"))
    changes = {**parameters["CHANGES"], "train.epochs": parameters["EPOCHS"]}  # as the notebook joins them
    train = systems.build(parameters["SYSTEM"], parameters["PRESET"], changes)["train"]
    assert parameters["PRESET"] == "small" and train.epochs == 235
    assert (train.batch_size, train.warmup, train.schedule, train.label_smoothing, train.precision) == (
        64,
        200,
        "cosine",
        0.1,
        "auto",
    )
    notebook = (ROOT / "notebooks" / header("train")["code_file"]).read_text(encoding="utf-8")
    assert '{\\"train.epochs\\": EPOCHS}' in notebook
    windows = 15_226  # of MAESTRO's training split at context 1,024
    assert f"{train.epochs * -(-windows // train.batch_size):,} steps" in (FOLDER / "README.md").read_text(
        encoding="utf-8"
    )


def test_a_prepared_kernel_is_complete(tmp_path):
    notebook = bundle.kernel("train", tmp_path, "someone", {"MAX_HOURS": 2}, go_on=True)
    head = json.loads((tmp_path / "kernel-metadata.json").read_text())
    assert notebook.name == head["code_file"] and head["kernel_sources"] == [head["id"]] == ["someone/itty-bitty-train"]
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    (injected,) = [
        "".join(cell["source"]) for cell in cells if "injected-parameters" in cell["metadata"].get("tags", [])
    ]
    assert "MAX_HOURS = 2" in injected and '"small"' in injected and "DATA = None" in injected
    assert "OWNER" not in json.dumps(head)


# ---------------------------------------------------------------- the bundle


def test_the_bundle_leaves_torch_alone():
    pins = bundle.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    names = {pin.split("==")[0].lower() for pin in pins}
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", pin) for pin in pins)
    assert "torch" not in names and not [name for name in names if name.startswith(("nvidia", "triton"))]
    assert {"miditok", "muspy", "symusic", "pretty_midi", "music21"} <= names  # what the image is known to lack


def test_what_the_package_needs_is_bundled_or_in_the_image():
    def canonical(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    bundled = {
        canonical(pin.split("==")[0]) for pin in bundle.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    }
    image = {canonical(name) for name in bundle.IN_IMAGE}
    needed = [
        re.match(r"[\w.-]+", line)[0]
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if re.match(r"\w", line)
    ]
    assert needed and {canonical(name) for name in needed} <= bundled | image


@pytest.fixture
def pip(monkeypatch):
    """In the place of pip: each wheel that is asked for is there, and holds its name."""
    asked = []

    def make(verb, *arguments):
        folder = Path(arguments[arguments.index("-d" if verb == "download" else "-w") + 1])
        pins = [str(a) for a in arguments if "==" in str(a)] if verb == "download" else ["ittybitty==0.1.0"]
        for pin in pins:
            (folder / f"{pin.replace('-', '_').replace('==', '-')}-py3-none-any.whl").write_text(pin)
        asked.extend(pins)

    monkeypatch.setattr(bundle, "_pip", make)
    return asked


MAMBA = "mamba_ssm-2.3.2.post1+cu12torch2.10cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"  # as its makers name it


def test_a_bundle_holds_its_wheels_and_no_others(pip, tmp_path):
    (tmp_path / MAMBA).write_text("kernels")
    out = tmp_path / "out" / "package"
    bundle.package(out, "someone", mamba=tmp_path / MAMBA)
    wheels = {path.name for path in out.glob("*.whl")}
    assert {MAMBA, "ittybitty-0.1.0-py3-none-any.whl"} < wheels and len(wheels) == len(pip) + 1 > 50
    assert json.loads((out / "dataset-metadata.json").read_text())["id"] == "someone/itty-bitty-package"
    (out / "miditok-0.0.1-py3-none-any.whl").touch()  # of an earlier version
    pip.clear()
    bundle.package(out, "someone")
    assert pip == ["ittybitty==0.1.0"], "what was there was fetched again"
    assert {path.name for path in out.glob("*.whl")} == wheels - {MAMBA}
    pip.clear()
    bundle.package(out.with_name("other"), "someone", python="3.13")
    assert pip == ["ittybitty==0.1.0"], "wheels for any Python are taken from beside"


@pytest.mark.parametrize(
    "name",
    ["mamba_ssm.whl", MAMBA.replace("cp312", "cp311"), MAMBA.replace("linux", "win"), MAMBA.replace("mamba", "mumba")],
)
def test_a_wheel_that_is_not_mambas_is_refused(name, pip, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=re.escape(name)):
        bundle.package(tmp_path / "out", "someone", mamba=tmp_path / name)
    with pytest.raises(ConfigError, match="no such file"):
        bundle.package(tmp_path / "out", "someone", mamba=tmp_path / "nowhere.whl")
    assert not (tmp_path / "out").exists() and not pip


def test_the_command_ends_with_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["bundle.py", "--owner", "someone", "--mamba", str(tmp_path / "nowhere.whl")])
    with pytest.raises(SystemExit) as end:
        bundle.main()
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_pip_that_fails_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr="WARNING: old\nERROR: No network\n")
    )
    with pytest.raises(ConfigError, match="No network"):
        bundle.package(tmp_path / "package", "someone")


# ---------------------------------------------------------------- the first cell


def install(monkeypatch, root: Path) -> list[list[str]]:
    """What the first cell runs where the package is missing and Kaggle's folder is `root`."""
    ran, find = [], importlib.util.find_spec
    monkeypatch.setenv(paths.KAGGLE_VARIABLE, str(root))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ittybitty" else find(name))
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    exec(compile(FIRST_CELL, "first_cell.py", "exec"), {})
    return ran


@pytest.mark.parametrize("mount", ["itty-bitty-package", "datasets/someone/itty-bitty-package"])
def test_first_cell_installs_offline_from_an_attached_bundle(monkeypatch, tmp_path, capsys, mount):
    folder = tmp_path / "input" / mount
    folder.mkdir(parents=True)
    (folder / "ittybitty-0.1.0-py3-none-any.whl").touch()
    (command,) = install(monkeypatch, tmp_path)
    assert command[-3:] == ["--no-index", f"--find-links={folder}", "ittybitty"]
    assert f"torch=={metadata.version('torch')}" in command  # pip may not put another in its place
    assert "offline" in capsys.readouterr().out
    (folder / "mamba_ssm-2.3.2-cp312-cp312-linux_x86_64.whl").touch()
    assert install(monkeypatch, tmp_path)[1][-2:] == [
        "--no-deps",
        str(folder / "mamba_ssm-2.3.2-cp312-cp312-linux_x86_64.whl"),
    ]


def test_first_cell_installs_by_pip_without_one(monkeypatch, tmp_path, capsys):
    (command,) = install(monkeypatch, tmp_path)
    assert command[-1].endswith(f"github.com/{REPOSITORY}@v{ittybitty.__version__}")  # a branch would change under it
    assert "--no-index" not in command
    assert f"torch=={metadata.version('torch')}" in command and "GitHub" in capsys.readouterr().out


def test_first_cell_does_nothing_where_the_package_is(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be installed"))
    exec(compile(FIRST_CELL, "first_cell.py", "exec"), {})
    assert not capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_first_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0] == FIRST_CELL.rstrip("\n"), "its first code cell is not kaggle/first_cell.py"


# ---------------------------------------------------------------- the next session


@pytest.fixture
def session(monkeypatch, tmp_path, performance):
    """A token store, and a Kaggle whose former version left a run of 4 steps."""
    root = tmp_path / "kaggle"
    (root / "working").mkdir(parents=True)
    monkeypatch.setenv(paths.KAGGLE_VARIABLE, str(root))
    store = small_store(tmp_path / "tokens", performance)
    train(store, root / "working" / "small" / "run", 4)
    return SimpleNamespace(root=root, store=store, run=root / "working" / "small" / "run")


def train(store, run_dir, steps):
    return loop.train("hybrid", small_configs(**{"train.steps": steps}), store, run_dir, resume=True, progress=False)


def end_session(session, mount: str) -> Path:
    """The output becomes a read-only input, and the working folder is empty again."""
    attached = session.root / "input" / mount
    shutil.copytree(session.root / "working", attached)
    for path in attached.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    shutil.rmtree(session.root / "working")
    (session.root / "working").mkdir()
    return attached


@pytest.mark.parametrize("mount", ["itty-bitty-train", "notebooks/someone/itty-bitty-train"])
def test_training_is_resumed_from_the_attached_output(session, capsys, mount):
    attached = end_session(session, mount)
    assert train(session.store, session.run, 6)["steps"] == 6
    assert f"taken over from {attached / 'small' / 'run'}" in capsys.readouterr().out
    assert checkpoint.newest(attached / "small" / "run").step == 4  # what is attached stays as it was
    log = [json.loads(line) for line in (session.run / "log.jsonl").read_text().splitlines()]
    assert {record["step"] for record in log} >= {4, 6}


def test_a_run_that_is_further_is_not_replaced(session, capsys):
    attached = session.root / "input" / "itty-bitty-train"
    shutil.copytree(session.root / "working", attached)
    assert train(session.store, session.run, 6)["steps"] == 6
    assert "taken over" not in capsys.readouterr().out


def test_a_run_of_another_place_is_left_alone(session):
    end_session(session, "itty-bitty-train")
    other = session.root / "working" / "other" / "run"
    assert start.adopt_attached(other) is None and not other.exists()


def test_a_damaged_output_is_passed_over(session):
    attached = end_session(session, "itty-bitty-train")
    state = attached / "small" / "run" / "last" / "state.json"
    state.chmod(0o644)
    state.write_text(state.read_text()[:-5])
    assert start.adopt_attached(session.run) is None


def test_outside_kaggle_nothing_is_taken_over(session, monkeypatch, tmp_path):
    end_session(session, "itty-bitty-train")
    monkeypatch.setenv(paths.KAGGLE_VARIABLE, str(tmp_path / "nowhere"))
    assert start.adopt_attached(session.run) is None


def test_a_run_keeps_to_its_disk_budget(monkeypatch, tmp_path, performance):
    """Two checkpoints of weights and AdamW's two moments, and the best weights twice: never more, however many are written."""
    sizes, fsync = [], os.fsync

    def measured(file):
        sizes.append(sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file()))
        fsync(file)

    monkeypatch.setattr(os, "fsync", measured)
    configs = small_configs(**{"train.checkpoint_every": 1, "train.validate_every": 2})
    summary = loop.train(
        "hybrid", configs, small_store(tmp_path / "tokens", performance), tmp_path / "run", progress=False
    )
    budget = 4 * (2 * 3 + 2)  # bytes a parameter
    extra = 50_000  # less than one more checkpoint: headers of safetensors, tokenizer.json, log
    assert len(sizes) > 30 and max(sizes) < budget * summary["parameters"] + extra < 12 * 4 * 3 * summary["parameters"]
    small = budget * systems.parameter_count("hybrid", "small")
    assert f"{small / 1e9:.1f} GB for `small`" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_exported_weights_are_a_data_set(session):
    """`bundle.py --weights RUN_DIR`, uploaded and attached, plays by the data set's name."""
    out = session.root / "build" / "weights"
    bundle.weights(session.run, out, "someone")
    bundle.weights(session.run, out, "someone")  # again: a new version of it
    head = json.loads((out / "dataset-metadata.json").read_text())
    assert head["licenses"] == [{"name": "other"}] and "## Data and licence" in head["description"]
    bundle.weights(paths.pretrained_dir() / "tiny", session.root / "build" / "tiny", "someone")
    tiny = json.loads((session.root / "build" / "tiny" / "dataset-metadata.json").read_text())
    assert (
        tiny["licenses"] == [{"name": "CC-BY-NC-SA-4.0"}]
        and tiny["description"].startswith("# ")
        and "MAESTRO" in tiny["description"]
    )
    slug = head["id"].split("/")[1]
    shutil.copytree(out, session.root / "input" / "datasets" / "someone" / slug)
    loaded = checkpoint.load(slug)
    assert loaded.path == session.root / "input" / "datasets" / "someone" / slug
    best = checkpoint.read_weights(session.run)
    assert all(torch.equal(value, best[name].half().float()) for name, value in loaded.model.state_dict().items())


def test_an_attached_model_is_found_by_its_name(session):
    attached = end_session(session, "itty-bitty-train")
    assert checkpoint.find("small/run") == attached / "small" / "run"
    assert checkpoint.load("small/run").system == "hybrid"
    with pytest.raises(CheckpointError, match="no such run"):
        checkpoint.find("large/run")
