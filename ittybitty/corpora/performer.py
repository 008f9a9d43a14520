"""Adds expressive timing, velocity and pedal to a printed score, by a small model of how a pianist plays.

It uses the score's notes, bars and marked dynamics, in this order:

1. phrases end at fermatas, or every four bars where there are none;
2. tempo rises towards the middle of a phrase and falls at its end (Todd's parabola [1]), more so at the last bar, and
   drifts a little by chance from beat to beat;
3. velocity follows marked dynamics, the arch of the phrase, the metre (bar line, beat), the voice (melody over bass over
   inner parts) and pitch ("high loud" [2]);
4. the notes of a chord do not begin together: the melody leads by about 20 ms [3], the others are spread upwards, with jitter;
5. notes are held for most of their length, staccato for less than half;
6. the pedal is changed just after each bar line and each new bass note (legato pedalling), and sometimes left out.

Random numbers come from a generator that the caller seeds, so the same work always sounds the same. Left out: ornaments,
grace notes, repeats, the soft pedal, and anything learnt from data.

[1] Todd 1992, The dynamics of dynamics. JASA 91. [2] Friberg, Bresin & Sundberg 2006, Overview of the KTH rule system for
musical performance. [3] Goebl 2001, Melody lead in piano performance. JASA 110.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..notes import NOTE, PEDAL, Performance, without_overlaps

SCORE_NOTE = np.dtype(
    [
        ("onset", "f8"),  # quarter notes from the start
        ("duration", "f8"),  # quarter notes, ties joined
        ("pitch", "i2"),
        ("part", "i2"),  # 0 is the highest part
        ("level", "f4"),  # marked dynamic: 0.5 is between mp and mf
        ("staccato", "?"),
    ]
)

GRID = 0.125  # quarter notes between points of the tempo curve
LEAD_IN = 0.5  # s of silence before the first bar
BARS_A_PHRASE = 4
SHORTEST = 0.04  # s, no key is held for less
PEDAL_GAP = 0.7  # s, at least, between two changes of the pedal


@dataclass(frozen=True, eq=False)
class Score:
    """A printed score: notes, and the times of bars, beats and fermatas, all in quarter notes."""

    notes: np.ndarray  # (n,) SCORE_NOTE, sorted by onset and pitch
    bars: np.ndarray  # (b,) where bars begin, sorted
    beat: float  # length of a beat
    fermatas: np.ndarray  # (f,) where notes under a fermata end

    @property
    def end(self) -> float:
        return float((self.notes["onset"] + self.notes["duration"]).max())


def play(score: Score, tempo: float, chance: np.random.Generator) -> Performance:
    """`score` as a performance at about `tempo` quarter notes per minute, with its beats."""
    phrases = _phrases(score)
    seconds = _TempoCurve(score, phrases, tempo, chance)
    melody, bass = _voices(score.notes)
    printed = score.notes
    notes = np.empty(len(printed), NOTE)
    notes["pitch"] = printed["pitch"]
    notes["velocity"] = _velocities(score, phrases, melody, bass, chance)
    onset = seconds(printed["onset"])
    held = seconds(printed["onset"] + printed["duration"]) - onset
    touch = np.where(printed["staccato"], 0.42, np.where(melody, 0.97, 0.92)) + chance.normal(0, 0.03, len(printed))
    notes["onset"] = np.maximum(onset + _asynchrony(printed, melody, chance), 0)
    notes["duration"] = np.maximum(held * touch, SHORTEST)
    notes = np.sort(notes, order=("onset", "pitch"))
    return without_overlaps(Performance(notes, _pedals(score, bass, seconds, chance), seconds(_beats(score))))


def _beats(score: Score) -> np.ndarray:
    """(n,) beats in quarter notes, counted from the first complete bar in both directions, because a pick-up may precede it."""
    first = float(score.bars[1]) % score.beat if len(score.bars) > 1 else 0.0
    return np.arange(first, score.end + score.beat, score.beat)


def _phrases(score: Score) -> np.ndarray:
    """(p + 1,) bounds of the phrases in quarter notes."""
    inner = score.fermatas if len(score.fermatas) > 1 else score.bars[BARS_A_PHRASE::BARS_A_PHRASE]
    inner = np.unique(inner)
    return np.concatenate([[0.0], inner[(inner > 0) & (inner < score.end - score.beat)], [score.end]])


def _place(at: np.ndarray, phrases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the phrase of each time, and the position within the phrase (0..1)."""
    index = np.clip(np.searchsorted(phrases, at, side="right") - 1, 0, len(phrases) - 2)
    return index, np.clip((at - phrases[index]) / (phrases[index + 1] - phrases[index]), 0, 1)


