"""An export plays like its run, is small, says what was measured and under which licence, and destroys nothing."""

import json
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
import torch
from safetensors import safe_open

import ittybitty
from ittybitty import checkpoint
from ittybitty import export as module
from ittybitty.config import preset
from ittybitty.errors import CheckpointError, OutputError
from ittybitty.export import export
from ittybitty.models import PianoHybridModel
from ittybitty.notes import Performance
from ittybitty.tokenizers import PianoTokenizer

pytestmark = pytest.mark.slow

RESULTS = {
    "bits_per_note": 21.4567,
    "ci95": [20.1, 22.9],
    "split": "validation",
    "corpus": "MAESTRO v3.0.0",
    "pieces": 137,
    "notes": 639425,
    "tokens_per_note": 2.04,
    "onset_error_ms": 5.2,
    "duration_error_ms": 6.1,
    "velocity_error": 1.0,
    "notes_lost": 0,
    "complete": True,
    "per_piece": [{"name": "a"}],
    "skipped": [],
}


@pytest.fixture(scope="module")
def tokenizer():
    rng = np.random.default_rng(0)
    return PianoTokenizer().train(
        [Performance.of((0.1 * i, 0.2, int(p), 80) for i, p in enumerate(rng.integers(40, 90, 300)))], 380
    )


@pytest.fixture
def run(tmp_path, tokenizer):
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    configs = {**preset("nano"), "model": replace(preset("nano")["model"], vocab_size=tokenizer.vocab_size)}
    checkpoint.write_config(folder, configs, "hybrid", "nano", tokenizer.content_hash, {"validation_nll": 5.0})
    checkpoint.save_model(folder, PianoHybridModel(configs["model"]))
    tokenizer.save(folder / "tokenizer.json")
    (folder / "log.jsonl").write_text('{"step": 1, "loss": 6.0}\n')
    return folder


@pytest.fixture
def results(run):
    """A record of this very run."""
    return {**RESULTS, "weights_hash": checkpoint.weights_hash(checkpoint.load(run).model)}


def test_export_plays_like_its_run(run, tmp_path, performance):
    report = export(run, tmp_path / "hub")
    assert 0 < report["largest_error"] < 4e-3
    one, two = ittybitty.load(run), ittybitty.load(tmp_path / "hub")
    assert one.tokenizer.content_hash == two.tokenizer.content_hash and one.data == two.data
    ids = torch.tensor(one.tokenizer.encode(performance).astype(int))[None]
    assert torch.allclose(one.model(ids), two.model(ids), atol=2e-3)
    assert len(two.continue_(performance, tokens=40, seed=0).new) > 0


def test_weights_are_float16_in_small_shards(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 60_000)
    report = export(run, tmp_path / "hub")
    shards = sorted((tmp_path / "hub").glob("model-*.safetensors"))
    assert {path.stat().st_mode for path in (tmp_path / "hub").iterdir()} == {
        (tmp_path / "hub" / "README.md").stat().st_mode
    }
    assert len(shards) >= 3 and shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    assert all(s.stat().st_size <= 60_000 + 4_000 for s in shards) and set(report["files"]) >= {s.name for s in shards}
    for shard in shards:
        with safe_open(shard, "pt") as file:
            assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118, it is no dictionary
    assert sum(p.numel() for p in ittybitty.load(tmp_path / "hub").model.parameters()) == report["parameters"]


def test_card_gives_measured_figures(run, results, tmp_path):
    export(run, tmp_path / "hub", results)
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "**21.457**" in text and "137 pieces" in text and "639,425 notes" in text
    kept = json.loads((tmp_path / "hub" / "results.json").read_text())
    assert kept["bits_per_note"] == 21.4567 and "per_piece" not in kept
    assert (tmp_path / "hub" / "log.jsonl").read_text() == (run / "log.jsonl").read_text()


def test_what_was_not_measured_is_not_guessed(run, tmp_path):
    export(run, tmp_path / "hub")
    assert "| bits per note | not measured |" in (tmp_path / "hub" / "README.md").read_text()


MAESTRO, SONGS = (
    {"corpus": "maestro", "licence": "CC BY-NC-SA 4.0"},
    {"corpus": "songs", "licence": "as their owner decides"},
)


@pytest.mark.parametrize(
    "corpora, slug, words",
    [
        (
            [MAESTRO],
            "cc-by-nc-sa-4.0",
            "Trained on MAESTRO v3 (Hawthorne et al. 2019). The weights are offered under CC BY-NC-SA 4.0, the licence of MAESTRO v3",
        ),
        (
            [SONGS],
            "other",
            "Trained on songs. The model comes under the licence of its training data: as their owner decides.",
        ),
        (
            [MAESTRO, SONGS],
            "other",
            "MAESTRO v3 (Hawthorne et al. 2019) and songs. The model comes under the licence of its training data: CC BY-NC-SA 4.0 and as",
        ),
        (
            None,
            "unknown",
            "does not record what it was trained on. The model comes under the licence of its training data, which is not recorded.",
        ),
    ],
)
def test_card_claims_the_corpora_and_licences_that_the_run_records(corpora, slug, words, run, tmp_path):
    header = json.loads((run / "config.json").read_text()) | ({"trained_on": corpora} if corpora else {})
    (run / "config.json").write_text(json.dumps(header))
    export(run, tmp_path / "hub")
    assert checkpoint.load(tmp_path / "hub").trained_on == corpora
    text = " ".join((tmp_path / "hub" / "README.md").read_text().split())
    assert text.startswith(f"--- license: {slug} ") and words in text
    assert ("maestro" in text.lower()) == ("datasets: [maestro-v3.0.0]" in text) == (MAESTRO in (corpora or ()))


