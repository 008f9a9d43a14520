"""Pitch strings: the names of notes and the integers of chords in order of onset, and nothing else.

The oldest encoding of the comparison [1], known from many tutorials: "C#4" is a note, "0.4.7" a chord, written as the normal
order of its pitch classes, without octaves. Time, duration and velocity are not encoded: decoded music advances by one fixed step
for each event (0.25 s, an eighth note at 120 beats a minute), and all notes have the length of the step and the same velocity.

Ours differs from the published encoding where its rules leave a case open:
- Notes within 50 ms of a group's first are one chord. Between the notes of a hand's chord and the notes of a run the
  gaps in MAESTRO's training pieces are rarest at 45 to 60 ms (`gap_density`; notebook 02 shows the two peaks).
- The vocabulary is learnt from training pieces only, all 12 transpositions of a chord together, most frequent first. So
  a transposed piece has exactly the ids of the piece played higher.
- A chord that is not in the vocabulary is written as its notes from low to high (published: cannot be written).
- A chord decodes around middle C, as published; a chord of one pitch class is an octave, so that it is a chord again.

[1] Eight models, 34 million parameters: V2 to V5. [2] Forte 1973, The Structure of Atonal Music, on normal order.

Left out: inversion and octaves of chords, which the published integers do not have either.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..config import nearest
from ..errors import ConfigError
from ..notes import HIGHEST_PITCH, LOWEST_PITCH, NOTE, Note, Performance
from . import saved
from .protocol import GrammarBase

CLASSES = 12
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
CHORD_OCTAVE = 60  # chords are decoded from middle C up
SPECIALS = ("PAD", "BOS", "EOS")
FIRST_CHORD = len(SPECIALS) + HIGHEST_PITCH - LOWEST_PITCH + 1  # specials, then the 88 keys, then chords


@dataclass(frozen=True)
class Settings:
    """How performances become strings and strings sound."""

    tolerance: float = 0.05  # s after the first note of a chord
    step: float = 0.25  # s an event
    velocity: int = 90  # of every decoded note


VARIANTS: dict[str, Settings] = {"pitch-string": Settings()}


class PitchStringTokenizer(saved.Saved):
    """One id an event: a note, or a chord as its pitch classes. Untrained it has no chords and writes single notes.

    >>> tokenizer = PitchStringTokenizer().train(performances, 1279)
    >>> tokenizer.names[id]                          # "C#4" or "0.4.7"
    """

    kind = "ittybitty pitch strings"
    pad_id, bos_id, eos_id = range(3)
    exact_clock = False
    keeps = ("pitch",)

    def __init__(self, variant: str | Settings = "pitch-string"):
        """An untrained tokenizer of VARIANTS, or of settings of your own; ConfigError for an unknown name."""
        if isinstance(variant, Settings):
            self.variant, self.settings = "own settings", variant
        elif variant in VARIANTS:
            self.variant, self.settings = variant, VARIANTS[variant]
        else:
            raise ConfigError(f"no pitch string is called {variant!r}: {nearest(variant, VARIANTS)}")
        self.chords: tuple[int, ...] = ()  # bit k of a chord: pitch class k is in it; id FIRST_CHORD + place

    # What it is

    @property
    def vocab_size(self) -> int:
        """Ids in all: specials, the 88 keys, and the chords that were learnt."""
        return FIRST_CHORD + len(self.chords)

    @property
    def names(self) -> list[str]:
        """The name of each id, such as "C#4" or "0.4.7"."""
        keys = [f"{NAMES[p % CLASSES]}{p // CLASSES - 1}" for p in range(LOWEST_PITCH, HIGHEST_PITCH + 1)]
        return [*SPECIALS, *keys, *map(chord_name, self.chords)]

    @property
    def content_hash(self) -> str:
        """Of settings and chords."""
        return saved.hash_of([self.kind, self.fingerprint, list(self.chords)])

    @property
    def fingerprint(self) -> dict:
        """The settings, which with a corpus and a size decide the vocabulary."""
        return dataclasses.asdict(self.settings)

    @property
    def notes_per_id(self) -> np.ndarray:
        """(V,) notes that each id decodes to."""
        return self._lengths.copy()

    def base_types(self, id: int) -> list[str]:
        """["Pitch"], ["Chord"] or the special's name: an id is its own base token."""
        return [SPECIALS[id] if id < len(SPECIALS) else "Pitch" if id < FIRST_CHORD else "Chord"]

    def base_names(self, id: int) -> list[str]:
        """The name of an id, as a list of one."""
        return [self.names[id]]

    def attributes(self, id: int) -> list[str]:
        """["pitch"], or ["other"] for a special."""
        return ["other" if id < len(SPECIALS) else "pitch"]

    @cached_property
    def _id_of_chord(self) -> dict[int, int]:
        return {chord: FIRST_CHORD + place for place, chord in enumerate(self.chords)}

    @cached_property
    def _pitches(self) -> list[list[int]]:
        """The keys of each id, low to high."""
        keys = [[p] for p in range(LOWEST_PITCH, HIGHEST_PITCH + 1)]
        return [[]] * len(SPECIALS) + keys + [_sounding(chord) for chord in self.chords]

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.array([len(p) for p in self._pitches])

    @cached_property
    def _flat(self) -> np.ndarray:
        return np.array([p for pitches in self._pitches for p in pitches])

    # Performances and ids

    def prepare(self, performance: Performance) -> Performance:
        """The performance as it is."""
        return performance

    def encode(self, performance: Performance, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Ids (L,) uint16, one an event, [BOS … EOS] unless told otherwise."""
        pitch, starts, chords, alone = _events(performance, self.settings.tolerance)
        known = self._id_of_chord
        ids = np.array([known.get(chord, 0) for chord in chords.tolist()], np.int64)
        ids[alone] = pitch[starts[alone]] - LOWEST_PITCH + len(SPECIALS)
        unknown = np.flatnonzero(ids == 0)
        if len(unknown):
            ends = np.append(starts[1:], len(pitch))
            events: list = ids[:, None].tolist()
            for event in unknown.tolist():
                events[event] = (np.unique(pitch[starts[event] : ends[event]]) - LOWEST_PITCH + len(SPECIALS)).tolist()
            ids = np.array([id for event in events for id in event])
        return np.concatenate([[self.bos_id] * bos, ids, [self.eos_id] * eos]).astype(np.uint16)

    def decode(self, ids: Iterable[int]) -> Performance:
        """Notes on the fixed grid, all as loud; specials take no time."""
        ids = np.asarray(ids, np.int64)
        ids = ids[ids >= len(SPECIALS)]
        lengths = self._lengths[ids]
        first = np.cumsum(lengths) - lengths
        starts = (np.cumsum(self._lengths) - self._lengths)[ids]
        notes = np.zeros(int(lengths.sum()), NOTE)
        notes["pitch"] = self._flat[np.repeat(starts - first, lengths) + np.arange(len(notes))]
        notes["onset"] = np.repeat(np.arange(len(ids)) * self.settings.step, lengths)
        notes["duration"], notes["velocity"] = self.settings.step, self.settings.velocity
        return Performance(notes)

    def keys_kept(self, performance: Performance) -> int:
        """Notes of a performance whose own key sounds where they are decoded; of the others the octave is another, or they are doubled."""
        pitch, starts, chords, alone = _events(performance, self.settings.tolerance)
        known = np.isin(chords, list(self.chords)) & ~alone
        event = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(pitch))))
        struck = np.unique(np.stack([event, pitch], 1), axis=0)  # a key struck twice in one event sounds once
        single = chords[struck[:, 0]] & (chords[struck[:, 0]] - 1) == 0  # an octave sounds two keys
        high = CHORD_OCTAVE + CLASSES * (1 + single)
        return int((~known[struck[:, 0]] | ((struck[:, 1] >= CHORD_OCTAVE) & (struck[:, 1] < high))).sum())

    def reader(self) -> PitchStringReader:
        """A reader of ids one at a time."""
        return PitchStringReader(self._pitches, self.settings)

    def grammar(self) -> PitchStringGrammar:
        """The rules for sampling: any event after any event."""
        return PitchStringGrammar(self.vocab_size)

    # Augmentation

    def pitch_range(self, ids: Iterable[int]) -> tuple[int, int] | None:
        """Lowest and highest MIDI pitch as decoded; None for no notes."""
        pitches = self.decode(ids).notes["pitch"]
        return (int(pitches.min()), int(pitches.max())) if len(pitches) else None

    def augment(
        self, ids: Iterable[int], semitones: int = 0, velocity_steps: int = 0, stretch: float = 1.0
    ) -> np.ndarray:
        """Ids of the same music transposed; loudness and time are not in them. ValueError if a note would leave the keyboard."""
        ids = np.asarray(ids, np.int64)
        keys = (ids >= len(SPECIALS)) & (ids < FIRST_CHORD)
        moved = np.where(keys, ids + semitones, ids)
        if ((moved < len(SPECIALS)) | (moved >= FIRST_CHORD))[keys].any():
            raise ValueError(f"a shift by {semitones} semitones leaves the keyboard: keep within pitch_range(ids)")
        if semitones % CLASSES:
            table = np.array([self._id_of_chord[_rotated(chord, semitones)] for chord in self.chords], np.int64)
            moved[ids >= FIRST_CHORD] = table[ids[ids >= FIRST_CHORD] - FIRST_CHORD]
        return moved.astype(np.uint16)

    # Learning, saving, loading

    def train(
        self, performances: Iterable[Performance], vocab_size: int = 1279, progress: bool = False
    ) -> PitchStringTokenizer:
        """Learn the chords of the performances, most frequent first, up to `vocab_size` ids. Returns itself.

        The transpositions of a chord come in together or not at all, so that a few ids may be left over.
        """
        if not FIRST_CHORD <= vocab_size <= 65_536:
            raise ConfigError(
                f"vocab_size is {vocab_size}: give {FIRST_CHORD} (88 keys and {len(SPECIALS)} specials) or more, at most 65536"
            )
        counts: Counter[int] = Counter()
        for performance in performances:
            _, _, classes, alone = _events(performance, self.settings.tolerance)
            values, uses = np.unique(classes[~alone], return_counts=True)
            counts.update(dict(zip(values.tolist(), uses.tolist())))
        together: Counter[int] = Counter()
        for chord, times in counts.items():
            together[min(_transpositions(chord))] += times
        chords: list[int] = []
        for chord in sorted(together, key=lambda c: (-together[c], c)):
            if FIRST_CHORD + len(chords) + len(_transpositions(chord)) > vocab_size:
                break
            chords += _transpositions(chord)
        self.asked = vocab_size
        return self._become(tuple(chords))

    def _become(self, chords: tuple[int, ...]) -> PitchStringTokenizer:
        for table in ("_id_of_chord", "_pitches", "_lengths", "_flat"):
            self.__dict__.pop(table, None)
        self.chords = chords
        return self

    def document(self) -> dict:
        """Settings and chords by name."""
        return {"settings": self.fingerprint, "chords": [chord_name(chord) for chord in self.chords]}

    @classmethod
    def from_document(cls, document: Mapping) -> PitchStringTokenizer:
        """The tokenizer that `document` wrote."""
        loaded = cls(Settings(**document["settings"]))
        loaded.variant = document["variant"]
        return loaded._become(tuple(sum(1 << int(k) for k in name.split(".")) for name in document["chords"]))


class PitchStringReader:
    """Ids -> notes one id at a time."""

    def __init__(self, pitches: list[list[int]], settings: Settings):
        self._pitches, self._settings, self._events = pitches, settings, 0

    @property
    def clock(self) -> float:
        """Second of the last event (0 before the first)."""
        return max(self._events - 1, 0) * self._settings.step

    def feed(self, id: int) -> list[Note]:
        """The notes of this id, in seconds from the beginning of the sequence."""
        pitches = self._pitches[int(id)]
        self._events += bool(pitches)
        return [Note(self.clock, self._settings.step, pitch, self._settings.velocity) for pitch in pitches]


class PitchStringGrammar(GrammarBase):
    """A state is the last id (-1 before the first): BOS comes first or not at all, nothing comes after EOS, PAD never."""

    first = -1

    def __init__(self, vocab_size: int):
        events = np.arange(vocab_size) >= len(SPECIALS)
        self._after_event = events | (np.arange(vocab_size) == SPECIALS.index("EOS"))
        self._first = events | (np.arange(vocab_size) == SPECIALS.index("BOS"))
        self._nothing = np.zeros(vocab_size, bool)

    def mask(self, state: int) -> np.ndarray:
        """(V,) bool: True for each id that may come next."""
        if state < 0:
            return self._first.copy()
        return (self._nothing if state in (SPECIALS.index("PAD"), SPECIALS.index("EOS")) else self._after_event).copy()

    def advance(self, state: int, id: int) -> int:
        """The state after one more id."""
        return int(id)


def _events(performance: Performance, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pitches (N,), and of each event: index of its first note, its pitch classes as bits, whether it is one key alone."""
    notes = performance.notes
    notes = notes[(notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH)]
    pitch, first, end = notes["pitch"].astype(np.int64), [], -np.inf
    for place, onset in enumerate(notes["onset"].tolist()):
        if onset > end:
            first.append(place)
            end = onset + tolerance
    if not first:
        return pitch, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool)
    starts = np.array(first)
    classes = np.bitwise_or.reduceat(1 << pitch % CLASSES, starts)
    return pitch, starts, classes, np.minimum.reduceat(pitch, starts) == np.maximum.reduceat(pitch, starts)


