"""The beat encoding: grid, codebook, vocabulary, sequences, the loss of engraved scores, the commands."""

from __future__ import annotations

import io
import json
import shutil
from functools import partial

import numpy as np
import pretty_midi
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ittybitty
from ittybitty import checkpoint, cli, pipeline
from ittybitty.corpora import Corpus, Piece, asap, statistics
from ittybitty.errors import ConfigError, CorpusError, TokenizerError
from ittybitty.metrics import round_trip_error
from ittybitty.midi import midi_bytes, read_midi, read_midi_bytes, write_midi
from ittybitty.models import IGNORED
from ittybitty.notes import Performance, between, shift
from ittybitty.tokenizers import BeatTokenizer, beats
from ittybitty.tokenizers.beats import cells as cell_files
from ittybitty.tokenizers.beats import codebook as codebooks
from ittybitty.tokenizers.beats import vocabulary as v
from ittybitty.tokenizers.beats.codebook import Codebook
from ittybitty.tokenizers.beats.estimate import estimate_beats, f_measure
from ittybitty.tokenizers.beats.grid import FRAMES, HELD, SILENT, STRUCK, clean_beats, grid_times, on_beats, to_cells
from ittybitty.tokenizers.store import TokenStore, tokenize_corpus
from ittybitty.train.windows import Windows
from performances import random_performance
from runs import Played

pytestmark = pytest.mark.slow


def timed(seed: int = 0, seconds: float = 30.0) -> Performance:
    """Random notes over beats whose tempo wanders between 60 and 200."""
    played = random_performance(seed, notes=200, seconds=seconds, pedal=False)
    lengths = 60 / np.random.default_rng(seed).uniform(60, 200, int(seconds * 4))
    return Performance(played.notes, played.pedals, np.cumsum(lengths) - 1.0)


def written(text: str) -> np.ndarray:
    """x struck, - held, . silent, as states."""
    return np.array([".-x".index(letter) for letter in text], np.uint8)


# ---------------------------------------------------------------------- grid


def test_a_note_is_in_the_frame_nearest_to_it():
    performance = Performance.of([(1.0, 0.5, 60, 70)], beats=[0, 1, 2, 3])
    cells = to_cells(performance)
    assert cells.times.tolist() == [1.0, 2.0] and (cells.beat.tolist(), cells.pitch.tolist()) == ([0], [60])
    assert np.array_equal(cells.states[0], written("x" + "-" * 23 + "." * 24))
    assert cells.velocity[0].tolist() == [70] * 24 + [0] * 24


@pytest.mark.parametrize("seed", range(4))
def test_notes_come_back_within_half_a_frame(seed):
    performance = timed(seed)
    back = on_beats(to_cells(performance))
    longest = np.diff(performance.beats).max() / FRAMES
    for pitch in set(performance.notes["pitch"].tolist()):
        ours, theirs = (p.notes[p.notes["pitch"] == pitch] for p in (performance, back))
        if len(ours) == len(theirs):  # none merged with another
            assert np.abs(ours["onset"] - theirs["onset"]).max() <= longest / 2 + 1e-9
            assert np.array_equal(ours["velocity"], theirs["velocity"])
    assert len(performance) - len(back) <= 2
    assert np.array_equal(to_cells(back).states, to_cells(on_beats(to_cells(back))).states)


def test_the_grid_loses_what_is_measured():
    beats = np.arange(0, 20, 0.96)  # a frame is 20 ms
    performance = Performance.of([(0.006, 0.1, 60, 64), (1.0, 0.1, 62, 64), (1.004, 0.1, 62, 80)], beats=beats)
    loss = round_trip_error(performance, on_beats(to_cells(performance)))
    assert loss["notes_lost"] == 1  # two strikes within a frame
    assert loss["onset_error_ms"] == pytest.approx((6 + 0) / 2, abs=0.5)


def test_many_strikes_of_a_key_in_a_beat_and_a_note_over_many_beats():
    notes = [(i / 8, 1 / 16, 60, 60 + i) for i in range(8)] + [(0.5, 5.0, 40, 50)]
    performance = Performance.of(notes, beats=np.arange(8.0))
    cells = to_cells(performance)
    assert (cells.states[cells.pitch == 60] == STRUCK).sum() == 8
    assert (cells.pitch == 40).sum() == 6 and (cells.states[cells.pitch == 40] == STRUCK).sum() == 1
    assert np.allclose(np.array(on_beats(cells).notes.tolist()), np.array(performance.notes.tolist()))


