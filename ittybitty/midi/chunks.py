"""Checks header and chunks of a MIDI file [1] before anything reads the music.

A file of a corpus must be complete: header and chunks are as long as they say, and every track is there.
For seeds, repair.py accepts damaged files.

[1] MIDI Manufacturers Association 1996, Standard MIDI Files 1.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import MidiError

HEADER, TRACK = b"MThd", b"MTrk"
SHORTEST_HEADER = 14  # bytes: tag, length and the three numbers below


class Header(NamedTuple):
    """The header of a file, and where its chunks begin."""

    kind: int  # 0 one track, 1 several, 2 several songs
    tracks: int
    division: int  # ticks a quarter note, or SMPTE frames where the highest bit is set
    end: int  # byte after the header

    @property
    def smpte(self) -> bool:
        """Whether time is counted in SMPTE frames instead of parts of a quarter note."""
        return bool(self.division & 0x8000)


def find_header(data: bytes, name: str) -> tuple[bytes, Header]:
    """The bytes from the header on, and the header; MidiError if there is no usable header."""
    if not data:
        raise MidiError(f"{name}: is empty; give a MIDI file")
    if data[:4] == b"RIFF" and HEADER in data[:64]:  # .rmi: the same file in an envelope
        data = data[data.index(HEADER) :]
    if data[:4] != HEADER:
        raise MidiError(f"{name}: is not a MIDI file (it does not start with MThd)")
    if len(data) < SHORTEST_HEADER:
        raise MidiError(f"{name}: is cut short within its header; get a whole copy")
    length, kind, tracks, division = struct.unpack(">IHHH", data[4:SHORTEST_HEADER])
    if kind > 2:
        raise MidiError(f"{name}: claims MIDI type {kind}, which does not exist; the file is damaged")
    if division == 0:
        raise MidiError(f"{name}: has 0 ticks per quarter note; the file is damaged")
    return data, Header(kind, tracks, division, 8 + length)


def packed(kind: int, division: int, tracks: list[bytes]) -> bytes:
    """The bytes of a MIDI file with these tracks."""
    head = HEADER + struct.pack(">IHHH", 6, kind, len(tracks), division)
    return head + b"".join(TRACK + struct.pack(">I", len(track)) + track for track in tracks)


def whole(data: bytes, name: str) -> bytes:
    """A complete file of type 0 or 1, with its header shortened to six bytes (longer ones are valid [1]); else MidiError."""
    data, header = find_header(data, name)
    if header.kind == 2:
        raise several_songs(name)
    if header.smpte:
        raise MidiError(f"{name}: counts time in SMPTE frames; save it with ticks per quarter note")
    if header.end < SHORTEST_HEADER:
        raise MidiError(f"{name}: says that its header has {header.end - 8} bytes; the file is damaged")
    found = sum(tag == TRACK for tag in _tags(data, header.end, name))
    if found < header.tracks:
        raise MidiError(f"{name}: is cut short: {found} of {header.tracks} tracks are there; get a whole copy")
    if header.end == SHORTEST_HEADER:
        return data
    return data[:4] + struct.pack(">I", 6) + data[8:SHORTEST_HEADER] + data[header.end :]


def several_songs(name: str) -> MidiError:
    """The error for a file of type 2."""
    return MidiError(f"{name}: is a type 2 file (several songs in one); save the song you want as type 0 or 1")


def _tags(data: bytes, start: int, name: str) -> Iterator[bytes]:
    """The tag of each chunk after the header; trailing bytes that are not a chunk are ignored."""
    while start + 8 <= len(data) and data[start : start + 4].isalnum():
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
        if end > len(data):
            raise MidiError(f"{name}: is cut short: {end - len(data)} bytes are missing; get a whole copy")
        yield data[start : start + 4]
        start = end
