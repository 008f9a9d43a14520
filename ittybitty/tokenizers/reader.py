"""Ids -> notes one id at a time, as soon as each is complete: what streaming listens with.

`PianoTokenizer.decode` reads a whole sequence; a `Reader` keeps only the clock and the note that is being written, so
that a token costs the same however long the piece is. Both give the same notes where the tempo does not change within
a note (a test holds that).
"""

from __future__ import annotations

from ..notes import Note
from .grid import BAR, BEATS_PER_BAR, DURATION, PEDAL_OFF, PEDAL_ON, PITCH, POSITION, TEMPO, VELOCITY


class Reader:
    """Feed it ids in order; it answers with the notes that each completes.

    >>> reader = Reader(tokenizer)
    >>> for id in ids:
    ...     for note in reader.feed(id): play(note)
    """

    def __init__(self, tokenizer):
        self._spell, vocabulary = tokenizer.merges.spell, tokenizer.vocabulary
        self._types, self._values = vocabulary.types.tolist(), vocabulary.values.tolist()
        self._parts, self._rate = vocabulary.positions_per_beat, vocabulary.ticks_per_second
        self._bar = 0  # tick of the current bar line
        self._tick, self._seconds = 0, 0.0  # where the clock stands
        self._started = False
        self._pitch = self._velocity = -1
        self.pedal = False  # held down

    @property
    def clock(self) -> float:
        """Second of the last bar line or position that was read."""
        return self._seconds

    def feed(self, id: int) -> list[Note]:
        """The notes that this id completes, in seconds from the beginning of the sequence."""
        notes = []
        for base in self._spell(int(id)).tolist():
            kind, value = self._types[base], int(self._values[base])
            if kind == BAR:
                self._bar += self._parts * BEATS_PER_BAR if self._started else 0
                self._move(self._bar)
            elif kind == POSITION:
                self._move(self._bar + value)
            elif kind == TEMPO:
                self._rate = self._values[base] / 60 * self._parts
            elif kind in (PEDAL_ON, PEDAL_OFF):
                self.pedal = kind == PEDAL_ON
            elif kind == DURATION and self._pitch >= 0 and self._velocity >= 0:
                notes.append(Note(self._seconds, value / self._rate, self._pitch, self._velocity))
            self._pitch = value if kind == PITCH else self._pitch if kind == VELOCITY else -1
            self._velocity = value if kind == VELOCITY and self._pitch >= 0 else -1
        return notes

    def _move(self, tick: int) -> None:
        self._seconds += (tick - self._tick) / self._rate
        self._tick, self._started = tick, True
