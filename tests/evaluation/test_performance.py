"""Likelihood in the information of Magenta's performance encoding: tokens are counted by note-seq's rules, and no bit is forgotten."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from conftest import make_maestro
from ittybitty import checkpoint, evaluation, experiments, open_corpus, systems
from ittybitty.cli import main
from ittybitty.corpora import Corpus, Piece
from ittybitty.evaluation import performance as encoding
from ittybitty.notes import Performance
from ittybitty.tokenizers import make_tokenizer
from ittybitty.tokenizers.events.sustain import with_sustain
from performances import random_performance

ON, OFF, STRIKE, RELEASE = range(4)


def note_seq_sustain(performance: Performance) -> list[list[float]]:
    """[start, end, pitch, velocity] of each note, by note-seq's rules one event after the other, as its text states them."""
    notes = [[n.onset, n.onset + n.duration, n.pitch, n.velocity] for n in performance]
    events = [(note[0], STRIKE, note) for note in notes] + [(note[1], RELEASE, note) for note in notes]
    for press, length in performance.pedals.tolist():
        events += [(press, ON, None), (press + length, OFF, None)]
    events.sort(key=lambda event: event[:2])
    sustained, active, removed, time = False, [], [], 0.0
    for time, kind, note in events:
        if kind == ON:
            sustained = True
        elif kind == OFF:
            sustained = False
            for held in [held for held in active if held[1] < time]:
                held[1] = time
                active = [one for one in active if one is not held]
        elif kind == STRIKE:
            if sustained:
                for same in [held for held in active if held[2] == note[2]]:
                    same[1] = time
                    active = [one for one in active if one is not same]
                    if same[0] == time:
                        removed.append(id(same))
            active.append(note)
        elif not sustained:
            active = [one for one in active if one is not note]
    for held in active:
        held[1] = time
    return [note for note in notes if id(note) not in removed]


def note_seq_events(performance: Performance) -> list[tuple[str, int]]:
    """The performance encoding as note-seq writes it: events of notes in order, time shifts of at most a second, velocities when they change."""
    notes = sorted(note_seq_sustain(performance), key=lambda note: (note[0], note[2]))
    ends = []
    for index, (start, end, _, _) in enumerate(notes):
        first, last = int(start * 100 + 0.5), int(end * 100 + 0.5)
        ends += [(first, index, False), (last + (last == first), index, True)]
    now, loudness, written = 0, 0, []
    for step, index, is_end in sorted(ends):
        while step > now:
            shift = min(100, step - now)
            written.append(("time shift", shift))
            now += shift
        velocity = (notes[index][3] - 1) // 4 + 1
        if not is_end and velocity != loudness:
            loudness = velocity
            written.append(("velocity", velocity))
        written.append(("note off" if is_end else "note on", notes[index][2]))
    return written


def embedded_pieces():
    return [piece.load() for piece in open_corpus("embedded").pieces[::12]]


@pytest.mark.slow
def test_tokens_are_counted_as_note_seq_writes_them_on_embedded_pieces():
    pieces = embedded_pieces()
    assert len(pieces) >= 3 and any(len(piece.pedals) for piece in pieces)
    for piece in pieces:
        written = note_seq_events(piece)
        counted = encoding.token_count(piece)
        assert counted["tokens"] == len(written)
        for kind in ("note on", "note off", "time shift", "velocity"):
            assert counted[kind.replace(" ", "_")] == sum(name == kind for name, _ in written)


