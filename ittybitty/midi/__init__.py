"""Reads and writes MIDI files: notes, pedal and tempo map; a damaged file can be repaired."""

from .read import read_midi, read_midi_bytes
from .write import TICKS_PER_SECOND, midi_bytes, write_midi

__all__ = ["TICKS_PER_SECOND", "midi_bytes", "read_midi", "read_midi_bytes", "write_midi"]
