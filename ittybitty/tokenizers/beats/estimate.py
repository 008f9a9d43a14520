"""Estimates beats for a performance without annotated beats, and measures how good the estimates are.

partitura's estimator follows several hypotheses of tempo and phase through the onsets [1]. On every fifth piece of ASAP's
validation split it finds the annotated beats with an F-measure of 0.39 at ±70 ms. pretty_midi's estimate_tempo with
estimate_beat_start, which assume one tempo, reach 0.31. Expressive piano music is hard, and many errors are a wrong level (half
or twice the tempo). A model that learnt from annotated beats has not seen sequences like those on estimated beats.

The estimator reads onsets only, so a transposed piece has the same beats.

[1] Dixon 2001, Automatic extraction of tempo and beat from expressive performances. JNMR 30; Cancino-Chacón et al. 2022,
Partitura. [2] Davies, Degara & Plumbley 2009, Evaluation methods for musical audio beat tracking algorithms, as in mir_eval.
Left out: downbeats.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from ...notes import Performance
from .grid import FASTEST, SLOWEST

TOLERANCE = 0.07  # s, of the F-measure
USUAL_TEMPO = 120.0  # where nothing can be estimated
FEWEST_ONSETS = 8


def estimate_beats(performance: Performance) -> np.ndarray:
    """(n,) rising seconds, at least two; 120 beats a minute from the first note if there are too few notes for an estimate."""
    beats = _estimated(performance)
    if len(beats) >= 2 and SLOWEST <= 60 / np.median(np.diff(beats)) <= FASTEST:
        return beats
    start = float(performance.notes["onset"].min(initial=performance.end))
    return start + np.arange(2 + int((performance.end - start) * USUAL_TEMPO / 60)) * 60 / USUAL_TEMPO


def _estimated(performance: Performance) -> np.ndarray:
    notes = performance.notes
    if len(np.unique(notes["onset"])) < FEWEST_ONSETS:
        return np.empty(0)
    from partitura.musicanalysis import estimate_time

    told = np.zeros(
        len(notes), [("onset_sec", "f4"), ("duration_sec", "f4"), ("pitch", "i4"), ("velocity", "i4"), ("id", "U8")]
    )
    for field, name in (("onset_sec", "onset"), ("duration_sec", "duration"), ("velocity", "velocity")):
        told[field] = notes[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what it could not decide
        beats = np.asarray(estimate_time(told)["beats"], float)
    beats = beats[:, 0] if beats.ndim == 2 else beats
    return np.unique(beats[np.isfinite(beats)])


def against_annotations(pieces: Iterable) -> dict:
    """Mean F-measure over pieces that have beats: of `estimate_beats`, and of pretty_midi's one tempo for a whole piece."""
    ours, steady, names = [], [], []
    for piece in pieces:
        performance = piece.load()
        if performance.beats is None or not len(performance):
            continue
        names.append(piece.name)
        ours.append(f_measure(performance.beats, estimate_beats(performance)))
        steady.append(f_measure(performance.beats, steady_beats(performance)))
    mean = [float(np.mean(scores)) if scores else float("nan") for scores in (ours, steady)]
    return {
        "f_measure": mean[0],
        "pretty_midi": mean[1],
        "tolerance_ms": 1000 * TOLERANCE,
        "pieces": len(names),
        "per_piece": dict(zip(names, ours)),
    }


def steady_beats(performance: Performance) -> np.ndarray:
    """What pretty_midi makes of it: one tempo and one phase for the whole piece."""
    import pretty_midi

    midi, piano = pretty_midi.PrettyMIDI(), pretty_midi.Instrument(0)
    piano.notes = [
        pretty_midi.Note(note.velocity, note.pitch, note.onset, note.onset + note.duration) for note in performance
    ]
    midi.instruments.append(piano)
    return np.arange(midi.estimate_beat_start(), performance.end, 60 / midi.estimate_tempo())


def f_measure(annotated: np.ndarray, estimated: np.ndarray) -> float:
    """Share of beats found, and of beats found rightly, within 70 ms, in one number from 0 to 1 [2]."""
    import mir_eval

    return float(mir_eval.beat.f_measure(np.asarray(annotated, float), np.asarray(estimated, float), TOLERANCE))
