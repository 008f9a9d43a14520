"""The seeds of the playground: five short pieces written for it, and the user's own MIDI files.

The pieces are written as notation (voices of note names and lengths), which `corpora.performer` plays with expressive timing,
velocity and pedal, so that they resemble the performances that the models were trained on. They may be used freely.

The seed from an uploaded file is its last 30 seconds at most, moved to second 0. The page draws this part, plays it, and puts it
into the files for download.

Left out: recording from a keyboard.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, replace

import numpy as np

from ..corpora import performer
from ..errors import MidiError
from ..midi import read_midi_bytes
from ..notes import Performance, between, shift

LARGEST_UPLOAD = 2**20  # bytes: larger than any file of MAESTRO
SEED_SECONDS = 30.0  # s of an uploaded file that are used, from its end
SEED_NOTES = 1000  # notes of an uploaded file that are used at most
LONGEST_NOTE = 10.0  # s: no longer note is audible to its end
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"": 0, "s": 1, "b": -1}


@dataclass(frozen=True)
class Printed:
    """A piece in notation: voices from high to low, notes as `name:quarters` separated by spaces, bars by |.

    Names are C4 for middle C, Fs4 and Bb3 for F sharp and B flat; + joins a chord, a hyphen is a rest. A length holds
    until another is given.
    """

    title: str
    tempo: float  # quarter notes a minute
    bar: float  # quarter notes in a bar
    beat: float  # quarter notes in a beat
    voices: tuple[str, ...]


PIECES = (
    Printed(
        "Waltz in A minor", 138, 3, 1,
        (
            "E5:2 A5:1 | Gs5:2 E5:1 | F5:1 E5 D5 | C5:2 B4:1 | A4:1 C5 E5 | A5:2 G5:1 | F5:1 D5 B4 | C5:2 -:1 |"
            "E5:2 A5:1 | B5:2 Gs5:1 | A5:1 G5 F5 | E5:2 D5:1 | C5:1 E5 A4 | B4:1 D5 Gs4 | A4:3 | A4:2 -:1",
            "A2:1 C4+E4 C4+E4 | E2:1 B3+D4 B3+D4 | D3:1 A3+F4 A3+F4 | E2:1 Gs3+D4 Gs3+D4 | A2:1 C4+E4 C4+E4 | C3:1 C4+E4 C4+E4 |"
            "G2:1 B3+F4 B3+F4 | C3:1 E4+G4 E4+G4 | A2:1 C4+E4 C4+E4 | E2:1 B3+D4 B3+D4 | F2:1 A3+C4 A3+C4 | C3:1 G3+C4 G3+C4 |"
            "A2:1 C4+E4 C4+E4 | E2:1 Gs3+D4 Gs3+D4 | A2:1 C4+E4 C4+E4 | A2:2 -:1",
        ),
    ),
    Printed(
        "Broken chords in C", 76, 4, 1,
        (
            "E5:4 | D5:4 | F5:4 | E5:2 D5 | C5:4 | A5:2 F5 | D5:3 G5:1 | E5:4",
            "-:.5 G3:.25 C4 E4 G3 C4 E4 -:.5 G3:.25 C4 E4 G3 C4 E4 | -:.5 A3:.25 D4 F4 A3 D4 F4 -:.5 A3:.25 D4 F4 A3 D4 F4 |"
            "-:.5 B3:.25 D4 G4 B3 D4 G4 -:.5 B3:.25 D4 G4 B3 D4 G4 | -:.5 G3:.25 C4 E4 G3 C4 E4 -:.5 G3:.25 B3 D4 G3 B3 D4 |"
            "-:.5 A3:.25 C4 E4 A3 C4 E4 -:.5 A3:.25 C4 E4 A3 C4 E4 | -:.5 A3:.25 C4 F4 A3 C4 F4 -:.5 A3:.25 D4 F4 A3 D4 F4 |"
            "-:.5 G3:.25 B3 F4 G3 B3 F4 -:.5 G3:.25 B3 F4 G3 B3 F4 | -:.5 G3:.25 C4 E4 G3 C4 E4 C4:2",
            "C3:4 | C3:4 | B2:4 | C3:2 G2 | A2:4 | F2:2 D3 | G2:4 | C3:4",
        ),
    ),
    Printed(
        "Chorale in G", 72, 4, 1,
        (
            "D5:1 B4 C5 D5 | E5:1 D5 C5 B4 | A4:1 B4 C5 A4 | B4:2 A4 | D5:1 E5 D5 C5 | B4:1 C5 A4 G4 | A4:1 B4 A4:1.5 G4:.5 | G4:4",
            "G4:1 G4 A4 A4 | G4:1 Fs4 E4 G4 | Fs4:1 G4 G4 Fs4 | G4:2 Fs4 | G4:1 G4 Fs4 A4 | G4:1 E4 D4 D4 | E4:1 G4 Fs4:1.5 D4:.5 | D4:4",
            "B3:1 D4 E4 D4 | C4:1 A3 G3 D4 | D4:1 D4 E4 D4 | D4:2 D4 | B3:1 C4 A3 Fs3 | G3:1 G3 Fs3 B3 | C4:1 D4 D4:1.5 C4:.5 | B3:4",
            "G3:1 G3 E3 Fs3 | C3:1 D3 E3 G3 | D3:1 G3 C3 D3 | G2:2 D3 | G3:1 C3 D3 D3 | E3:1 C3 D3 G2 | C3:1 B2 D3:1.5 D3:.5 | G2:4",
        ),
    ),
    Printed(
        "Rag in F", 92, 2, 1,
        (
            "-:.25 C5:.25 D5:.25 Ds5:.25 E5:.25 C6:.5 A5:.25 | F5:.25 A5:.5 C6:.25 A5:.5 F5 | -:.25 C5:.25 D5 Ds5 E5 Bb5:.5 G5:.25 |"
            "E5:.25 G5:.5 Bb5:.25 G5:.5 E5 | F5:.25 A5:.5 C6:.25 Eb6:.5 C6 | D6:.25 Bb5:.5 G5:.25 F5:.5 D5 |"
            "C5:.25 A5:.5 F5:.25 G5:.5 E5 | F5:1 C6:.5 -",
            "F2:.5 A3+C4 C2 A3+C4 | F2:.5 A3+C4 A2 C4+F4 | C3:.5 Bb3+E4 G2 Bb3+E4 | C3:.5 Bb3+E4 E2 Bb3+C4 | F2:.5 A3+C4 A2 C4+Eb4 |"
            "Bb2:.5 D4+F4 B2 D4+F4 | C3:.5 A3+F4 C3 Bb3+E4 | F2:.5 A3+C4 F2 -",
        ),
    ),
    Printed(
        "Night piece in D minor", 60, 3, 1.5,
        (
            "A4:1 D5:.5 F5:1 E5:.5 | D5:1.5 A4 | Bb4:1 D5:.5 G5:1 F5:.5 | E5:3 |"
            "F5:1 E5:.5 D5:1 Cs5:.5 | D5:1.5 Bb4 | A4:1 G4:.5 F4:1 E4:.5 | D4:3",
            "D3:.5 A3 D4 F4 D4 A3 | D3:.5 A3 D4 F4 D4 A3 | G2:.5 D3 G3 Bb3 G3 D3 | A2:.5 E3 A3 Cs4 A3 E3 | D3:.5 A3 D4 A2:.5 E3 G3 |"
            "Bb2:.5 F3 Bb3 G2:.5 D3 G3 | A2:.5 D3 F3 A2:.5 Cs3 G3 | D2:.5 A2 D3 F3:1.5",
        ),
    ),
)  # fmt: skip  # a score: a string is a line of music


def titles() -> list[str]:
    """Names of the pieces, in order."""
    return [piece.title for piece in PIECES]


@functools.cache
def piece(title: str) -> Performance:
    """A performance of the piece with this title, the same each time."""
    printed = next(p for p in PIECES if p.title == title)
    return performer.play(score(printed), printed.tempo, np.random.default_rng(zlib.crc32(title.encode())))


def score(printed: Printed) -> performer.Score:
    """The piece as `performer` reads it; ValueError for a bar of a wrong length."""
    rows = [row for part, voice in enumerate(printed.voices) for row in _voice(voice, part, printed)]
    notes = np.sort(np.array(rows, performer.SCORE_NOTE), order=("onset", "pitch"))
    bars = np.arange(0, float((notes["onset"] + notes["duration"]).max()), printed.bar)
    return performer.Score(notes, bars, printed.beat, np.empty(0))


def _voice(text: str, part: int, printed: Printed) -> list[tuple]:
    rows, length = [], 0.0
    for number, bar in enumerate(text.split("|")):
        at = number * printed.bar
        for word in bar.split():
            names, _, given = word.partition(":")
            length = float(given) if given else length
            rows += [(at, length, _pitch(name), part, 0.5, False) for name in names.split("+") if name != "-"]
            at += length
        if abs(at - (number + 1) * printed.bar) > 1e-9:
            raise ValueError(f"{printed.title}: bar {number + 1} of voice {part + 1} ends at quarter {at:g}")
    return rows


def _pitch(name: str) -> int:
    return 12 * (int(name[-1]) + 1) + STEPS[name[0]] + ACCIDENTALS[name[1:-1]]


def uploaded(data: bytes, name: str) -> Performance:
    """The seed from the content of a MIDI file. MidiError if it is too large or cannot be read; a warning if it was repaired."""
    if len(data) > LARGEST_UPLOAD:
        raise MidiError(
            f"{name}: has {len(data) / 2**20:.1f} MiB; give a MIDI file of at most {LARGEST_UPLOAD // 2**20} MiB"
        )
    return ending(read_midi_bytes(data, name, repair=True))


def ending(performance: Performance) -> Performance:
    """The last 30 seconds, or 1,000 notes if that is less, moved to second 0; notes are at most 10 s long."""
    notes = performance.notes.copy()
    notes["duration"] = np.minimum(notes["duration"], LONGEST_NOTE)
    onsets = notes["onset"]
    start = max(float(onsets[-1]) + min(2.0, notes["duration"][-1]) - SEED_SECONDS, float(onsets[-SEED_NOTES:][0]))
    start = float(onsets[onsets >= start][0])
    cut = shift(between(replace(performance, notes=notes), start, np.inf), -start)
    return between(cut, 0.0, cut.end + LONGEST_NOTE)  # a pedal that is never lifted
