"""REMI as the published V6 writes it [1]: no byte pairs, but silence as Rest, harmony as Chord, and the tempo, in tokens.

V6's 362 ids are miditok's [2] REMI with its own defaults and chords, rests and tempos: 89 Pitch, 64 Duration, 62 PitchDrum,
32 Velocity, 32 Position, 32 Rest, 32 Tempo, 14 Chord, Bar, and PAD, BOS, EOS, MASK. `remi-rests` has 288: no drums (62) and no
MASK, 88 keys for 89, and 22 tempos, 40 to 250 by tens, for 32. Among miditok's 32 there is no 120, and 120 is the clock of
every MAESTRO file: with them a decoded piece runs 0.8% too fast or slow. So here seconds stay seconds.

What such tokens say of a performance, and what not: a Rest stands wherever no key is held, and says again what the Position
after it says, but for the bars it passes over; the one Tempo is the clock's; a Chord is found only where a known chord stands
in root position, struck within one step and released within half a beat: at 1 of 230 instants of MAESTRO's validation pieces.
Chords are read over in decoding.

Vocabulary, order and rules are miditok's, a test holds the ids equal; by arrays they take a twentieth of the time.

[1] Eight models, 34 million parameters: V6. [2] Fradet et al. 2021, MidiTok.

Left out: the sustain pedal, which V6 does not have either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..config import nearest
from ..errors import ConfigError
from ..notes import Performance
from . import augment, grid, saved
from .grid import (
    BAR,
    BEATS_PER_BAR,
    BOS,
    CHORD,
    DURATION,
    EOS,
    PITCH,
    POSITION,
    REST,
    TEMPO,
    VELOCITY,
    Ticks,
    Vocabulary,
)
from .protocol import GrammarBase
from .reader import Reader

SPECIALS = ("PAD", "BOS", "EOS")
SAYS = {"Bar": "time", "Position": "time", "Rest": "time", "Tempo": "time", "Pitch": "pitch", "Chord": "pitch"}
SAYS |= {"Velocity": "velocity", "Duration": "duration"}

# miditok's chords: semitones above the lowest note.
CHORDS = {
    "min": (0, 3, 7), "maj": (0, 4, 7), "dim": (0, 3, 6), "aug": (0, 4, 8), "sus2": (0, 2, 7), "sus4": (0, 5, 7),
    "7dom": (0, 4, 7, 10), "7min": (0, 3, 7, 10), "7maj": (0, 4, 7, 11), "7halfdim": (0, 3, 6, 10), "7dim": (0, 3, 6, 9),
    "7aug": (0, 4, 8, 11), "9maj": (0, 4, 7, 10, 14), "9min": (0, 4, 7, 10, 13),
}  # fmt: skip
CHORD_SCOPE = 10  # notes that miditok looks at together


@dataclass(frozen=True)
class Settings:
    """Grids as (from beat, to beat, parts a beat), of durations and rests; onsets use the finest."""

    beat_res: tuple[tuple[int, int, int], ...] = ((0, 4, 8), (4, 12, 4))
    beat_res_rest: tuple[tuple[int, int, int], ...] = ((0, 1, 8), (1, 2, 4), (2, 12, 2))
    velocities: int = 32  # classes over 1..127
    tempos: tuple[int, int, int] = (40, 250, 22)  # lowest, highest, how many


VARIANTS: dict[str, Settings] = {"remi-rests": Settings()}


class RestTokenizer(saved.Saved):
    """REMI with rests, chords and a tempo; an id is a base token, and there is nothing to learn."""

    kind = "ittybitty remi with rests"
    pad_id, bos_id, eos_id = range(3)
    exact_clock = True
    keeps = ("pitch", "onset", "duration", "velocity")

    def __init__(self, variant: str | Settings = "remi-rests"):
        """A tokenizer of VARIANTS, or of settings of your own; ConfigError for an unknown name."""
        if isinstance(variant, Settings):
            self.variant, self.settings = "own settings", variant
        elif variant in VARIANTS:
            self.variant, self.settings = variant, VARIANTS[variant]
        else:
            raise ConfigError(f"no REMI with rests is called {variant!r}: {nearest(variant, VARIANTS)}")

    # What it is

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids, by miditok's names and in its order."""
        settings = self.settings
        finest = max(parts for *_, parts in settings.beat_res)
        velocities = np.linspace(0, 127, settings.velocities + 1)[1:].astype(int)
        names = [f"{special}_None" for special in SPECIALS] + ["Bar_None"]
        names += [f"Pitch_{p}" for p in range(21, 109)] + [f"Velocity_{v}" for v in velocities]
        names += [f"Duration_{d}" for d in _lengths(settings.beat_res)] + [
            f"Position_{p}" for p in range(BEATS_PER_BAR * finest)
        ]
        names += [f"Chord_{c}" for c in CHORDS] + [f"Rest_{r}" for r in _lengths(settings.beat_res_rest)]
        names += [f"Tempo_{t}" for t in np.linspace(*settings.tempos).round(2)]
        return Vocabulary(tuple(names), finest)

    @property
    def vocab_size(self) -> int:
        """Ids in all, specials included."""
        return len(self.vocabulary.names)

    @property
    def content_hash(self) -> str:
        """Of settings and names."""
        return saved.hash_of([self.kind, self.fingerprint, list(self.vocabulary.names)])

    @property
    def fingerprint(self) -> dict:
        """The settings."""
        return dataclasses.asdict(self.settings)

    @property
    def notes_per_id(self) -> np.ndarray:
        """(V,) 1 for a Pitch, else 0."""
        return (self.vocabulary.types == PITCH).astype(np.int64)

    def base_types(self, id: int) -> list[str]:
        """The type of an id, as a list of one."""
        return [grid.TYPES[self.vocabulary.types[id]]]

    def base_names(self, id: int) -> list[str]:
        """miditok's name of an id, such as Rest_1.0.8, as a list of one."""
        return [self.vocabulary.names[id]]

    def attributes(self, id: int) -> list[str]:
        """What it says: pitch (chords too), time (rests and the tempo too), duration, velocity or other."""
        return [SAYS.get(kind, "other") for kind in self.base_types(id)]

    # Performances and ids

    def prepare(self, performance: Performance) -> Performance:
        """The performance as it is."""
        return performance

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16 of a performance, [BOS … EOS] unless told otherwise."""
        ids = to_tokens(grid.quantise(performance, self.vocabulary), self.vocabulary, self._rests, whole=True)
        return np.concatenate([[BOS] * bos, ids, [EOS] * eos]).astype(np.uint16)

    def decode(self, ids: Iterable[int]) -> Performance:
        """The notes in seconds; specials and chords are read over, and a note cut off at the end is left out."""
        reader = self.reader()
        return Performance.of(note for id in np.asarray(ids, np.int64).tolist() for note in reader.feed(id))

    def reader(self) -> Reader:
        """A reader of ids one at a time."""
        return Reader(self.vocabulary)

    def grammar(self, max_bars: int | None = 2) -> RestGrammar:
        """The rules for sampling: at most `max_bars` bars of rest in a row (2 s each); None for no limit."""
        return RestGrammar(self.vocabulary, max_bars)

    @cached_property
    def _rests(self) -> list[list[int]]:
        """Ids of the rests that make up 0, 1, … ticks, to below the longest."""
        values, ids = self.vocabulary.of_type(REST)
        table: list[list[int]] = [[]]
        for gap in range(1, int(values[-1])):
            last = int(np.searchsorted(values, gap, side="right")) - 1  # the longest that fits, as miditok takes them
            table.append([int(ids[last]), *table[gap - int(values[last])]])
        return table

    # Augmentation

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch among the notes of ids; None for no notes."""
        ids = np.asarray(ids, np.int64)
        pitches = self.vocabulary.values[ids[self.vocabulary.types[ids] == PITCH]]
        return (int(pitches.min()), int(pitches.max())) if len(pitches) else None

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music, transposed, velocities moved by classes, times multiplied by `stretch`.

        Of a whole piece or of a window; BOS and EOS stay at its ends. ValueError if a note would leave the keyboard.
        """
        ids = np.asarray(ids, np.int64)
        body = augment.shift(ids[ids > EOS], self.vocabulary, semitones, velocity_steps)
        if stretch != 1.0:
            body = self._stretched(body, stretch)
        before, after = ids[:1][ids[:1] == BOS], ids[-1:][ids[-1:] == EOS]
        return np.concatenate([before, body, after]).astype(np.uint16)

    def _stretched(self, base: np.ndarray, factor: float) -> np.ndarray:
        """Up to the first position of a cut window time is unknown: durations and rests there are made longer by themselves."""
        types, values = self.vocabulary.types[base], self.vocabulary.values[base]
        first = np.flatnonzero((types == BAR) | (types == POSITION))
        head, body = np.split(base, [first[0] if len(first) else len(base)])
        start = augment.longer(head[self.vocabulary.types[head] != REST], self.vocabulary, factor)
        silence = int(np.floor(values[: len(head)][types[: len(head)] == REST].sum() * factor + 0.5))
        reader, notes = self.reader(), []
        for id in body.tolist():
            notes += reader.feed(id)
        rate = self.vocabulary.ticks_per_second
        onset, duration, pitch, velocity = (np.array([note[k] for note in notes]) for k in range(4))
        onset, duration = (np.floor(a * rate * factor + 0.5).astype(np.int64) for a in (onset, duration))
        onset, duration, pitch, velocity = grid.one_strike(
            onset, np.maximum(duration, 1), pitch.astype(np.int64), velocity.astype(np.int64)
        )
        none = np.empty(0, np.int64)
        whole = bool((self.vocabulary.types[body] == TEMPO).any())
        rest = to_tokens(Ticks(onset, duration, pitch, velocity, none, none), self.vocabulary, self._rests, whole)
        if len(body) and self.vocabulary.types[body[0]] == POSITION:  # cut within a bar, whose line is not ours
            rest = rest[1:]
        return np.concatenate([start, _rest_ids(silence, self._rests, self.vocabulary), rest]).astype(np.int64)

    # Saving and loading

    def train(self, performances: Iterable[Performance], vocab_size: int = 0, progress: bool = False) -> RestTokenizer:
        """Itself: the vocabulary is fixed, whatever size is asked for, and no piece is read."""
        return self

    def document(self) -> dict:
        """Settings and names."""
        return {"settings": self.fingerprint, "names": list(self.vocabulary.names)}

    @classmethod
    def from_document(cls, document: Mapping) -> RestTokenizer:
        """The tokenizer that `document` wrote; a ValueError if its names are not those of its settings."""
        rows: dict[str, Any] = {
            key: value if key == "velocities" else tuple(map(_tuple, value))
            for key, value in document["settings"].items()
        }
        loaded = cls(Settings(**rows))
        loaded.variant = document["variant"]
        if list(loaded.vocabulary.names) != document["names"]:
            raise ValueError("its names are not those of its settings")
        return loaded


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def _lengths(beat_res: tuple[tuple[int, int, int], ...]) -> list[str]:
    """miditok's "beats.parts.parts_per_beat", without nothing and with the end of the last range."""
    spans = [
        f"{beat}.{part}.{parts}"
        for start, end, parts in beat_res
        for beat in range(start, end)
        for part in range(parts)
    ]
    return [*spans[1:], f"{beat_res[-1][1]}.0.{beat_res[-1][2]}"]


