"""Sets of the same music are alike, other music is farther than people are, and trials are what they say they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import make_maestro
from ittybitty import checkpoint, metrics, open_corpus
from ittybitty.config import GenerationConfig
from ittybitty.corpora import Piece
from ittybitty.errors import ConfigError, CorpusError, MidiError, ResultError
from ittybitty.evaluation import continuation_metrics, memorisation, mgeval, trials
from ittybitty.notes import Performance, shift
from runs import untrained_run

pytestmark = pytest.mark.slow


def music(seed, low=40, gap=0.2, notes=80):
    rng = np.random.default_rng(seed)
    onsets = np.cumsum(rng.exponential(gap, notes))
    return Performance.of(
        (t, rng.uniform(0.1, 1), int(p), int(v))
        for t, p, v in zip(onsets, rng.integers(low, low + 30, notes), rng.integers(30, 90, notes))
    )


def long_piece(seconds=60.0):
    return Performance.of((0.25 * i, 0.2, 50 + 7 * i % 24, 60 + i % 20) for i in range(int(4 * seconds)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of random weights."""
    return untrained_run(tmp_path_factory.mktemp("run"), [long_piece()])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Eight long pieces of which most are held out."""
    from ittybitty.corpora import Corpus

    pieces = [
        Piece(f"{split} {i}", "", "", split, source=lambda i=i: music(i, notes=300))
        for split, n in (("train", 2), ("test", 8))
        for i in range(n)
    ]
    return Corpus("test corpus", "CC0", tuple(pieces))


def test_the_same_population_overlaps_and_another_does_not():
    humans, others, low_and_slow = (
        [music(seed, *how) for seed in seeds]
        for seeds, how in ((range(20), ()), (range(20, 40), ()), (range(40, 60), (25, 0.8)))
    )
    near, far = mgeval.compare(others, humans), mgeval.compare(low_and_slow, humans)
    for feature in ("density", "mean_ioi", "iois"):
        assert near[feature]["overlap"] > 0.75 > 0.5 > far[feature]["overlap"]
        assert near[feature]["kl"] < 0.3 < far[feature]["kl"]
    assert near["pitch_range"]["overlap"] > 0.8 and set(near) == set(mgeval.FEATURES)


def test_distances_and_densities_by_hand():
    points = np.array([[0.0], [1.0], [3.0]])
    assert sorted(mgeval.distances(points)) == [1, 2, 3]
    assert sorted(mgeval.distances(points, points[:1])) == [0, 1, 3]
    sample = np.random.default_rng(0).normal(5, 1, 500)
    assert mgeval.overlap_and_kl(sample, sample) == (pytest.approx(1), pytest.approx(0))
    overlap, kl = mgeval.overlap_and_kl(sample, sample + 2)  # two unit normals, two apart: 2 Phi(-1), and 4/2 nats
    assert overlap == pytest.approx(0.317, abs=0.06) and kl == pytest.approx(2 / np.log(2), rel=0.35)
    assert mgeval.overlap_and_kl(np.ones(5), np.ones(5))[0] == pytest.approx(1)  # a model that always plays the same
    assert mgeval.overlap_and_kl(np.ones(5), np.full(5, 9.0))[0] < 1e-6
    with pytest.raises(ValueError, match="three"):
        mgeval.compare([music(0)] * 2, [music(1)] * 5)


def test_a_cut_has_the_prompt_before_it_and_the_seconds_after():
    piece = Piece("long", "", "", "test", source=long_piece)
    seed, truth = trials.cut(piece, 10.0, 20.0, np.random.default_rng(3))
    join = seed.notes["onset"].max()
    assert 10 <= join <= 40 and 0 < truth.notes["onset"].min() <= 0.25 + 1e-9 and 19.5 < truth.notes["onset"].max() < 20
    whole = np.concatenate([seed.notes["onset"], shift(truth, join).notes["onset"]])
    expected = long_piece().notes["onset"]
    assert whole == pytest.approx(expected[: len(whole)])
    for short in (
        Piece("short", "", "", "test", source=lambda: long_piece(20.0)),
        Piece("none", "", "", "test", source=Performance),
    ):
        with pytest.raises(MidiError, match="shorter than a prompt|no notes"):
            trials.cut(short, 10.0, 20.0, np.random.default_rng(3))


def test_trials_are_listened_to_and_compared_with_training(run, corpus):
    made = trials.make_trials(run, corpus, "test", pieces=40, seconds=6, progress=False, top_k=5)
    assert len(made.trials) == len(made.others) == 4  # half of the eight pieces
    for trial in made.trials:
        assert trial.generated.notes["onset"].min() >= 0 and trial.generated.notes["onset"].max() < 6
        assert len(trial.ids) > 0 and trial.truth.notes["onset"].max() < 6
    heard = continuation_metrics.listen(made)
    assert heard["trials"] == 4 and heard["sampling"]["top_k"] == 5 and heard["excerpts"]["generated"] == 4
    for name in continuation_metrics.SETS:
        assert (
            heard["metrics"][name]["note_density"]["mean"] > 0 and heard["metrics"][name]["note_density"]["pieces"] == 4
        )
    assert heard["histograms"]["iois"]["other_humans"]["overlap"] > heard["histograms"]["iois"]["generated"]["overlap"]
    # weights know nothing of grammar: most of what is likely is forbidden
    assert 0.2 < heard["invalid"]["probability"] < 1 and 0 < heard["invalid"]["draws"] < 1
    assert heard["invalid"]["tokens"] == sum(len(trial.ids) for trial in made.trials)

    copied = replace(made.trials[0], generated=shift(corpus.split("train")[0].load(), 1.0))
    found = memorisation.memorisation(
        replace(made, trials=(copied, *made.trials[1:])), corpus.split("train"), progress=False
    )
    for kind in memorisation.KINDS:
        first = found["longest"][kind]["per_trial"][0]
        assert first["generated"]["notes"] > 250 and first["generated"]["piece"] == "train 0"
    timed = found["longest"]["pitch and time"]
    assert timed["generated"]["longest"] > 250 > 40 > timed["other_humans"]["longest"] > 0
    assert timed["generated"]["share_of_runs"]["8"] > 0.3 > timed["truth"]["share_of_runs"]["8"]


def test_a_model_that_reads_the_whole_seed_is_tried_on_pieces_shorter_than_its_prompt(run, corpus, monkeypatch):
    found = trials.checkpoint.load(run, "cpu")
    found.configs["data"] = replace(found.configs["data"], prompt_seconds=3600.0)
    monkeypatch.setattr(trials.checkpoint, "load", lambda name, device: found)
    monkeypatch.setattr(trials, "LONGEST_SEED", 10.0)
    made = trials.make_trials(run, corpus, "test", pieces=2, seconds=4, progress=False)
    assert len(made.trials) == 2 and not made.skipped


def test_the_error_of_the_grid_does_not_count_against_the_model(run, corpus):
    """The pianists' own music, said by the code, is as near to the truth as can be, though no gap of it is on the grid."""
    made = trials.make_trials(run, corpus, "test", pieces=4, seconds=8, progress=False)
    copied = [
        replace(trial, generated=continuation_metrics.after_round_trip(made.tokenizer, trial.truth))
        for trial in made.trials
    ]
    heard = continuation_metrics.listen(replace(made, trials=tuple(copied)))
    assert (
        heard["histograms"]["iois"]["generated"]["overlap"]
        > 0.999
        > heard["histograms"]["iois"]["other_humans"]["overlap"]
    )
    assert (
        metrics.overlapped_area(
            *(
                np.mean([metrics.ioi_histogram(p) for p in part], 0)
                for part in (made.truth, [t.generated for t in copied])
            )
        )
        < 0.95
    )