def test_pick_ups_and_endings_are_on_beats_that_nobody_annotated():
    performance = Performance.of([(0.3, 0.2, 60, 64), (2.0, 0.5, 62, 64), (9.0, 1.0, 64, 64)], beats=[2.0, 3.0, 4.0])
    assert grid_times(performance).tolist() == list(range(12))  # one to spare: a note may be rounded onto the next beat
    assert round_trip_error(performance, on_beats(to_cells(performance)))["onset_error_ms"] < 11


def test_a_gap_is_filled_and_a_repeated_beat_left_out():
    assert clean_beats(np.array([0, 1, 2, 3, 13.0])).tolist() == list(
        range(14)
    )  # ten seconds: slower than any tempo token
    assert clean_beats(np.array([0, 1, 1.05, 2, 2.0, 3])).tolist() == [0, 1, 2, 3]
    tempos = 60 / np.diff(clean_beats(np.array([0, 5.9, 6.5, 7.1, 20.0])))
    assert tempos.min() >= 10 and tempos.max() < 500


@pytest.mark.parametrize(
    "beats, says",
    [
        (None, "no beats"),
        ([1.0], "1 beat"),
        ([0, 2, 1.0], "do not rise"),
        ([0, 0.05, 0.1, 0.15], "1,200 a minute"),
        ([0, 20, 40.0], "3 a minute"),
        ([0, np.nan], "do not rise"),
    ],
)
def test_beats_that_are_no_clock_are_refused_in_a_line(performance, beats, says):
    with pytest.raises(TokenizerError, match=says) as caught:
        to_cells(Performance(performance.notes, beats=None if beats is None else np.array(beats)))
    assert "\n" not in str(caught.value)


def test_a_key_that_was_never_struck_is_silent():
    cells = to_cells(Performance.of([(0.5, 2.0, 60, 64), (2.0, 0.5, 64, 64)], beats=range(5)))
    cut = cell_files.Cells(cells.beat[1:], cells.pitch[1:], cells.states[1:], cells.velocity[1:], cells.times)
    assert [note.pitch for note in on_beats(cut)] == [64]


def test_a_cut_has_the_same_beats_as_the_whole():
    performance = timed(3)
    whole, cut = to_cells(performance), to_cells(shift(between(performance, 12.0, 20.0), -11.0))
    offset = int(np.argmin(np.abs(whole.times - (cut.times[0] + 11.0))))
    assert np.abs(whole.times[offset : offset + len(cut.times)] - cut.times - 11.0).max() < 1e-9
    there = {(beat, pitch): states for beat, pitch, states in zip(whole.beat - offset, whole.pitch, whole.states)}
    assert all(
        ((there[beat, pitch] == STRUCK) | (states != STRUCK)).all()
        for beat, pitch, states in zip(cut.beat, cut.pitch, cut.states)
    )


# ---------------------------------------------------------------------- codebook


@pytest.fixture(scope="module")
def shipped() -> Codebook:
    return BeatTokenizer("beat-base").codebook


def test_the_shipped_codebook_has_the_published_sizes(shipped):
    assert [level.shape for level in shipped.levels] == [(2048, 48), (1024, 24), (512, 12)]
    assert shipped.source["split"] == "train" and shipped.source["corpus"] == "asap"
    for level in shipped.levels:
        assert len(np.unique(level, axis=0)) == len(level)


