"""Openings with the pianist's own continuation above and the model's below, as piano rolls on one page: to be looked at.

rolls("tiny", data).savefig("rolls.png")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import checkpoint
from ...corpora import Corpus
from ...errors import ConfigError
from ...notes import Performance, between, shift
from ..bits import chosen_pieces, shown
from .measure import PIANISTS, Model, Opening, Pianists, Plan, chosen_openings, read_performances

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEFORE = 20.0  # s of the opening that are shown
COLUMNS = 2
SIX = Plan(pieces=6)


def rolls(
    name: str | Path, data: str | Path | Corpus | None, split: str = "validation", plan: Plan = SIX, seed: int = 0,
    progress: bool = True, **sampling: Any,
) -> Figure:  # fmt: skip  # arguments in two lines, not in eight
    """The figure of `plan.pieces` openings continued by a model; ConfigError for PIANISTS, who would stand below themselves."""
    if name == PIANISTS:
        raise ConfigError(f"{PIANISTS} stand beside every model already: name a row that plays a model")
    found = checkpoint.load(name)
    corpus, pieces = chosen_pieces(data, split, None, found.configs["data"].corpus)
    openings = chosen_openings(read_performances(pieces, progress), plan, corpus.name)
    player, people = Model(found, sampling), Pianists()
    made = [
        player.play(one, 1000 * seed + i, seconds=plan.seconds)
        for i, one in enumerate(shown(openings, progress, "continuing"))
    ]
    return draw_rolls(
        openings, [people.play(one, 0, seconds=plan.seconds) for one in openings], made, plan.seconds, str(name)
    )


def draw_rolls(
    openings: Sequence[Opening], played: Sequence[Performance], made: Sequence[Performance], seconds: float, name: str
) -> Figure:
    """The figure: for each opening two rolls over the same time and the same keys. Second 0 is the last onset of the opening."""
    import matplotlib.pyplot as plt

    from ...plots import style

    rows = -(-len(openings) // COLUMNS)
    with style():
        figure, axes = plt.subplots(2 * rows, COLUMNS, figsize=(15, 3.3 * rows), squeeze=False)
        for i, (one, theirs, ours) in enumerate(zip(openings, played, made)):
            row, column = divmod(i, COLUMNS)
            pair = axes[2 * row : 2 * row + 2, column]
            _draw_pair(pair, one, theirs, ours, seconds, name)
        for unused in axes.reshape(rows, 2, COLUMNS)[-1, :, len(openings) - COLUMNS * (rows - 1) :].flat:
            unused.remove()
    return figure


def _draw_pair(axes, opening: Opening, theirs: Performance, ours: Performance, seconds: float, name: str) -> None:
    """The pianist on the first of two axes, the model on the second."""
    from ...plots import piano_roll

    before = shift(between(opening.seed, opening.join - BEFORE, float("inf")), -opening.join)
    shown_keys = [part.notes["pitch"] for part in (before, theirs, ours) if len(part)]
    low, high = min(int(keys.min()) for keys in shown_keys), max(int(keys.max()) for keys in shown_keys)
    for ax, who, music in zip(axes, ("pianist", name), (theirs, ours)):
        piano_roll(before, music, ax=ax, window=(-BEFORE, seconds))
        if legend := ax.get_legend():
            legend.remove()
        ax.set(ylim=(low - 2, high + 3), ylabel=who)
        for strip in ax.child_axes:
            strip.set_xlabel("")
    axes[0].set_title(Path(opening.name).stem, fontsize=7, loc="left", pad=2)
