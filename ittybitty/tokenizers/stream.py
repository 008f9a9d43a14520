"""Decoding while ids come: each note as soon as its last token is read, without looking at the past again.

Fed a whole sequence it gives what `PianoTokenizer.decode` gives; a test holds that. Its state is a few numbers, so that
a stream may go on for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..notes import Note, Pedal
from .bpe import Merges
from .grid import BAR, DURATION, PEDAL_OFF, PEDAL_ON, PITCH, POSITION, TEMPO, VELOCITY, Vocabulary


class NoteStream:
    """Feed it ids; `seconds` is the time of the last bar line or position, `pedals` the stretches that have ended."""

    def __init__(self, merges: Merges, vocabulary: Vocabulary):
        self._merges, self._types = merges, vocabulary.types.tolist()
        self._values = vocabulary.values.tolist()
        self._ticks_per_bar, self._positions_per_beat = vocabulary.ticks_per_bar, vocabulary.positions_per_beat
        self._rate = vocabulary.ticks_per_second
        self._bar = self._tick = 0
        self._started = False
        self._tempo_tick, self._tempo_seconds = 0, 0.0
        self._note: list[float] = []  # pitch, then velocity of the note being read
        self._pressed: float | None = None  # s
        self.pedals: list[Pedal] = []

    @property
    def seconds(self) -> float:
        """Where the music is, in s from the start of the sequence."""
        return self._seconds(self._tick)

    @property
    def pressed(self) -> float | None:
        """Since when (s) the pedal is held; None if it is up."""
        return self._pressed

    def feed(self, ids: int | Iterable[int]) -> list[Note]:
        """The notes that one id, or several, complete: often none, sometimes more than one."""
        notes: list[Note] = []
        for id in (ids,) if not isinstance(ids, Iterable) else ids:
            for base in self._merges.spell(int(id)).tolist():
                self._read(self._types[base], self._values[base], notes)
        return notes

    def _read(self, kind: int, value: float, notes: list[Note]) -> None:
        pending, self._note = self._note, []
        if kind == BAR:
            self._bar += self._started
            self._tick, self._started = self._bar * self._ticks_per_bar, True
        elif kind == POSITION:
            self._tick, self._started = self._bar * self._ticks_per_bar + int(value), True
        elif kind == PITCH or kind == VELOCITY and len(pending) == 1:
            self._note = [value] if kind == PITCH else [*pending, value]
        elif kind == DURATION and len(pending) == 2:
            duration = self._seconds(self._tick + value) - self.seconds
            notes.append(Note(self.seconds, duration, int(pending[0]), int(pending[1])))
        elif kind == PEDAL_ON and self._pressed is None:
            self._pressed = self.seconds
        elif kind == PEDAL_OFF and self._pressed is not None:
            self.pedals.append(Pedal(self._pressed, self.seconds - self._pressed))
            self._pressed = None
        elif kind == TEMPO:
            self._tempo_seconds, self._tempo_tick = self.seconds, self._tick
            self._rate = value / 60 * self._positions_per_beat

    def _seconds(self, tick: float) -> float:
        return self._tempo_seconds + (tick - self._tempo_tick) / self._rate