def _rotated(chord: int, semitones: int) -> int:
    semitones %= CLASSES
    return (chord << semitones | chord >> CLASSES - semitones) & (1 << CLASSES) - 1


def _transpositions(chord: int) -> list[int]:
    """All different ones, rising."""
    return sorted({_rotated(chord, semitones) for semitones in range(CLASSES)})


def _classes(chord: int) -> list[int]:
    return [k for k in range(CLASSES) if chord >> k & 1]


def _sounding(chord: int) -> list[int]:
    """Keys from middle C up; a single pitch class as an octave."""
    classes = _classes(chord)
    return [CHORD_OCTAVE + k for k in (classes if len(classes) > 1 else [classes[0], classes[0] + CLASSES])]


def normal_order(classes: Iterable[int]) -> list[int]:
    """Pitch classes in the rotation that spans least, then begins with the smallest steps [2]; music21's own, a test holds."""
    classes = sorted({k % CLASSES for k in classes})
    rotations = [classes[i:] + classes[:i] for i in range(len(classes))]
    above = [[(k - rotation[0]) % CLASSES for k in rotation] for rotation in rotations]
    return min(((a[-1], a, r) for a, r in zip(above, rotations)), default=(0, [], []))[2]


def chord_name(chord: int) -> str:
    """A chord's integers in normal order, such as "0.4.7"."""
    return ".".join(map(str, normal_order(_classes(chord))))


def gap_density(performances: Iterable[Performance], edges: np.ndarray) -> np.ndarray:
    """Share of the gaps between successive onsets that fall between `edges` (s), per second: where chords end and runs begin."""
    gaps = [np.diff(p.notes["onset"]) for p in performances]
    counts, _ = np.histogram(np.concatenate(gaps), edges)
    return counts / max(1, sum(map(len, gaps))) / np.diff(edges)
