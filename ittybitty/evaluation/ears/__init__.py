"""Listening by number: does a continuation fit its opening, does it stay music, does it get stuck or fall silent?

    result = listen("tiny", data)            # or listen(PIANISTS, data): what the pianists themselves played

    matching.py     how often a fixed distance on features finds the opening that a continuation belongs to
    endurance.py    windows of a long continuation that lie outside what pianists play
    faults.py       one key played over and over, and silences
    drift.py        how far pianists move from the pace, register and loudness of their openings
    measure.py      the three of a model or of the pianists, on held-out pieces -> one record
    rolls.py        openings with both continuations as piano rolls on one page, for eyes

No number here hears music: they tell where it fails in ways that anyone would hear.
"""

from __future__ import annotations

from .measure import PIANISTS, Plan, listen
from .rolls import draw_rolls, rolls

__all__ = ["PIANISTS", "Plan", "draw_rolls", "listen", "rolls"]
