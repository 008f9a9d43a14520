"""The results table's rows: every one builds at every size, and rows that are compared have about the same parameters."""

from __future__ import annotations

import re

import pytest

from ittybitty import systems
from ittybitty.config import SCALE_PRESETS, from_json, to_json
from ittybitty.errors import ConfigError
from ittybitty.tokenizers import VARIANTS


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_a_row_names_a_tokenizer_and_says_what_it_is(name):
    row = systems.system(name)
    assert row.tokenizer in VARIANTS
    assert row.summary and row.published
    assert systems.build(name, "nano")["data"].tokenizer == row.tokenizer


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_a_row_is_found_by_its_aliases(name):
    for alias in systems.SYSTEMS[name].aliases:
        assert systems.system(alias) is systems.SYSTEMS[name]


def test_names_and_aliases_are_all_different():
    names = [name for row in systems.SYSTEMS.values() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("size", SCALE_PRESETS)
def test_pure_mamba_has_the_hybrids_parameters(size):
    hybrid, mamba = systems.parameter_count("hybrid", size), systems.parameter_count("mamba", size)
    allowed = 0.2 if size == "nano" else 0.05  # a nano block is a fifth of its model
    assert abs(mamba / hybrid - 1) < allowed, f"{mamba:,} against {hybrid:,}"


def test_pure_mamba_is_mamba_alone():
    for size in SCALE_PRESETS:
        assert set(systems.build("mamba", size)["model"].pattern) == {"M"}


@pytest.mark.parametrize("name", systems.SYSTEMS)
@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_the_vocabulary_has_room_for_the_encodings_own_ids(name, size):
    configs = systems.build(name, size)
    own = systems.build_tokenizer(configs).vocab_size
    assert own <= configs["model"].vocab_size
    assert name != "lstm-remi" or own == configs["model"].vocab_size  # learns nothing: the model is as counted


def test_overrides_win():
    assert systems.build("mamba", "tiny", {"model.pattern": "MMM", "train.steps": "7"})["model"].pattern == "MMM"


@pytest.mark.parametrize(
    "change, hint",
    [
        ("model.n_heads=0", "model.n_heads is 0: give 1 or more"),
        ("model.attn_stride=0", "model.attn_stride is 0: give 1 or more"),
        ("model.d_model=0", "model.d_model is 0: give 1 or more"),
        ("model.d_state=-1", "model.d_state is -1: give 1 or more"),
        ("model.vocab_size=-5", "model.vocab_size is -5: give 0 or more"),
        ("model.dt_rank=1e999", "model.dt_rank is '1e999': give a value of type int"),
        ("model.lstm_sizes=8,0", "model.lstm_sizes is (8, 0): give the units"),
        ("model.cfc_sweeps=-1", "model.cfc_sweeps is -1: give 0 or more"),
        ("model.dropout=1", "model.dropout is 1.0: give 0 or more, below 1"),
        ("data.context=0", "data.context is 0: give 1 or more"),
        ("data.stride=-1", "data.stride is -1: give 0 or more"),
        ("data.copies=-1", "data.copies is -1: give 0 or more"),
        ("data.prompt_seconds=0", "data.prompt_seconds is 0.0: give a number above 0"),
        ("train.batch_size=0", "train.batch_size is 0: give 1 or more"),
        ("train.steps=-1", "train.steps is -1: give 1 or more"),
        ("train.learning_rate=nan", "train.learning_rate is nan: give 0 or more"),
        ("train.beta2=1", "train.beta2 is 1.0: give 0 or more, below 1"),
        ("train.seed=-1", "train.seed is -1: give 0 or more"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(change, hint):
    with pytest.raises(ConfigError, match=re.escape(hint)):
        systems.build("hybrid", "small", dict([change.split("=")]))


@pytest.mark.parametrize("size", [*SCALE_PRESETS, systems.PUBLISHED])
@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_every_row_is_read_back_as_it_was_saved(name, size):
    configs = systems.build(name, size)
    assert from_json(to_json(configs)) == configs


@pytest.mark.parametrize("wrong", ["hybird", "mambo"])
def test_a_misspelt_system_is_refused_with_the_nearest(wrong):
    with pytest.raises(ConfigError, match="did you mean '(hybrid|mamba)'"):
        systems.system(wrong)


def test_rows_show_what_the_encoding_keeps():
    for row in systems.rows("nano"):
        assert "pitch" in row["keeps"]
        assert row["parameters"] == systems.parameter_count(row["system"], "nano")
