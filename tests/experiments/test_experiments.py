"""The paper's experiments: every recipe of the repository can be run, a row is recorded once, and a leak is seen where there is one."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

from ittybitty import experiments, pipeline, systems
from ittybitty.errors import CheckpointError, ConfigError
from ittybitty.experiments import compare, leak
from ittybitty.experiments.recipe import SETTINGS, Clock, folder

pytestmark = pytest.mark.slow

SMALL = {"data.context": 32, "train.batch_size": 4, "train.validate_every": 4, "train.warmup": 1}


@pytest.fixture
def recipe_file(tmp_path):
    def write(**content):
        path = tmp_path / "small.yaml"
        shared = {"preset": "nano"} if content["kind"] in ("compare", "leak", "overfit", "vocabulary") else {}
        path.write_text(json.dumps({"question": "?", **shared, **content}))  # JSON is YAML
        return experiments.read_recipe(path)

    return write


@pytest.fixture
def places(tmp_path):
    return {"runs": tmp_path / "runs", "results": tmp_path / "results", "say": lambda line: None}


@pytest.mark.parametrize("name", sorted(path.stem for path in folder().glob("*.yaml")))
def test_every_recipe_of_the_repository_names_what_is_there(name):
    recipe = experiments.read_recipe(name)
    assert recipe.question.endswith(("?", "split")) and recipe.kind in SETTINGS
    for row in recipe.rows:
        if recipe.kind in ("compare", "leak", "overfit"):
            system = row.settings.get("system", row.name)
            systems.build(system, row.settings.get("preset", "tiny"), row.settings.get("set"))
        if recipe.kind == "compare":
            assert ("passes" in row.settings) != ("steps" in row.settings)


def test_a_row_is_trained_evaluated_and_recorded_once(recipe_file, places, maestro_folder):
    recipe = recipe_file(kind="compare", passes=0.5, set=SMALL, rows={"hybrid": {}})
    [first] = experiments.run(recipe, maestro_folder, **places)
    assert first["state"] == "recorded"
    result = json.loads((places["results"] / "small_hybrid.json").read_text())
    assert result["bits_per_note"] > 0 and len(result["ci95"]) == 2 and result["provenance"]["commit"]
    assert result["training"]["steps"] == pytest.approx(
        0.5 * result["training"]["steps"] / result["training"]["passes"], abs=1
    )
    [second] = experiments.run(recipe, maestro_folder, **places)
    assert second["state"] == "recorded before"


def test_a_changed_recipe_is_run_again(recipe_file, places):
    one = recipe_file(kind="compare", steps=2, rows={"hybrid": {}})
    other = recipe_file(kind="compare", steps=3, rows={"hybrid": {}})
    assert one.hash_of(one.rows[0]) != other.hash_of(other.rows[0])


def test_a_changed_recipe_does_not_take_the_former_training_for_its_own(recipe_file, places, maestro_folder):
    more, fewer = (recipe_file(kind="compare", steps=steps, set=SMALL, rows={"mamba": {}}) for steps in (4, 2))
    experiments.run(more, maestro_folder, **places)
    with pytest.raises(CheckpointError, match="begun under another recipe"):
        experiments.run(fewer, maestro_folder, **places)
    assert json.loads((places["results"] / "small_mamba.json").read_text())["training"]["steps"] == 4
    other_pieces = recipe_file(kind="compare", steps=4, pieces=1, set=SMALL, rows={"mamba": {}})
    [row] = experiments.run(other_pieces, maestro_folder, **places)
    result = json.loads((places["results"] / "small_mamba.json").read_text())
    assert row["state"] == "recorded" and result["pieces"] == 1 and result["training"]["steps"] == 4


def test_a_row_records_what_its_validations_found(recipe_file, places, maestro_folder):
    often = {**SMALL, "train.validate_every": 2}
    recipe = recipe_file(kind="compare", steps=4, set=often, rows={"mamba": {}})
    experiments.run(recipe, maestro_folder, **places)
    training = json.loads((places["results"] / "small_mamba.json").read_text())["training"]
    assert [one["step"] for one in training["curve"]] == [2, 4]
    assert training["curve"][-1]["validation_nll"] == training["validation_nll"]
    assert 0 < training["curve"][0]["tokens"] < training["curve"][1]["tokens"] == training["tokens"]


def test_a_row_may_be_evaluated_in_shorter_windows_without_a_new_training(recipe_file, places, maestro_folder):
    usual, short = (
        recipe_file(kind="compare", steps=2, set=SMALL, rows={"mamba": {}}, **how) for how in ({}, {"context": 16})
    )
    experiments.run(usual, maestro_folder, **places)
    first = json.loads((places["results"] / "small_mamba.json").read_text())
    [row] = experiments.run(short, maestro_folder, **places)
    second = json.loads((places["results"] / "small_mamba.json").read_text())
    assert row["state"] == "recorded" and (first["context"], second["context"]) == (1024, 16)
    assert first["weights_hash"] == second["weights_hash"] and first["bits_per_note"] != second["bits_per_note"]


def test_an_interrupted_experiment_resumes_where_it_stopped(recipe_file, places, maestro_folder, monkeypatch):
    recipe = recipe_file(kind="compare", steps=6, set=SMALL, rows={"mamba": {}, "hybrid": {}})
    train = pipeline.train

    def told_to_end(*given, **options):
        return train(
            *given, **options, on_step=lambda step, record: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None
        )

    monkeypatch.setattr(pipeline, "train", told_to_end)
    cut, after = experiments.run(recipe, maestro_folder, **places)
    assert cut["state"].startswith("unfinished") and after["state"].startswith("not run")
    taken = []
    monkeypatch.setattr(
        pipeline,
        "train",
        lambda *given, **options: train(*given, **options, on_step=lambda step, record: taken.append(step)),
    )
    assert [row["state"] for row in experiments.run(recipe, maestro_folder, **places)] == ["recorded", "recorded"]
    assert taken == [3, 4, 5, 6, 1, 2, 3, 4, 5, 6]
    assert json.loads((places["results"] / "small_mamba.json").read_text())["training"]["steps"] == 6
    assert not Clock(None).over and Clock(0.0).over


def test_a_row_begins_with_the_weights_of_another(recipe_file, places, maestro_folder, monkeypatch):
    later = {"system": "mamba", "from": "small/first", "steps": 1}
    recipe = recipe_file(kind="compare", set=SMALL, rows={"second": later, "first": {"system": "mamba", "steps": 2}})
    with pytest.raises(CheckpointError, match="small --row first"):
        experiments.run(recipe, maestro_folder, **places, only=["second"])
    started, train = [], pipeline.train
    monkeypatch.setattr(
        pipeline, "train", lambda *given, **options: started.append(options["init_from"]) or train(*given, **options)
    )
    done = experiments.run(recipe, maestro_folder, **places, only=["first"]) + experiments.run(
        recipe, maestro_folder, **places, only=["second"]
    )
    assert [row["state"] for row in done] == ["recorded", "recorded"] and started == [
        None,
        places["runs"] / "small" / "first",
    ]


def test_fewer_training_pieces_are_another_store(recipe_file, places, maestro_folder):
    recipe = recipe_file(kind="compare", steps=2, set=SMALL, training_pieces=1, rows={"mamba": {}})
    configs = systems.build("mamba", "nano", SMALL)
    summary = compare.trained(recipe.rows[0], maestro_folder, places["runs"] / "x", Clock(None))
    whole = compare.steps_of(1, configs, maestro_folder)
    assert summary["steps"] == 2 and summary["passes"] > 2 / whole


def test_the_leaking_split_shares_tokens_and_the_official_one_does_not(recipe_file, maestro_folder):
    recipe = recipe_file(kind="leak", system="mamba", training_pieces=3, steps=2, rows={"windows": {}, "official": {}})
    configs = systems.build(
        "mamba",
        "nano",
        {**SMALL, "data.stride": 8, "data.pitch_shift": 0, "data.velocity_shift": 0, "data.tempo_stretch": 0.0},
    )
    store = leak._leaking(leak._store("windows", configs, recipe.rows[0], maestro_folder), configs)
    train, held_out = ([store.tokens(i) for i in store.split(name)] for name in ("train", "validation"))
    assert len(train) > len(held_out) > 0
    runs = {bytes(np.asarray(ids[8:16])) for ids in train}
    assert any(
        bytes(np.asarray(ids[:8])) in runs for ids in held_out
    )  # a held-out window begins inside a training window
    official = leak._store("official", configs, recipe.rows[1], maestro_folder)
    assert {piece.split for piece in official.pieces} == {"train", "validation"}


def test_the_leak_reports_what_was_claimed_and_what_is_true(recipe_file, places, maestro_folder):
    recipe = recipe_file(
        kind="leak", system="mamba", training_pieces=3, steps=4, set=SMALL | {"data.stride": 16}, rows={"windows": {}}
    )
    experiments.run(recipe, maestro_folder, **places)
    result = json.loads((places["results"] / "small_windows.json").read_text())
    assert result["claimed_bits_per_note"] > 0 and result["bits_per_note"] > 0


def test_a_short_sequence_is_memorised(recipe_file, places, monkeypatch):
    monkeypatch.setattr("ittybitty.experiments.overfit.LENGTH", 24)
    recipe = recipe_file(
        kind="overfit",
        system="mamba",
        rows={"synthetic": {"task": "synthetic", "steps": 200, "set": {"train.learning_rate": 1e-2}}},
    )
    experiments.run(recipe, None, **places)
    result = json.loads((places["results"] / "small_synthetic.json").read_text())
    assert result["memorised"] and result["given_back"] == 1.0 and result["steps"] <= 200


def test_a_bigger_corpus_has_more_events(recipe_file, places, maestro_folder):
    recipe = recipe_file(kind="vocabulary", system="lstm-pitch", training_pieces=[1, 3], rows={"all": {}})
    experiments.run(recipe, maestro_folder, **places)
    small, large = json.loads((places["results"] / "small_all.json").read_text())["sizes"]
    assert (
        small["events"] <= large["events"]
        and large["held_out_tokens_never_seen"] <= small["held_out_tokens_never_seen"]
    )


@pytest.mark.parametrize(
    "content, says",
    [
        ({"kind": "compare"}, "lacks rows"),
        ({"kind": "compair", "rows": {"a": {}}}, "did you mean 'compare'"),
        ({"kind": "compare", "rows": ["hybrid"]}, "mapping of names"),
        ({"kind": "compare", "passse": 0.1, "rows": {"a": {}}}, "no setting 'passse': did you mean 'passes'"),
        ({"kind": "compare", "rows": {"a": {"steps": "lots"}}}, "steps is 'lots': give a whole number"),
        ({"kind": "leak", "rows": {"a": {"set": None}}}, "set is None: give names and values"),
        ({"kind": "position", "tokens": 3, "rows": {"a": {}}}, "position has no setting 'tokens'"),
    ],
)
def test_a_wrong_recipe_is_refused(recipe_file, content, says):
    with pytest.raises(ConfigError, match=says):
        recipe_file(**content)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'attention'"):
        experiments.read_recipe("atention")
    with pytest.raises(ConfigError, match="no row 'hybird': did you mean 'hybrid'"):
        experiments.read_recipe("all_rows").chosen(["hybird"])


def test_a_run_that_is_not_there_says_how_to_make_it(recipe_file, places, maestro_folder):
    recipe = recipe_file(kind="position", rows={"a": {"run": "equal_music/mamba"}})
    with pytest.raises(CheckpointError, match="ittybitty experiment equal_music --row mamba"):
        experiments.run(recipe, maestro_folder, **places)


def test_a_trained_row_says_how_it_was_trained(recipe_file, places, maestro_folder):
    recipe = recipe_file(kind="compare", steps=2, set=SMALL, rows={"mamba": {}})
    experiments.run(recipe, maestro_folder, **places)
    training = json.loads((places["results"] / "small_mamba.json").read_text())["training"]
    assert training["ran_on"]["precision"] == "float32" and training["ran_on"]["scan_path"] and training["seed"] == 0