def crowded(seed: int) -> Performance:
    """Few keys and a coarse grid of times, so that strikes, releases and pedals often fall together and keys overlap."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.integers(0, 4, 80)) * 0.125
    notes = [(t, 0.125 * random.integers(1, 9), 60 + random.integers(0, 3), random.integers(1, 128)) for t in times]
    edges = np.cumsum(random.integers(1, 5, 40)) * 0.125
    edges[5] = edges[4] = edges[3]  # pressed again at the instant of its release
    return Performance.of(notes, [(a, b - a) for a, b in zip(edges[0::2], edges[1::2]) if b > a])


@pytest.mark.parametrize("seed", range(12))
def test_sustain_is_folded_as_note_seq_folds_it(seed):
    piece = crowded(seed)
    notes = with_sustain(piece).notes
    found = sorted(zip(notes["onset"], notes["onset"] + notes["duration"], notes["pitch"], notes["velocity"]))
    assert np.allclose(found, sorted(note_seq_sustain(piece))) and not len(with_sustain(piece).pedals)


def test_folding_the_pedal_lengthens_notes_and_is_idempotent():
    piece = random_performance(3)
    folded = with_sustain(piece)
    assert folded.notes["duration"].sum() > piece.notes["duration"].sum()
    assert with_sustain(folded) == folded


def test_velocity_classes_are_those_of_note_seq():
    grid = make_tokenizer("notes-performance").grid
    piece = Performance.of([(0.1 * v, 0.05, 60, v) for v in range(1, 128)])
    found = make_tokenizer("notes-performance").decode(make_tokenizer("notes-performance").encode(piece))
    bins = [(v - 1) // 4 for v in range(1, 128)]
    assert len(grid.loudness) == 32 and [list(grid.loudness).index(n.velocity) for n in found] == bins


def test_what_a_class_leaves_open_is_paid_for():
    classes = np.array([1, 2, 3, 4, 6, 8, 12])
    assert encoding.open_bits(classes, np.array([1, 2, 3])) == 0
    # 5 and 6 share a class, and 7, 8 and 9 another: a value in the middle goes up
    assert encoding.open_bits(classes, np.array([5, 6])) == pytest.approx(2.0)
    assert encoding.open_bits(classes, np.array([7])) == pytest.approx(math.log2(3))
    assert encoding.open_bits(classes, np.array([10])) == pytest.approx(
        1.0
    )  # the first step of the last class, which is open
    assert encoding.open_bits(classes, np.array([13])) == pytest.approx(5.0)  # the fourth: gamma code of 4


def test_ids_and_open_bits_determine_every_step_of_the_performance():
    """From classes and what they leave open the exact steps come back; here the classes alone do, for times are short."""
    tokenizer = make_tokenizer("notes-performance")
    piece = Performance.of([(0.01 * i, 0.01 * (1 + i % 90), 30 + i % 50, 1 + i % 127) for i in range(150)])
    ids, left = encoding.exact_ids(tokenizer, piece)
    assert left == 0 and np.array_equal(ids, tokenizer.encode(piece))
    decoded = tokenizer.decode(ids)
    assert np.allclose(decoded.notes["onset"], piece.notes["onset"])
    assert np.allclose(decoded.notes["duration"], with_sustain(piece).notes["duration"])
    later = Performance.of([(0.0, 0.1, 60, 64), (5.0, 3.0, 61, 64)])
    assert encoding.exact_ids(tokenizer, later)[1] == pytest.approx(
        3.0
    )  # log2 4 of the wait and log2 2 of the duration


def test_a_wait_after_a_rounded_silence_is_not_changed():
    tokenizer = make_tokenizer("notes-performance")
    piece = Performance.of([(0.0, 0.1, 60, 64), (5.01, 0.1, 61, 64), (5.31, 0.1, 62, 64)])
    ids, _ = encoding.exact_ids(tokenizer, piece)
    assert tokenizer.base_names(int(ids[9])) == ["Time_30"]


def test_a_uniform_model_pays_for_every_id_and_for_what_is_open():
    tokenizer = make_tokenizer("notes-performance")
    piece = Performance.of([(0.5 * i, 3.0, 60 + i, 64) for i in range(20)])
    row = encoding.score(
        lambda x: torch.zeros(*x.shape, tokenizer.vocab_size),
        tokenizer,
        Piece("a", "", "", "test", source=lambda: piece),
    )
    paid = (20 * 4 + 1) * math.log2(tokenizer.vocab_size) + 20
    assert row["bits"] == pytest.approx(paid) and row["open_bits"] == pytest.approx(20) and row["notes"] == 20
    each = math.log2(tokenizer.vocab_size)
    assert row["bits_by_part"] == pytest.approx(
        {"time": 21 * each, "pitch": 20 * each, "duration": 20 * each, "velocity": 20 * each}
    )
    figures = encoding.summary([row])
    assert sum(figures["bits_per_note_by_part"].values()) + figures["open_bits_per_note"] == pytest.approx(paid / 20)
    assert figures["bits_per_note_as_performance"] == pytest.approx(paid / 20)
    nats = figures["nats_per_performance_token"]
    assert encoding.bits_per_note(nats, figures["performance_tokens_per_note"]) == pytest.approx(paid / 20)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with random weights of the encoding."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = make_tokenizer("notes-performance")
    configs = systems.build("notes-hybrid", "nano", recipe_settings())
    torch.manual_seed(0)
    checkpoint.write_config(folder, configs, "notes-hybrid", "nano", tokenizer.content_hash, {})
    checkpoint.save_model(folder, systems.build_model(configs))
    tokenizer.save(folder / "tokenizer.json")
    return folder


def recipe_settings() -> dict:
    row, *_ = experiments.read_recipe("performance").rows
    return {
        key: value
        for key, value in row.settings["set"].items()
        if key.startswith(("model.events", "model.vocab", "data.tok"))
    }


def test_a_count_says_on_what_and_with_how_many_threads_it_was_made(tmp_path):
    piece = Piece("a", "", "", "test", source=lambda: random_performance(1))
    corpus = Corpus("one", "", (piece,), "")
    made = evaluation.record(encoding.count(corpus, "test", progress=False), tmp_path / "r.json")
    assert made["tokens_per_note"] == encoding.token_count(random_performance(1))["tokens"] / made["notes"]
    assert made["provenance"]["threads"] == torch.get_num_threads() and made["provenance"]["device"].startswith("CPU")


def test_the_recipe_has_the_sizes_of_the_encoding():
    tokenizer = make_tokenizer("notes-performance")
    configs = systems.build("notes-hybrid", "tiny", recipe_settings())
    assert configs["model"].events == tokenizer.sizes and configs["model"].vocab_size == tokenizer.vocab_size


@pytest.mark.slow
def test_the_verb_evaluates_a_run_as_performance(run, tmp_path, performance, capsys):
    data = make_maestro(tmp_path / "data", performance)
    assert (
        main(["evaluate", str(run), "--data", str(data), "--as", "performance", "--record", str(tmp_path / "r.json")])
        == 0
    )
    assert "nats per token" in capsys.readouterr().out
    [record] = evaluation.read_records(tmp_path, "bits_per_note_as_performance")
    assert record["performance_tokens_per_note"] == pytest.approx(
        encoding.token_count(performance)["tokens"] / 48, rel=0.1
    )


@pytest.mark.slow
def test_a_model_of_another_encoding_is_refused_in_one_line(tmp_path, performance, capsys):
    data = make_maestro(tmp_path / "data", performance)
    assert main(["evaluate", "tiny", "--data", str(data), "--as", "performance"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "notes-performance" in error and "ittybitty experiment performance" in error
    assert main(["evaluate", "tiny", "--data", str(data), "--as", "performance", "--pieces", "2"]) == 2
    assert main(["evaluate", "ngram", "--data", str(data), "--as", "performance"]) == 2
    assert "baseline" in capsys.readouterr().err
