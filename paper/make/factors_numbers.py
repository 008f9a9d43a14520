"""Generates the numbers that the text says of the factorial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product

from ittybitty.experiments.factors import FACTORS

from .claims import CLAIMED, learnt, seed_move
from .factors import LARGER, NOT_RUN, SHOWN, analysed, difference, grid, mean_bits, records
from .number import Number, percent

SPREADS = {"": ("notes", "muon"), "Adamw": ("notes", "adamw"), "Remi": ("remi", "muon"), "RemiAdamw": ("remi", "adamw")}
FAILED = "lstm"  # the architecture of the cell that has learnt least
COMPARED = (  # name in macros, two cells of the factorial, and what is said of how much more the first needs: itself, its bounds
    ("Encoding", ("remi", "muon", "hybrid"), ("notes", "muon", "hybrid"), "", "Low", "High"),
    ("EncodingAdamw", ("remi", "adamw", "hybrid"), ("notes", "adamw", "hybrid"), ""),
    ("Optimizer", ("notes", "adamw", "hybrid"), ("notes", "muon", "hybrid"), "", "Low", "High"),
    ("OptimizerRemi", ("remi", "adamw", "hybrid"), ("remi", "muon", "hybrid"), ""),
    ("Merging", ("remi", "muon", "hybrid"), ("remi-unmerged", "muon", "hybrid"), "", "Low", "High"),
    ("MergingAdamw", ("remi", "adamw", "hybrid"), ("remi-unmerged", "adamw", "hybrid"), ""),
    ("Steps", ("remi-unmerged", "muon", "hybrid"), ("notes", "muon", "hybrid"), "", "Low", "High"),
    ("StepsAdamw", ("remi-unmerged", "adamw", "hybrid"), ("notes", "adamw", "hybrid"), ""),
    ("Pedal", ("notes-fine-pedal", "muon", "hybrid"), ("notes", "muon", "hybrid"), ""),
)


def factors_numbers(results: Mapping) -> Iterator[Number]:
    """The size of the factorial that is shown, how many of its cells were run, and what the text compares in it."""
    experiment, found = SHOWN, analysed(results)
    cells, runs = grid(results), records(results, experiment)
    recipe = results["recipes"][experiment]
    source, files = f"../experiments/{experiment}.yaml", f"{experiment}_*.json"
    settings = recipe.rows[0].settings
    yield Number("FactorsCells", f"{len(cells)}", source)
    yield Number("FactorsPasses", percent(settings["passes"]), source)
    yield Number("FactorsPieces", f"{settings['pieces']}", source)
    yield Number("FactorsTries", f"{len({row.settings['rate'] for row in recipe.rows} - {'best'})}", source)
    yield Number("FactorsRun", f"{sum(bool(one) for one in cells.values())}", files)
    yield Number("FactorsRuns", f"{len(runs)}", files)
    yield Number("FactorsBlock", f"{found['cells_in_block']}", files)
    yield Number("FactorsSeedMoves", f"{seed_move(results):.2f}", f"{files}, claims_*.json")
    sizes = [run["parameters"] for run in runs]
    yield Number("FactorsParameters", f"{sum(sizes) / max(1, len(sizes)) / 1e6:.1f} million", files)
    highest = max(row.settings["rate"] for row in recipe.rows if row.settings["rate"] != "best")
    yield Number("FactorsEdge", f"{sum(bool(one) and one[0]['rate'] == highest for one in cells.values())}", files)
    adamw = [one for cell, one in cells.items() if one and cell[1] == "adamw"]
    yield Number("FactorsEdgeAdamw", f"{sum(one[0]['rate'] == highest for one in adamw)}", files)
    yield Number("FactorsSeeded", f"{sum(len(one) > 1 for one in cells.values())}", files)
    for name, pair in SPREADS.items():
        means = [mean_bits(one) for cell, one in cells.items() if cell[:2] == pair and one]
        if not name:
            yield Number("FactorsArchitectures", f"{len(means)}", files)
        yield Number(
            f"FactorsSpread{name}",
            f"{max(means) - min(means):.1f}" if name else f"{max(means) - min(means):.2f}",
            files,
        )
    yield from _shares("Share", found, files)
    kept = {cell for cell, one in cells.items() if one and cell[2] != FAILED}
    yield from _shares("Without", analysed(results, like=kept), files)
    yield Number("FailedBits", f"{max(map(mean_bits, filter(None, cells.values())), default=math.nan):.1f}", files)
    yield from _changes("Change", found, files, bounds=True)
    steps = analysed(results, like={cell for cell, one in cells.items() if one and cell[0] != "remi"})
    apart = steps["changes"].get("encoding")
    yield Number("ChangeSteps", f"{apart['bits_per_note']:.1f}" if apart else NOT_RUN, files)
    timed = analysed(results, timed=True)
    yield from _changes("TimedChange", timed, files)
    yield Number("TimedCells", f"{timed['cells_in_block'] if timed['shares'] else 0}", files)
    yield Number("TimedSeconds", f"{max(row.settings.get('seconds', 0) for row in recipe.rows):.0f}", source)
    known = learnt(results)  # the cells of `claims` too
    for name, first, second, *bounds in COMPARED:
        told = [known.get("-".join(cell), []) for cell in (first, second)]
        where = [experiment if cell in cells else CLAIMED for cell in (first, second)]
        names = ", ".join(f"{one}_{'-'.join(cell)}-*.json" for one, cell in zip(where, (first, second)))
        values = difference(told[0], told[1]) if all(told) else (math.nan,) * 3
        for bound, value in zip(bounds, values):
            yield Number(f"Factors{name}{bound}", f"{value:.2f}" if value == value else NOT_RUN, names)


def larger_numbers(results: Mapping) -> Iterator[Number]:
    """The factorial at three times the size, and the same cells of the one that is shown."""
    files, runs = f"{LARGER}_*.json", records(results, LARGER)
    found = analysed(results, LARGER)
    cells = set(product(*found["levels"].values())) if found["shares"] else set()
    sizes = [run["parameters"] for run in runs]
    yield Number("LargerParameters", f"{sum(sizes) / max(1, len(sizes)) / 1e6:.1f} million", files)
    yield Number("LargerRuns", f"{len(runs)}", files)
    yield from _changes("Larger", found, files)
    yield from _changes("Like", analysed(results, like=cells), f"{SHOWN}_*.json")


def _shares(name: str, found: Mapping, files: str) -> Iterator[Number]:
    """The share of the variance that each factor explains, in percent."""
    for factor in FACTORS:
        share = found["shares"].get(factor)
        yield Number(f"{name}{factor.title()}", percent(share["share"]) if share else NOT_RUN, files)


def _changes(name: str, found: Mapping, files: str, bounds: bool = False) -> Iterator[Number]:
    """Bits per note by which a change of one factor alone changes a result, the median over pairs of cells; with its interval."""
    for factor in FACTORS:
        change = found["changes"].get(factor)
        told = {"": change["bits_per_note"], "Low": change["ci95"][0], "High": change["ci95"][1]} if change else {}
        for bound in ("", "Low", "High") if bounds else ("",):
            yield Number(f"{name}{factor.title()}{bound}", f"{told[bound]:.1f}" if told else NOT_RUN, files)
