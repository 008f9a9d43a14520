"""Pitch strings say which keys in which order, and nothing else, like the published encoding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ittybitty.errors import ConfigError
from ittybitty.notes import Performance, transpose
from ittybitty.tokenizers.pitch_string import (
    FIRST_CHORD,
    PitchStringTokenizer,
    Settings,
    chord_name,
    gap_density,
    normal_order,
)
from performances import random_performance

onsets = st.floats(0, 20, allow_nan=False)
notes = st.tuples(onsets, st.floats(0.01, 5), st.integers(21, 108), st.integers(1, 127))
music = st.lists(notes, max_size=60).map(Performance.of)


@pytest.fixture(scope="module")
def tokenizer():
    return PitchStringTokenizer().train([random_performance(seed) for seed in range(6)], 1279)


def spelt(tokenizer, *played) -> list[str]:
    """Names of the ids of (onset, pitch) pairs."""
    ids = tokenizer.encode(Performance.of((onset, 0.5, pitch, 80) for onset, pitch in played), bos=False, eos=False)
    return [tokenizer.names[id] for id in ids]


def c_major() -> PitchStringTokenizer:
    """Knows one chord, C E G, and its transpositions."""
    return PitchStringTokenizer().train([Performance.of((0.0, 1, pitch, 80) for pitch in (60, 64, 67))], 200)


def test_notes_and_chords_are_spelt_as_published():
    tokenizer = c_major()
    assert spelt(tokenizer, (0, 61), (1, 48), (1, 55), (1.02, 76), (2, 21)) == ["C#4", "0.4.7", "A0"]


def test_an_unknown_chord_is_its_notes_from_low_to_high():
    assert spelt(c_major(), (1, 71), (1, 60), (1, 65)) == ["C4", "F4", "B4"]


def test_a_chord_ends_with_the_tolerance_after_its_first_note():
    assert spelt(c_major(), (1, 60), (1.03, 64), (1.049, 67)) == ["0.4.7"]
    assert spelt(c_major(), (1, 60), (1.03, 64), (1.06, 67)) == ["C4", "E4", "G4"]  # no chain of gaps


def test_decoding_is_one_event_a_step_and_all_alike():
    tokenizer = c_major()
    decoded = tokenizer.decode(
        tokenizer.encode(Performance.of([(0, 9, 61, 3), *((5, 1, p, 99) for p in (48, 52, 79))]))
    )
    assert decoded.notes.tolist() == [
        (0, 0.25, 61, 90),
        (0.25, 0.25, 60, 90),
        (0.25, 0.25, 64, 90),
        (0.25, 0.25, 67, 90),
    ]


def test_an_octave_is_a_chord_of_one_pitch_class():
    tokenizer = PitchStringTokenizer().train([Performance.of([(0, 1, 36, 80), (0, 1, 60, 80)])], 103)
    ids = tokenizer.encode(Performance.of([(0, 1, 38, 80), (0, 1, 50, 80)]), bos=False, eos=False)
    assert [tokenizer.names[id] for id in ids] == ["2"]
    assert tokenizer.decode(ids).notes["pitch"].tolist() == [62, 74]


def test_the_vocabulary_is_closed_under_transposition_and_within_its_size(tokenizer):
    assert tokenizer.vocab_size <= 1279 and len(set(tokenizer.chords)) == len(tokenizer.chords)
    for chord in tokenizer.chords:
        assert (chord << 1 | chord >> 11) & 4095 in tokenizer.chords


def test_frequent_chords_come_first():
    often = [Performance.of((t, 1, p, 80) for t in range(5) for p in (60, 64, 67))]
    once = [Performance.of((0, 1, p, 80) for p in (60, 61, 62))]
    small = PitchStringTokenizer().train(often + once, FIRST_CHORD + 12)
    large = PitchStringTokenizer().train(once + often, FIRST_CHORD + 24)
    assert chord_name(small.chords[0]).count(".") == 2 and 0b10010001 in small.chords and 0b111 not in small.chords
    assert large.chords[:12] == small.chords and 0b111 in large.chords


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="vocab_size is 90: give 91"):
        PitchStringTokenizer().train([], 90)
    assert PitchStringTokenizer().train([], 91).vocab_size == 91


def test_names_are_all_different(tokenizer):
    assert len(set(tokenizer.names)) == tokenizer.vocab_size


@pytest.mark.slow
def test_normal_order_is_music21s():
    from music21.chord import Chord

    for chord in np.random.default_rng(0).integers(1, 4096, 150).tolist():
        classes = [k for k in range(12) if chord >> k & 1]
        assert normal_order(classes) == list(Chord(classes).normalOrder)


def test_keys_kept_are_those_that_sound_in_their_event(tokenizer):
    """Slowly: what each event's ids decode to, beside what was played."""
    for seed in range(3):
        performance = random_performance(seed + 20)
        events, kept = [], 0
        for note in performance:
            if not events or note.onset > events[-1][0].onset + tokenizer.settings.tolerance:
                events.append([])
            events[-1].append(note)
        for event in events:
            sounding = tokenizer.decode(tokenizer.encode(Performance.of(event))).notes["pitch"]
            kept += len({note.pitch for note in event} & set(sounding.tolist()))
        assert tokenizer.keys_kept(performance) == kept


def test_settings_of_a_users_own_decode_and_are_saved(tmp_path):
    tokenizer = PitchStringTokenizer(Settings(tolerance=0.0, step=0.5, velocity=64))
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = PitchStringTokenizer().load(tmp_path / "tokenizer.json")
    decoded = loaded.decode(loaded.encode(Performance.of([(0, 1, 60, 80), (0.01, 1, 64, 80)])))
    assert decoded.notes["onset"].tolist() == [0, 0.5] and set(decoded.notes["velocity"]) == {64}
    assert loaded.content_hash != PitchStringTokenizer().content_hash


def test_gap_density_is_a_density():
    gaps = gap_density([random_performance(1)], np.linspace(0, 100, 1001))
    assert (gaps * 0.1).sum() == pytest.approx(1.0)


@settings(max_examples=80, deadline=None)
@given(music)
def test_encoding_what_was_decoded_changes_nothing(tokenizer, performance):
    ids = tokenizer.encode(performance)
    assert np.array_equal(tokenizer.encode(tokenizer.decode(ids)), ids)


@settings(max_examples=80, deadline=None)
@given(music)
def test_every_pitch_class_comes_back_and_no_other(tokenizer, performance):
    decoded = tokenizer.decode(tokenizer.encode(performance))
    assert set(decoded.notes["pitch"] % 12) == set(performance.notes["pitch"] % 12)


@settings(max_examples=40, deadline=None)
@given(music, st.integers(-6, 6))
def test_transposing_ids_is_transposing_music(tokenizer, performance, semitones):
    inner = Performance.of(n for n in performance if 27 <= n.pitch <= 102)
    ids = tokenizer.encode(inner)
    assert np.array_equal(tokenizer.augment(ids, semitones), tokenizer.encode(transpose(inner, semitones)))
