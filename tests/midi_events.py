"""The bytes of MIDI files, event by event, for tests that need a certain file."""

from __future__ import annotations

import struct


def variable(n: int) -> bytes:
    digits = [n & 0x7F]
    while n := n >> 7:
        digits.append(0x80 | n & 0x7F)
    return bytes(reversed(digits))


def header(kind: int = 0, tracks: int = 1, division: int = 480) -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6, kind, tracks, division)


def track(*events: tuple[int, list[int] | bytes]) -> bytes:
    body = b"".join(variable(delta) + bytes(event) for delta, event in events) + b"\0\xff\x2f\0"
    return b"MTrk" + struct.pack(">I", len(body)) + body


def on(pitch: int, velocity: int = 64, channel: int = 0) -> list[int]:
    return [0x90 | channel, pitch, velocity]


def off(pitch: int, channel: int = 0) -> list[int]:
    return [0x80 | channel, pitch, 0]


def sustain(value: int) -> list[int]:
    return [0xB0, 64, value]


def tempo(microseconds: int) -> bytes:
    return b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def chunk(events: bytes, length: int | None = None) -> bytes:
    """A track's chunk that states its length, or another one."""
    return b"MTrk" + struct.pack(">I", len(events) if length is None else length) + events
