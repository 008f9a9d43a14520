"""A performance as a compact list of bytes, and its size after xz compression: a baseline without a model.

The list has exactly the information of tokens on the same grid: for each note the ticks since the note before, pitch, velocity and
ticks of duration; for each pedal interval the ticks since the one before and its length. Every quantity is a column of its own,
in one byte or, if needed, split into a column of low and one of high bytes. So similar values are next to each other, which
helps a general compressor. Compression is LZMA2 at its highest level, without the container's header and checksum.

Left out: anything learnt from other pieces. xz only finds repetitions within the piece.
"""

from __future__ import annotations

import lzma

import numpy as np

from ..notes import NOTE, PEDAL, Performance

# lc, pb 0: a byte is guessed without its neighbour's bits or its place in a word; tried on seven pieces, the best of seven settings
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "pb": 0}]


def pack(performance: Performance, ticks_per_second: float) -> bytes:
    """A performance as a list; ValueError if a time is not on the grid, or a gap exceeds 65,535 ticks."""
    notes, pedals = performance.notes, performance.pedals
    onset, press = _ticks(notes["onset"], ticks_per_second), _ticks(pedals["onset"], ticks_per_second)
    columns = [
        np.diff(onset, prepend=0),
        notes["pitch"].astype(np.int64),
        notes["velocity"].astype(np.int64),
        _ticks(notes["duration"], ticks_per_second),
        np.diff(press, prepend=0),
        _ticks(pedals["duration"], ticks_per_second),
    ]
    if any(column.min(initial=0) < 0 or column.max(initial=0) > 0xFFFF for column in columns):
        raise ValueError("a time or gap is negative or exceeds 65,535 ticks: use a coarser grid")
    wide = [bool(column.max(initial=0) > 0xFF) for column in columns]
    head = np.array([len(notes), len(pedals)], "<u4").tobytes() + bytes([sum(w << i for i, w in enumerate(wide))])
    body = [
        column.astype(np.uint8).tobytes() + (column >> 8).astype(np.uint8).tobytes() * w
        for column, w in zip(columns, wide)
    ]
    return head + b"".join(body)


def unpack(data: bytes, ticks_per_second: float) -> Performance:
    """A list as a performance."""
    count, held = np.frombuffer(data, "<u4", 2).tolist()
    wide, at, columns = data[8], 9, []
    for i, size in enumerate([count] * 4 + [held] * 2):
        column = np.frombuffer(data, np.uint8, size, at).astype(np.int64)
        if wide >> i & 1:
            column += np.frombuffer(data, np.uint8, size, at + size).astype(np.int64) << 8
        at += size * (1 + (wide >> i & 1))
        columns.append(column)
    notes, pedals = np.empty(count, NOTE), np.empty(held, PEDAL)
    notes["onset"], notes["duration"] = np.cumsum(columns[0]) / ticks_per_second, columns[3] / ticks_per_second
    notes["pitch"], notes["velocity"] = columns[1], columns[2]
    pedals["onset"], pedals["duration"] = np.cumsum(columns[4]) / ticks_per_second, columns[5] / ticks_per_second
    return Performance(notes, pedals)


def compressed_bits(data: bytes) -> int:
    """Size of a list in bits after xz compression."""
    return 8 * len(compress(data))


def compress(data: bytes) -> bytes:
    """Compress with LZMA2, without a container."""
    return lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS)


def decompress(data: bytes) -> bytes:
    """Undo `compress`."""
    return lzma.decompress(data, lzma.FORMAT_RAW, filters=FILTERS)


def _ticks(seconds: np.ndarray, ticks_per_second: float) -> np.ndarray:
    exact = seconds * ticks_per_second
    ticks = np.rint(exact).astype(np.int64)
    if np.abs(exact - ticks).max(initial=0) > 1e-3:
        raise ValueError("a time is not on the grid: decode the performance from its tokens first")
    return ticks
