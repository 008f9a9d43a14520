"""The paper's experiments: each recipe in paper/experiments/ gives one results file per row in paper/results/.

    recipe.py       reads and checks a recipe's YAML file
    compare.py      trains rows on equal music (or equal tokens) and evaluates them on the same pieces
    factors.py      every encoding with every optimizer and every architecture; variance.py says what each factor explains
    scaling.py      fits a power law to runs of several sizes and amounts of music
    leak.py         measures what a random split of windows, or of pieces, would have claimed
    overfit.py      sanity checks: can a model memorise a sequence, and a piece?
    measured.py     measures models that are trained already (by position, memorisation, music), and complexity
    smoke.py        takes every system through the whole pipeline on a few pieces

    ittybitty experiment --list
    ittybitty experiment attention --data DIR

A row that is already recorded under the same recipe is not run again, and an interrupted training is resumed. Left out:
any judgement of the results; the last notebook asserts what the paper says of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import ConfigError, OutputError
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
    """Run the rows of a recipe that are not recorded yet. Returns {"row", "file", "state"} for each row.

    `only` names rows; with `again` recorded rows are run once more. `max_hours` is the time for all rows together: a
    training that needs longer is checkpointed, its row is reported as "unfinished", and the same call later resumes it.
    Rows that train no model, and those of kind "overfit" (minutes), are started only if time is left, and then run to
    their end. Raises ConfigError, and the errors of tokenization, training and evaluation.
    """
    from . import compare, factors, leak, measured, overfit
    from .recipe import Clock

    kinds = {"compare": compare.run, "factors": factors.run, "leak": leak.run, "overfit": overfit.run, **measured.KINDS}
    assert kinds.keys() == SETTINGS.keys()
    wanted = recipe.chosen(only)
    for option, folder in (("--runs", runs), ("--results", results)):  # before hours of work
        if Path(folder).exists() and not Path(folder).is_dir():
            raise OutputError(f"{folder}: is a file; give {option} a folder")
    if max_hours is not None and not 0 < max_hours < math.inf:
        raise ConfigError(f"max_hours is {max_hours}: give a number above 0")
    clock, written, stopped = Clock(max_hours), [], False
    for row in wanted:
        place = recipe.place(row, Path(results))
        if not again and recipe.is_recorded(row, place):
            written.append({"row": row.name, "file": str(place), "state": "recorded before"})
        elif clock.over or stopped:
            written.append({"row": row.name, "file": str(place), "state": "not run: no time left"})
        elif (asked := factors.resolved(recipe, row, Path(results)) if recipe.kind == "factors" else row) is None:
            written.append({"row": row.name, "file": str(place), "state": "waits for the learning rates of its cell"})
        else:
            say(f"{recipe.name}: {row.name}")
            outcome = kinds[recipe.kind](recipe, asked, data, Path(runs) / recipe.name / row.name, clock)
            if outcome is None:
                stopped = True  # out of time, or told to end
                written.append({"row": row.name, "file": str(place), "state": "unfinished: run it again to go on"})
            else:
                recipe.record(row, outcome, place)
                written.append({"row": row.name, "file": str(place), "state": "recorded"})
    return written
