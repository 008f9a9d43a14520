"""What is read is what the file says; what cannot be read gets one line; what is written reads back."""

from __future__ import annotations

import io
import os
import random
import struct
import warnings

import mido
import numpy as np
import pytest

from ittybitty.errors import MidiError, OutputError
from ittybitty.midi import TICKS_PER_SECOND, midi_bytes, read_midi, read_midi_bytes, write_midi
from ittybitty.notes import Note, Performance
from midi_events import header, off, on, sustain, tempo, track

TICK = 1 / TICKS_PER_SECOND


ONE_NOTE = track((0, on(60)), (480, off(60)))
MANY = track(*[(0, on(60)), (240, off(60))] * 40)

UNREADABLE = {
    "empty": (b"", "is empty"),
    "text": (b"<html>404 not found</html>" * 20, "not a MIDI file"),
    "header only half": (header()[:10], "cut short within its header"),
    "no tracks": (header(), "0 of 1 tracks"),
    "cut within a track": ((header() + MANY)[:100], "cut short"),
    "cut between tracks": (header(1, 3) + MANY + MANY, "2 of 3 tracks"),
    "damaged inside": (header() + b"MTrk" + struct.pack(">I", 5) + ONE_NOTE[8:], "cut short or damaged"),
    "no notes": (header() + track((0, tempo(500_000))), "holds no notes"),
    "drums only": (header() + track((0, on(36, 90, 9)), (10, off(36, 9))), "only drums"),
    "type 2": (header(2, 2) + ONE_NOTE + ONE_NOTE, "type 2"),
    "type 3": (header(3) + ONE_NOTE, "type 3"),
    "SMPTE": (header(division=0xE728) + ONE_NOTE, "SMPTE"),
    "no division": (header(division=0) + ONE_NOTE, "0 ticks per quarter"),
    "all off the piano": (
        header() + track((0, on(5)), (10, off(5)), (0, on(120)), (10, off(120))),
        "none of its 2 notes",
    ),
    "beyond counting": (header() + track(*[(0x0FFFFFFF, on(60)), (0x0FFFFFFF, off(60))] * 8), "2 billion ticks"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_file_gets_one_clear_line(tmp_path, case):
    data, says = UNREADABLE[case]
    path = tmp_path / "seed.mid"
    path.write_bytes(data)
    with pytest.raises(MidiError, match=says) as caught:
        read_midi(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_folder_and_missing_path_get_one_clear_line(tmp_path):
    with pytest.raises(MidiError, match="is a folder"):
        read_midi(tmp_path)
    with pytest.raises(MidiError, match="no such file"):
        read_midi(tmp_path / "none.mid")


def test_every_cut_of_a_file_is_noticed(midi_file):
    data = midi_file.read_bytes()
    for length in range(0, len(data), 7):
        with pytest.raises(MidiError):
            read_midi_bytes(data[:length], "cut.mid")


def test_damaged_bytes_never_raise_anything_else(midi_file):
    chance = random.Random(0)
    data = midi_file.read_bytes()
    read = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 3, 20])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                performance = read_midi_bytes(bytes(damaged), "damaged.mid")
            except MidiError:
                continue
        read += 1
        assert len(performance) and (performance.notes["duration"] > 0).all() and performance.notes["onset"].min() >= 0
    assert 0 < read < 1500


def test_one_note_is_music():
    assert list(read_midi_bytes(header() + ONE_NOTE, "one.mid")) == [Note(0.0, 0.5, 60, 64)]


def test_notes_off_the_piano_are_left_out_with_a_warning():
    data = header() + track((0, on(5)), (10, off(5)), (0, on(60)), (480, off(60)))
    with pytest.warns(UserWarning, match="1 of 2 notes lie off the piano"):
        assert [note.pitch for note in read_midi_bytes(data, "low.mid")] == [60]


def test_zero_length_note_lasts_a_tick():
    performance = read_midi_bytes(
        header() + track((0, on(60)), (0, off(60)), (480, on(62)), (480, off(62))), "zero.mid"
    )
    assert [note.pitch for note in performance] == [60, 62]
    assert performance.notes["duration"][0] == pytest.approx(0.5 / 480)


def test_overlapping_notes_are_kept_as_the_file_has_them():
    data = header() + track((0, on(60)), (480, on(60, 80)), (480, off(60)), (480, off(60)))
    assert list(read_midi_bytes(data, "overlap.mid")) == [Note(0.0, 1.0, 60, 64), Note(0.5, 1.0, 60, 80)]


def test_file_of_hours_is_read():
    day = 24 * 3600 * 960  # ticks at 120 BPM
    data = header() + track((0, on(60)), (day, off(60)), (0, on(62)), (480, off(62)))
    performance = read_midi_bytes(data, "day.mid")
    assert performance.notes["onset"][1] == pytest.approx(86_400) and len(midi_bytes(performance))


def test_tempo_map_is_applied():
    tempos = track((0, tempo(1_000_000)), (480, tempo(250_000)), (960, tempo(0)))  # the last would stop time: ignored
    played = track((0, on(60)), (480, off(60)), (0, on(62)), (480, off(62)), (480, on(64)), (480, off(64)))
    performance = read_midi_bytes(header(1, 2) + tempos + played, "tempo.mid")
    assert [(note.onset, note.duration) for note in performance] == [(0, 1), (1, 0.25), (1.5, 0.25)]


def test_pitched_tracks_are_merged_and_drums_ignored():
    left = track((0, on(48, 50, 0)), (480, off(48, 0)))
    right = track((0, on(72, 90, 1)), (480, off(72, 1)))
    drums = track((0, on(36, 90, 9)), (480, off(36, 9)))
    performance = read_midi_bytes(header(1, 3) + left + right + drums, "band.mid")
    assert [note.pitch for note in performance] == [48, 72]


def test_sustain_controller_becomes_pedal():
    events = [
        (0, sustain(127)),
        (0, on(60)),
        (480, sustain(64)),
        (480, sustain(63)),
        (480, sustain(0)),
        (480, sustain(90)),
        (960, off(60)),
    ]
    pedals = read_midi_bytes(header() + track(*events), "pedal.mid").pedals
    assert pedals.tolist() == [(0.0, 1.0), (2.0, 1.0)]  # the last is never released: the last key's release ends it


def test_pedals_of_two_tracks_are_united():
    first = track((0, sustain(127)), (0, on(60)), (480, sustain(0)), (480, off(60)))
    second = track((240, [0xB1, 64, 127]), (0, on(72, 64, 1)), (480, [0xB1, 64, 0]), (480, off(72, 1)))
    assert read_midi_bytes(header(1, 2) + first + second, "two.mid").pedals.tolist() == [(0.0, 0.75)]


def test_enveloped_file_is_read():
    inner = header() + ONE_NOTE
    data = b"RIFF" + struct.pack("<I", len(inner) + 12) + b"RMIDdata" + struct.pack("<I", len(inner)) + inner
    assert len(read_midi_bytes(data, "song.rmi")) == 1


def test_mido_reads_the_same(midi_file):
    mido = pytest.importorskip("mido")
    now, held, played = 0.0, {}, []
    for message in mido.MidiFile(midi_file):
        now += message.time
        if message.type == "note_on" and message.velocity:
            held[message.note] = (now, message.velocity)
        elif message.type in ("note_on", "note_off"):
            start, velocity = held.pop(message.note)
            played.append((start, now - start, message.note, velocity))
    ours, theirs = read_midi(midi_file).notes, Performance.of(played).notes
    assert (
        ours["pitch"].tolist() == theirs["pitch"].tolist() and ours["velocity"].tolist() == theirs["velocity"].tolist()
    )
    assert np.allclose(ours["onset"], theirs["onset"]) and np.allclose(ours["duration"], theirs["duration"])


def assert_same_within_a_tick(read: Performance, written: Performance) -> None:
    assert len(read) == len(written) and len(read.pedals) == len(written.pedals)
    for array in ("notes", "pedals"):
        ours, theirs = (
            np.sort(getattr(p, array), order=("pitch", "onset") if array == "notes" else "onset")
            for p in (read, written)
        )
        for field in ours.dtype.names:
            assert np.abs(ours[field] - theirs[field]).max() <= (1.01 * TICK if field in ("onset", "duration") else 0)


def test_written_performance_reads_back(tmp_path, performance):
    write_midi(performance, tmp_path / "out.mid")
    assert_same_within_a_tick(read_midi(tmp_path / "out.mid"), performance)


def test_any_performance_reads_back():
    chance = np.random.default_rng(3)
    for _ in range(20):
        # one strike a key every 50 ms at most, held until the next at the longest: what a keyboard can do
        notes = [
            (at, chance.uniform(0.001, 0.05), pitch, chance.integers(1, 128))
            for pitch in range(21, 109, 8)
            for at in np.sort(chance.choice(400, 30, replace=False)) * 0.05 + chance.uniform(0, 0.01)
        ]
        pedals = [(at + chance.uniform(0, 0.2), chance.uniform(0.1, 0.7)) for at in range(20)]
        made = Performance.of(notes, pedals)
        assert_same_within_a_tick(read_midi_bytes(midi_bytes(made), "any.mid"), made)


def test_writing_resolves_overlaps_and_empty_lengths():
    made = Performance.of([(0, 2, 60, 50), (1, 1, 60, 60), (3, 0, 62, 70), (4, 1, 64, 0)], [(0.0, 1.0), (1.0, 1.0)])
    read = read_midi_bytes(midi_bytes(made), "made.mid")
    assert [(round(n.onset, 3), round(n.duration, 3)) for n in read][:2] == [(0.0, 1.0), (1.0, 1.0)]
    assert read.notes["duration"][2] == pytest.approx(TICK)
    assert read.notes["velocity"].tolist() == [50, 60, 70, 1]
    assert len(read.pedals) == 2  # the foot comes up between two stretches that touch


def test_impossible_notes_are_refused():
    with pytest.raises(ValueError, match="0 s or later"):
        midi_bytes(Performance.of([(-1, 1, 60, 60)]))
    with pytest.raises(ValueError, match="0..127"):
        midi_bytes(Performance.of([(0, 1, 130, 60)]))


def test_failed_writing_leaves_the_old_file(tmp_path, performance, midi_file):
    before = midi_file.read_bytes()
    with pytest.raises(ValueError):
        write_midi(Performance.of([(-1, 1, 60, 60)]), midi_file)
    assert midi_file.read_bytes() == before and os.listdir(tmp_path) == ["seed.mid"]
    with pytest.raises(OutputError, match="does not exist"):
        write_midi(performance, tmp_path / "no" / "out.mid")


# Beats


def beats_of_file(data: bytes) -> np.ndarray:
    """Where another library finds the quarter notes."""
    midi = mido.MidiFile(file=io.BytesIO(data))
    changes = [(0, 500_000)]
    tick = 0
    for message in mido.merge_tracks(midi.tracks):
        tick += message.time
        if message.type == "set_tempo":
            changes.append((tick, message.tempo))
    seconds, beats = 0.0, []
    for quarter in range(tick // midi.ticks_per_beat + 1):
        beats.append(seconds)
        length = [tempo for at, tempo in changes if at <= quarter * midi.ticks_per_beat][-1]
        seconds += length * 1e-6
    return np.array(beats)


@pytest.mark.parametrize("first", [0.0, 0.3, 2.1])
def test_beats_of_the_file_are_those_of_the_performance(performance, first):
    random = np.random.default_rng(1)
    beats = first + np.concatenate([[0], np.cumsum(60 / random.uniform(30, 480, 40))])
    timed = Performance(performance.notes, performance.pedals, beats)
    data = midi_bytes(timed)
    found = beats_of_file(data)
    inside = beats[beats < performance.end - 1]
    assert len(inside) > 10
    assert all(np.abs(found - beat).min() < 1e-5 for beat in inside)
    read = read_midi_bytes(data, "beats.mid")
    assert np.abs(read.notes["onset"] - performance.notes["onset"]).max() <= TICK
    assert np.array_equal(read.notes[["pitch", "velocity"]], performance.notes[["pitch", "velocity"]])


@pytest.mark.parametrize("beats", [[], [1.0], [-3.0, -1.0, 1.0, 2.0], [0.0, 0.0, 5.0], [2.0, 90.0], [0.0, 1e-7, 3.0]])
def test_odd_beats_move_no_note(performance, beats):
    read = read_midi_bytes(midi_bytes(Performance(performance.notes, performance.pedals, np.array(beats))), "odd.mid")
    assert len(read) == len(performance)
    assert np.abs(read.notes["onset"] - performance.notes["onset"]).max() <= TICK


def test_a_file_too_large_for_music_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("ittybitty.midi.read.LARGEST", 1000)
    (tmp_path / "long.mid").write_bytes(bytes(1001))
    with pytest.raises(MidiError, match="long.mid: has more than"):
        read_midi(tmp_path / "long.mid")
