"""The paper holds no number that was typed, names what made each figure, and is rebuilt from its results without a difference."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest

import make as paper
from ittybitty import checkpoint, paths
from ittybitty.errors import ResultError
from make.tables_tex import EVERYTHING

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
    inputs, pictures = (
        re.findall(r"\\input\{([^}]+)\}", TEXT),
        re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", TEXT),
    )
    assert "numbers" in inputs and len(pictures) >= 3
    assert not [name for name in inputs if not (FOLDER / f"{name}.tex").is_file()]
    assert not [name for name in pictures if not (FOLDER / f"{name}.pdf").is_file()]


def test_every_table_that_is_made_is_in_the_text(results):
    assert {f"tables/{name}" for name in paper.tables(results)} == {
        n for n in re.findall(r"\\input\{([^}]+)\}", TEXT) if n != "numbers"
    }


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


NOT_SHOWN = {"codes", "codes_notes"}  # notebook 02 shows these


def test_no_result_in_the_tables_was_measured_with_uncommitted_changes():
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in (FOLDER / "results").glob("*.json")}
    changed = {stem for stem, result in found.items() if result["provenance"]["commit"].endswith("+")}
    assert not changed - NOT_SHOWN


def test_a_trained_result_says_its_seed_and_one_of_today_how_it_ran():
    for path in (FOLDER / "results").glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result.get("kind") in ("compare", "factors"):
            assert isinstance(result["training"]["seed"], int), path.name
            if result["provenance"]["date"] >= "2026-11-28":
                assert {"device", "threads", "precision"} <= result["ran_on"].keys(), path.name
                assert result["ran_on"]["precision"] != "auto" and result["provenance"]["threads"], path.name


def test_results_of_a_shipped_model_are_of_the_weights_that_ship():
    """Whoever replaces the weights measures them anew; until then the card says that nothing is measured."""
    shipped = {place.parent.name for place in paths.pretrained_dir().glob("*/model.safetensors")}
    hashes = {name: checkpoint.weights_hash(checkpoint.load(name).model) for name in shipped}
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (FOLDER / "results").glob("*.json")}
    of_shipped = {stem: result for stem, result in found.items() if result.get("model") in shipped}
    measured = {name for name in shipped if (paths.pretrained_dir() / name / "results.json").is_file()}
    assert paper.MODEL in measured and {result["model"] for result in of_shipped.values()} == measured
    assert not [stem for stem, result in of_shipped.items() if result["weights_hash"] != hashes[result["model"]]]
    for name in shipped - measured:
        assert "| bits per note | not measured |" in (paths.pretrained_dir() / name / "README.md").read_text("utf-8")
    for name in measured:
        told = json.loads((paths.pretrained_dir() / name / "results.json").read_text(encoding="utf-8"))
        assert told == {
            key: value for key, value in found[f"evaluate_{name}"].items() if key not in ("per_piece", "skipped")
        }


def test_numbers_and_tables_are_what_the_results_give(results):
    made = {"numbers.tex": paper.macros(results)} | {
        f"tables/{name}.tex": text for name, text in paper.tables(results).items()
    }
    assert {path.stem for path in (FOLDER / "tables").glob("*.tex")} == set(paper.tables(results))
    for name, text in made.items():
        assert (FOLDER / name).read_bytes() == text.encode(), f"{name} is not what the results give: run make paper"


def test_published_figures_are_converted_with_our_count(results):
    rows = {row["model"]: row for row in paper.published_rows(results)}
    counted = results["performance_tokens_test"]["tokens_per_note"]
    assert counted == pytest.approx(4.0319, abs=5e-5)
    assert results["performance_tokens_validation"]["tokens_per_note"] == pytest.approx(4.0531, abs=5e-5)
    best = rows["Perceiver AR"]
    assert best["bits_per_note"] == pytest.approx(1.82 * counted / math.log(2)) and not best["verified"]
    for text in (paper.tables(results)["published"], paper.readme_blocks(results)["published"]):
        assert "10.6" in text and "11.6" in text and ("dagger" in text or "†" in text)
    with_ours = {**results, "performance_notes-hybrid": OURS}
    assert "12.34 (12.00--12.70)" in paper.tables(with_ours)["published"]


OURS = {
    "training": {"passes": 1.0},
    "context": 1024,
    "nats_per_performance_token": 2.11,
    "bits_per_note_as_performance": 12.34,
    "ci95": [12.0, 12.7],
}


def factor_result(settings: dict, bits: float) -> dict:
    pieces = [{"name": f"p{i}", "notes": 100, "bits": 100 * (bits + i)} for i in range(5)]
    training = {"seed": 0, "validation_nll": 1.0, "processor_seconds": 60.0}
    rate = 1.0 if settings["rate"] == "best" else settings["rate"]
    names = {name: settings[name] for name in ("encoding", "optimizer", "architecture")}
    return {
        **names,
        "rate": rate,
        "settings": settings,
        "bits_per_note": bits,
        "per_piece": pieces,
        "training": training,
        "parameters": 1_000_000,
    }


@pytest.mark.slow
def test_the_factorial_shows_what_was_run_and_says_what_was_not(results):
    recipe = results["recipes"]["factors_small"]
    rows = [row for row in recipe.rows if row.settings["architecture"] != "lstm" and row.settings["rate"] != "best"]
    none = {key: value for key, value in results.items() if not key.startswith(("factors_", "factors_small_"))}
    run = {
        f"factors_small_{row.name}": factor_result(row.settings, 16 - 2 * (row.settings["encoding"] == "notes"))
        for row in rows
    }
    tables = paper.tables({**none, **run})
    assert tables["factors"].count("not run") == 6 and tables["factors"].count("14.00") == 8
    numbers = {number.name: number.text for number in paper.numbers({**none, **run})}
    assert (numbers["FactorsRun"], numbers["FactorsCells"], numbers["FactorsEncoding"]) == ("24", "30", "2.00")
    assert numbers["ShareEncoding"] == r"100\,\%"
    assert numbers["LargerEncoding"] == "not run"
    assert paper.tables(none)["factors"].count("not run") == 30
    without_a_try = {key: value for key, value in run.items() if not key.endswith("notes-muon-hybrid-r4-s0")}
    assert paper.tables({**none, **without_a_try})["factors"].count("not run") == 7, (
        "a cell counts when every rate was tried"
    )


@pytest.mark.slow
def test_the_larger_factorial_is_set_beside_the_same_cells_of_the_smaller(results):
    none = {key: value for key, value in results.items() if not key.startswith(("factors_", "factors_small_"))}
    small, large = (results["recipes"][name].rows for name in ("factors_small", "factors"))

    def bits(settings: dict) -> float:
        return {"lstm": 30, "llama": 17}.get(settings["architecture"], 16) - 2 * (settings["optimizer"] == "muon")

    run = {
        f"factors_small_{row.name}": factor_result(row.settings, bits(row.settings))
        for row in small
        if row.settings["rate"] != "best"
    }
    run |= {
        f"factors_{row.name}": factor_result(row.settings, bits(row.settings))
        for row in large
        if row.settings["rate"] != "best" and row.settings["architecture"] != "llama"
    }
    said = {number.name: number.text for number in paper.numbers({**none, **run})}
    assert said["LargerRuns"] == "24"
    names = ("Optimizer", "Architecture")
    assert [said[f"Larger{name}"] for name in names] == [said[f"Like{name}"] for name in names] == ["2.0", "0.0"]
    assert said["ChangeArchitecture"] == "1.0", "LSTM and LLaMA, which are no part of either"
    assert said["ShareOptimizer"] != said["WithoutOptimizer"] != r"100\,\%"


def test_a_claim_stands_falls_or_is_open_by_its_second_result(results):
    none = {
        key: value for key, value in results.items() if not key.startswith(("factors_small_", "claims_", "passes_"))
    }
    assert {row["verdict"] for row in paper.claims(none)} == {"open"}
    far, near, unsure = (0.4, 0.3, 0.5), (0.1, 0.05, 0.15), (0.4, -0.1, 0.9)
    assert paper.verdict("order", 0.3, far, 0.17) == "stands" and paper.verdict("order", -0.3, far, 0.17) == "reversed"
    assert paper.verdict("order", 0.3, near, 0.17) == "open", "less than a seed may move"
    assert paper.verdict("order", 0.3, unsure, 0.17) == "open", "its interval holds zero"
    assert (
        paper.verdict("nothing", 0.03, near, 0.17) == "stands"
        and paper.verdict("nothing", 0.03, far, 0.17) == "refuted"
    )
    assert paper.verdict("nothing", 0.03, None, 0.17) == "open"
    better = (-0.4, -0.5, -0.3)
    assert [paper.verdict("no better", -0.1, one, 0.17) for one in (far, near, better)] == [
        "stands",
        "stands",
        "refuted",
    ]


@pytest.mark.slow
def test_a_power_law_is_shown_with_what_it_promises_or_said_to_be_missing(results):
    none = {key: value for key, value in results.items() if not key.startswith("scaling_")}
    said = {number.name: number.text for number in paper.numbers(none)}
    assert said["ScalingRuns"] == "0" and paper.tables(none)["scaling"].count("not fitted") == 3
    names = [piece["name"] for piece in results["evaluate_tiny"]["per_piece"][:5]]
    runs = {}
    for row in results["recipes"]["scaling"].rows:
        size, passes = float(row.name.partition("m")[0]), row.settings["passes"]
        bits = 8 + 2 * size**-0.3 + 4 * (passes * 5.659328) ** -0.5
        runs[f"scaling_{row.name}"] = {
            "parameters": size * 1e6,
            "tokens_per_note": 4.0,
            "bits_per_note": bits,
            "training": {"tokens": passes * 5.659328 * 4e6},
            "per_piece": [{"name": name, "notes": 100, "bits": 100 * bits} for name in names],
        }
    told = {**none, **runs}
    said = {number.name: number.text for number in paper.numbers(told)}
    assert (said["ScalingSizeExponent"], said["ScalingNotesExponent"], said["ScalingDeviation"]) == (
        "0.30",
        "0.50",
        "0.00",
    )
    promised = 8 + 2 * 25.6**-0.3 + 4 * 56.59328**-0.5
    assert (
        f"published size & 25.6 & 10.0 & {promised:.2f} ({promised:.2f}--{promised:.2f})"
        in paper.tables(told)["scaling"]
    )


@pytest.mark.slow
def test_architectures_after_a_pass_are_compared_on_the_same_pieces(results):
    none = {key: value for key, value in results.items() if not key.startswith("passes_")}
    said = {number.name: number.text for number in paper.numbers(none)}
    assert said["PassesArchitectures"] == "0" and said["PassesHybrid"] == said["PassesOptimizer"] == "not run"

    def run(bits: float) -> dict:
        return {
            "parameters": 2.9e6,
            "tokens_per_note": 4.0,
            "bits_per_note": bits,
            "context": 512,
            "ci95": [bits - 0.2, bits + 0.2],
            "training": {"tokens": 20e6, "hours": 0.25},
            "per_piece": [{"name": f"p{i}", "notes": 100, "bits": 100 * (bits + i)} for i in range(5)],
        }

    told = {**none, "passes_hybrid": run(12.0), "passes_mamba": run(12.5)}
    claimed = {row["claim"]: row for row in paper.claims(told)}
    assert claimed["Mamba alone is ahead of the hybrid"]["whole"][0] == pytest.approx(-0.5)
    said = {number.name: number.text for number in paper.numbers(told)}
    assert (said["PassesArchitectures"], said["PassesNotes"]) == ("2", "5.0 million")
    assert said["PassesSelection"] == said["PassesSeedMoves"] == "not run" and said["PassesSpread"] == "0.50"
    another = {**told, "passes_hybrid-1": run(12.2)}
    said = {number.name: number.text for number in paper.numbers(another)}
    assert [said[f"Passes{name}"] for name in ("Architectures", "Hybrid", "Spread", "SeedMoves")] == [
        "2",
        "12.10",
        "0.40",
        "0.20",
    ]
    assert r"Mamba & 12.50 & $+0.40$ ($+0.30$ to $+0.50$)" in paper.tables(another)["passes"]
    rows = {"passes_no-bias": run(12.1), "passes_no-bias-1": run(12.3), "passes_hybrid-remi-512": run(12.9)}
    assert {name: len(runs) for name, runs in paper.best({**told, **rows}).items()} == {
        "hybrid": 1,
        "mamba": 1,
        "no-bias": 2,
        "hybrid-remi-512": 1,
    }
    table = paper.tables({**told, **rows})["passes"]
    assert (
        r"no bias of attention, 2 seeds & 12.20 & $+0.20$ ($+0.10$ to $+0.30$)" in table and "LSTM & not run" in table
    )
    slow, low = run(13.5), run(13.0)
    two = {**told, "passes_hybrid-1": run(12.2), "passes_ssm": slow, "passes_ssm-low": low, "passes_ssm-lower": slow}
    late = {**slow, "training": {"tokens": 20e6, "hours": 2.0}}
    assert paper.fastest({**two, "passes_ssm-lower": late})["ssm"] == 0.25, "the fastest run at any rate"
    claimed = {row["claim"]: row for row in paper.claims(two)}
    assert claimed["selection is worth nothing"]["whole"][0] == pytest.approx(0.5), "the best of three rates"
    assert claimed["selection is worth nothing"]["verdict"] == "refuted", "more than the seeds of the hybrid move"
    assert claimed["Mamba alone is ahead of the hybrid"]["verdict"] == "reversed"


def test_what_the_text_says_in_words_of_its_main_numbers_holds(results):
    """Abstract and conclusions: architectures differ by less than half a bit after a pass, encoding and optimizer together by more."""
    base = results["evaluate_tiny-remi"]
    apart = [paper.paired(results[name], base)[0] for name in ("evaluate_tiny-hybrid", "equal_music_llama-1024")]
    together = paper.paired(results["all_rows_mamba"], results["notes_notes-mamba"])[0]
    assert max(map(abs, apart)) < 0.5 and together > 4 * max(map(abs, apart))
    cells = {cell: runs for cell, runs in paper.grid(results).items() if runs}
    spread = {
        cell: max(one["bits_per_note"] for one in runs) - min(one["bits_per_note"] for one in runs)
        for cell, runs in cells.items()
    }
    assert max(spread, key=spread.get) == ("remi", "adamw", "hybrid"), "the cell whose seeds lie furthest apart"
    bits = {cell: sum(one["bits_per_note"] for one in runs) / len(runs) for cell, runs in cells.items()}
    assert max(bits, key=bits.get) == ("remi-unmerged", "adamw", "lstm"), "the cell that has learnt least"
    timed = paper.analysed(results, timed=True)["changes"]
    assert abs(timed["optimizer"]["bits_per_note"] - timed["architecture"]["bits_per_note"]) < 0.25, (
        "they matter equally"
    )
    shares = [paper.analysed(results)["shares"][name]["share"] for name in ("encoding", "optimizer", "architecture")]
    assert max(shares) - min(shares) < 0.05, "by the shares of variance the three matter equally"
    passes = paper.best(results)
    order = sorted(("hybrid", "llama", "mamba", "lstm", "ssm"), key=lambda name: passes[name][0]["bits_per_note"])
    assert order[:2] == ["hybrid", "llama"], "the two with attention are ahead"
    after = {name: sum(one["bits_per_note"] for one in runs) / len(runs) for name, runs in passes.items()}
    assert 0 < after["no-attention"] - after["mamba"] < 0.15, "a little behind Mamba alone"
    optimizer, encoding = (after[name] - after["hybrid"] for name in ("hybrid-adamw", "hybrid-remi"))
    assert optimizer > after[order[-1]] - after["hybrid"] > encoding, "the optimizer most, the encoding no longer more"
    short = bits["remi", "muon", "hybrid"] - bits["notes", "muon", "hybrid"]
    assert encoding < 0.5 * short, "less than half of what merged tokens cost in short trainings"
    few, none, many = (
        after[name] - after["hybrid-fine-pedal"] for name in ("hybrid-remi-512", "hybrid-remi-unmerged", "hybrid-remi")
    )
    assert abs(few - none) < 0.05 and -0.1 < few < 0, "with few merges REMI tokens need a little less"
    assert 0.2 < many < 0.3 * short, "far less than in short trainings, and the encoding only if much is merged"
    tried = {name: results[f"passes_{name}"]["bits_per_note"] for name in ("ssm", "lstm", "hybrid-adamw")}
    assert all(results[f"passes_{name}-low"]["bits_per_note"] < tried[name] for name in ("ssm", "lstm")), (
        "which were better"
    )
    others = [results[f"passes_hybrid-adamw-{rate}"]["bits_per_note"] for rate in ("low", "high")]
    assert min(others) > tried["hybrid-adamw"], "which were worse"
    hybrid_more = paper.paired(results["notes_notes-mamba"], results["notes_notes-hybrid"])
    assert hybrid_more[1] > 0, "on notes the hybrid is ahead, its whole interval"


def test_a_published_row_without_its_source_is_refused(tmp_path):
    (tmp_path / "published.yaml").write_text("- {model: Somebody, nats_per_token: 1.5}\n")
    with pytest.raises(ResultError, match="Somebody lacks .*source"):
        paper.read_published(tmp_path)


def test_a_changed_result_changes_the_number(results):
    other = {**results, "evaluate_tiny-remi": {**results["evaluate_tiny-remi"], "bits_per_note": 1.25}}
    assert r"\newcommand{\valBitsPerNote}{1.25}" in paper.macros(other) and paper.macros(other) != paper.macros(results)


@pytest.mark.slow
def test_written_files_are_the_same_every_time(results, tmp_path):
    (tmp_path / "tables").mkdir()
    first = [path.read_bytes() for path in paper.write(results, tmp_path)]
    assert first == [path.read_bytes() for path in paper.write(results, tmp_path)] and all(first)


def test_a_missing_or_untraceable_result_is_refused(tmp_path):
    shutil.copytree(FOLDER / "results", tmp_path / "results")
    (tmp_path / "results" / "complexity_mixers.json").unlink()
    with pytest.raises(ResultError, match="complexity_mixers.json"):
        paper.read_results(tmp_path / "results")
    (tmp_path / "results" / "complexity_mixers.json").write_text('{"lengths": []}')
    with pytest.raises(ResultError, match="when, where"):
        paper.read_results(tmp_path / "results")


def scored(*bits, notes=100):
    return {"per_piece": [{"name": f"piece {i}", "notes": notes, "bits": notes * b} for i, b in enumerate(bits)]}


def test_a_difference_is_paired_and_its_interval_is_about_the_difference_alone():
    hard_and_easy, a_little_more = scored(10, 20, 30), scored(11, 21.1, 30.9)
    more, low, high = paper.paired(a_little_more, hard_and_easy)
    assert more == pytest.approx(1.0) and 0.9 <= low < more < high <= 1.1
    assert paper.beats(hard_and_easy, a_little_more) and not paper.beats(a_little_more, hard_and_easy)
    assert not paper.beats(scored(10, 21, 30), scored(11, 20, 30)), "now better, now worse: no difference"
    with pytest.raises(ResultError, match="no piece"):
        paper.paired(scored(1), {"per_piece": []})


def test_figures_of_some_pieces_are_of_those_alone():
    assert paper.on_pieces(scored(10, 20, 30), {"piece 0", "piece 1"})[0] == pytest.approx(15)


def test_rows_stand_in_order_and_one_not_run_says_so(results):
    rows = paper.systems(results)
    recipe = [row.name for row in results["recipes"]["all_rows"].rows]
    assert {row["name"] for row in rows if row["group"] == "tenth"} == set(recipe)
    whole = [row["bits_per_note"] for row in rows if set(row.get("keeps", ())) == set(EVERYTHING)]
    assert whole == sorted(whole) and rows[: len(whole)] == [
        row for row in rows if set(row.get("keeps", ())) == set(EVERYTHING)
    ]
    one = next(name for name in recipe if name != "hybrid" and f"all_rows_{name}" in results)
    without = {key: value for key, value in results.items() if key != f"all_rows_{one}"}
    assert (
        "keeps" not in paper.systems(without)[-1] and rf"\texttt{{{one}}} & not run" in paper.tables(without)["systems"]
    )


def test_rows_scored_on_other_pieces_are_not_set_side_by_side(results):
    other = {**results, "all_rows_mamba": {**results["all_rows_hybrid"], **scored(1, 2)}}
    with pytest.raises(ResultError, match="different pieces"):
        paper.systems(other)


def test_every_row_was_recorded_under_the_recipe_that_stands_there(results):
    stale = []
    for recipe in results["recipes"].values():
        for row in recipe.rows:
            place = recipe.place(row, FOLDER / "results")
            if place.is_file() and not recipe.is_recorded(row, place):
                stale.append(place.name)
    assert not stale, f"{stale}: the recipe has changed since; run ittybitty experiment again"


def test_the_readme_holds_the_tables_that_the_results_give(results):
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert text == paper.fill(text, paper.readme_blocks(results)), (
        "README.md is not what the results give: run make paper"
    )
    with pytest.raises(ResultError, match="lacks the two lines"):
        paper.fill("# A README", {"results": "a table"})


def test_music_read_adds_up_the_stages_of_the_training(results):
    ends = [{"epoch": 2.5, "seconds": 600.0}, {"epoch": 1.0, "seconds": 300.0}]
    trained = {**results["trained"], "tiny": {**results["trained"]["tiny"], "ends": ends}}
    told = {**results, "trained": trained}
    assert paper.music_read(told) == (3.5, 15.0)
    assert r"\newcommand{\valNotesPasses}{3.5}" in paper.macros(told) and "| 3.5 passes |" in paper.readme_table(told)


def test_passes_of_a_stage_are_those_of_all_stages_up_to_it(results):
    ends = [{"epoch": 2.5, "seconds": 600.0}, {"epoch": 1.0, "seconds": 300.0}, {"epoch": 4.0, "seconds": 300.0}]
    trained = {**results["trained"], "tiny": {**results["trained"]["tiny"], "ends": ends}}
    found = {"pitch and time": {"generated": {"mean": 7.25, "longest": 21}}}
    rows = {f"memorisation_{name}": {"longest": found} for name in ("tiny-stage-1", "tiny-stage-3", "tiny")}
    table = paper.tables({**results, **rows, "trained": trained})["copied"]
    for name, passes in ((r"\texttt{tiny}, stage 1", 2.5), (r"\texttt{tiny}, stage 3", 7.5), (r"\texttt{tiny}", 7.5)):
        assert f"{name} & {passes} & 7.2 & 21" in table


def test_the_table_of_continuations_counts_what_was_recorded(results):
    faults = {"continuations": 40, "stuck": 1, "silent": 2}
    row = {
        "model": "tiny",
        "plan": {"pieces": 40, "opening": 40.0, "seconds": 60.0, "long": 10, "notes": 3000, "whole_files": 12},
        "matching": {"accuracy": 0.225},
        "endurance": {"share_outside": 0.1},
        "openings": faults,
        "whole_files": {"continuations": 12, "stuck": 3, "silent": 0},
    }
    people = row | {"model": "pianists", "whole_files": None}
    kept = {name: record for name, record in results.items() if not name.startswith("ears_")}
    told = kept | {"ears_tiny": row, "ears_pianists": people}
    lines = paper.readme_blocks(told)["ears"].splitlines()
    assert [line for line in lines if line.startswith("|")][-2:] == [
        "| pianists, what they really played | 22% | 10% | 1 of 40 | 2 of 40 |",
        "| **`tiny`, one step per note** | 22% | 10% | 4 of 52 | 2 of 52 |",
    ]
    assert r"\texttt{tiny}, notes & 22 & 10 & 4/52 & 2/52 & 61, 72" in paper.tables(told)["ears"]
    assert "61% of the cases" in lines[-2] and lines[-1].endswith("in 82% for `tiny-remi`.")
    assert "not measured" in paper.readme_blocks(kept)["ears"]


def test_overtaking_is_for_good():
    lengths = [1, 2, 4, 8]
    assert paper.overtakes(lengths, [2, 1, 3, 3], [1, 2, 2, 9]) == "8"
    assert paper.overtakes(lengths, [1, 1, 1, 1], [2, 2, 2, 2]) == "1"
    assert paper.overtakes(lengths, [3, 3, 3, 3], [2, 2, 2, 2]) == "no length measured"


@pytest.mark.slow
def test_pictures_are_the_same_every_time(tmp_path):
    import matplotlib

    from make import figures

    matplotlib.use("Agg")
    for name in ("a", "b"):
        figures.save(figures.selective_ssm(), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"/FontFile2" in (tmp_path / "a.pdf").read_bytes(), "fonts are not embedded"
