"""Repairs a damaged MIDI file that is used as a seed: keeps its readable events, as MIDI players do.

Each track is read event by event up to its end-of-track event, whatever length its header states; if it breaks off, the
events before are kept. A note without an end lasts to the next strike of its key, else to the end of its track (a
quarter note if the track ends at once). Time in SMPTE frames becomes ticks of a constant tempo. The result is a file
without these faults, which read.py then reads.

Left out: files of type 2 that hold several songs, and repairing a corpus: there a damaged file is skipped and reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import MidiError
from .chunks import HEADER, SHORTEST_HEADER, TRACK, Header, find_header, packed, several_songs

NOTE_OFF, NOTE_ON, PROGRAM, PRESSURE = 0x80, 0x90, 0xC0, 0xD0
META, SYSEX, SYSEX_MORE = 0xFF, 0xF0, 0xF7
TEMPO, CLOSING = b"\xff\x51", b"\xff\x2f"  # the meta events of tempo and end of track
SYSTEM_DATA = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # bytes after a system message, which should not occur in a file
FRAMES = (24, 25, 29, 30)  # per second; 29 means 29.97
LATEST_HEADER = 1024  # bytes that may come before the header, from e-mail or disk formats

Event = tuple[int, bytes]  # tick, and the event with its status byte


@dataclass
class _Track:
    """The part of a track that could be read."""

    events: list[Event] = field(default_factory=list)
    end: int = 0  # tick
    stop: int = 0  # byte at which reading stopped
    closed: bool = False  # the end-of-track event is there
    broken: bool = False  # something could not be read, and what follows it is lost
    skipped: bool = False  # something in between could not be read
    odd: bool = False  # nothing is lost, but not every program reads it


def repaired(data: bytes, name: str) -> tuple[bytes, list[str]]:
    """A file without faults, and descriptions of what was repaired; an intact file is returned unchanged.

    MidiError if there is nothing to read: no header, no track, several songs, or no length of a tick.
    """
    faults: list[str] = []
    if data[:4] not in (HEADER, b"RIFF") and (start := data.find(HEADER, 0, LATEST_HEADER)) > 0:
        faults.append(f"{start} bytes before its header are left out")
        data = data[start:]
    data, header = find_header(data, name)
    tracks = list(_tracks(data, header, faults))
    if not tracks:
        raise MidiError(f"{name}: is cut short: no track is there; get a whole copy")
    if header.kind == 2 and len(tracks) > 1:
        raise several_songs(name)
    if len(tracks) < header.tracks:
        faults.append(f"{len(tracks)} of {header.tracks} tracks are there")
    if ended := sum(_end_notes(track, header.division) for track in tracks):
        faults.append(
            f"notes without an end: {ended}, each lasts to the next strike of its key or the end of its track"
        )
    whole = not faults and header.kind < 2 and header.end == SHORTEST_HEADER and not header.smpte
    if whole and not any(track.odd for track in tracks):
        return data, faults
    division = header.division
    if header.smpte:
        division, tempo = _steady(header.division, name)
        for track in tracks:
            track.events = [event for event in track.events if event[1][:2] != TEMPO]
        tracks[0].events.insert(0, (0, tempo))
    return packed(int(len(tracks) > 1), division, [_bytes(track) for track in tracks]), faults


def _tracks(data: bytes, header: Header, faults: list[str]) -> Iterator[_Track]:
    """Each track of the file; each kind of fault of the chunks is added to `faults` once."""
    at = header.end
    if at < SHORTEST_HEADER or not data[at : at + 4].isalnum():
        at = _next_track(data, SHORTEST_HEADER)
        if at != header.end:
            faults.append("its header states a wrong length")
    while at + 8 <= len(data):
        stated = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        trusted = stated == len(data) or (stated + 8 <= len(data) and data[stated : stated + 4].isalnum())
        if data[at : at + 4] != TRACK:  # another chunk
            at = stated if trusted else _next_track(data, at + 1)
            continue
        after = _next_track(data, at + 8)
        track = _read(data, at + 8, stated if trusted else after)
        fault = "events that cannot be read are left out" if track.skipped else ""
        if track.broken or not (trusted or track.closed):
            fault = "a track breaks off, and what is whole before is kept"
        elif not trusted and track.stop != stated:
            fault = "a track states a wrong length"
        elif trusted and track.closed and track.stop < stated and data[track.stop : track.stop + 4] == TRACK:
            trusted, fault = False, "a track states a wrong length"
        if fault and fault not in faults:
            faults.append(fault)
        track.odd |= track.stop != stated
        at = stated if trusted else track.stop if track.closed else after
        yield track


def _next_track(data: bytes, start: int) -> int:
    """Byte at which the next track's chunk begins, or the end of the data."""
    found = data.find(TRACK, start)
    return len(data) if found < 0 else found


