"""Benchmarks measure what they say, in one run, and report marks by what was measured. No time is asserted here."""

import json

import pytest
import torch

from ittybitty.bench import busy, decode, events, marks, named, scan, stream, tokenize, train
from ittybitty.config import SCALE_PRESETS
from ittybitty.errors import ResultError
from ittybitty.models.decode import decoder
from ittybitty.models.scan import chosen, forced_path

pytestmark = pytest.mark.slow


@pytest.fixture
def small(monkeypatch):
    for module, sizes in {
        scan: dict(
            WIDTH=32,
            LAYERS=2,
            STACK_BATCH=1,
            STACK_LENGTH=20,
            LAYER_LENGTH=16,
            child=lambda *a, **k: 10,
            matmul_rate=lambda **k: 1e9,
        ),
        events: dict(TOKENS=40),
        decode: dict(SEED=8, BLOCK=4, preset=lambda name: SCALE_PRESETS["nano"], BUFFER=2**20, PIECES=1, CONTEXT=64),
        train: dict(LENGTH=16, matmul_rate=lambda **k: 1e9),
        stream: dict(EARLY=20, BLOCK=5),
    }.items():
        for name, value in sizes.items():
            monkeypatch.setattr(module, name, value)


def test_scan_is_compared_with_peers_that_compute_the_same(small):
    result = named("scan")(turns=1)
    assert {
        "ours_s",
        "no_scan_s",
        "transformers_s",
        "ratio_vs_no_scan",
        "ratio_vs_transformers",
        "peak_mb",
        "transformers_peak_mb",
    } <= set(result)
    assert result["torch_only_ratio_vs_transformers"] > 0
    json.dumps(result)


def test_a_peer_that_computes_something_else_is_refused(small):
    layers = {"ours": scan.layer("ours"), "other": scan.layer("ours")}
    with torch.no_grad():
        layers["other"].A_log.add_(1)
    with pytest.raises(ResultError, match="other.*differs"):
        scan._check_same(layers)


def test_the_stack_without_its_scan_has_all_projections_in_its_graph(small):
    bare = scan.stack(scanless=True)
    bare(torch.randn(1, 8, 32)).sum().backward()
    assert all(p.grad is not None for name, p in bare.named_parameters() if "proj" in name or "conv" in name)


def test_decode_floor_is_the_bytes_of_the_weights_over_the_bandwidth(small):
    result = named("decode")(turns=1)
    assert result["floor_ms"] == pytest.approx(1e3 * 4 * result["parameters"] / (1e9 * result["read_gb_per_s"]))
    assert result["ratio_to_floor"] == pytest.approx(result["ms_per_token"] / result["floor_ms"])
    assert abs(result["int8_bits_per_note_change"]) < 0.05
    rows = result["events"]
    assert all(rows[f"{name}_notes_per_s"] > 0 for name in ("tiny", "tiny_int8", "tiny_model", "tiny_remi"))
    assert marks.derived(result)["tiny_notes_per_s"] == rows["tiny_notes_per_s"]


def test_stream_times_the_early_and_the_late_state(small):
    result = stream.bench_stream(turns=1, late=60)
    assert result["ms_at_2000"] > 0 and result["ms_at_60"] > 0 and result["ratio"] > 0


def test_a_copied_stream_continues_equally(small):
    from ittybitty.checkpoint import load

    loaded = load("tiny")
    one = stream._Stream(decoder(loaded.model), loaded.tokenizer)
    one.advance(30)
    two = one.copy()
    two.model = decoder(loaded.model)
    one.advance(20)
    two.advance(20)
    torch.testing.assert_close(one.logits, two.logits)


def test_tokenize_counts_the_corpus_and_extrapolates_nothing(midi_file):
    result = tokenize.bench_tokenize(str(midi_file.parent), turns=1)
    assert result["pieces"] >= 1 and result["notes_per_s"] > 0 and result["seconds_all_maestro"] is None


def test_train_sets_three_families_side_by_side(small):
    result = train.bench_train("nano", turns=1)
    assert all(result[f"{prefix}tokens_per_s"] > 0 for prefix in ("", "llama_", "lstm_"))


def test_marks_are_judged_by_the_measured_value():
    text = marks.report(
        "decode", {"ratio_to_floor": 1.2, "int8_ratio_to_floor": 1.4, "int8_bits_per_note_change": -0.002}
    )
    held, missed, change = text.splitlines()[:3]
    assert held.startswith("held") and missed.startswith("MISSED") and change.startswith("held")
    assert marks.report("tokenize", {"seconds_all_maestro": None}).startswith("not measured")


def test_values_with_names_of_their_own_follow_their_heading_one_a_line():
    text = marks.report(
        "rows", {"size": "tiny", "rows": {"notes-hybrid": {"parameters": 2900106, "notes_per_s": 5836.0}}}
    )
    assert text.splitlines()[2:] == [
        "size  tiny",
        "rows",
        "  notes-hybrid",
        "    parameters   2,900,106",
        "    notes_per_s  5,836",
    ]


def test_a_path_is_forced_within_its_block_only():
    before = chosen()
    with forced_path("sequential"):
        assert chosen() == "sequential"
    assert chosen() == before


def test_continuations_at_once_are_each_counted(monkeypatch):
    monkeypatch.setattr(busy, "COUNTS", {"one": 1, "two": 2, "four": 2})
    monkeypatch.setattr(busy, "SECONDS", 0.2)
    result = decode.bench_decode(busy=True)
    assert [len(result["tokens_per_s"][name]) for name in ("one", "two", "four", "work")] == [1, 2, 2, 1]
    assert all(rate > 0 for rates in result["tokens_per_s"].values() for rate in rates)
    assert result["share_of_two"] == pytest.approx(
        min(result["tokens_per_s"]["two"]) / result["tokens_per_s"]["one"][0], rel=0.01
    )
    assert "of one continuation's speed" in marks.report("busy", result)


def test_rows_are_timed_in_notes_beside_their_floor():
    from ittybitty.bench.train import bench_rows

    result = bench_rows("nano", ("notes-mamba", "mamba"), turns=1)
    for row in result["rows"].values():
        assert 0 < row["notes_per_s"] < row["floor_notes_per_s"]
    assert result["rows"]["notes-mamba"]["optimizer"] == "muon"