def _rest_ids(gap: int, rests: list[list[int]], vocabulary: Vocabulary) -> list[int]:
    values, ids = vocabulary.of_type(REST)
    many, left = divmod(gap, int(values[-1]))
    return [int(ids[-1])] * many + rests[left]


def to_tokens(ticks: Ticks, vocabulary: Vocabulary, rests: list[list[int]], whole: bool) -> np.ndarray:
    """Base ids (L,) int64 of a quantised performance; a `whole` piece begins at tick 0 with the tempo, a part where it begins.

    At each instant: Rest where no key was held before it, else Bar for each bar line; Position; Tempo; Chord; notes from low to high.
    """
    n = len(ticks.onset)
    if n == 0:
        return np.empty(0, np.int64)
    durations, duration_ids = vocabulary.of_type(DURATION)
    which = grid.closest(durations, ticks.duration)
    ends = ticks.onset + durations[which].astype(np.int64)
    instants, first = np.unique(ticks.onset, return_index=True)
    held = np.concatenate(
        [[0 if whole else ticks.onset[0]], np.maximum.accumulate(ends)[first[1:] - 1]]
    )  # until then, before it
    notes = np.diff(np.append(first, n))
    if whole and instants[0] > 0:
        instants, held, notes = np.insert(instants, 0, 0), np.insert(held, 0, 0), np.insert(notes, 0, 0)
    gap = np.maximum(instants - held, 0)
    silence = [_rest_ids(g, rests, vocabulary) if g else [] for g in gap.tolist()]
    many_rests = np.array([len(s) for s in silence])
    bar, position = np.divmod(instants, vocabulary.ticks_per_bar)
    bars = np.where(gap > 0, 0, np.diff(bar, prepend=-1))
    chord = _chords(ticks.onset.tolist(), ends.tolist(), ticks.pitch.tolist(), vocabulary.positions_per_beat)
    chord_at = np.searchsorted(instants, np.array(list(chord), np.int64))
    has_chord = np.bincount(chord_at, minlength=len(instants))
    has_tempo = np.zeros(len(instants), np.int64)
    has_tempo[0] = whole

    size = many_rests + bars + 1 + has_tempo + has_chord + 3 * notes
    start = np.cumsum(size) - size
    ids = np.full(int(size.sum()), vocabulary.id("Bar_None"))
    for instant in np.flatnonzero(many_rests).tolist():
        ids[start[instant] : start[instant] + many_rests[instant]] = silence[instant]
    place = start + many_rests + bars
    ids[place] = vocabulary.of_type(POSITION)[1][position]
    if whole:
        ids[place[0] + 1] = clock_tempo(vocabulary)
    ids[(place + 1 + has_tempo)[chord_at]] = [vocabulary.id(f"Chord_{name}") for name in chord.values()]
    body = np.repeat(place + 1 + has_tempo + has_chord - 3 * (np.cumsum(notes) - notes), notes) + 3 * np.arange(n)
    pitches, pitch_ids = vocabulary.of_type(PITCH)
    velocities, velocity_ids = vocabulary.of_type(VELOCITY)
    ids[body] = pitch_ids[grid.closest(pitches, ticks.pitch)]
    ids[body + 1] = velocity_ids[grid.closest(velocities, ticks.velocity)]
    ids[body + 2] = duration_ids[which]
    return ids


