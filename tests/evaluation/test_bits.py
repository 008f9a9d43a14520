"""Bits per note counts every bit and every original note, is the same whoever asks, and says where it came from."""

import json
import math
from functools import reduce

import numpy as np
import pytest
import torch

from conftest import make_maestro
from ittybitty import checkpoint, evaluation, open_corpus
from ittybitty.corpora import Piece
from ittybitty.errors import CheckpointError, ConfigError, CorpusError, MidiError, OutputError, ResultError
from ittybitty.evaluation.likelihood import unbroken_bits
from ittybitty.notes import Performance, join, shift, transpose
from ittybitty.tokenizers import PianoTokenizer
from runs import random_notes, untrained_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of random weights."""
    return untrained_run(tmp_path_factory.mktemp("run"), [random_notes()])


@pytest.fixture
def data(tmp_path, performance):
    return make_maestro(tmp_path / "data", performance)


def uniform(size):
    return lambda x: torch.zeros(*x.shape, size)


def piece_of(performance, name="piece"):
    return Piece(name, "", "", "test", source=lambda: performance)


def test_a_uniform_model_pays_log2_of_the_vocabulary_for_every_token(run, performance):
    tokenizer = PianoTokenizer().load(run / "tokenizer.json")
    row = evaluation.score(uniform(tokenizer.vocab_size), tokenizer, piece_of(performance))
    tokens = len(tokenizer.encode(performance)) - 1  # EOS is paid for, BOS is given
    assert row["bits"] == pytest.approx(tokens * math.log2(tokenizer.vocab_size)) and row["tokens"] == tokens
    figures = evaluation.summary([row])
    assert figures["bits_per_note"] == pytest.approx(row["bits"] / len(performance))
    assert figures["tokens_per_note"] == pytest.approx(tokens / len(performance))


def test_notes_are_those_of_the_original(run, performance):
    """Notes that the code merges are still divided by: dropping notes must not make a code look cheaper a note."""
    doubled = join(performance, shift(performance, 0.001))
    tokenizer = PianoTokenizer().load(run / "tokenizer.json")
    row = evaluation.score(uniform(tokenizer.vocab_size), tokenizer, piece_of(doubled))
    assert row["notes"] == 2 * len(performance) and row["notes_lost"] > 0.8 * len(performance)


def test_summary_is_a_ratio_of_sums():
    errors = {"onset_error_ms": 4.0, "duration_error_ms": 6.0, "velocity_error": 1.0, "notes_lost": 0}
    rows = [
        {"bits": 1000.0, "notes": 100, "tokens": 250, "seconds": 10.0, "model_seconds": 1.0, **errors},
        {
            "bits": 9000.0,
            "notes": 300,
            "tokens": 700,
            "seconds": 20.0,
            "model_seconds": 1.0,
            **errors,
            "onset_error_ms": 8.0,
        },
    ]
    figures = evaluation.summary(rows)
    assert figures["bits_per_note"] == 25 and figures["ci95"] == [10, 30] and figures["onset_error_ms"] == 7
    assert figures["notes_per_second"] == 200 and figures["bits_per_second"] == pytest.approx(10000 / 30)


def test_evaluate_reports_what_the_table_needs(run, data):
    results = evaluation.evaluate(run, data, "test", progress=False)
    low, high = results["ci95"]
    assert low <= results["bits_per_note"] <= high and results["pieces"] == 2 == len(results["per_piece"])
    assert results["notes"] == sum(row["notes"] for row in results["per_piece"])
    assert results["split"] == "test" and results["complete"] and results["system"] == "hybrid"
    assert results["keeps"] == ["pitch", "onset", "duration", "velocity", "pedal"]
    assert 0 < results["onset_error_ms"] < 6 and results["velocity_error"] < 3 and results["notes_lost"] == 0
    assert (results["context"], results["stride"]) == (1024, 512) and results["parameters"] > 50_000
    # random weights know nothing: not far from log2 V a token
    assert results["bits_per_token"] == pytest.approx(math.log2(380), rel=0.2)


def test_evaluate_is_repeatable(run, data):
    one, two = (evaluation.evaluate(str(run), str(data), "validation", progress=False) for _ in range(2))
    for key in ("bits_per_note", "ci95", "data_hash", "tokenizer_hash", "weights_hash", "onset_error_ms"):
        assert one[key] == two[key]


def test_shares_of_the_attributes_add_up(run, data):
    results = evaluation.evaluate(run, data, "test", progress=False)
    assert sum(results["bits_per_note_by_attribute"].values()) == pytest.approx(results["bits_per_note"])
    assert sum(results["share_by_attribute"].values()) == pytest.approx(1)
    assert (
        min(results["share_by_attribute"][what] for what in ("pitch", "time", "duration", "velocity", "pedal")) > 0.01
    )
    assert "chain rule" in results["attribute_rule"]


def test_bits_by_position_are_those_of_the_whole_piece(run, tmp_path, performance):
    data = make_maestro(tmp_path / "long", reduce(join, (shift(performance, 8.5 * i) for i in range(5))))
    results = evaluation.by_position(run, data, "test", length=300, progress=False)
    assert [(bin["from_token"], bin["to_token"]) for bin in results["bins"]] == [(0, 128), (128, 256), (256, 300)]
    first = results["bins"][0]
    assert first["bits_per_note"] == pytest.approx(
        first["windowed_bits_per_note"], rel=1e-3
    )  # one window sees all of it
    found = checkpoint.load(run)
    ids = [found.tokenizer.encode(p.load())[:301] for p in open_corpus(data).split("test")]
    spent = sum(unbroken_bits(found.model, one).sum() for one in ids)
    notes = sum(int(found.tokenizer.notes_per_id[one[1:].astype(int)].sum()) for one in ids)
    assert sum(bin["notes"] for bin in results["bins"]) == notes
    assert sum(bin["bits_per_note"] * bin["notes"] for bin in results["bins"]) == pytest.approx(spent, rel=1e-4)
    with pytest.raises(CorpusError, match="the longest has"):
        evaluation.by_position(run, data, "test", length=100_000, progress=False)
    with pytest.raises(ConfigError, match="length"):
        evaluation.by_position(run, data, "test", length=0, progress=False)


def test_limit_spreads_over_the_split():
    pieces = tuple(piece_of(None, str(i)) for i in range(100))
    assert [p.name for p in evaluation.evenly_spaced(pieces, 4)] == ["0", "25", "50", "75"]
    assert evaluation.evenly_spaced(pieces, None) == evaluation.evenly_spaced(pieces, 500) == pieces
    for limit in range(1, 101):
        assert len(set(evaluation.evenly_spaced(pieces, limit))) == limit


def test_data_hash_is_of_the_music():
    rows = [{"name": "a", "notes": 3}, {"name": "b", "notes": 4}]
    assert evaluation.data_hash(rows) == evaluation.data_hash(rows[::-1]) != evaluation.data_hash(rows[:1])


def test_a_damaged_piece_is_skipped_and_named(run, data):
    bad = next((data / "maestro-v3.0.0").rglob("*_04.midi"))
    bad.write_bytes(b"not midi")
    results = evaluation.evaluate(run, data, "test", progress=False)
    assert results["pieces"] == 1 and "_04" in results["skipped"][0]["name"] and results["skipped"][0]["reason"]
    for other in (data / "maestro-v3.0.0").rglob("*_05.midi"):
        other.write_bytes(b"")
    with pytest.raises(CorpusError, match="none of 2"):
        evaluation.evaluate(run, data, "test", progress=False)


def test_a_piece_without_notes_is_an_error(run):
    with pytest.raises(MidiError, match="no notes"):
        evaluation.score(uniform(380), PianoTokenizer().load(run / "tokenizer.json"), piece_of(Performance()))


def test_bad_input_is_one_line_that_names_it(run, data):
    for arguments, error, word in (
        ((run, data, "test", 0), ConfigError, "limit"),
        ((run, data, "dev"), CorpusError, "split"),
        ((run / "missing", data), CheckpointError, "no such run folder"),
        ((run, data / "missing"), CorpusError, "no such folder"),
    ):
        with pytest.raises(error, match=word):
            evaluation.evaluate(*arguments, progress=False)


def test_record_says_where_a_figure_came_from(tmp_path):
    path = tmp_path / "figure.json"
    evaluation.record({"bits_per_note": np.float64(21.5), "velocity_error": float("nan"), "notes": np.int64(3)}, path)
    written = json.loads(path.read_text())
    assert written["bits_per_note"] == 21.5 and written["velocity_error"] is None and written["notes"] == 3
    assert {"date", "commit", "device", "python", "torch"} <= written["provenance"].keys()
    with pytest.raises(OutputError):
        evaluation.record({}, tmp_path / "missing" / "figure.json")


def test_recorded_results_are_found_by_what_they_hold(tmp_path):
    evaluation.record({"bits_per_note": 2.0}, tmp_path / "b.json")
    evaluation.record({"bits_per_note": 1.0, "bins": []}, tmp_path / "a.json")
    (tmp_path / ".c-0f.json").write_text("")  # a record that is being written
    assert [row["name"] for row in evaluation.read_records(tmp_path, "bits_per_note")] == ["a", "b"]
    assert [row["name"] for row in evaluation.read_records(tmp_path, "bins")] == ["a"]
    assert evaluation.read_records(tmp_path / "nowhere", "bins") == []
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ResultError, match="c.json"):
        evaluation.read_records(tmp_path, "bins")


def test_lower_bits_for_a_model_that_has_learnt(run, performance):
    """Counting which token follows which makes the same piece cheaper: bits per note reward knowledge."""
    tokenizer = PianoTokenizer().load(run / "tokenizer.json")
    ids = tokenizer.encode(transpose(performance, 2)).astype(int)
    counts = torch.full((380, 380), 0.1)
    counts.index_put_((torch.tensor(ids[:-1]), torch.tensor(ids[1:])), torch.ones(len(ids) - 1), accumulate=True)
    table = counts.log()
    learnt, flat = (
        evaluation.score(m, tokenizer, piece_of(performance))["bits"] for m in (lambda x: table[x], uniform(380))
    )
    assert learnt < flat
