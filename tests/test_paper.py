"""The paper holds no number that was typed, names what made each figure, and is rebuilt from its results without a difference."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from ittybitty import paper
from ittybitty.errors import ResultError

FOLDER = Path(__file__).parents[1] / "paper"
NOTEBOOKS = FOLDER.parent / "notebooks"
MAIN = (FOLDER / "main.tex").read_text(encoding="utf-8")
TEXT = re.sub(r"(?<!\\)%.*", "", MAIN)  # without comments
BODY = TEXT.split(r"\begin{document}")[1]
NAMES_NOT_NUMBERS = r"\\(?:cite|ref|eqref|label|input|includegraphics|bibliography\w*|madeby|measuredby|nolinkurl|begin|end)(?:\[[^]]*\])?\{[^}]*\}"


@pytest.fixture(scope="module")
def results() -> dict:
    return paper.read_results(FOLDER / "results")


def test_every_file_that_the_text_includes_exists():
    inputs, pictures = re.findall(r"\\input\{([^}]+)\}", TEXT), re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", TEXT)
    assert "numbers" in inputs and len(pictures) >= 3
    assert not [name for name in inputs if not (FOLDER / f"{name}.tex").is_file()]
    assert not [name for name in pictures if not (FOLDER / f"{name}.pdf").is_file()]


def test_no_number_of_the_text_is_typed():
    prose = re.sub(r"\\begin\{align\}.*?\\end\{align\}|\$[^$]*\$", "", BODY, flags=re.S)
    prose = re.sub(NAMES_NOT_NUMBERS, "", prose)
    typed = [line.strip() for line in prose.splitlines() if re.search(r"\d", line)]
    assert not typed


def test_formulas_hold_no_measured_number():
    formulas = re.findall(r"\$([^$]*)\$", BODY)
    assert formulas and not [f for f in formulas if re.search(r"\d{2}|\d\.\d", f)]


def test_every_number_asked_for_is_made_and_every_one_made_is_asked_for():
    made = re.findall(r"\\newcommand\{\\val(\w+)\}", (FOLDER / "numbers.tex").read_text(encoding="utf-8"))
    assert len(set(made)) == len(made)
    assert set(re.findall(r"\\val([A-Za-z]+)", BODY)) == set(made)


def test_every_figure_and_table_names_its_notebook():
    floats = re.findall(r"\\begin\{(figure|table)\*?\}(.*?)\\end\{\1\*?\}", BODY, re.S)
    assert len(floats) >= 7
    for _, body in floats:
        named = re.findall(r"\\madeby\{(\w+)\}", body)
        assert named and all((NOTEBOOKS / f"{name}.ipynb").is_file() for name in named)
        assert r"\caption" in body and r"\label" in body


def test_labels_and_references_agree():
    labels, references = re.findall(r"\\label\{([^}]+)\}", BODY), re.findall(r"\\(?:eq)?ref\{([^}]+)\}", BODY)
    assert len(set(labels)) == len(labels) and set(references) <= set(labels)
    floats = {label for label in labels if label.startswith(("fig:", "tab:"))}
    assert floats <= set(references), "a figure or table that the text never mentions"


def test_citations_and_bibliography_agree():
    cited = {key.strip() for keys in re.findall(r"\\cite\{([^}]+)\}", BODY) for key in keys.split(",")}
    listed = re.findall(r"^@\w+\{([^,]+),", (FOLDER / "refs.bib").read_text(encoding="utf-8"), re.M)
    assert len(set(listed)) == len(listed) and set(listed) == cited


def test_nothing_is_left_open():
    assert not re.search(r"TODO|FIXME|XX|\?\?|lorem", MAIN, re.I)
    plain = re.sub(r"\\[{}]", "", TEXT)
    assert plain.count("{") == plain.count("}")
    assert sorted(re.findall(r"\\begin\{(.*?)\}", TEXT)) == sorted(re.findall(r"\\end\{(.*?)\}", TEXT))


@pytest.mark.parametrize("path", sorted((FOLDER / "results").glob("*.json")), ids=lambda path: path.stem)
def test_results_say_how_they_were_made(path):
    origin = json.loads(path.read_text(encoding="utf-8"))["provenance"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", origin["date"])
    assert re.fullmatch(r"[0-9a-f]{40}\+?|version .+", origin["commit"])
    assert origin["device"] and origin["python"] and origin["torch"]


def test_numbers_and_tables_are_what_the_results_give(results):
    made = {"numbers.tex": paper.macros(results)} | {f"tables/{name}.tex": text for name, text in paper.tables(results).items()}
    assert {path.stem for path in (FOLDER / "tables").glob("*.tex")} == set(paper.tables(results))
    for name, text in made.items():
        assert (FOLDER / name).read_bytes() == text.encode(), f"{name} is not what the results give: run make paper"


def test_a_changed_result_changes_the_number(results):
    other = {**results, "evaluate_tiny": {**results["evaluate_tiny"], "bits_per_note": 1.25}}
    assert r"\newcommand{\valBitsPerNote}{1.25}" in paper.macros(other) and paper.macros(other) != paper.macros(results)


def test_written_files_are_the_same_every_time(results, tmp_path):
    (tmp_path / "tables").mkdir()
    first = [path.read_bytes() for path in paper.write(results, tmp_path)]
    assert first == [path.read_bytes() for path in paper.write(results, tmp_path)] and all(first)


def test_a_missing_or_untraceable_result_is_refused(tmp_path):
    shutil.copytree(FOLDER / "results", tmp_path / "results")
    (tmp_path / "results" / "complexity.json").unlink()
    with pytest.raises(ResultError, match="complexity.json"):
        paper.read_results(tmp_path / "results")
    (tmp_path / "results" / "complexity.json").write_text('{"lengths": []}')
    with pytest.raises(ResultError, match="when, where"):
        paper.read_results(tmp_path / "results")


def test_overtaking_is_for_good():
    lengths = [1, 2, 4, 8]
    assert paper.overtakes(lengths, [2, 1, 3, 3], [1, 2, 2, 9]) == "8"
    assert paper.overtakes(lengths, [1, 1, 1, 1], [2, 2, 2, 2]) == "1"
    assert paper.overtakes(lengths, [3, 3, 3, 3], [2, 2, 2, 2]) == "no length measured"


def test_pictures_are_the_same_every_time(tmp_path):
    from ittybitty import figures

    import matplotlib

    matplotlib.use("Agg")
    for name in ("a", "b"):
        figures.save(figures.selective_ssm(), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"/FontFile2" in (tmp_path / "a.pdf").read_bytes(), "fonts are not embedded"
