"""As a seed, what is whole in a damaged file is read, with one line that says what was repaired; a corpus leaves it out."""

from __future__ import annotations

import io
import warnings

import mido
import numpy as np
import pytest

from ittybitty.errors import MidiError
from ittybitty.midi import midi_bytes, read_midi_bytes
from ittybitty.notes import Note, Performance
from midi_events import chunk, header, off, on, sustain, tempo, track, variable
from performances import random_performance

KEYS = [60 + step for step in (0, 4, 7, 12, 7, 4) * 4]  # 24 strikes, a quarter of a second each
END = b"\0\xff\x2f\0"


def melody(ends: bool = True) -> bytes:
    """Events of the keys one after the other, with or without the end of each note."""
    events = b""
    for key in KEYS:
        events += variable(0 if ends else 240) + bytes(on(key))
        events += variable(240) + bytes(off(key)) if ends else b""
    return events


def long_header(kind: int = 0, tracks: int = 1) -> bytes:
    plain = header(kind, tracks)
    return plain[:4] + (8).to_bytes(4, "big") + plain[8:] + b"\0\0"


WHOLE = melody()
LATE = variable(480) + END[1:]
DAMAGED = {  # file, notes, seconds that the last of them lasts, what the warning says, whether a corpus reads it
    "no note has an end": (header() + chunk(melody(False) + LATE), 24, 0.5, "notes without an end: 24", False),
    "the last note has no end": (
        header() + chunk(WHOLE + b"\0" + bytes(on(72)) + variable(960) + END[1:]),
        25,
        1.0,
        "notes without an end: 1",
        True,
    ),
    "a header of eight bytes": (long_header() + chunk(WHOLE + END), 24, 0.25, "", True),
    "four tracks too few": (header(1, 5) + chunk(WHOLE + END), 24, 0.25, "1 of 5 tracks", False),
    "a length too large": (header() + chunk(WHOLE + END, 99_999), 24, 0.25, "wrong length", False),
    "a length too small": (header() + chunk(WHOLE + END, len(WHOLE) - 40), 24, 0.25, "wrong length", False),
    "cut within the last event": ((header() + chunk(WHOLE + END))[:-6], 24, 0.25, "breaks off", False),
    "a length too large, and a track after it": (
        header(1, 2) + chunk(WHOLE + END, 500) + chunk(bytes([0, *on(90), 120, *off(90)]) + END),
        25,
        0.25,
        "wrong length",
        False,
    ),
    "no end of track": (header() + chunk(WHOLE), 24, 0.25, "", None),
    "an ending at once": (header() + chunk(b"\0" + bytes(on(60)) + END), 1, 0.5, "notes without an end: 1", False),
    "a mail's head": (b"Subject: a tune\r\n\r\n" + header() + chunk(WHOLE + END), 24, 0.25, "19 bytes before", False),
    "SMPTE frames": (header(division=0xE728) + chunk(WHOLE + END), 24, 0.24, "", False),  # 25 frames of 40 ticks
    "one song of a type 2": (header(2) + chunk(WHOLE + END), 24, 0.25, "", False),
    "a clock byte among the events": (header() + chunk(b"\0\xf8" + WHOLE + END), 24, 0.25, "", None),
    "nonsense after half a track": (
        header() + chunk(WHOLE + b"\0\xff\x01\xff\xff\xff\xff\xff" + END),
        24,
        0.25,
        "breaks off",
        False,
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_seed_is_read_as_players_read_it(case):
    data, notes, last, says, _ = DAMAGED[case]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        performance = read_midi_bytes(data, "seed.mid", repair=True)
    assert len(performance) == notes
    assert performance.notes["pitch"][: len(KEYS)].tolist() == KEYS[:notes] or notes == 1 or "after" in case
    assert performance.notes["duration"][-1] == pytest.approx(last)
    assert [str(warning.message) for warning in caught] == [] if not says else len(caught) == 1
    if says:
        assert says in str(caught[0].message) and str(caught[0].message).startswith("seed.mid: ")


@pytest.mark.parametrize("case", [case for case in DAMAGED if DAMAGED[case][4] is not None])
def test_a_corpus_reads_whole_files_only(case):
    data, _, _, _, read = DAMAGED[case]
    if read:
        assert len(read_midi_bytes(data, "piece.mid")) == 24
        return
    with pytest.raises(MidiError) as caught:
        read_midi_bytes(data, "piece.mid")
    assert "\n" not in str(caught.value) and "MiniMidi" not in str(caught.value)


def test_no_library_prints_to_the_user():
    with pytest.raises(MidiError) as caught:
        read_midi_bytes(header() + chunk(WHOLE[:30]), "piece.mid")
    assert str(caught.value) == "piece.mid: is cut short or damaged; get a whole copy"


@pytest.mark.parametrize("seed", range(5))
def test_a_good_file_is_read_the_same_without_a_warning(seed):
    data = midi_bytes(random_performance(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_midi_bytes(data, "good.mid", repair=True) == read_midi_bytes(data, "good.mid")


@pytest.mark.parametrize("seed", range(5))
def test_repairing_changes_no_whole_note(seed):
    """A file that must be put together anew, here for a wrong length, holds what it held."""
    data = bytearray(midi_bytes(random_performance(seed, notes=100)))
    good = read_midi_bytes(bytes(data), "good.mid")
    data[18:22] = (99_999).to_bytes(4, "big")
    with pytest.warns(UserWarning, match="wrong length"):
        assert read_midi_bytes(bytes(data), "bad.mid", repair=True) == good


def test_what_is_cut_off_is_all_that_is_lost(midi_file):
    data = midi_file.read_bytes()
    whole = {(*tuple(note)[2:], round(note.onset, 6)) for note in read_midi_bytes(data, "whole.mid")}
    lengths = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for size in range(60, len(data), 7):
            try:
                kept = read_midi_bytes(data[:size], "cut.mid", repair=True)
            except MidiError as error:
                assert "no notes" in str(error)  # the cut lies before the first of them
                continue
            assert {(*tuple(note)[2:], round(note.onset, 6)) for note in kept} <= whole
            lengths.append(len(kept))
    assert lengths == sorted(lengths) and lengths[-1] >= len(whole) - 1


def test_only_notes_that_are_never_ended_are_given_an_end():
    events = [(0, on(60)), (240, on(60)), (240, off(60)), (240, off(60)), (0, on(62)), (240, on(62)), (240, off(62))]
    with pytest.warns(UserWarning, match="notes without an end: 1,"):
        notes = read_midi_bytes(header() + track(*events), "overlap.mid", repair=True)
    assert list(notes) == [
        Note(0.0, 0.5, 60, 64),
        Note(0.25, 0.5, 60, 64),
        Note(0.75, 0.25, 62, 64),
        Note(1.0, 0.25, 62, 64),
    ]


def test_a_pedal_and_a_tempo_survive_the_repair():
    events = [(0, tempo(250_000)), (0, sustain(127)), (0, on(60)), (480, off(60)), (480, sustain(0)), (0, on(62))]
    with pytest.warns(UserWarning, match="without an end"):
        performance = read_midi_bytes(header() + track(*events), "pedal.mid", repair=True)
    assert performance.pedals.tolist() == [(0.0, 0.5)] and performance.notes["onset"].tolist() == [0.0, 0.5]


# The tempo map


def signature(beats: int, power: int) -> bytes:
    return bytes([0xFF, 0x58, 4, beats, power, 24, 8])


SLOW, FAST = 618_557, 400_000  # 97 and 150 BPM
WALTZ = header(1, 2, 96) + track((0, tempo(SLOW)), (0, signature(3, 2)), (288, tempo(FAST)), (288, signature(6, 3)))
WALTZ += track((0, on(60)), (96, off(60)), (96, on(62)), (96, off(62)), (96, on(64)), (192, off(64)))


def metre(data: bytes) -> list[tuple]:
    """Tempo and time signatures as another library reads them, at quarters from the beginning."""
    midi, tick, found = mido.MidiFile(file=io.BytesIO(data)), 0, []
    for message in mido.merge_tracks(midi.tracks):
        tick += message.time
        if message.type == "set_tempo":
            found.append((tick / midi.ticks_per_beat, message.tempo))
        if message.type == "time_signature":
            found.append((tick / midi.ticks_per_beat, message.numerator, message.denominator))
    return sorted(found)


def test_tempo_and_time_signatures_stay_in_a_file_that_is_written():
    read = read_midi_bytes(WALTZ, "waltz.mid")
    written = midi_bytes(read)
    assert metre(written) == [(0, 3, 4), (0, SLOW), (3, FAST), (6, 6, 8)] == metre(WALTZ)
    assert np.allclose(read_midi_bytes(written, "written.mid").notes["onset"], read.notes["onset"], atol=1e-9, rtol=0)


def test_a_coarse_clock_is_made_fine_enough_for_new_notes():
    read = read_midi_bytes(WALTZ, "waltz.mid")
    new = Performance.of([(3.0001 + 0.1007 * i, 0.0501, 70 + i, 80) for i in range(9)])
    written = read_midi_bytes(midi_bytes(read, new), "written.mid")
    assert np.abs(written.notes["onset"][-9:] - new.notes["onset"]).max() < 0.0004


def test_midis_default_tempo_is_not_kept():
    plain = header() + track((0, tempo(500_000)), (0, signature(4, 2)), (0, on(60)), (480, off(60)))
    assert read_midi_bytes(plain, "plain.mid").tempo_map is None


def test_a_clock_too_fine_for_the_new_notes_is_left():
    rushing = header(division=32_000) + track((0, tempo(1)), (0, on(60)), (480, off(60)))
    read = read_midi_bytes(rushing, "rushing.mid")
    written = read_midi_bytes(midi_bytes(read, Performance.of([(100.0, 1.0, 62, 80)])), "written.mid")
    assert written.notes["onset"].tolist() == pytest.approx([0.0, 100.0])


def test_new_notes_are_on_a_track_of_their_own():
    read = read_midi_bytes(WALTZ, "waltz.mid")
    new = Performance.of([(2.4, 0.5, 64, 80), (2.5, 0.5, 66, 80)], [(2.4, 1.0)])  # the first strikes a sounding key
    midi = mido.MidiFile(file=io.BytesIO(midi_bytes(read, new)))
    strikes = {
        part.name: [message.note for message in part if message.type == "note_on" and message.velocity]
        for part in midi.tracks
    }
    assert strikes == {"Seed": [60, 62, 64], "Continuation": [64, 66]}
    channels = [{message.channel for message in part if message.type == "note_on"} for part in midi.tracks]
    assert channels == [{0}, {1}]
    written = read_midi_bytes(midi_bytes(read, new), "written.mid")
    assert len(written) == 5 and len(written.pedals) == 1
    assert written.notes["onset"][2] + written.notes["duration"][2] == pytest.approx(2.4, abs=1e-3)


def test_music_longer_than_midi_can_count_is_refused():
    from ittybitty.errors import OutputError

    with pytest.raises(OutputError, match="hours"):
        midi_bytes(Performance.of([(0, 1, 60, 60), (5e9, 1, 60, 60)]))
