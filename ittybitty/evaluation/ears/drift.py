"""How pianists go on after the opening of a piece, in pace, register and loudness: the figures of tokenizers/events/hold.py.

For each quantity: the regression of its mean in later windows on its mean in the opening, in which a piece counts once however
many windows it has; the margin that half of all windows keep around the regression; and its standard deviation over the
notes of a piece.

    pace        notes a second from the first onset to the last, log2
    register    MIDI number
    loudness    MIDI velocity
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...corpora import Corpus
from ...errors import ConfigError, CorpusError
from ...notes import Performance
from ..bits import chosen_pieces
from ..results import data_hash
from .endurance import values_by_window, window_values
from .measure import opening_of, read_performances

QUANTITIES = ("pace", "register", "loudness")
TICK = 1 / 48  # s, of the time between two notes of a chord, which has no logarithm
FEWEST = 30  # notes of an opening


@dataclass(frozen=True)
class DriftPlan:
    """How much of a piece is looked at."""

    pieces: int = 160
    opening: float = 40.0  # s
    notes: int = 3000  # after the opening
    window: int = 500  # notes

    def __post_init__(self):
        for name in ("pieces", "opening", "window"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: give a number above 0")
        if self.notes < self.window:
            raise ConfigError(f"notes is {self.notes}: give as many as a window has, {self.window}, or more")


def drift(
    data: str | Path | Corpus | None, split: str = "train", plan: DriftPlan = DriftPlan(), progress: bool = True
) -> dict:
    """{"habits": {quantity: {"intercept", "slope", "margin", "spread"}}} with the counts and the drift without regression.

    Raises the errors of reading a corpus, and CorpusError where fewer than three pieces are long enough.
    """
    corpus, pieces = chosen_pieces(data, split, plan.pieces)
    openings, later, spreads, names = [], [], [], []
    for name, piece in read_performances(pieces, progress):
        opening = opening_of(name, piece, plan.opening)
        windows = values_by_window(Performance(opening.rest.notes[: plan.notes]), plan.window)
        if len(opening.seed) >= FEWEST and windows:
            openings.append(_row(window_values(opening.seed.notes)))
            later.append(np.array([_row(one) for one in windows]))
            spreads.append(_spread(piece.notes))
            names.append({"name": name, "notes": len(piece)})
    if len(openings) < 3:
        raise CorpusError(
            f"{corpus.name}: {len(openings)} pieces have {plan.window} notes after their opening, and a regression needs "
            "three; give other data"
        )
    return {
        "measures": "how pianists go on after an opening",
        "habits": {
            name: _habit(np.array(openings)[:, i], [rows[:, i] for rows in later], float(np.mean(spreads, 0)[i]))
            for i, name in enumerate(QUANTITIES)
        },
        "windows": sum(map(len, later)),
        "pieces": len(openings),
        "split": split,
        "corpus": corpus.name,
        "data_hash": data_hash(names),
        "plan": asdict(plan),
    }


def _row(values: dict[str, float]) -> tuple[float, float, float]:
    return math.log2(values["notes_per_second"]), values["register"], values["velocity"]


def _spread(notes: np.ndarray) -> tuple[float, ...]:
    """Standard deviations over the notes of a piece: of log2(1 + ticks from note to note), pitch and velocity."""
    steps = np.log2(1 + np.diff(notes["onset"]) / TICK)
    return tuple(float(np.std(values)) for values in (steps, notes["pitch"], notes["velocity"]))


def _habit(opening: np.ndarray, later: Sequence[np.ndarray], spread: float) -> dict[str, float]:
    """The regression of (n,) pieces' later windows on their openings; each piece has the weight 1."""
    x, y = np.repeat(opening, [len(rows) for rows in later]), np.concatenate(later)
    weight = np.sqrt(np.concatenate([np.full(len(rows), 1 / len(rows)) for rows in later]))
    design = np.stack([np.ones_like(x), x], 1)
    (intercept, slope), *_ = np.linalg.lstsq(design * weight[:, None], y * weight, rcond=None)
    off = np.abs(y - intercept - slope * x)
    return {
        "intercept": float(intercept),
        "slope": float(slope),
        "margin": float(np.median(off)),
        "spread": spread,
        "median_change": float(np.median(np.abs(y - x))),
    }
