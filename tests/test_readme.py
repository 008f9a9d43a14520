"""What the README shows is executed or compared with the disk."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ittybitty import REPOSITORY, cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OPEN_FOLDERS = ("", "ittybitty", "notebooks", "paper", "kaggle")  # whose entries the tree lists one by one
MAKES_SENSE_ONLY_HERE = (".git", ".pytest_cache", "__pycache__")


def blocks(language: str) -> list[str]:
    return [text for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S) if kind == language]


def tree() -> set[str]:
    """Paths that the README's tree shows; a folder ends in '/'."""
    shown, parents = set(), []
    for line in blocks("")[0].splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 4
        parents = parents[:depth]
        name = line.split()[0]
        shown.add("".join([*parents, name]))
        parents.append(name)
    return shown


def ignored(path: str) -> bool:
    """What .gitignore leaves out, as far as its plain patterns go."""
    patterns = [p.rstrip("/") for p in (ROOT / ".gitignore").read_text().split()] + list(MAKES_SENSE_ONLY_HERE)
    clean = path.rstrip("/")
    return any(fnmatch.fnmatch(clean, p) or fnmatch.fnmatch(clean.rsplit("/", 1)[-1], p) for p in patterns)


def tracked() -> list[str] | None:
    """Files that belong to the project; None where no git can say so."""
    if shutil.which("git") is None:
        return None
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return None if found.returncode else found.stdout.split("\n")[:-1]


def on_disk() -> set[str]:
    """Entries of the open folders: those of the project where git knows them, else all that are there."""
    found = set()
    if (files := tracked()) is not None:
        for parts in (file.split("/") for file in files):
            for depth in (1, 2):
                if len(parts) >= depth and "/".join(parts[: depth - 1]) in OPEN_FOLDERS:
                    found.add("/".join(parts[:depth]) + ("/" if len(parts) > depth else ""))
        return {name for name in found if (ROOT / name).exists()}
    for folder in OPEN_FOLDERS:
        if not (ROOT / folder).is_dir():
            continue
        for path in (ROOT / folder).iterdir():
            name = path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "")
            if not ignored(name):
                found.add(name)
    return found


def test_tree_shows_what_is_there_and_nothing_else():
    shown, there = tree(), on_disk()
    gone = {path for path in shown if not (ROOT / path).exists()}
    assert not gone, f"the tree shows what is not there: {gone}"
    assert not there - shown, f"the tree lacks {sorted(there - shown)}"


def test_table_of_notebooks_is_the_folder():
    rows = re.findall(r"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\) \| .+ \| (.+) \| .+ \|$", README, re.M)
    assert [row[1] for row in rows] == [path.stem for path in NOTEBOOKS]
    for name, file, seconds in rows:
        assert name == file and re.fullmatch(r"not measured|\d+ s", seconds)
        assert (
            f"kaggle.com/kernels/welcome?src=https://github.com/{REPOSITORY}/blob/main/notebooks/{file}.ipynb" in README
        )


def test_links_inside_the_repository_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in t]
    assert targets and not [t for t in targets if not (ROOT / t).exists()]


def test_the_guide_for_contributors_names_files_that_exist():
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:ittybitty|paper|tests|kaggle)/[\w./-]+)`", guide)
    assert len(named) > 20 and not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", guide) if "://" not in target]
    assert links and not [target for target in links if not (ROOT / ".github" / target).exists()]


def test_make_targets_exist():
    named = set(re.findall(r"\bmake (\w+)", "".join(blocks("sh")))) | set(re.findall(r"`make (\w+)`", README))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"reproduce", "test", "paper", "lab"} <= named <= targets


def commands() -> list[str]:
    lines = [line.strip() for block in blocks("sh") for line in block.splitlines()]
    return [
        line.removeprefix(".venv/bin/") for line in lines if line.removeprefix(".venv/bin/").startswith("ittybitty ")
    ]


@pytest.mark.parametrize("command", commands())
def test_commands_are_what_the_command_line_takes(command):
    words = command.split("#")[0].split()[1:]
    assert cli.build_parser().parse_args(words).verb == words[0]


def test_every_verb_is_shown():
    verbs = next(action for action in cli.build_parser()._actions if action.dest == "verb").choices
    assert set(verbs) <= {command.split()[1] for command in commands()}


def test_ci_runs_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script and "make reproduce" in script and "--nbval-lax" in script
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.fixture(scope="module")
def model_card_folder(tmp_path_factory) -> Path:
    """tokenizer.json, model.safetensors as DataParallel saves it, and seed.mid: what the model card's reader has."""
    import torch
    from safetensors.torch import save_file

    from ittybitty import SCALE_PRESETS, Performance, PianoHybridModel, write_midi
    from ittybitty.paths import pretrained_dir
    from ittybitty.tokenizers import load_tokenizer

    folder = tmp_path_factory.mktemp("card")
    load_tokenizer(pretrained_dir() / "tiny-remi").save(folder / "tokenizer.json")
    torch.manual_seed(0)
    state = PianoHybridModel(SCALE_PRESETS["small"]["model"]).state_dict()
    save_file({f"module.{name}": value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    write_midi(Performance.of((i * 0.25, 0.3, 60 + i % 12, 64) for i in range(40)), folder / "seed.mid")
    return folder


@pytest.mark.parametrize("block", blocks("python"), ids=["short", "model card"])
def test_python_runs_as_shown(block, model_card_folder, monkeypatch):
    from ittybitty import read_midi

    monkeypatch.chdir(model_card_folder)
    block = block.replace("max_new_tokens=512", "max_new_tokens=24").replace("seconds=60", "seconds=3")
    written = re.search(r'"(longer\.mid|out\.mid)"', block).group(1)
    exec(compile(block, "README.md", "exec"), {})
    assert len(read_midi(model_card_folder / written)) > 40


def test_names_of_the_repository_agree():
    assert set(re.findall(r"github\.com/([\w.-]+/[\w.-]+)/", README)) == {REPOSITORY}


def test_the_version_is_in_one_place_and_its_copy_agrees():
    import ittybitty

    citation = (ROOT / "CITATION.cff").read_text()
    assert f'version: "{ittybitty.__version__}"' in citation


def test_nothing_in_the_project_names_the_machine_it_was_made_on():
    files = tracked()
    if files is None:
        pytest.skip("not a git clone: nothing says which files belong to the project")
    home = re.compile(r"(?<![\w.$~])/(?:root|work|home/\w+|Users/\w+)/")
    texts = [
        ROOT / name for name in files if name.endswith((".py", ".md", ".txt", ".toml", ".yml", ".json", ".tex", ".cff"))
    ]
    found = [path.name for path in texts if path.is_file() and home.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_help_answers_at_once():
    program = "import sys; from ittybitty import cli; cli.build_parser().format_help(); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
