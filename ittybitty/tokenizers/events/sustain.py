"""Folds the sustain pedal into the durations of notes, by the rules of Magenta's note-seq [1].

A note that is released while the pedal is down sounds until the pedal comes up, or until its key is struck again.
What is left has no pedal. The published likelihoods of MAESTRO were measured on performances of this kind (bits per note of
a model that also predicts the pedal are another quantity).

Two rules of [1] that are easily missed: at one instant the pedal's press is read before its release, so a pedal that is
released and pressed again at the same instant is up; and of two strikes of one key at one instant under the pedal only the
second stays.

[1] note_seq/sequences_lib.py, apply_sustain_control_changes (controller 64, down from 64 on).
"""

from __future__ import annotations

import numpy as np

from ...notes import PEDAL, Performance


def with_sustain(performance: Performance) -> Performance:
    """The performance with its pedal folded into durations; a performance without pedal comes back as it is."""
    if not len(performance.pedals) or not len(performance):
        return Performance(performance.notes, np.empty(0, PEDAL))
    notes = performance.notes.copy()
    press, release = _spans(performance.pedals)
    onset = notes["onset"]
    off = onset + notes["duration"]  # the key comes up
    end = off.copy()  # the sound ends
    span = np.searchsorted(press, off, side="right") - 1  # the last press at or before `off`
    held = (span >= 0) & (release[np.maximum(span, 0)] > off)
    end[held] = release[span[held]]
    removed = _end_at_next_strike(notes["pitch"], onset, end, _down(press, release, onset))
    notes["duration"] = end - onset
    return Performance(notes[~removed], np.empty(0, PEDAL))


def _spans(pedals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Press and release of each stretch of pedal, without those that begin at the instant at which the one before ends."""
    press, release = pedals["onset"], pedals["onset"] + pedals["duration"]
    kept = np.ones(len(press), bool)
    kept[1:] = press[1:] > release[:-1]
    return press[kept], release[kept]


def _down(press: np.ndarray, release: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n,) bool: is the pedal down at these times? At the time of a press it is, at the time of a release it is not."""
    span = np.searchsorted(press, at, side="right") - 1
    return (span >= 0) & (release[np.maximum(span, 0)] > at)


def _end_at_next_strike(pitch: np.ndarray, onset: np.ndarray, end: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Ends sounds, in place, at the next strike of their key under the pedal; (n,) bool: which notes have no time left."""
    order = np.argsort(pitch, kind="stable")  # by key, within a key by onset
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    removed = np.zeros(len(pitch), bool)
    waiting, ahead = np.arange(len(pitch)), 1
    while len(waiting):  # a strike without pedal ends nothing: then the strike after it counts
        there = place[waiting] + ahead
        inside = there < len(order)
        waiting, there = waiting[inside], there[inside]
        following = order[there]
        sounds = (pitch[following] == pitch[waiting]) & (onset[following] <= end[waiting])
        waiting, following = waiting[sounds], following[sounds]
        cut = down[following]
        end[waiting[cut]] = onset[following[cut]]
        removed[waiting[cut]] = onset[following[cut]] == onset[waiting[cut]]
        waiting, ahead = waiting[~cut], ahead + 1
    return removed
