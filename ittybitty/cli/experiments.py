"""`ittybitty experiment`: run the paper's experiments and record what they measured."""

from __future__ import annotations

import argparse
import sys

from .parser import Result, Verbs, add_data, add_verb, table


def add_verbs(verbs: Verbs) -> None:
    """Adds `experiment`."""
    parser = add_verb(
        verbs,
        "experiment",
        experiment,
        "run an experiment of the paper, or resume it, and record its rows",
        "ittybitty experiment --list",
        "ittybitty experiment attention --data ~/music",
        "ittybitty experiment attention --row hybrid-alibi --max-hours 1 --data ~/music",
        "ittybitty experiment ears --row tiny --rolls rolls.png --data ~/music",
    )
    parser.add_argument(
        "names", metavar="NAME|FILE.yaml", nargs="*", help="experiments of paper/experiments/, or recipes of your own"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the experiments and how many of their rows are recorded"
    )
    add_data(parser)
    parser.add_argument(
        "--row", action="append", default=[], metavar="ROW", help="only this row (may be given several times)"
    )
    parser.add_argument(
        "--runs",
        default="runs/experiments",
        metavar="DIR",
        help="folder of the run folders; a later call resumes them (%(default)s)",
    )
    parser.add_argument("--results", metavar="DIR", help="folder for the results files (paper/results of the clone)")
    parser.add_argument(
        "--max-hours", type=float, metavar="H", help="stop cleanly after H hours in all; the same call resumes"
    )
    parser.add_argument("--again", action="store_true", help="run rows again that are recorded already")
    parser.add_argument(
        "--rolls",
        metavar="FILE.png",
        help="for the experiment ears: measure nothing, and only draw six openings with the pianist's and the row's continuations",
    )


def experiment(options: argparse.Namespace) -> Result:
    """Run recipes and record their results; with --list, list them."""
    from pathlib import Path

    from .. import experiments
    from ..errors import ConfigError
    from ..experiments.recipe import folder

    results = Path(options.results) if options.results else folder().parent / "results"
    if options.list or not options.names:
        rows = [
            {
                "experiment": name,
                "rows": len(recipe.rows),
                "recorded": sum(recipe.is_recorded(row, recipe.place(row, results)) for row in recipe.rows),
                "question": recipe.question,
            }
            for name, recipe in ((name, experiments.read_recipe(name)) for name in experiments.recipes())
        ]
        return rows, table(
            rows, {"experiment": "experiment", "rows": "rows", "recorded": "recorded", "question": "question"}
        )
    if options.row and len(options.names) > 1:
        raise ConfigError("--row belongs to one experiment: name one at a time")
    recipes = [experiments.read_recipe(name) for name in options.names]  # all are read before any is run
    if options.rolls:
        return _draw_rolls(recipes, options)
    outcome = [
        {"experiment": recipe.name, **row}
        for recipe in recipes
        for row in experiments.run(
            recipe,
            options.data,
            options.runs,
            results,
            options.row,
            options.max_hours,
            options.again,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    ]
    return outcome, table(outcome, {"experiment": "experiment", "row": "row", "state": "state", "file": "file"})


def _draw_rolls(recipes: list, options: argparse.Namespace) -> Result:
    """Draw piano rolls of one row's continuations."""
    from pathlib import Path

    import matplotlib

    from ..errors import ConfigError
    from ..experiments.measured import draw_rolls
    from ..paths import atomic_path

    [recipe] = recipes if len(recipes) == 1 else [None]
    if recipe is None or recipe.kind != "ears":
        raise ConfigError("--rolls belongs to an experiment of kind ears: name that one alone")
    if len(options.row) > 1:
        raise ConfigError("--rolls draws one row: give --row once")
    if Path(options.rolls).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"{options.rolls}: the name after --rolls must end in .png or .pdf or .svg")
    row = recipe.chosen(options.row)[0]
    matplotlib.use("Agg")  # no window is opened
    with atomic_path(Path(options.rolls)) as place:
        figure = draw_rolls(row, options.data, Path(options.runs) / recipe.name / row.name)
        figure.savefig(place, format=Path(options.rolls).suffix[1:], dpi=150)
    return {"experiment": recipe.name, "row": row.name, "rolls": options.rolls}, f"written  {options.rolls}"