def _arch(x: np.ndarray) -> np.ndarray:
    """0 at both ends of a phrase, 1 in its middle ([1], the parabola)."""
    return 4 * x * (1 - x)


class _TempoCurve:
    """Quarter notes to seconds."""

    def __init__(self, score: Score, phrases: np.ndarray, tempo: float, chance: np.random.Generator):
        self.grid = np.arange(0, score.end + score.beat + GRID, GRID)
        index, x = _place(self.grid, phrases)
        speed = 0.95 + 0.10 * _arch(x)
        last = index == len(phrases) - 2
        span = np.where(last, 4, 1) * score.beat  # the slowing takes the last beat of a phrase, the last bar of a piece
        depth = np.where(last, 0.35, 0.13)
        left = phrases[index + 1] - self.grid
        speed *= 1 - depth * np.clip(1 - left / span, 0, 1) ** 2
        beats = np.arange(0, self.grid[-1] + score.beat, score.beat)
        drift = np.convolve(chance.normal(0, 0.03, len(beats) + 4), np.full(5, 0.2), mode="valid")
        speed *= 1 + np.interp(self.grid, beats, drift)
        steps = GRID * 60 / (tempo * speed)  # s between points of the grid
        self.seconds = LEAD_IN + np.concatenate([[0], np.cumsum(steps[:-1])])

    def __call__(self, quarters: np.ndarray) -> np.ndarray:
        return np.interp(quarters, self.grid, self.seconds)


def _voices(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two masks: melody (top note of the highest part at each onset) and bass (lowest note of the lowest part)."""
    melody, bass = np.zeros(len(notes), bool), np.zeros(len(notes), bool)
    for mask, part, sign in ((melody, 0, -1), (bass, notes["part"].max(), 1)):
        members = np.flatnonzero(notes["part"] == part)
        order = members[np.lexsort((sign * notes["pitch"][members], notes["onset"][members]))]
        mask[order[np.diff(notes["onset"][order], prepend=-1.0) > 0]] = True
    return melody, bass


def _velocities(
    score: Score, phrases: np.ndarray, melody: np.ndarray, bass: np.ndarray, chance: np.random.Generator
) -> np.ndarray:
    """(n,) MIDI velocities."""
    notes = score.notes
    index, x = _place(notes["onset"], phrases)
    bar = score.bars[np.clip(np.searchsorted(score.bars, notes["onset"] + 1e-6) - 1, 0, None)]
    position = np.abs(notes["onset"] - bar)
    on_beat = np.abs(position / score.beat - np.rint(position / score.beat)) < 1e-3
    velocity = 38 + 50 * notes["level"] + 12 * (_arch(x) - 0.5) + chance.normal(0, 3, len(phrases))[index]
    velocity += np.where(position < 1e-3, 6, np.where(on_beat, 2, -3))
    velocity += np.where(melody, 9, np.where(bass, 2, -5))
    velocity += 0.12 * (notes["pitch"] - 64.0) + chance.normal(0, 3, len(notes))
    return np.clip(np.rint(velocity), 12, 118).astype("i2")


def _asynchrony(notes: np.ndarray, melody: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """(n,) seconds by which each key is early (negative) or late."""
    fresh = np.diff(notes["onset"], prepend=-1.0) > 0
    rank = np.arange(len(notes)) - np.maximum.accumulate(np.where(fresh, np.arange(len(notes)), 0))
    late = 0.003 * rank + chance.normal(0, 0.006, len(notes))  # notes are sorted by pitch: spread upwards
    return np.where(melody, late - 0.003 * rank - np.abs(chance.normal(0.020, 0.008, len(notes))), late)


def _pedals(score: Score, bass: np.ndarray, seconds: _TempoCurve, chance: np.random.Generator) -> np.ndarray:
    """PEDAL intervals: down shortly after each change of harmony, up shortly after the next one."""
    changes = seconds(np.union1d(score.bars, score.notes["onset"][bass]))
    kept: list[float] = []
    for change in changes:
        if not kept or change - kept[-1] >= PEDAL_GAP:
            kept.append(change)
    start = np.array(kept)
    end = float(seconds(np.array([score.end]))[0])
    down = start + 0.10 + chance.normal(0, 0.015, len(start))
    up = np.minimum(np.append(start[1:], end) + 0.02 + chance.normal(0, 0.01, len(start)), down + 4.0)
    played = (chance.random(len(start)) > 0.12) & (up - down > 0.1)
    pedals = np.empty(int(played.sum()), PEDAL)
    pedals["onset"], pedals["duration"] = down[played], (up - down)[played]
    return pedals
