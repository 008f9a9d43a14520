"""Tools are set up as the guide for contributors says: workflows, warnings, and what the formatter leaves alone."""

from __future__ import annotations

import ast
import re
import subprocess
import warnings
from pathlib import Path

import pytest
from _pytest.config import parse_warning_filter

from conftest import is_slow

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


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
@pytest.mark.parametrize("module", ["ittybitty.train.loop", "make.figures", "test_midi", "conftest"])
def test_a_deprecated_call_of_the_project_itself_is_an_error(pytestconfig, module, category):
    with warnings.catch_warnings(), pytest.raises(category):
        set_filters(pytestconfig)
        warnings.warn_explicit("old", category, "file.py", 1, module=module)


def test_a_deprecated_call_of_an_imported_package_is_ignored(pytestconfig):
    with warnings.catch_warnings(record=True) as caught:
        set_filters(pytestconfig)
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module="music21.converter")
    assert not caught


def set_filters(pytestconfig) -> None:
    """Replace the filters of this moment by those of pyproject.toml."""
    warnings.resetwarnings()
    for line in pytestconfig.getini("filterwarnings"):
        warnings.filterwarnings(*parse_warning_filter(line, escape=False))


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda file: file.stem)
def test_only_files_of_slow_tests_alone_are_left_out_of_the_fast_tests(file):
    values = [
        ast.unparse(node.value)
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node.targets[0])
    ]
    assert is_slow(file) == any("pytest.mark.slow" in value for value in values)


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


def test_a_functions_docstring_ends_with_a_whole_sentence():
    found = []
    for path in sorted((ROOT / "ittybitty").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)) and text[-1] not in '.?!:)`"}]':
                found.append(f"{path.name}, {node.name}: …{text[-60:]}")
    assert not found
