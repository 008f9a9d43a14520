"""Memorisation: the longest run of notes that a continuation shares with the training pieces, compared with human music.

    results = memorisation(make_trials("tiny", data, "validation", pieces=40), corpus.split("train"))

A performance becomes a line of symbols, one from each note to the next: the interval in semitones, so that a transposed copy
counts as a copy, and the time between the two notes. Times are first rounded to a grid of 1/48 s, as the tokens are, so that
music copied token by token is found. Notes within CHORD ticks of the first note of a chord belong to that chord and are
sorted from low to high. Times between chords are compared in the classes of TIME_EDGES (a quarter of an octave of tempo wide).
Runs of kind "pitch" compare intervals and which notes sound together; "pitch and time" compares the time classes too. A run
of n notes has n - 1 symbols.

The index stores rolling hashes [1]: the hash of a run is a difference of two prefix sums, so the hashes of all runs of one
length, over the six million notes of MAESTRO's training pieces, take a few vector operations. Whether a line shares a run of
a given length is a search among them. The longest run is found by doubling and halving the length, for all lines at once, and
is then compared symbol by symbol, which would reveal a collision of hashes.

[1] Karp and Rabin 1987, Efficient randomized pattern-matching algorithms.

Left out: near copies (a changed note ends a run), and voices (a run contains all notes). For a tokenizer with a grid coarser
than 1/48 s only the "pitch" runs can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .. import metrics
from ..corpora import Piece
from ..errors import UNREADABLE, CorpusError, ResultError
from ..notes import Performance
from .bits import shown
from .trials import Trials

TICKS_PER_SECOND = 48.0
CHORD = 1  # ticks after its first note that a chord lasts
TIME_EDGES = 2.0 ** np.arange(0.25, 10, 0.25)  # ticks: classes of the time between chords
KINDS = ("pitch", "pitch and time")
LENGTHS = (4, 6, 8, 12, 16, 24, 32)  # notes of the runs whose share is reported
_SEPARATOR = -1  # between pieces: equal to no symbol, not even to itself elsewhere


def symbols(performance: Performance, kind: str = "pitch and time") -> np.ndarray:
    """(N - 1,) int64 of a performance of N notes: one for each step to the next note; the same after transposing."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: give one of {KINDS}")
    if len(performance) < 2:
        return np.empty(0, np.int64)
    pitch, chord, tick = _canonical(performance)
    together = np.diff(chord) == 0
    step = np.where(together, 0, 1)
    if kind == "pitch and time":
        step = np.where(together, 0, 1 + np.searchsorted(TIME_EDGES, np.diff(tick)))
    return (np.diff(pitch) + 128) * 64 + step