def clock_tempo(vocabulary: Vocabulary) -> int:
    """The id of the clock's tempo, or of the one that miditok takes for it: the nearest in microseconds a beat."""
    tempos, ids = vocabulary.of_type(TEMPO)
    return int(ids[np.argmin(np.abs(1 / tempos - 1 / (60 * grid.BEATS_PER_SECOND)))])


def _chords(onset: list[int], end: list[int], pitch: list[int], parts: int) -> dict[int, str]:
    """Tick -> name of the chord that miditok's `detect_chords` finds there, in root position, of notes that end together."""
    names = {intervals: name for name, intervals in CHORDS.items()}
    found, place, previous, n = {}, 0, -1, len(onset)
    while place < n:
        start = onset[place]
        if start == previous:
            place += 1
            continue
        stop = place + 1
        while stop < n and stop < place + CHORD_SCOPE and onset[stop] <= start + 1:
            stop += 1
        if any(abs(e - end[place]) > parts // 2 for e in end[place:stop]):
            place = stop
            continue
        if end[place] - start <= parts // 2:  # short notes must be struck at once
            while onset[stop - 1] != start:
                stop -= 1
        if 3 <= stop - place <= 5:
            name = names.get(tuple(p - pitch[place] for p in pitch[place:stop]))
            if name:
                found[start] = name
        previous, place = onset[stop - 1], stop
    return found


NOT_BEGUN = -1  # the sequence has not begun
UNLIMITED = 1 << 30


@dataclass(frozen=True)
class State:
    """All that the past forbids; ticks are counted from the current bar line."""

    last: int = NOT_BEGUN  # type of the last id
    begun: bool = False  # an event was read: the tempo, a chord or a note
    position: int = -1  # of the current instant
    pitch: int = -1  # of the last note at the current instant
    end: int = 0  # when the last key is released
    room: int = UNLIMITED  # a further rest must be shorter
    silence: int = 0  # ticks of rest in a row


class RestGrammar(GrammarBase):
    """The one way to write a piece: a Rest wherever no key is held and nowhere else, its parts from long to short.

    A piece opens with Bar, Position 0 and the clock's tempo, which never changes. Whether a Chord is the chord of the notes that
    follow is not checked: it is read over in decoding.
    """

    first = State()

    def __init__(self, vocabulary: Vocabulary, max_bars: int | None = 2):
        self._types, self._values = vocabulary.types, vocabulary.values.astype(np.int64)
        self._of = [vocabulary.types == kind for kind in range(len(grid.TYPES))]
        self._tempo = np.arange(len(vocabulary.names)) == clock_tempo(vocabulary)
        self._bar_ticks = vocabulary.ticks_per_bar
        self._longest = UNLIMITED if max_bars is None else max_bars * vocabulary.ticks_per_bar
        rests, _ = vocabulary.of_type(REST)
        self._room = dict(zip(rests.astype(int).tolist(), [*np.diff(rests).astype(int).tolist(), UNLIMITED]))

    def mask(self, state: State) -> np.ndarray:
        """(V,) bool: True for each id that may come next; none after EOS."""
        of, values, last = self._of, self._values, state.last
        if last == NOT_BEGUN:
            return of[BOS] | of[BAR]
        if last == BOS:
            return of[BAR] | of[EOS]
        if last in (EOS, grid.PAD):
            return np.zeros(len(values), bool)
        if last == PITCH:
            return of[VELOCITY].copy()
        if last == VELOCITY:
            return of[DURATION].copy()
        if last == POSITION:
            return of[PITCH] | of[CHORD] if state.begun else self._tempo.copy()
        if last == CHORD:
            return of[PITCH].copy()
        if last == BAR:
            held = state.end if state.begun else 0
            return (of[POSITION] & (values <= max(held, 0))) | (of[BAR] & (held >= self._bar_ticks))
        rests = of[REST] & (values < state.room) & (values + state.silence <= self._longest)
        if last == REST:
            return rests | (of[POSITION] & (values == state.position))
        time = (of[POSITION] & (values > state.position) & (values <= state.end)) | (
            of[BAR] & (state.end >= self._bar_ticks)
        )
        if last == TEMPO:
            return rests | time | of[PITCH] | of[CHORD]
        return rests | time | (of[PITCH] & (values > state.pitch)) | of[EOS]

    def advance(self, state: State, id: int) -> State:
        """The state after one more id."""
        kind, value = int(self._types[id]), int(self._values[id])
        if kind == BAR:
            # the first bar line of a sequence opens the bar in which it stands
            passed = self._bar_ticks if state.begun else 0
            return replace(state, last=BAR, position=-1, pitch=-1, end=state.end - passed, room=UNLIMITED, silence=0)
        if kind == POSITION:
            return replace(state, last=POSITION, position=value, pitch=-1, room=UNLIMITED, silence=0)
        if kind == REST:
            tick = max(state.end, state.position, 0) + value
            passed = tick // self._bar_ticks * self._bar_ticks
            return State(REST, True, tick - passed, -1, state.end - passed, self._room[value], state.silence + value)
        begun = state.begun or kind not in (BOS, EOS, grid.PAD)
        end = max(state.end, max(state.position, 0) + value) if kind == DURATION else state.end
        pitch = value if kind == PITCH else state.pitch
        return replace(state, last=kind, begun=begun, pitch=pitch, end=end, room=UNLIMITED, silence=0)
