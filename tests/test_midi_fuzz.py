"""Mutated MIDI files give music or one line, never anything else: a short run here, a long one by `make fuzz`.

FUZZ_FILES says how many files are tried (100,000 in `make fuzz`) and FUZZ_FIRST with which numbers. A file
that fails is printed as hexadecimal digits, so that it can become a case of test_midi_repair.py.
"""

from __future__ import annotations

import os
import random
import struct
import time
import warnings

import numpy as np
import pytest

from ittybitty.errors import IttyBittyError
from ittybitty.midi import midi_bytes, read_midi_bytes
from ittybitty.notes import HIGHEST_PITCH, LOWEST_PITCH, Performance
from midi_events import chunk, header, off, on, sustain, tempo, track

FILES = int(os.environ.get("FUZZ_FILES", 2000))
FIRST = int(os.environ.get("FUZZ_FIRST", 0))
SLOWEST = 5.0  # s that one small file may take to read or to refuse, on a busy machine
TELLING = [0x00, 0x01, 0x2F, 0x40, 0x51, 0x7F, 0x80, 0x90, 0xB0, 0xC0, 0xF0, 0xF7, 0xF8, 0xFF]  # bytes that mean much


def originals() -> list[bytes]:
    """Small files of every kind that is read."""
    chord = [(0, on(60)), (0, on(64)), (240, off(60)), (0, off(64)), (60, sustain(127)), (0, on(67)), (480, off(67))]
    plain = track((0, tempo(618_557)), (0, bytes([0xFF, 0x58, 4, 3, 2, 24, 8])), *chord, (10, sustain(0)))
    other = track((5, on(48, 90, 1)), (300, off(48, 1)), (0, tempo(250_000)), (9, on(36, 90, 9)), (9, off(36, 9)))
    running = b"\0\x90\x3c\x40\x60\x40\x40\x60\x3c\0\0\x40\0\0\xff\x2f\0"
    made = Performance.of([(0.1 * i, 0.3, 40 + i, 60) for i in range(30)], [(0.2, 1.0), (1.5, 0.5)])
    inner = header() + plain
    return [
        inner,
        header(1, 2, 96) + plain + other,
        header() + chunk(running),
        header(division=0xE728) + plain,
        header(1, 3) + other + chunk(b"\0\xf0\x03\x01\x02\xf7" + running) + plain,
        b"RIFF" + struct.pack("<I", len(inner) + 12) + b"RMIDdata" + struct.pack("<I", len(inner)) + inner,
        midi_bytes(made),
        midi_bytes(made, Performance.of([(3.0, 1.0, 60, 80)])),
    ]


def mutated(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """One to eight changes such as storage, mail and bad programs make."""
    file = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 3, 8])):
        at = chance.randrange(len(file) or 1)
        size = chance.choice([1, 1, 2, 4, 17])
        change = chance.randrange(8)
        if change == 0:
            file[at : at + 1] = bytes([chance.randrange(256)])
        elif change == 1:
            file[at : at + 1] = bytes([chance.choice(TELLING)])
        elif change == 2 and file:
            file[min(at, len(file) - 1)] ^= 1 << chance.randrange(8)
        elif change == 3:
            del file[at : at + size]
        elif change == 4:
            file[at:at] = bytes(chance.choice(TELLING) for _ in range(size))
        elif change == 5:
            file[at:at] = file[chance.randrange(len(file) or 1) :][: size * 4]
        elif change == 6:
            del file[at:]
        else:
            other = chance.choice(others)
            file[at:] = other[chance.randrange(len(other)) :]
    return bytes(file)


def check(data: bytes) -> str:
    """Reads, and writes again, one file both ways; says what it gave: "music", "repaired" or "refused"."""
    gave = "refused"
    for repair in (False, True):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                performance = read_midi_bytes(data, "file.mid", repair=repair)
            written = midi_bytes(performance, Performance.of([(performance.end + 0.5, 0.5, 60, 64)]))
        except IttyBittyError as error:
            assert str(error) and "\n" not in str(error)
            assert repair is False or gave == "refused", f"a whole file is refused as a seed: {error}"
            continue
        assert all("\n" not in str(warning.message) for warning in caught)
        notes = performance.notes
        assert len(notes) and np.isfinite(notes["onset"]).all() and np.isfinite(notes["duration"]).all()
        assert notes["onset"].min() >= 0 and (np.diff(notes["onset"]) >= 0).all() and notes["duration"].min() > 0
        assert notes["pitch"].min() >= LOWEST_PITCH and notes["pitch"].max() <= HIGHEST_PITCH
        assert notes["velocity"].min() >= 1 and notes["velocity"].max() <= 127
        assert (performance.pedals["duration"] > 0).all()
        assert len(read_midi_bytes(written, "written.mid")) >= 1
        gave = "repaired" if repair and gave == "refused" else "music"
    return gave


@pytest.mark.slow
def test_a_mutated_file_gives_music_or_one_line():
    files, given = originals(), {"music": 0, "repaired": 0, "refused": 0}
    assert {check(data) for data in files} == {"music", "repaired"}  # one of them counts in SMPTE frames
    for number in range(FIRST, FIRST + FILES):
        chance = random.Random(number)
        data = mutated(chance.choice(files), chance, files)
        began = time.process_time()
        try:
            given[check(data)] += 1
        except Exception as error:
            pytest.fail(f"file {number}: {type(error).__name__}: {error}\n{data.hex()}")
        assert time.process_time() - began < SLOWEST, f"file {number} takes too long\n{data.hex()}"
    print(f"{FILES:,} mutated files: {given}")
    assert all(given.values())