@pytest.mark.parametrize(
    "name, trained_on",
    [("tiny", None), ("tiny-remi", "one pass over the 962 pieces of the official training split of MAESTRO v3.0.0")],
)
def test_a_shipped_card_is_what_an_export_says(name, trained_on):
    found = checkpoint.load(name)
    results = found.path / "results.json"
    text = module.card(found, json.loads(results.read_text()) if results.is_file() else {}, name, trained_on)
    assert (found.path / "README.md").read_text() == text and f"github.com/{ittybitty.REPOSITORY}" in text


def test_a_card_installs_the_version_that_wrote_it_and_no_branch(run, tmp_path):
    export(run, tmp_path / "hub")
    (line,) = [line for line in (tmp_path / "hub" / "README.md").read_text().splitlines() if "pip install" in line]
    assert line.strip() == f"pip install git+https://github.com/{ittybitty.REPOSITORY}@v{ittybitty.__version__}"
    assert f"v{metadata.version('ittybitty')}" == ittybitty.TAG, "run make setup again: it installed another version"


def test_results_are_read_from_the_run_or_a_file(run, results, tmp_path):
    (run / "results.json").write_text(json.dumps(results))
    export(run, tmp_path / "one")
    export(run, tmp_path / "two", run / "results.json")
    export(tmp_path / "one", tmp_path / "three")  # an export knows its own float16 weights
    assert all("21.457" in (tmp_path / name / "README.md").read_text() for name in ("one", "two", "three"))


def test_a_card_shows_no_figures_of_other_weights(run, results, tmp_path):
    for other in ({**results, "weights_hash": "0" * 16}, RESULTS):
        with pytest.raises(CheckpointError, match="other weights"):
            export(run, tmp_path / "hub", other)
    (run / "results.json").write_text(json.dumps(results))
    torch.manual_seed(1)
    checkpoint.save_model(run, PianoHybridModel(checkpoint.read_config(run)["configs"]["model"]))  # trained on since
    with pytest.raises(CheckpointError, match="results.json: measured other weights"):
        export(run, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    "change, lacking",
    [({"tokens_per_note": None}, "tokens_per_note"), ({"ci95": [1.0]}, "ci95"), ({"corpus": 3}, "corpus")],
)
def test_a_record_that_lacks_a_figure_is_named(run, results, tmp_path, change, lacking):
    with pytest.raises(CheckpointError, match=f"it has no {lacking}; evaluate"):
        export(run, tmp_path / "hub", {**results, **change})
    (run / "results.json").write_text("[]")
    with pytest.raises(CheckpointError, match="it has no figures"):
        export(run, tmp_path / "hub")


def test_an_earlier_export_is_replaced_and_nothing_else(run, results, tmp_path):
    export(run, tmp_path / "hub")
    export(run, tmp_path / "hub", results)
    assert "21.457" in (tmp_path / "hub" / "README.md").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hub", "run"]
    (tmp_path / "hub" / "letters.txt").write_text("mine")
    with pytest.raises(OutputError, match="letters.txt"):
        export(run, tmp_path / "hub")
    assert (tmp_path / "hub" / "letters.txt").read_text() == "mine"


@pytest.mark.parametrize("file", ["models/keep.txt", "README.md", "model-mine.txt"])
def test_what_no_export_wrote_is_kept(run, tmp_path, file):
    mine = tmp_path / "hub" / file
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match="no export wrote|not an earlier export"):
        export(run, tmp_path / "hub")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    "place, word",
    [("file/hub", "cannot be written"), ("file", "is a file"), ("run", "run itself"), (".", "holds the run")],
)
def test_outputs_at_wrong_paths_are_refused_by_name(run, tmp_path, place, word):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=word):
        export(run, tmp_path / place)


def test_a_failure_leaves_the_old_export(run, results, tmp_path, monkeypatch):
    export(run, tmp_path / "hub")
    before = (tmp_path / "hub" / "README.md").read_text()

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_save_shards", broken)
    with pytest.raises(OutputError, match="No space"):
        export(run, tmp_path / "hub", results)
    assert (tmp_path / "hub" / "README.md").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hub", "run"]


def test_weights_too_large_for_float16_are_refused(run, tmp_path):
    tensors = checkpoint.read_weights(run)
    name = next(iter(tensors))
    tensors[name][0] = 1e6
    from safetensors.torch import save_file

    save_file(tensors, run / "model.safetensors")
    with pytest.raises(CheckpointError, match="float16"):
        export(run, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
