"""The baselines price the same music on the same grid, losslessly, and are compared with the same interval."""

import numpy as np
import pytest

from conftest import make_maestro
from ittybitty import evaluation, open_corpus
from ittybitty.errors import ConfigError, CorpusError
from ittybitty.evaluation import baselines, notelist
from ittybitty.midi import write_midi
from ittybitty.notes import Performance
from ittybitty.tokenizers import PianoTokenizer
from runs import random_notes, untrained_run

pytestmark = pytest.mark.slow

RATE = 48.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of random weights."""
    return untrained_run(tmp_path_factory.mktemp("run"), [random_notes()])


@pytest.fixture
def data(tmp_path, performance):
    return make_maestro(tmp_path / "data", performance)


def test_a_note_list_has_the_information_of_the_tokens(performance):
    tokenizer = PianoTokenizer()
    decoded = tokenizer.decode(tokenizer.encode(performance))
    back = notelist.unpack(notelist.decompress(notelist.compress(notelist.pack(decoded, RATE))), RATE)
    for name in ("onset", "duration", "pitch", "velocity"):
        assert back.notes[name] == pytest.approx(decoded.notes[name])
    for name in ("onset", "duration"):
        assert back.pedals[name] == pytest.approx(decoded.pedals[name])


def test_a_list_is_compact():
    """A byte a quantity, two for a column with a long gap."""
    notes = [(i / RATE, 1 / RATE, 60 + i % 12, 64) for i in range(100)]
    assert len(notelist.pack(Performance.of(notes), RATE)) == 9 + 4 * 100
    late = Performance.of([*notes, (100.0, 1 / RATE, 60, 64)])
    assert len(notelist.pack(late, RATE)) == 9 + 5 * 101
    assert notelist.unpack(notelist.pack(late, RATE), RATE).notes["onset"][-1] == pytest.approx(100.0)


def test_repeated_music_costs_fewer_bits():
    rng = np.random.default_rng(0)
    bar = rng.integers(40, 90, 16)
    again = Performance.of((i / 8, 1 / 8, int(bar[i % 16]), 64) for i in range(640))
    new = Performance.of((i / 8, 1 / 8, int(p), 64) for i, p in enumerate(rng.integers(40, 90, 640)))
    assert notelist.compressed_bits(notelist.pack(again, RATE)) < 0.3 * notelist.compressed_bits(
        notelist.pack(new, RATE)
    )


def test_a_time_off_the_grid_is_refused():
    with pytest.raises(ValueError, match="grid"):
        notelist.pack(Performance.of([(0.1234567, 0.5, 60, 64)]), RATE)


@pytest.mark.parametrize("name", list(baselines.BASELINES))
def test_a_baseline_has_the_figures_of_a_row(name, run, data):
    results = baselines.evaluate_baseline(name, data, "test", tokenizer=run, progress=False)
    low, high = results["ci95"]
    assert low <= results["bits_per_note"] <= high and results["pieces"] == 2 == len(results["per_piece"])
    model = evaluation.evaluate(run, data, "test", progress=False)
    for key in (
        "notes",
        "data_hash",
        "tokenizer_hash",
        "keeps",
        "onset_error_ms",
        "duration_error_ms",
        "notes_lost",
        "complete",
    ):
        assert results[key] == (pytest.approx(model[key]) if key.endswith("ms") else model[key])  # the same music
    assert results["bits_per_note"] < model["bits_per_note"]  # random weights know less than counting does


def test_the_order_is_chosen_without_the_pieces_that_are_scored(run, data):
    results = baselines.evaluate_baseline("ngram", data, "test", tokenizer=run, progress=False)
    tried = results["bits_per_token_on_training_pieces_held_back"]
    assert results["order"] == min(tried, key=tried.get) and len(tried) == baselines.LONGEST
    assert results["bits_per_note"] == pytest.approx(results["bits_per_note_by_order"][str(results["order"])])
    assert results["training_pieces"] == 3 and len(results["bits_per_note_by_order"]) == results["order"]
    told = baselines.evaluate_baseline("ngram", data, "test", tokenizer=run, order=2, progress=False)
    assert told["order"] == 2 and told["bits_per_token_on_training_pieces_held_back"] is None


def test_bad_input_is_one_line_that_names_it(run, data, tmp_path, performance):
    with pytest.raises(ConfigError, match="ngram, xz"):
        baselines.evaluate_baseline("zip", data)
    with pytest.raises(ConfigError, match="order"):
        baselines.evaluate_baseline("ngram", data, "test", tokenizer=run, order=99, progress=False)
    (tmp_path / "one").mkdir()
    write_midi(performance, tmp_path / "one" / "one.mid")
    own = open_corpus(tmp_path / "one").pieces[0].split
    with pytest.raises(CorpusError, match="split"):  # of one piece, two splits are empty
        baselines.evaluate_baseline(
            "xz", tmp_path / "one", "test" if own != "test" else "validation", tokenizer=run, progress=False
        )
