"""REMI with rests, chords and tempo says what miditok says, on a clock that does not drift."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ittybitty.metrics import round_trip_error
from ittybitty.notes import Performance, stretch
from ittybitty.tokenizers import grid
from ittybitty.tokenizers.rests import RestTokenizer
from ittybitty.tokenizers.rests.tokenizer import Settings
from ittybitty.tokenizers.rests.tokens import CHORDS
from ittybitty.tokenizers.tradeoffs import to_score
from performances import random_performance

TICK = 1 / 16  # s

notes = st.tuples(st.floats(0, 30), st.floats(0.01, 9), st.integers(21, 108), st.integers(1, 127))
music = st.lists(notes, max_size=50).map(Performance.of)


@pytest.fixture(scope="module")
def tokenizer():
    return RestTokenizer()


@pytest.fixture(scope="module")
def miditok():
    from miditok import REMI, TokenizerConfig

    return REMI(
        TokenizerConfig(
            pitch_range=(21, 108),
            special_tokens=["PAD", "BOS", "EOS"],
            use_pitchdrum_tokens=False,
            use_chords=True,
            use_rests=True,
            use_tempos=True,
            use_time_signatures=False,
            num_tempos=22,
        )
    )


def chordal(seed: int) -> Performance:
    """Chords of every known kind, some broken over a step, some with an odd end, with silences between."""
    random = np.random.default_rng(seed)
    played, time = [], 0.0
    for intervals in [*CHORDS.values()] * 3:
        time += random.choice([0.125, 0.5, 1.0, 2.5, 7.0, 13.0])
        root, length = int(random.integers(30, 80)), random.choice([0.1, 0.4, 1.0, 3.0])
        for interval in intervals:
            late, odd = random.choice([0, 0, 0, 0.0625]), random.choice([0, 0, 0, 0, 0.5])
            played.append((time + late, length + odd, root + interval, int(random.integers(30, 100))))
    return Performance.of(played)


def names(tokenizer, ids) -> list[str]:
    return [tokenizer.vocabulary.names[int(id)] for id in ids]


def test_the_published_vocabulary_is_miditoks_own():
    from miditok import REMI, TokenizerConfig

    assert (
        len(REMI(TokenizerConfig(use_chords=True, use_rests=True, use_tempos=True, use_time_signatures=False))) == 362
    )


def test_names_are_miditoks(tokenizer, miditok):
    theirs = sorted(miditok.vocab, key=miditok.vocab.get)
    assert list(tokenizer.vocabulary.names) == theirs and tokenizer.vocab_size == 288


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [random_performance, chordal])
def test_arrays_write_what_miditok_writes(tokenizer, miditok, make, seed):
    performance = make(seed)
    score = to_score(grid.quantise(performance, tokenizer.vocabulary), tokenizer.vocabulary.positions_per_beat)
    ours = tokenizer.encode(performance, bos=False, eos=False)
    assert names(tokenizer, ours) == miditok.encode(score)[0].tokens
    kinds = {name.split("_")[0] for name in names(tokenizer, ours)}
    assert {"Rest", "Tempo"} <= kinds and ("Chord" in kinds or make is random_performance)


@pytest.mark.parametrize("make", [random_performance, chordal])
def test_the_reader_reads_what_miditok_reads(tokenizer, miditok, make):
    ids = tokenizer.encode(make(1), bos=False, eos=False)
    theirs = miditok.decode([ids.tolist()]).to("second").tracks[0].notes
    ours = [(n.onset, n.pitch, n.duration, n.velocity) for n in tokenizer.decode(ids)]
    assert np.allclose(sorted(ours), sorted((n.time, n.pitch, n.duration, n.velocity) for n in theirs), atol=1e-3)


def test_no_note_is_off_by_more_than_half_a_tick(tokenizer):
    performance = random_performance(11, notes=2000, seconds=1500.0)
    error = round_trip_error(performance, tokenizer.decode(tokenizer.encode(performance)))
    assert error["notes_lost"] <= 2 and error["onset_error_ms"] < 17
    decoded = tokenizer.decode(tokenizer.encode(performance))
    assert abs(decoded.notes["onset"].max() - performance.notes["onset"].max()) <= TICK / 2 + 1e-9  # nothing drifts


def test_every_known_chord_is_named(tokenizer):
    for name, intervals in CHORDS.items():
        ids = tokenizer.encode(Performance.of((1.0, 0.5, 48 + i, 80) for i in intervals))
        assert f"Chord_{name}" in names(tokenizer, ids)


def test_silence_is_a_rest_and_passes_bars(tokenizer):
    performance = Performance.of([(0, 0.5, 60, 64), (5.0, 0.5, 62, 64)])
    said = names(tokenizer, tokenizer.encode(performance, bos=False, eos=False))
    assert said == [
        "Bar_None",
        "Position_0",
        "Tempo_120.0",
        "Pitch_60",
        "Velocity_63",
        "Duration_1.0.8",
        "Rest_9.0.2",
        "Position_16",
        "Pitch_62",
        "Velocity_63",
        "Duration_1.0.8",
    ]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(music)
def test_encoding_what_was_decoded_changes_nothing(tokenizer, performance):
    ids = tokenizer.encode(performance)
    assert np.array_equal(tokenizer.encode(tokenizer.decode(ids)), ids)


@settings(max_examples=80, deadline=None)
@given(music)
def test_whatever_is_encoded_is_allowed(tokenizer, performance):
    grammar = tokenizer.grammar(max_bars=None)
    state = grammar.start()
    for id in tokenizer.encode(performance).tolist():
        assert grammar.mask(state)[id], (state, tokenizer.vocabulary.names[id])
        state = grammar.advance(state, id)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000))
def test_whatever_is_sampled_is_what_its_music_is_written_as(tokenizer, seed):
    """But for chords, which say nothing of the music: a sampled one need not be the chord of its notes."""
    random, grammar = np.random.default_rng(seed), tokenizer.grammar()
    taste = random.normal(size=tokenizer.vocab_size) * random.choice([0, 1, 4])
    state, ids, end = grammar.start([tokenizer.bos_id]), [], 0
    for _ in range(120):
        mask = grammar.mask(state)
        mask[tokenizer.eos_id] = False
        ids.append(int(np.where(mask, taste + random.gumbel(size=len(taste)), -np.inf).argmax()))
        state = grammar.advance(state, ids[-1])
        end = len(ids) if state.last == grid.DURATION else end

    def without_chords(some):
        return [name for name in names(tokenizer, some) if not name.startswith("Chord")]

    written = tokenizer.encode(tokenizer.decode(ids[:end]), bos=False, eos=False)
    assert without_chords(written) == without_chords(ids[:end])


def test_silence_is_limited(tokenizer):
    rest = tokenizer.vocabulary.id("Rest_12.0.2")  # 6 s
    grammar = tokenizer.grammar(max_bars=8)
    state = grammar.start(tokenizer.encode(Performance.of([(0, 1, 60, 64)]), eos=False))
    assert grammar.mask(grammar.advance(state, rest))[rest]
    tired = grammar.advance(grammar.advance(state, rest), rest)
    assert not grammar.mask(tired)[rest] and grammar.mask(tired).any()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_stretch_is_the_stretched_piece(tokenizer, factor):
    performance = random_performance(8, notes=150, seconds=120.0)
    ids = tokenizer.encode(performance)
    ours, wanted = tokenizer.decode(tokenizer.augment(ids, stretch=factor)), stretch(tokenizer.decode(ids), factor)
    assert len(ours) == pytest.approx(len(wanted), abs=2)
    assert round_trip_error(wanted, ours)["onset_error_ms"] <= 1000 * TICK / 2


def test_settings_of_a_users_own_are_saved(tmp_path):
    tokenizer = RestTokenizer(Settings(beat_res=((0, 4, 12), (4, 8, 4)), velocities=16))
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = RestTokenizer().load(tmp_path / "tokenizer.json")
    assert loaded.settings == tokenizer.settings and loaded.vocab_size == tokenizer.vocab_size
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    assert document["names"] == list(tokenizer.vocabulary.names)
