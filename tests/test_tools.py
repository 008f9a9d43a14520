"""Tools are set up as the guide for contributors says: workflows, warnings, and what the formatter leaves alone."""

from __future__ import annotations

import re
import subprocess
import warnings
from pathlib import Path

import pytest
from _pytest.config import parse_warning_filter

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_asks_make_for_targets_that_exist(script):
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    asked = set(re.findall(r"\bmake ([a-z][\w-]*)", "\n".join(commands)))
    assert asked <= TARGETS, f"{script.name} asks for {asked - TARGETS}"


def test_the_long_checks_run_every_night():
    nightly = (ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8")
    assert re.search(r"schedule:\s+- cron: \"\d+ \d+ \* \* \*\"", nightly)
    (long,) = re.findall(r"^nightly: (.*)$", MAKEFILE, re.MULTILINE)
    for target in ("fuzz", "kills", "test-sanitizers"):
        assert f"make {target} " in nightly and target in long.split() + re.findall(r"\$\(MAKE\) (\S+)", MAKEFILE)


@pytest.mark.parametrize(
    "module, shown", [("ittybitty.train.loop", True), ("make.figures", True), ("music21.converter", False)]
)
def test_deprecations_of_the_project_itself_are_shown(pytestconfig, module, shown):
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for line in pytestconfig.getini("filterwarnings"):
            warnings.filterwarnings(*parse_warning_filter(line, escape=False))
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)
    assert bool(caught) is shown


def test_code_that_the_formatter_leaves_alone_says_why():
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split() or [str(path.relative_to(ROOT)) for path in ROOT.glob("*/**/*.py")]
    mark = "# fmt: " + "skip"
    silent = [
        f"{file}:{number}"
        for file in files
        for number, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1)
        if line.rstrip().endswith(mark)
    ]
    assert not silent


def test_the_guide_for_contributors_names_files_that_exist():
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w./]+)`", guide) if re.match(r"(ittybitty|paper|tests|kaggle)/", name)]
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / name).exists() and "NAME" not in name]