def test_the_same_seed_gives_the_same_trials(run, corpus):
    one, two, other = (trials.make_trials(run, corpus, "test", 2, 4.0, seed=seed, progress=False) for seed in (1, 1, 2))
    assert one.generated == two.generated and one.truth == two.truth and one.others == two.others
    assert one.truth != other.truth


def test_the_probability_of_forbidden_ids_is_exact():
    """A model that gives one forbidden id a third of its probability."""

    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, ids):
            return torch.log(torch.tensor([1.0, 1.0, 1.0])).expand(*ids.shape, 3)

    class Rules:
        start = staticmethod(lambda ids: 0)
        mask = staticmethod(lambda state: np.array([True, True, False]))
        advance = staticmethod(lambda state, id: 0)

    class Code:
        grammar = staticmethod(Rules)

    trial = trials.Trial("one", Performance(), Performance(), Performance(), np.array([0]), np.array([1, 0, 1]), 0.0)
    found = continuation_metrics.invalid_tokens(
        Half(), Code, [trial], GenerationConfig(temperature=1.0, top_k=0, top_p=1.0)
    )
    assert (
        found["probability"] == pytest.approx(1 / 3) and found["draws"] == pytest.approx(1 / 3) and found["tokens"] == 3
    )


def test_bad_input_is_one_line_that_names_it(run, corpus, tmp_path, performance):
    short = make_maestro(tmp_path / "data", performance)
    with pytest.raises(CorpusError, match="shorter than a prompt"):
        trials.make_trials(run, short, "test", progress=False)
    with pytest.raises(ConfigError, match="pieces"):
        trials.make_trials(run, corpus, "test", pieces=0, progress=False)
    two = trials.make_trials(run, corpus, "test", pieces=2, seconds=4, progress=False)
    with pytest.raises(ResultError, match="ask for more"):
        continuation_metrics.listen(two)
    assert open_corpus(corpus) is corpus


def test_a_generated_piece_without_notes_is_named(run):
    found = checkpoint.load(run)
    with pytest.raises(MidiError, match="quiet: the generated piece holds no notes"):
        trials.continue_seed(
            found.model,
            found.tokenizer,
            found.configs["data"],
            "quiet",
            long_piece(),
            music(0),
            GenerationConfig(max_new_tokens=1, seed=0),
        )