PATTERN = st.lists(st.tuples(st.integers(0, FRAMES - 1), st.integers(1, FRAMES)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(PATTERN, st.booleans())
def test_cells_that_are_called_exact_decode_exactly(shipped, notes, held):
    pattern = np.zeros(FRAMES, np.uint8)
    pattern[: 5 * held] = HELD
    for onset, length in sorted(notes):
        pattern[onset:] = SILENT
        pattern[onset], pattern[onset + 1 : onset + length] = STRUCK, HELD
    for escape in (False, True):
        ids, exact = shipped.encode(pattern[None], escape)
        back = shipped.decode(ids)[0]
        assert exact[0] == np.array_equal(back, pattern) or not escape
        assert exact[0] or not escape  # the escape is always exact
        if exact[0]:
            assert np.array_equal(back, pattern)
        assert (
            (back[0] == HELD) == (pattern[0] == HELD) and (back[-1] > SILENT) == (pattern[-1] > SILENT) and back.any()
        )
        again, _ = shipped.encode(back[None], escape)
        assert np.array_equal(again, ids)


def test_the_coarsest_exact_level_is_taken(shipped):
    full, half, _ = shipped.levels
    assert shipped.encode(full[5][None])[0][0].tolist()[:2] == [5, -1]
    known = {row.tobytes() for row in full}
    pair = next(
        np.concatenate([a, b])
        for a in half[:200]
        for b in half[200:400]
        if np.concatenate([a, b]).tobytes() not in known
    )
    ids, exact = shipped.encode(pair[None])
    assert exact[0] and [v.TYPES[v.TYPE_OF[i]] for i in ids[0] if i >= 0] == ["L2", "L2"]


def test_escapes_take_reserved_ids_and_are_off_by_default(shipped):
    odd = written("x-x-x-x-x-x-x-x.x-x..x-x-x-x.x.x-x-x..x-x-xx-x-x")
    plain, _ = shipped.encode(odd[None])
    spelt, exact = shipped.encode(odd[None], escape=True)
    assert exact[0] and plain.max() < v.PITCH
    assert {v.TYPES[v.TYPE_OF[i]] for i in spelt[0] if i >= v.PITCH} == {"Escape"} and spelt.max() < v.TEMPO
    tokenizer = BeatTokenizer(beats.Settings(escape=True))
    performance = on_beats(
        cell_files.Cells(
            np.zeros(1, int),
            np.array([60]),
            odd[None],
            np.where(odd > 0, 64, 0).astype(np.uint8)[None],
            np.array([0, 1.0]),
        )
    )
    ids = tokenizer.encode(performance)
    assert tokenizer.notes_per_id[ids].sum() == (odd == STRUCK).sum() == len(tokenizer.decode(ids))
    grammar, state = tokenizer.grammar(), tokenizer.grammar().start()
    for id in ids.tolist():
        assert grammar.mask(state)[id]
        state = grammar.advance(state, id)
    assert tokenizer.content_hash != BeatTokenizer("beat-base").content_hash


@pytest.fixture(scope="module")
def cache() -> cell_files.CellCache:
    pieces = [Played(f"piece {i}", "train", timed(i)) for i in range(6)]
    flat = timed(9)
    flat.notes["velocity"] = 80
    return cell_files.build(
        [*pieces, Played("score", "train", flat), Played("no beats", "train", random_performance())], "train", "test"
    )


def test_learning_is_deterministic_and_keeps_what_is_most_frequent(cache):
    first, second = (codebooks.learn(cache.patterns, cache.counts) for _ in range(2))
    assert first.content_hash == second.content_hash
    assert cache.patterns[cache.counts.argmax()].tobytes() in {row.tobytes() for row in first.levels[0]}


def test_more_patterns_than_codes_are_clustered(monkeypatch, cache):
    monkeypatch.setattr(v, "LEVELS", (40, 30, 20))
    book = codebooks.learn(cache.patterns, cache.counts, seed=3)
    assert [len(level) for level in book.levels] == [40, 30, 20]
    shares = codebooks.exact_shares(book, cache.patterns, cache.counts)
    assert sum(shares.values()) == pytest.approx(1) and 0.05 < shares["exact_share_l1"] < 0.95 and shares["inexact"] > 0
    assert codebooks.learn(cache.patterns, cache.counts, seed=3).content_hash == book.content_hash


def test_a_codebook_is_loaded_as_it_was_saved(shipped, tmp_path):
    shipped.save(tmp_path / "book")  # whatever it is called: NumPy would write to another name
    assert [path.name for path in tmp_path.iterdir()] == ["book"] and Codebook.load(
        tmp_path / "book"
    ).content_hash == shipped.content_hash
    shipped.save(tmp_path / "book.npz")
    loaded = Codebook.load(tmp_path / "book.npz", expected=shipped.content_hash)
    assert loaded.content_hash == shipped.content_hash and loaded.source == shipped.source


def test_a_damaged_or_another_codebook_is_refused_in_a_line(shipped, tmp_path):
    place = tmp_path / "book.npz"
    shipped.save(place)
    with pytest.raises(TokenizerError, match="is codebook .* not 0123"):
        Codebook.load(place, expected="0123")
    levels = [level.copy() for level in shipped.levels]
    levels[0][3, 3] = (levels[0][3, 3] + 1) % 3
    np.savez(place, l1=levels[0], l2=levels[1], l3=levels[2], hash=shipped.content_hash)
    with pytest.raises(TokenizerError, match="was changed"):
        Codebook.load(place)
    place.write_bytes(b"PK not a zip")
    with pytest.raises(TokenizerError, match="is not a codebook"):
        Codebook.load(place)
    np.savez(place, l1=np.array([{}], object), l2=1, l3=1, hash="x")  # a pickle is never opened
    with pytest.raises(TokenizerError, match="is not a codebook"):
        Codebook.load(place)
    with pytest.raises(TokenizerError, match="no such file"):
        Codebook.load(tmp_path / "none.npz")


# ---------------------------------------------------------------------- the cell cache


def test_a_cache_holds_every_cell(cache, tmp_path):
    assert cache.pieces.tolist() == [*(f"piece {i}" for i in range(6)), "score"] and cache.flat.tolist() == [
        False
    ] * 6 + [True]
    whole = [to_cells(timed(i)) for i in range(6)]
    assert cache.ends[:6].tolist() == np.cumsum([len(c) for c in whole]).tolist()
    states = cache.patterns[cache.pattern[: cache.ends[5]]]
    assert np.array_equal(states, np.concatenate([c.states for c in whole]))
    rows, counts = cache.velocity_rows(cache.expressive())
    theirs, times = np.unique(np.concatenate([c.velocity for c in whole]), axis=0, return_counts=True)
    ours = {row.tobytes(): count for row, count in zip(rows, counts)}
    assert sum(counts) == sum(times) and all(ours[row.tobytes()] >= 1 for row in theirs)
    cache.save(tmp_path / "cells.npz")
    assert cell_files.CellCache.load(tmp_path / "cells.npz").content_hash == cache.content_hash
    (tmp_path / "cells.npz").write_bytes((tmp_path / "cells.npz").read_bytes()[:900])
    with pytest.raises(TokenizerError, match="is not a cell cache"):
        cell_files.CellCache.load(tmp_path / "cells.npz")


def test_no_piece_with_beats_is_a_clear_line():
    with pytest.raises(CorpusError, match="no piece of train has notes and beats .*no beats"):
        cell_files.build([Played("x", "train", random_performance())], "train", "test")


# ---------------------------------------------------------------------- ids and sequences


def test_the_vocabulary_is_the_published_one():
    starts = {name: int(np.flatnonzero(v.OF[name] == v.TYPE_OF)[0]) for name in v.TYPES}
    sizes = {name: int((v.OF[name] == v.TYPE_OF).sum()) for name in v.TYPES}
    assert BeatTokenizer("beat-base").vocab_size == len(v.TYPE_OF) == 4789
    assert (starts["L1"], starts["L2"], starts["L3"], starts["Pitch"], starts["Velocity"]) == (
        0,
        2048,
        3072,
        3584,
        3712,
    )
    assert starts["Escape"] == 4224 and sizes["Escape"] + sizes["Reserved"] == 512
    assert (starts["Tempo"], sizes["Tempo"], v.BOS, v.EOS, v.PAD) == (4736, 50, 4786, 4787, 4788)


@pytest.mark.parametrize("tempo, bin", [(10, 1), (9.99, 1), (119.9, 11), (120, 12), (499.9, 49), (500, 49)])
def test_a_tempo_is_rounded_to_bins_of_ten(tempo, bin):
    assert v.tempo_bins(np.array([tempo]))[0] == v.TEMPO + bin
    assert abs(60 / v.seconds_of(v.TEMPO + bin) - max(tempo, 10)) <= 5.01


@pytest.mark.parametrize("variant", beats.VARIANTS)
def test_sequences_are_spelt_as_published(variant):
    performance = Performance.of(
        [(0.0, 0.5, 60, 70), (0.0, 0.25, 64, 80), (0.5, 1.0, 67, 50)], beats=np.arange(0, 4, 0.5)
    )
    tokenizer = BeatTokenizer(variant)
    kinds = [v.TYPES[v.TYPE_OF[id]] for id in tokenizer.encode(performance).tolist()]
    cell = ["Pitch", "L1"] + ["Velocity"] * (variant == "beat-velocity")
    assert kinds == ["BOS", "Tempo", *cell, *cell, "Tempo", *cell, "Tempo", *cell, "EOS"]
    text = tokenizer.readable(tokenizer.encode(performance))
    assert (
        text.splitlines()[:3] == ["BOS", "Tempo_120-130", text.splitlines()[2]]
        and "Pitch_60 L1_" in text
        and "[x" + "-" * 47 + "]" in text
    )


def test_beats_of_the_midi_file_are_those_of_the_tokens():
    performance = timed(4)
    tokenizer = BeatTokenizer("beat-base")
    ids = tokenizer.encode(performance)
    decoded = tokenizer.decode(ids)
    lengths = v.seconds_of(ids[(ids >= v.TEMPO) & (ids < v.BOS)])
    assert len(set(lengths)) > 5  # real tempo changes
    said = np.concatenate([[0], np.cumsum(lengths)])
    midi = pretty_midi.PrettyMIDI(io.BytesIO(midi_bytes(decoded)))
    heard = midi.get_beats()
    inside = min(len(heard), len(said)) - 1
    assert inside > 40 and np.abs(heard[:inside] - said[:inside]).max() < 1e-3
    read = read_midi_bytes(midi_bytes(decoded), "decoded.mid")
    frame = np.interp(read.notes["onset"], said, np.arange(len(said))) * FRAMES
    assert np.abs(frame - np.rint(frame)).max() < 0.1  # notes are on the grid of the file's own beats


def test_a_performance_without_beats_gets_estimated_ones():
    steady = Performance.of([(0.5 + 0.25 * i, 0.2, 60 + i % 5, 90 if i % 2 == 0 else 50) for i in range(80)])
    found = estimate_beats(steady)
    assert f_measure(np.arange(0.5, 20.5, 0.5), found) > 0.6
    tokenizer = BeatTokenizer("beat-base")
    assert np.array_equal(tokenizer.prepare(steady).beats, found)
    for few in ([(1.0, 1.0, 60, 64)], [(0, 1, 60, 64), (0, 1, 64, 64)]):
        assert len(tokenizer.decode(tokenizer.encode(Performance.of(few)))) == len(few)


# ---------------------------------------------------------------------- the language model


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    flat = timed(7)
    flat.notes["velocity"] = 80
    splits = {f"piece {i}": ("train" if i < 3 else "validation", timed(i)) for i in range(4)} | {
        "score": ("train", flat)
    }
    pieces = [
        Piece(
            name,
            "Anon",
            name,
            split,
            source=partial(Performance, performance.notes, performance.pedals, performance.beats),
        )
        for name, (split, performance) in splits.items()
    ]
    return Corpus("test", "CC0", tuple(pieces))


def test_velocity_of_a_score_is_not_scored_position_by_position(corpus, tmp_path):
    tokenizer = BeatTokenizer("beat-velocity")
    store = tokenize_corpus(corpus, tokenizer, tmp_path, workers=1, progress=False)
    assert [piece.flat for piece in store.pieces] == [False] * 4 + [True]
    assert [piece.flat for piece in TokenStore.open(tmp_path).pieces] == [False] * 4 + [True]
    windows = Windows(store, "train", 64, 1, tokenizer)
    masked = 0
    for step in range(windows.steps_per_epoch):
        _, (window,) = windows.rows(step)
        piece, start, stop = windows.span(0, int(window))
        x, y = windows.batch(step)
        ids = store.tokens(piece)
        for position in range(64):
            if start + position >= stop:
                assert y[0, position] == IGNORED
                continue
            target = int(ids[start + position + 1])
            hidden = store.pieces[piece].flat and 3712 <= target <= 4223
            masked += hidden
            assert x[0, position] == ids[start + position]  # velocity stays in the sequence
            assert y[0, position] == (IGNORED if hidden else target)
    assert masked == ((store.tokens(4) >= 3712) & (store.tokens(4) <= 4223)).sum() > 50


def test_velocity_starts_where_base_stopped(corpus, tmp_path):
    changes = {
        "data.context": 64,
        "train.steps": 3,
        "train.batch_size": 2,
        "train.checkpoint_every": 5,
        "train.warmup": 1,
    }
    pipeline.train(tmp_path / "base", "beat-base", "nano", changes, data=corpus, progress=False, parallel="none")
    nothing = changes | {
        "train.learning_rate": 1e-12,
        "train.min_learning_rate": 0.0,
        "train.weight_decay": 0.0,
        "train.steps": 1,
    }
    pipeline.train(
        tmp_path / "velocity",
        "beat-velocity",
        None,
        nothing,
        data=corpus,
        init_from=tmp_path / "base",
        progress=False,
        parallel="none",
    )
    old, new = checkpoint.load(tmp_path / "base"), checkpoint.load(tmp_path / "velocity")
    assert (new.system, new.tokenizer.variant, new.configs["model"]) == (
        "beat-velocity",
        "beat-velocity",
        old.configs["model"],
    )
    assert new.tokenizer.codebook.content_hash == old.tokenizer.codebook.content_hash
    ids = torch.from_numpy(old.tokenizer.encode(timed(5))[None, :200].astype(np.int64))
    assert torch.allclose(old.model(ids), new.model(ids), atol=1e-5)
    with pytest.raises(ConfigError, match="cannot start from weights for remi"):
        pipeline.train(tmp_path / "third", "beat-velocity", data=corpus, init_from="tiny-remi", progress=False)


def test_a_seed_is_continued_on_its_beats(corpus, tmp_path, capsys):
    changes = {
        "data.context": 64,
        "train.steps": 2,
        "train.batch_size": 2,
        "train.checkpoint_every": 5,
        "train.warmup": 1,
    }
    pipeline.train(tmp_path / "run", "beat-velocity", "nano", changes, data=corpus, progress=False, parallel="none")
    write_midi(random_performance(2, notes=60, seconds=20.0), tmp_path / "seed.mid")
    order = [
        "continue",
        str(tmp_path / "seed.mid"),
        "-o",
        str(tmp_path / "out.mid"),
        "--model",
        str(tmp_path / "run"),
        "--tokens",
        "80",
        "--seed",
        "1",
        "--json",
    ]
    assert cli.main(order) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["tokens"] == 80 and made["new_notes"] > 3
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "out.mid"))
    assert len(midi.get_tempo_changes()[1]) > 3  # real tempo changes
    piano = ittybitty.load(tmp_path / "run")
    again = piano.continue_(tmp_path / "seed.mid", tokens=80, seed=1)
    ids = np.array(again.ids)
    said = v.seconds_of(ids[(ids >= v.TEMPO) & (ids < v.BOS)])  # of the beats that begin in the continuation
    new = again.new.beats[-len(said) - 1 :]
    assert np.allclose(np.diff(new), said) and len(said) > 1
    heard = midi.get_beats()
    assert all(np.abs(heard - beat).min() < 2e-3 for beat in new[:-1] if beat < heard[-1])
    seed, out = read_midi(tmp_path / "seed.mid"), read_midi(tmp_path / "out.mid")
    assert out.notes["onset"].max() >= seed.notes["onset"].max() and len(out) >= len(seed)