def _read(data: bytes, at: int, stop: int) -> _Track:
    """Events from byte `at` up to the end-of-track event, byte `stop`, or the first one that is not whole."""
    track = _Track()
    tick = status = 0
    while at < stop:
        if data[at] < 0x80:  # by far the most frequent case
            delta, at = data[at], at + 1
        else:
            delta, at = _number(data, at, stop)
        if at < 0:
            track.broken, at = True, stop
            break
        track.end = tick = tick + delta
        if not status and at < stop and data[at] < 0x80:  # the beginning of an event is lost: skip to the next one
            track.skipped = True
            while at < stop and data[at] < 0x80:
                at += 1
        event, at, status = _event(data, at, stop, status)
        if event is None:
            track.broken = True
            break
        if event[:2] == CLOSING:
            track.closed = True
            break
        if event:
            track.events.append((tick, event))
        else:
            track.odd = True
    track.stop = at
    track.odd |= track.skipped or not track.closed
    return track


def _event(data: bytes, at: int, stop: int, status: int) -> tuple[bytes | None, int, int]:
    """The event at byte `at` with its status byte, the byte after it, and the running status for the next event.

    None for an incomplete event, b"" for one that has no effect on the music.
    """
    if at >= stop:
        return None, at, status
    first = data[at]
    if first < SYSEX:
        if first >= 0x80:
            status, at = first, at + 1
        size = 1 if PROGRAM <= status < PRESSURE + 16 else 2
        if at + size > stop:
            return None, at, status
        values = data[at : at + size]
        if max(values) > 0x7F:
            values = bytes(min(value, 0x7F) for value in values)
        return bytes((status,)) + values, at + size, status
    if first not in (META, SYSEX, SYSEX_MORE):
        return b"", min(at + 1 + SYSTEM_DATA.get(first, 0), stop), status
    head = at + 1 + (first == META)  # a meta event has a byte for its kind in between
    size, begins = _number(data, head, stop)
    if begins < 0 or begins + size > stop:
        return None, at, status
    if first != META:
        return b"", begins + size, status
    return data[at:head] + _digits(size) + data[begins : begins + size], begins + size, status


def _number(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A number of up to four bytes with seven bits each, and the byte after it; -1 if it is incomplete."""
    value = 0
    for place in range(at, min(at + 4, stop)):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return 0, -1


def _digits(number: int) -> bytes:
    """A number as the bytes that `_number` reads."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))


def _end_notes(track: _Track, quarter: int) -> int:
    """Adds note-off events for the notes of a track that have none, and returns their number.

    A key's notes end in the order of their strikes, and overlaps may be intended. An end is missing only from the strike
    on after which the key is never released completely.
    """
    sounding: dict[tuple[int, int], deque[int]] = {}  # (channel, key): places of strikes that are not ended
    begins: dict[tuple[int, int], int] = {}  # the strike since which the key is not free
    for place, (_, event) in enumerate(track.events):
        kind = event[0] & 0xF0
        if kind not in (NOTE_OFF, NOTE_ON):
            continue
        key = event[0] & 0x0F, event[1]
        held = sounding.setdefault(key, deque())
        if kind == NOTE_ON and event[2]:
            if not held:
                begins[key] = place
            held.append(place)
        elif held:
            held.popleft()
    missing = {key: begins[key] for key, held in sounding.items() if held}
    if missing:
        track.events = _ended(track, missing, quarter)
    return sum(len(sounding[key]) for key in missing)


def _ended(track: _Track, missing: dict[tuple[int, int], int], quarter: int) -> list[Event]:
    """The track's events; from its index in `missing` on, each key is released before it is struck again, and at the end."""
    events: list[Event] = []
    struck: dict[tuple[int, int], int] = {}  # tick of the note that sounds
    for place, (tick, event) in enumerate(track.events):
        key = event[0] & 0x0F, event[1]
        if event[0] & 0xF0 in (NOTE_OFF, NOTE_ON) and place >= missing.get(key, len(track.events)):
            strike = event[0] & 0xF0 == NOTE_ON and event[2] > 0
            if struck.pop(key, None) is not None:
                events.append((tick, bytes((NOTE_OFF | key[0], key[1], 0))))
            if not strike:
                continue
            struck[key] = tick
        events.append((tick, event))
    for (channel, pitch), tick in struck.items():
        at = track.end if track.end > tick else tick + (quarter & 0x7FFF)
        events.append((at, bytes((NOTE_OFF | channel, pitch, 0))))
    track.end = max(track.end, events[-1][0])
    return sorted(events, key=lambda event: event[0])


def _steady(division: int, name: str) -> tuple[int, bytes]:
    """Ticks per quarter note, and a tempo event that gives a tick the same length as the SMPTE frames of `division`."""
    frames, ticks = 0x100 - (division >> 8), division & 0xFF
    rate = 30 / 1.001 if frames == 29 else frames
    if not ticks or frames not in FRAMES:
        raise MidiError(f"{name}: counts time in SMPTE frames of no known rate; save it with ticks per quarter note")
    quarter = 15 * ticks  # about half a second
    tempo = round(1e6 * quarter / (rate * ticks))
    return quarter, TEMPO + b"\3" + tempo.to_bytes(3, "big")


def _bytes(track: _Track) -> bytes:
    """The bytes of a track's events in a file."""
    parts: list[bytes] = []
    before = 0
    for tick, event in track.events:
        parts += (_digits(tick - before), event)
        before = tick
    return b"".join([*parts, _digits(max(track.end - before, 0)), CLOSING + b"\0"])
