"""Draws notes and numbers with matplotlib, in one style: for notebooks, for the command line's --plot and for the paper.

Every function draws into `ax`, or into a new figure without it, and returns the axes; saving and showing are up to the
caller. appearance.py holds the colours and the style of them all.

Left out: computing what is drawn (metrics.py, evaluation/).
"""

from __future__ import annotations

from .appearance import BLACK, BLUE, GREEN, GREY, NEW, ORANGE, PALETTE, PURPLE, SEED, SKY, VERMILION, style
from .models import attention_mask, diagram, next_token, scaling
from .music import patterns, piano_roll
from .results import by_position, claims, endurance, intervals, overlaps, shared_runs, shares
from .training import learning_curves, training_curve

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "NEW",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "SEED",
    "SKY",
    "VERMILION",
    "attention_mask",
    "by_position",
    "claims",
    "diagram",
    "endurance",
    "intervals",
    "learning_curves",
    "next_token",
    "overlaps",
    "patterns",
    "piano_roll",
    "scaling",
    "shared_runs",
    "shares",
    "style",
    "training_curve",
]