# ---------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def asap_folder(tmp_path_factory):
    """Two training performances, a score and a validation performance in ASAP's layout."""
    place = tmp_path_factory.mktemp("data") / "asap"
    place.mkdir()
    head = "split,maestro_midi_filename,composer,title,midi_performance,performance_annotations,midi_score,midi_score_annotations\n"
    rows = []
    for i, split in enumerate(["train", "train", "validation"]):
        performance = shift(timed(i), 1.5)
        write_midi(Performance(performance.notes), place / f"p{i}.mid")
        # every beat on a note, as annotators place them
        beats = np.unique(performance.notes["onset"])[::4]
        (place / f"p{i}.txt").write_text(
            "".join(f"{t:.6f}\t{t:.6f}\tb\n" for t in beats[np.diff(beats, prepend=-1) > 0.2])
        )
        rows.append(f"{split},,Anon,Work {i},p{i}.mid,p{i}.txt,s{i}.mid,s{i}.txt\n")
    flat = timed(0)
    flat.notes["velocity"] = 80
    write_midi(Performance(flat.notes), place / "s0.mid")
    (place / "s0.txt").write_text("".join(f"{t}\t{t}\tb\n" for t in np.unique(flat.notes["onset"])[::4]))
    (place / "metadata.csv").write_text(head + "".join(rows))
    return place.parent


