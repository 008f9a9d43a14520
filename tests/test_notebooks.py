"""What every committed notebook keeps to: one rhythm, small files, outputs that were really made, asserts for claims."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

from ittybitty import REPOSITORY

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
UNNUMBERED = ("playground",)  # not a step of the pipeline: a page to play with
MACHINE_PATHS = re.compile(r"(?<![\w.])(/(home|root|Users|tmp|work)/|[A-Z]:\\\\Users)")


def cells(path: Path, kind: str | None = None) -> list[dict]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if kind is None or cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def outputs(path: Path) -> list[dict]:
    return [output for cell in cells(path, "code") for output in cell["outputs"]]


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_numbers_run_from_00_and_figures_is_last():
    numbered = [path for path in NOTEBOOKS if path.stem not in UNNUMBERED]
    assert [path.name[:2] for path in numbered] == [f"{i:02d}" for i in range(len(numbered))]
    assert numbered[-1].stem.endswith("_figures")


@every_notebook
def test_opens_with_badge_promise_and_what_it_needs(path):
    opening = "\n".join(source(cell) for cell in cells(path)[:3] if cell["cell_type"] == "markdown")
    assert f"kaggle.com/kernels/welcome?src=https://github.com/{REPOSITORY}/blob/main/notebooks/{path.name}" in opening
    assert re.search(r"^# \S", opening, re.M)
    for word in ("needs", "makes", "CPU", "2xT4"):
        assert re.search(word, opening, re.I), f"the opening says nothing of {word!r}"


@every_notebook
def test_names_no_other_repository(path):
    named = re.findall(
        r"github\.com/([\w.-]+/[\w.-]+)/blob/main/notebooks", "\n".join(map(source, cells(path, "markdown")))
    )
    assert set(named) == {REPOSITORY}


@every_notebook
def test_parameters_are_the_first_code_but_for_the_installation(path):
    tagged = [i for i, cell in enumerate(cells(path, "code")) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1 and tagged[0] <= 1


@every_notebook
def test_reads_as_prose_and_code_in_turn(path):
    lengths = [source(cell).count("\n") + 1 for cell in cells(path, "code")]
    assert max(lengths) <= 25, f"a code cell of {max(lengths)} lines: split it by idea"
    assert statistics.median(lengths) <= 12
    prose = len(cells(path, "markdown"))
    assert 0.5 <= prose / len(lengths) <= 2, f"{prose} cells of prose, {len(lengths)} of code"


@every_notebook
def test_asserts_what_it_claims(path):
    assert any(
        re.search(r"^\s*assert\b|assert_close|assert_allclose", source(cell), re.M) for cell in cells(path, "code")
    )


@every_notebook
def test_was_run_from_top_to_bottom_without_an_error(path):
    counts = [cell["execution_count"] for cell in cells(path, "code") if source(cell).strip()]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for output in outputs(path) if output["output_type"] == "error"]
    assert not [
        output["text"] for output in outputs(path) if output.get("name") == "stderr"
    ]  # no warnings, no progress bars


@every_notebook
def test_is_small_and_asks_for_the_kernel_python3(path):
    assert path.stat().st_size < 300_000
    assert json.loads(path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"] == "python3"


@every_notebook
def test_names_no_path_of_the_machine_it_ran_on(path):
    shown = [json.dumps({k: v for k, v in output.items() if k != "data"}) for output in outputs(path)]
    shown += ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs(path)]
    found = [MACHINE_PATHS.search(text) for text in [*map(source, cells(path)), *shown]]
    assert not [match.string[max(0, match.start() - 40) : match.end() + 40] for match in found if match]


@every_notebook
def test_uses_no_other_copy_of_the_package(path):
    code = "\n".join(map(source, cells(path, "code")))
    code = code.replace('sys.path.insert(0, str(root / "paper"))', "")  # for paper/make, which no install has
    assert "ittybitty" in code and "sys.path" not in code
