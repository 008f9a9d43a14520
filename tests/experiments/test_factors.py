"""A factorial: one row a run, equal tries for every cell, the best rate for further seeds, and records that any machine can add."""

from __future__ import annotations

import json

import pytest

from ittybitty import experiments, systems
from ittybitty.errors import ConfigError
from ittybitty.experiments import factors
from ittybitty.experiments.recipe import folder
from ittybitty.tokenizers import make_tokenizer

SMALL = {"train.warmup": 1, "train.validate_every": 100, "train.validation_windows": 2, "train.batch_size": 4}
PLAN = {
    "question": "?",
    "kind": "factors",
    "budget": "a minute",
    "preset": "nano",
    "amounts": [0.5],
    "rates": [1, 2],
    "seeds": 2,
    "set": SMALL,
    "optimizers": {
        "adamw": {"train.optimizer": "adamw", "train.learning_rate": 0.001},
        "muon": {"train.optimizer": "muon", "train.muon_learning_rate": 0.01, "train.learning_rate": 0.001},
    },
    "encodings": {
        "notes": {
            "system": "notes-hybrid",
            "set": {"data.context": 128},
            "architectures": {
                "mamba": {"model.pattern": "MM"},
                "lstm": {"model.family": "lstm", "model.lstm_sizes": "16,16"},
            },
        },
        "remi": {
            "system": "hybrid",
            "set": {"data.context": 64, "model.vocab_size": 0},
            "architectures": {"mamba": {"model.pattern": "MM"}},
        },
    },
}


@pytest.fixture
def recipe_of(tmp_path):
    def write(**changes):
        place = tmp_path / "small.yaml"
        place.write_text(json.dumps({**PLAN, **changes}))  # JSON is YAML
        return experiments.read_recipe(place)

    return write


@pytest.fixture
def places(tmp_path):
    return {"runs": tmp_path / "runs", "results": tmp_path / "results", "say": lambda line: None}


def test_every_cell_has_the_same_number_of_tries(recipe_of):
    rows = recipe_of().rows
    cells = [tuple(row.settings[name] for name in factors.FACTORS) for row in rows]
    assert len(rows) == 3 * 2 * (2 + 1) and {cells.count(cell) for cell in cells} == {3}
    names = [row.name for row in rows]
    assert len(set(names)) == len(names) and "notes-muon-lstm-r2-s0" in names and "remi-adamw-mamba-s1" in names


def test_only_the_named_cells_have_further_seeds(recipe_of):
    names = [row.name for row in recipe_of(seeded=["remi-muon-mamba"]).rows]
    assert [name for name in names if name.endswith("-s1")] == ["remi-muon-mamba-s1"] and len(names) == 6 * 2 + 1
    with pytest.raises(ConfigError, match="remi-muon-mambo.*remi-muon-mamba"):
        recipe_of(seeded=["remi-muon-mambo"])


def test_a_run_of_equal_time_reads_what_its_cells_best_run_promises(recipe_of, tmp_path):
    recipe = recipe_of(seconds=30)
    [timed] = recipe.chosen(["remi-adamw-mamba-t30"])
    for name, loss, seconds in (("remi-adamw-mamba-r1-s0", 3.0, 10.0), ("remi-adamw-mamba-r2-s0", 2.5, 60.0)):
        assert factors.resolved(recipe, timed, tmp_path) is None, "a try is not recorded yet"
        [row] = recipe.chosen([name])
        record = {"rate": row.settings["rate"], "training": {"validation_nll": loss, "processor_seconds": seconds}}
        recipe.record(row, record, recipe.place(row, tmp_path))
    found = factors.resolved(recipe, timed, tmp_path).settings
    assert found["rate"] == 2.0 and found["passes"] == pytest.approx(0.5 * 30 / 60)


def test_a_rate_multiplies_every_learning_rate(recipe_of, tmp_path):
    recipe = recipe_of()
    [row] = recipe.chosen(["notes-muon-mamba-r2-s0"])
    found = factors.resolved(recipe, row, tmp_path).settings
    assert found["rate"] == 2.0 and found["set"]["train.muon_learning_rate"] == pytest.approx(0.02)
    assert found["set"]["train.learning_rate"] == pytest.approx(0.002)


def test_a_further_seed_takes_the_rate_that_was_best_for_its_cell(recipe_of, tmp_path):
    recipe = recipe_of()
    [later] = recipe.chosen(["remi-adamw-mamba-s1"])
    for name, loss in (("remi-adamw-mamba-r1-s0", 3.0), ("remi-adamw-mamba-r2-s0", 2.5)):
        assert factors.resolved(recipe, later, tmp_path) is None, "a try is not recorded yet"
        [row] = recipe.chosen([name])
        record = {"rate": row.settings["rate"], "training": {"validation_nll": loss}}
        recipe.record(row, record, recipe.place(row, tmp_path))
    found = factors.resolved(recipe, later, tmp_path).settings
    assert found["rate"] == 2.0 and found["set"]["train.seed"] == 1


@pytest.mark.slow
def test_a_run_is_one_record_with_its_music_and_its_processor_time(recipe_of, places, maestro_folder):
    recipe = recipe_of()
    done = experiments.run(recipe, maestro_folder, **places, only=["notes-muon-lstm-r1-s0", "notes-muon-lstm-s1"])
    assert [row["state"] for row in done] == ["recorded", "waits for the learning rates of its cell"]
    record = json.loads((places["results"] / "small_notes-muon-lstm-r1-s0.json").read_text())
    assert [record[name] for name in factors.FACTORS] == ["notes", "muon", "lstm"] and record["rate"] == 1.0
    training = record["training"]
    assert training["processor_seconds"] > 0 and training["notes"] > 0 and training["seed"] == 0
    assert record["context"] == 32, "windows of 128 ids are 32 events"
    [again] = experiments.run(recipe, maestro_folder, **places, only=["notes-muon-lstm-r1-s0"])
    assert again["state"] == "recorded before"


def test_processor_time_adds_up_over_the_calls_of_a_run(tmp_path):
    assert factors._spent(tmp_path, 1.5) == 1.5 and factors._spent(tmp_path, 2.0) == 3.5


def test_a_plan_without_its_factors_is_refused(recipe_of):
    with pytest.raises(ConfigError, match="optimizers"):
        recipe_of(optimizers={})
    with pytest.raises(ConfigError, match="rates is 3"):
        recipe_of(rates=3)


def recipes_of_factorials():
    return [name for name in experiments.recipes() if experiments.read_recipe(name).kind == "factors"]


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes_of_factorials())
def test_cells_of_the_repositorys_factorials_have_equal_parameters(name):
    import torch

    counts, notes = {}, {}
    for row in experiments.read_recipe(name).rows:
        configs = systems.build(row.settings["system"], row.settings["preset"], row.settings["set"])
        changes = {}
        if configs["model"].vocab_size == 0:
            changes["model.vocab_size"] = make_tokenizer(configs["data"].tokenizer).vocab_size
        with torch.device("meta"):
            model = systems.build_model(systems.override(configs, changes))
        counts[row.name] = sum(p.numel() for p in model.parameters())
        notes[row.settings["encoding"]] = configs["data"].context
    middle = sum(counts.values()) / len(counts)
    assert not {name: count for name, count in counts.items() if abs(count / middle - 1) > 0.065}
    windows = {"notes": 2048, "notes-fine-pedal": 2048, "remi": 1200, "remi-512": 1475, "remi-unmerged": 1820}
    assert notes.items() <= windows.items() and len(notes) > 1, "about 445 notes each"
    assert folder().joinpath(f"{name}.yaml").read_text().startswith("#")
