"""A parcel becomes a model: evaluated here, with a card that shows it, in its place and nowhere else."""

from __future__ import annotations

import json

import pytest
from test_parcel import run_folder

from ittybitty import checkpoint
from ittybitty.errors import ConfigError, OutputError
from ittybitty.gpu import install, parcel


@pytest.fixture
def home(tmp_path):
    """The folder of a visit that brought one row home."""
    runs = {"notes-hybrid": run_folder(tmp_path / "run")}
    parcel.write(runs, {"visit": {"preset": "nano"}, "train-notes-hybrid": {"steps": 7}}, tmp_path / "out")
    return tmp_path / "out"


def test_a_parcel_is_evaluated_exported_and_installed(home, tmp_path, maestro_folder):
    (made,) = install.install(home, maestro_folder, into=tmp_path / "models")
    model = tmp_path / "models" / "nano-notes-hybrid"
    assert made["out"] == str(model) and made["visit"] == {"steps": 7}
    results = json.loads((model / "results.json").read_text())
    assert made["bits_per_note"] == results["bits_per_note"] > 5
    assert f"**{results['bits_per_note']:.3f}**" in (model / "README.md").read_text()
    loaded = checkpoint.load(model)
    assert checkpoint.weights_hash(loaded.model) == results["weights_hash"]
    assert loaded.system == "notes-hybrid"


def test_places_that_are_taken_and_rows_that_are_not_there_are_named_before_anything_is_evaluated(
    home, tmp_path, monkeypatch
):
    monkeypatch.setattr(install, "evaluate", None)  # calling it would be a TypeError
    with pytest.raises(ConfigError, match="holds notes-hybrid, not hybrid"):
        install.install(home, only="hybrid", into=tmp_path / "models")
    (tmp_path / "models" / "nano-notes-hybrid").mkdir(parents=True)
    with pytest.raises(OutputError, match="is there already"):
        install.install(home, into=tmp_path / "models")


def test_a_model_too_large_to_ship_is_left_where_it_was_exported(home, tmp_path, maestro_folder, monkeypatch):
    monkeypatch.setattr(install, "MOST_BYTES", 1000)
    said = []
    (made,) = install.install(home, maestro_folder, into=tmp_path / "models", say=said.append)
    assert not (tmp_path / "models").exists() and checkpoint.load(made["out"]).system == "notes-hybrid"
    assert any("too much to ship" in line for line in said)
