"""The paper's experiments: a recipe in paper/experiments/ -> one results file a row in paper/results/.

    recipe.py       a recipe's YAML file, read and checked
    compare.py      rows trained on equal music (or equal tokens) and evaluated on the same pieces
    leak.py         what a random split of windows, or of pieces, would have claimed
    overfit.py      can it memorise a sequence, a piece? The paper's checks of sanity
    figures of a trained model: measured.py (by position, memorisation, music, complexity)

    ittybitty experiment --list
    ittybitty experiment attention --data DIR

A row that is recorded under the same recipe is not run again; a run that was cut off goes on where it stopped. Left out:
any judgement of the results; the paper's words are asserted in the last notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from .recipe import SETTINGS, Recipe, Row, read_recipe, recipes

__all__ = ["Recipe", "Row", "read_recipe", "recipes", "run"]


def run(
    recipe: Recipe,
    data: str | Path | None,
    runs: str | Path,
    results: str | Path,
    only: Iterable[str] = (),
    max_hours: float | None = None,
    again: bool = False,
    say: Callable[[str], None] = print,
) -> list[dict]:
    """Run the rows of a recipe that are not recorded yet, and return what stands in `results` of each: {"row", "file", "state", …}.

    `only` names rows; `again` records anew. `max_hours` is for all rows together: a training that does not fit is
    checkpointed, its row says "unfinished", and the same call later goes on with it. What trains no model, and the minutes of
    kind "overfit", is begun only where time is left, and then done to the end. Raises ConfigError and what the stages raise.
    """
    from . import compare, leak, measured, overfit
    from .recipe import Clock

    kinds = {"compare": compare.run, "leak": leak.run, "overfit": overfit.run, **measured.KINDS}
    assert kinds.keys() == SETTINGS.keys()
    wanted = recipe.chosen(only)
    clock, written, stopped = Clock(max_hours), [], False
    for row in wanted:
        place = recipe.place(row, Path(results))
        if not again and recipe.is_recorded(row, place):
            written.append({"row": row.name, "file": str(place), "state": "recorded before"})
        elif clock.over or stopped:
            written.append({"row": row.name, "file": str(place), "state": "not run: no time left"})
        else:
            say(f"{recipe.name}: {row.name}")
            outcome = kinds[recipe.kind](recipe, row, data, Path(runs) / recipe.name / row.name, clock)
            if outcome is None:
                stopped = True  # out of time, or told to end
                written.append({"row": row.name, "file": str(place), "state": "unfinished: run it again to go on"})
            else:
                recipe.record(row, outcome, place)
                written.append({"row": row.name, "file": str(place), "state": "recorded"})
    return written