def answer(capsys, *words) -> dict:
    assert cli.main(["beats", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_annotated_pieces_to_figures(asap_folder, tmp_path, capsys):
    cells, book, code = tmp_path / "cells.npz", tmp_path / "book.npz", tmp_path / "velocity.safetensors"
    made = answer(capsys, "cache", "--data", asap_folder, "--split", "train", "--out", cells)
    assert made["pieces"] == 3 and made["of_one_velocity"] == 1 and made["cells"] > 100
    with np.load(cell_files.use_path(cells), allow_pickle=False) as use:
        assert use["ids"].shape == (4789,) and use["ids"][:3584].sum() >= made["cells"]
    answer(capsys, "codebook", "--cells", cells, "--out", book)
    learnt = answer(capsys, "velocity", "--cells", cells, "--out", code, "--steps", 3, "--batch-size", 64)
    assert learnt["codes_used"] >= 1 and not code.with_suffix(".training.safetensors").exists()
    figures = answer(
        capsys, "verify", "--data", asap_folder, "--split", "validation", "--codebook", book, "--velocity", code
    )
    assert list(figures) == [
        "cells",
        "exact_share_l1",
        "exact_share_l2",
        "exact_share_l3",
        "escape_share",
        "onset_mae_ms",
        "notes_lost",
        "velocity_mae",
        "vocabulary",
    ]
    shares = [figures[f"exact_share_l{level}"] for level in (1, 2, 3)] + [figures["escape_share"]]
    assert sum(shares) == pytest.approx(1) and figures["vocabulary"] == 4789 and 0 < figures["onset_mae_ms"] < 60


def test_verify_uses_the_codebook_that_ships(asap_folder, tmp_path, capsys):
    figures = answer(
        capsys, "verify", "--data", asap_folder, "--split", "train", "--limit", 1, "--record", tmp_path / "code.json"
    )
    recorded = json.loads((tmp_path / "code.json").read_text())
    assert recorded["verify"]["cells"] == figures["cells"] and recorded["provenance"]["commit"]
    assert recorded["use"]["velocity"]["used"] > 10 and 0 <= recorded["estimated_beats"]["f_measure"] <= 1
    assert figures["velocity_mae"] < 3 and figures["exact_share_l1"] > 0.2


@pytest.mark.parametrize(
    "order, says",
    [
        (["cache"], "needs --out"),
        (["codebook", "--out", "x.npz"], "needs --cells"),
        (["verify", "--steps", "3"], "--steps does not go with beats verify"),
        (["verify", "--limit", "0"], "give 1 or more"),
        (["codebook", "--cells", "none.npz", "--out", "x.npz"], "no such file"),
        (["verify", "--codebook", "none.npz"], "no such file"),
        (["verify", "--split", "dev"], "dev"),
        (["codebook", "--seed", "-1"], "'-1' is no whole number from 0 up"),
    ],
)
def test_bad_orders_get_one_line(asap_folder, tmp_path, monkeypatch, capsys, order, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITTYBITTY_DATA", str(asap_folder))
    try:
        assert cli.main(["beats", *order]) == 2
    except SystemExit as end:
        assert end.code == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_any_split_of_the_table_is_a_split(asap_folder, tmp_path, capsys):
    shutil.copytree(asap_folder / "asap", tmp_path / "asap")
    table = tmp_path / "asap" / "metadata.csv"
    table.write_text(table.read_text().replace("validation", "held out"))
    assert answer(capsys, "verify", "--data", tmp_path, "--split", "held out")["cells"] > 50


def test_annotations_of_another_piece_get_one_line(asap_folder, tmp_path, capsys):
    shutil.copytree(asap_folder / "asap", tmp_path / "asap")
    (tmp_path / "asap" / "p2.txt").write_text("".join(f"{t}\t{t}\tb\n" for t in np.arange(300, 340, 0.5)))
    assert cli.main(["beats", "verify", "--data", str(tmp_path)]) == 2
    assert "p2.txt: does not match its MIDI file" in capsys.readouterr().err
    (tmp_path / "asap" / "p1.txt").write_text("no annotations\n")  # one damaged piece does not stop the others
    counted = statistics(asap.open(tmp_path), progress=False)
    assert (counted["train"]["pieces"], counted["train"]["unreadable"], counted["validation"]["unreadable"]) == (
        1,
        1,
        1,
    )
    assert answer(capsys, "verify", "--data", tmp_path, "--split", "train")["cells"] > 20
    assert asap.open(tmp_path).name == "asap"
