"""Imports go one way, low to high: what makes it possible to read, test or replace one module alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ittybitty"

# One line a layer, low to high; modules on one line never import each other. A subpackage counts as one module.
LAYERS = """
errors jsonable
config notes paths published
midi metrics seeds
plots audio
corpora
tokenizers models sampling
devices drawing endings prompts
systems
checkpoint
train generation
piano
pipeline export doctor reproduce
fetch
evaluation
bench gpu
experiments widget
page
cli
"""
LEVEL = {name: level for level, line in enumerate(LAYERS.split("\n")) for name in line.split()}
FACES = ("__init__", "__main__")  # lazy names and the entry point stand above all layers

HEAVY = ("torch", "transformers", "music21", "muspy", "matplotlib", "miditok", "symusic", "scipy")
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def layer_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imported_layers(file: Path) -> set[str]:
    """Top-level modules of the package that `file` imports anywhere, inside functions too."""
    package = ["ittybitty", *file.parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            dotted = [f"{origin}.{alias.name}" for alias in node.names] if origin == "ittybitty" else [origin]
        else:
            continue
        parts = [name.split(".") for name in dotted]
        found |= {name[1] for name in parts if name[0] == "ittybitty" and len(name) > 1 and name[1] in LEVEL}
    return found


def test_every_module_has_a_layer():
    without = {layer_of(file) for file in FILES} - LEVEL.keys() - set(FACES)
    assert not without, f"give {without} a place in LAYERS, and say why in the commit"


@pytest.mark.parametrize("file", [f for f in FILES if layer_of(f) not in FACES], ids=str)
def test_imports_go_from_high_to_low(file):
    own = layer_of(file)
    wrong = {name for name in imported_layers(file) if name != own and LEVEL[name] >= LEVEL[own]}
    assert not wrong, f"{file} stands on layer {LEVEL[own]} and imports {wrong}"


def test_errors_is_lowest_and_imports_nothing():
    assert LEVEL["errors"] == min(LEVEL.values()) and not imported_layers(Path("errors.py"))


def test_an_upward_import_would_be_seen():
    assert LEVEL["train"] > LEVEL["notes"]
    assert {"models", "systems"} <= imported_layers(Path("train/learner.py"))
    assert "errors" in imported_layers(Path("cli/__init__.py"))


def test_no_module_is_called_for_want_of_an_idea():
    assert not {"utils", "helpers", "misc", "common"} & {file.stem for file in FILES}


def test_kaggle_is_not_a_package():
    assert not (PACKAGE.parent / "kaggle" / "__init__.py").exists()


def test_importing_the_package_and_its_command_line_loads_nothing_heavy():
    program = f"import sys, ittybitty, ittybitty.cli, ittybitty.config; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import ittybitty

    missing = [name for name in ittybitty.__all__ if not hasattr(ittybitty, name)]
    assert not missing
    with pytest.raises(AttributeError):
        _ = ittybitty.no_such_name