def _canonical(performance: Performance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch, number of the chord and its tick, of each note; chords in order of time, within a chord from low to high."""
    ticks = np.floor(performance.notes["onset"] * TICKS_PER_SECOND + 0.5).astype(np.int64)
    order = np.argsort(ticks, kind="stable")
    ticks, pitches = ticks[order], performance.notes["pitch"][order].astype(np.int64)
    chord, number, first = np.empty(len(ticks), np.int64), -1, -np.inf
    starts = []
    for i, tick in enumerate(ticks.tolist()):
        if tick > first + CHORD:
            number, first = number + 1, tick
            starts.append(tick)
        chord[i] = number
    order = np.lexsort((pitches, chord))
    return pitches[order], chord[order], np.array(starts)[chord[order]]


@dataclass(frozen=True)
class Match:
    """The longest run that a line shares with the index."""

    notes: int  # 0 where it has no run at all
    start: int = 0  # its first note's number in the line
    piece: str = ""  # the training piece that has it, or the first that does
    piece_note: int = 0  # number of its first note there


class TrainingIndex:
    """An index of all runs of all training pieces, for one kind of symbol (see the module's docstring)."""

    def __init__(self, lines: Sequence[tuple[str, np.ndarray]], kind: str = "pitch and time"):
        """`lines` are names and symbols; CorpusError if there is none."""
        if not any(len(line) for _, line in lines):
            raise CorpusError(
                "no training piece has two notes: there is nothing to have been memorised; give a corpus that has some"
            )
        self.kind = kind
        self.names = [name for name, _ in lines]
        self.starts = np.cumsum([0] + [len(line) + 1 for _, line in lines])  # in the joined line
        self.line = np.concatenate([np.append(line, _SEPARATOR) for _, line in lines])
        self.notes = len(self.line)
        self._hash = _Hash(self.line)
        # how many symbols from each place to the end of its piece
        self._left = np.repeat(self.starts[1:] - 1, np.diff(self.starts)) - np.arange(len(self.line))

    @classmethod
    def of(cls, pieces: Iterable[Piece], kind: str = "pitch and time", progress: bool = False) -> TrainingIndex:
        """From pieces; those that cannot be read are left out."""
        return cls(_lines(pieces, (kind,), progress)[kind], kind)

    def runs(self, length: int) -> np.ndarray:
        """Sorted hashes of all runs of `length` symbols that lie within one piece."""
        return np.sort(self._hash.runs(length)[self._left[: max(0, len(self.line) - length + 1)] >= length])

    def shared(self, line: np.ndarray, length: int) -> np.ndarray:
        """(N - length + 1,) bool: which runs of `length` symbols of a line are in the index."""
        return _contains(self.runs(length), _Hash(line).runs(length))

    def longest(self, lines: Sequence[np.ndarray]) -> list[Match]:
        """The longest shared run of each line."""
        hashes = [_Hash(line) for line in lines]
        low = np.zeros(len(lines), np.int64)  # the longest run known to be shared
        high = np.array([len(line) for line in lines])  # the longest that may be
        length, start = 1, [0] * len(lines)
        while (low < high).any():
            table = self.runs(length)
            for i in np.flatnonzero((low < length) & (length <= high)).tolist():
                if (shared := np.flatnonzero(_contains(table, hashes[i].runs(length)))).size:
                    low[i], start[i] = length, int(shared[0])
                else:
                    high[i] = length - 1
            if (unsure := np.flatnonzero(low < high)).size:
                i = int(unsure[0])
                length = min(2 * int(low[i]), (int(low[i] + high[i]) + 1) // 2)  # doubling, then halving
        return [self._match(line, start[i], int(low[i])) for i, line in enumerate(lines)]

    def _match(self, line: np.ndarray, start: int, length: int) -> Match:
        """Where the run of that start and length is, compared symbol by symbol."""
        if not length:
            return Match(0)
        run = line[start : start + length]
        theirs = self._hash.runs(length)
        for place in np.flatnonzero(
            (theirs == _Hash(run).runs(length)[0]) & (self._left[: len(theirs)] >= length)
        ).tolist():
            if np.array_equal(run, self.line[place : place + length]):
                piece = int(np.searchsorted(self.starts, place, side="right")) - 1
                return Match(length + 1, start, self.names[piece], place - int(self.starts[piece]))
        raise ResultError(
            "two different runs have the same hash; change _Hash.BASE and measure again"
        )  # once in 10^8 corpora


class _Hash:
    """Hashes of all runs of a line, for any length: sums of symbol values times powers of an odd number, modulo 2^64 [1]."""

    BASE = 0x9E3779B97F4A7C15  # odd, so that it can be divided by
    INVERSE = pow(BASE, -1, 2**64)

    def __init__(self, line: np.ndarray):
        size = len(line)
        self._inverse = _powers(self.INVERSE, size)
        values = _mixed(np.asarray(line, np.int64).astype(np.uint64)) * _powers(self.BASE, size)[:size]
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])

    def runs(self, length: int) -> np.ndarray:
        """(N - length + 1,) hashes, one a run; equal runs have equal hashes wherever they are."""
        if length >= len(self._sums):
            return np.empty(0, np.uint64)
        return (self._sums[length:] - self._sums[: len(self._sums) - length]) * self._inverse[
            : len(self._sums) - length
        ]


def _powers(base: int, size: int) -> np.ndarray:
    """(size + 1,) base^0 … base^size modulo 2^64."""
    factors = np.full(size + 1, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Symbols as 64 bits that look random (Steele et al. 2014, SplitMix): sums of small numbers would collide."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _contains(table: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(table):
        return np.zeros(len(wanted), bool)
    return table[np.minimum(np.searchsorted(table, wanted), len(table) - 1)] == wanted


def _lines(pieces: Iterable[Piece], kinds: Sequence[str], progress: bool) -> dict[str, list[tuple[str, np.ndarray]]]:
    lines: dict[str, list[tuple[str, np.ndarray]]] = {kind: [] for kind in kinds}
    for piece in shown(pieces, progress, "indexing"):
        try:
            performance = piece.load()
        except UNREADABLE:
            continue
        for kind in kinds:
            lines[kind].append((piece.name, symbols(performance, kind)))
    return lines


def memorisation(trials: Trials, training: Sequence[Piece], progress: bool = True) -> dict:
    """For each kind of run, the longest one that continuations, their truth and other humans share with the training pieces.

    The result also has the share of all runs of LENGTHS notes that occur in training: a generated share that stays above
    the human one means copying. CorpusError for an empty training split.
    """
    sets = {"generated": trials.generated, "truth": trials.truth, "other_humans": list(trials.others)}
    lines = _lines(training, KINDS, progress)
    found: dict[str, dict] = {}
    for kind in KINDS:
        index = TrainingIndex(lines.pop(kind), kind)
        own = {name: [symbols(piece, kind) for piece in pieces] for name, pieces in sets.items()}
        longest = {name: index.longest(part) for name, part in own.items()}
        of_kind: dict = {name: _figures(longest[name], [len(piece) for piece in sets[name]]) for name in sets}
        for length in LENGTHS:
            table = index.runs(length - 1)
            for name, part in own.items():
                shared = [_contains(table, _Hash(line).runs(length - 1)) for line in part]
                total = sum(map(len, shared))
                share = float(sum(map(np.sum, shared)) / total) if total else None
                of_kind[name].setdefault("share_of_runs", {})[str(length)] = share
        of_kind["per_trial"] = [
            {"name": trial.name, "generated": vars(made), "truth": vars(played)}
            for trial, made, played in zip(trials.trials, longest["generated"], longest["truth"])
        ]
        found[kind] = of_kind
    return {
        "measures": "memorisation",
        **trials.header,
        "training_pieces": len(training),
        "training_notes": index.notes,
        "grid": {
            "ticks_per_second": TICKS_PER_SECOND,
            "chord_ticks": CHORD,
            "classes_of_time": "a quarter of an octave",
        },
        "longest": found,
    }


def _figures(matches: Sequence[Match], notes: Sequence[int]) -> dict:
    runs = np.array([match.notes for match in matches])
    if not len(runs):
        return {"excerpts": 0}
    return {
        "excerpts": len(runs),
        "notes": int(sum(notes)),
        "mean": float(runs.mean()),
        "ci95": list(metrics.bootstrap_interval(runs)),
        "median": float(np.median(runs)),
        "longest": int(runs.max()),
        "runs": runs.tolist(),
    }
