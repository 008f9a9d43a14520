"""How good a model is: bits per note, what its encoding loses, baselines, and metrics of the music that it writes.

    bits.py                   bits per note of held-out pieces, and by position in the piece
    likelihood.py             bits of each token of a piece
    performance.py            likelihood at the information of Magenta's performance encoding, and its tokens per note
    results.py                results files with their provenance
    baselines.py              the same table for what needs no network: ngram.py (Kneser-Ney), notelist.py (xz)
    trials.py                 seeds cut from held-out pieces, continued by a model and by the pianist
    continuation_metrics.py   music metrics of both; mgeval.py measures how far one set of pieces is from another
    long_continuations.py     the same metrics along a continuation of ten thousand tokens
    ears/                     fit to the opening, endurance, one key over and over, silences; piano rolls of continuations
    two_sample.py             can a small classifier tell continuations from what pianists played?
    memorisation.py           what a continuation shares with the training pieces

Left out: what a figure is compared with in the paper (paper/make/).
"""

from __future__ import annotations

from .bits import LENGTH, by_position, evaluate, evenly_spaced, score, summary
from .results import data_hash, read_records, record

__all__ = [
    "LENGTH",
    "by_position",
    "data_hash",
    "evaluate",
    "evenly_spaced",
    "read_records",
    "record",
    "score",
    "summary",
]
