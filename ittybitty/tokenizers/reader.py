"""Reads the notes of REMI ids one id at a time, each note as soon as it is complete: for streaming.

`decode` reads a whole sequence. A `Reader` keeps only the clock and the note that is being read, so that the time per
token does not depend on the length of the piece. Both give the same notes if the tempo does not change within a note
(a test holds that).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..notes import Note
from .grid import BAR, DURATION, PEDAL_OFF, PEDAL_ON, PITCH, POSITION, REST, TEMPO, VELOCITY, Vocabulary


class Reader:
    """Reads ids in order and returns the notes that each one completes.

    `spell(id)` gives the base ids that an id stands for; without it every id is a base id. A Rest begins where the last
    key is released, a Position counts from the bar line.

    >>> reader = Reader(tokenizer.vocabulary, tokenizer.merges.spell)
    >>> for id in ids:
    ...     for note in reader.feed(id): play(note)
    """

    def __init__(self, vocabulary: Vocabulary, spell: Callable[[int], Iterable[int]] | None = None):
        self._spell = spell or (lambda id: (id,))
        self._types, self._values = vocabulary.types.tolist(), vocabulary.values.tolist()
        self._parts, self._rate = vocabulary.positions_per_beat, vocabulary.ticks_per_second
        self._bar_ticks = vocabulary.ticks_per_bar
        self._bar = 0  # tick of the current bar line
        self._tick, self._seconds = 0, 0.0  # the clock
        self._end = 0  # tick at which the last key is released
        self._started = False
        self._pitch = self._velocity = -1
        self.pedal = False  # held down

    @property
    def clock(self) -> float:
        """Second of the last bar line, rest or position that was read."""
        return self._seconds

    def feed(self, id: int) -> list[Note]:
        """The notes that this id completes, in seconds from the beginning of the sequence."""
        notes = []
        for base in self._spell(int(id)):
            kind, value = self._types[base], int(self._values[base])
            if kind == BAR:
                self._bar += self._bar_ticks if self._started else 0
                self._move(self._bar)
            elif kind == POSITION:
                self._move(self._bar + value)
            elif kind == REST:
                self._move(max(self._end, self._tick) + value)
                self._bar = max(self._bar, self._tick // self._bar_ticks * self._bar_ticks)
            elif kind == TEMPO:
                self._rate = self._values[base] / 60 * self._parts
            elif kind in (PEDAL_ON, PEDAL_OFF):
                self.pedal = kind == PEDAL_ON
            elif kind == DURATION and self._pitch >= 0 and self._velocity >= 0:
                notes.append(Note(self._seconds, value / self._rate, self._pitch, self._velocity))
                self._end = max(self._end, self._tick + value)
            self._pitch = value if kind == PITCH else self._pitch if kind == VELOCITY else -1
            self._velocity = value if kind == VELOCITY and self._pitch >= 0 else -1
        return notes

    def _move(self, tick: int) -> None:
        self._seconds += (tick - self._tick) / self._rate
        self._tick, self._started = tick, True
