"""MIDI files: notes, pedal and tempo map read from them, repaired where a seed needs it, and written."""

from .read import read_midi, read_midi_bytes
from .write import TICKS_PER_SECOND, midi_bytes, write_midi

__all__ = ["TICKS_PER_SECOND", "midi_bytes", "read_midi", "read_midi_bytes", "write_midi"]
