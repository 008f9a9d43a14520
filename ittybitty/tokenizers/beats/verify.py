"""What the beat encoding keeps of a split's pieces and what it loses: the figures of `ittybitty beats verify`.

    verify(pieces, codebook, velocity)  ->  {"cells", "exact_share_l1", …, "velocity_mae", "vocabulary"}

Times are compared on the pieces' own beats, so that the onset error is that of 48 frames a beat and of patterns that are
not exact; what tempo bins do to the clock shows in `evaluation`'s round trip. Velocity is compared over the sounding
frames of pieces with more than one velocity, as the published figure is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from ...errors import UNREADABLE, CorpusError
from ...metrics import round_trip_error
from . import vocabulary as v
from .cells import is_flat
from .codebook import Codebook, level_of
from .grid import Cells, on_beats, to_cells

if TYPE_CHECKING:
    from .velocity import VelocityVQ


def verify(
    pieces: Iterable, codebook: Codebook, velocity: VelocityVQ, on_use: Callable[[np.ndarray], None] | None = None
) -> dict:
    """Shares of cells that each level represents exactly, and errors over notes; CorpusError when no piece can be read.

    `escape_share` are the cells that no level represents exactly; the escape would write them frame by frame. `on_use` is given ids (L,)
    of each piece's patterns and velocities, for a histogram.
    """
    cells = 0
    notes: float = 0
    lost: float = 0
    levels = np.zeros(3)
    inexact, onset = 0, 0.0
    paired: float = 0
    error = frames = 0.0
    reason = ""
    for piece in pieces:
        try:
            performance = piece.load()
            found = to_cells(performance)
        except UNREADABLE as trouble:
            reason = reason or f"{piece.name}: {trouble}"
            continue
        ids, exact = codebook.encode(found.states)
        cells += len(found)
        inexact += int((~exact).sum())
        levels += np.bincount(level_of(ids[:, 0])[exact], minlength=3)
        states = codebook.decode(ids)
        loss = round_trip_error(
            performance, on_beats(Cells(found.beat, found.pitch, states, spread(found, states), found.times))
        )
        kept = loss["notes"] - loss["notes_lost"]
        notes, lost, paired = notes + loss["notes"], lost + loss["notes_lost"], paired + kept
        onset += loss["onset_error_ms"] * kept if kept else 0.0
        codes = np.empty(0, int)
        if not is_flat(found):
            codes = velocity.codes(found.velocity)
            made = velocity.velocities(codes, found.velocity > 0)
            error += float(np.abs(made - found.velocity).sum())
            frames += int((found.velocity > 0).sum())
        if on_use:
            on_use(np.concatenate([ids[ids >= 0], v.VELOCITY + codes]))
    if not cells:
        raise CorpusError(
            f"no piece has notes and beats{f' ({reason})' if reason else ''}; give a corpus with annotated beats"
        )
    return {
        "cells": cells,
        **{f"exact_share_l{level}": float(count / cells) for level, count in enumerate(levels, 1)},
        "escape_share": inexact / cells,
        "onset_mae_ms": onset / max(paired, 1),
        "notes_lost": lost,
        "velocity_mae": error / frames if frames else float("nan"),
        "vocabulary": v.SIZE,
        "notes": notes,
    }


def spread(cells: Cells, states: np.ndarray) -> np.ndarray:
    """(n, 48) velocities of the cells where other `states` sound: of the nearest frame before that had one, else after."""
    known = cells.velocity > 0
    places = np.where(known, np.arange(known.shape[1]), -1)
    before = np.maximum.accumulate(places, 1)
    nearest = np.where(before >= 0, before, known.argmax(1)[:, None])
    return np.where(states > 0, np.take_along_axis(cells.velocity, nearest, 1), 0)
