"""A factorial: every encoding with every optimizer and every architecture, trained on equal music.

    kind: factors
    budget: 27 h of one core       # written down before anything is run
    preset: tiny
    amounts: [0.05, 0.1]           # passes over the training split; every cell is trained on each amount from the beginning
    rates: [0.5, 1, 2]             # times an optimizer's learning rates: so many tries for every cell
    seeds: 3                       # seed 0 tries every rate; the others take the rate that was best for their cell
    seeded: [notes-adamw-mamba]    # the cells that have further seeds; all of them where this is left out
    seconds: 300                   # each cell once more, for about so much processor time of training
    pieces: 40
    set: {train.warmup: 100}
    optimizers:
      adamw: {train.optimizer: adamw, train.learning_rate: 0.002}
    encodings:
      notes:
        system: notes-hybrid
        set: {data.context: 2048}
        architectures:
          mamba: {model.pattern: MMMMMMMM}

A row is one run, named encoding-optimizer-architecture and, where there are several, -p amount, -r rate, -s seed; -t seconds
for one of equal processor time. Each finished run is one results file, so any machine can add runs on any day, and an interrupted one is resumed. Rows stand in
the order in which they are best run: an architecture with all its encodings and optimizers before the next one.

The best rate of a cell is the one with the lowest loss on the validation windows that the training itself read; the figures
are of whole validation pieces, read in windows as long as those of the training. Windows should hold about the same number of
notes in every encoding, or encodings differ in the number of updates too.

Processor time of the training stands in each record, because hours of a shared machine say little. A run of equal processor
time reads as much music as its cell's best run at the largest amount promises for that time; what it really took is recorded.
The analysis is variance.py's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from .. import evaluation, systems
from ..config import nearest
from ..errors import ConfigError
from ..paths import atomic_path
from . import compare
from .recipe import Clock, Recipe, Row, setting

FACTORS = ("encoding", "optimizer", "architecture")
# Settings of the plan, not of a row.
PLAN = {"amounts", "rates", "seeds", "seeded", "seconds", "optimizers", "encodings", "budget"}
RATES = ("train.learning_rate", "train.muon_learning_rate", "train.min_learning_rate")  # what a rate multiplies
BEST = "best"
SPENT = "processor_seconds"  # file in a run folder


def rows(place: str | Path, plan: Mapping[str, Any]) -> dict[str, dict]:
    """{name: settings} of every run of a recipe's plan, in the order in which they are best run."""
    for name in ("optimizers", "encodings", "amounts"):
        if not plan.get(name):
            raise ConfigError(f"{place}: a factorial needs {name}; see factors.py for an example")
    shared = {key: value for key, value in plan.items() if key not in PLAN}
    found: dict[str, dict] = {}
    rates, seeds, amounts = list(plan.get("rates", [1])), int(plan.get("seeds", 1)), list(plan["amounts"])
    cells = _cells(plan)
    seeded = set(plan.get("seeded", cells))
    if unknown := sorted(map(str, seeded - cells.keys())):
        raise ConfigError(f"{place}: seeded names {unknown[0]!r}: {nearest(unknown[0], cells)}")
    for amount, seed in product(amounts, range(seeds)):
        for cell, settings in cells.items():
            for rate in rates if seed == 0 else [BEST] if cell in seeded else []:
                name = cell + f"-p{amount:g}" * (len(amounts) > 1)
                name += f"-r{rate}" * (len(rates) > 1 and seed == 0) + f"-s{seed}" * (seeds > 1)
                found[name] = _run(shared, settings, amount, seed, rate)
    if seconds := float(plan.get("seconds", 0)):
        for cell, settings in cells.items():
            found[f"{cell}-t{seconds:g}"] = {**_run(shared, settings, max(amounts), 0, BEST), "seconds": seconds}
    return found


def _cells(plan: Mapping[str, Any]) -> dict[str, dict]:
    """{name: system, changes and levels of the factors} of every cell, an architecture with all its encodings before the next."""
    found = {}
    every = list(dict.fromkeys(name for one in plan["encodings"].values() for name in one["architectures"]))
    for architecture, encoding, optimizer in product(every, plan["encodings"], plan["optimizers"]):
        chosen = plan["encodings"][encoding]
        if architecture in chosen["architectures"]:
            changes = (chosen.get("set", {}), plan["optimizers"][optimizer], chosen["architectures"][architecture])
            found[f"{encoding}-{optimizer}-{architecture}"] = {
                "system": chosen["system"],
                "set": {key: value for one in changes for key, value in one.items()},
                "encoding": encoding,
                "optimizer": optimizer,
                "architecture": architecture,
            }
    return found


def _run(shared: Mapping, cell: Mapping, amount: float, seed: int, rate: Any) -> dict:
    """Settings of one run of a cell."""
    changes = {**shared.get("set", {}), **cell["set"], "train.seed": seed}
    return {**shared, **cell, "passes": float(amount), "set": changes, "rate": rate}


def resolved(recipe: Recipe, row: Row, results: Path) -> Row | None:
    """The row with its learning rates and its amount of music; None for one that waits for the rates that its cell has to try."""
    rate, passes = setting(row, "rate"), setting(row, "passes")
    if rate == BEST:
        best = best_try(recipe, row, results)
        if best is None:
            return None
        rate = best["rate"]
        if seconds := float(setting(row, "seconds", 0)):
            passes *= seconds / best["training"]["processor_seconds"]
    changes = dict(setting(row, "set"))
    built = systems.build(str(setting(row, "system")), str(setting(row, "preset", "tiny")), changes)
    for name in RATES:
        changes[name] = float(getattr(built["train"], name.partition(".")[2])) * float(rate)
    return replace(row, settings={**row.settings, "set": changes, "rate": float(rate), "passes": passes})


def best_try(recipe: Recipe, row: Row, results: Path) -> dict | None:
    """The record of the cell's rate with the lowest loss on the validation windows of training; None while a try is missing."""
    same = (*FACTORS, "passes")
    tries = [
        one
        for one in recipe.rows
        if one.settings["rate"] != BEST and all(one.settings[key] == row.settings[key] for key in same)
    ]
    places = [recipe.place(one, results) for one in tries]
    if not all(recipe.is_recorded(one, place) for one, place in zip(tries, places)):
        return None
    found = [json.loads(place.read_text(encoding="utf-8")) for place in places]
    return min(found, key=lambda record: record["training"]["validation_nll"], default=None)


def run(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict | None:
    """Train and evaluate one run. Returns its figures, or None if the time ended before it was trained."""
    recipe.claim(row, run_dir)
    began = time.process_time()
    training = compare.trained(row, data, run_dir, clock)
    spent = _spent(run_dir, time.process_time() - began)
    if training is None:
        return None
    configs = systems.build(str(setting(row, "system")), str(setting(row, "preset", "tiny")), dict(setting(row, "set")))
    context = configs["data"].context // (len(configs["model"].events) or 1)
    split, limit = str(setting(row, "split", "validation")), int(setting(row, "pieces", 0)) or None
    measured = evaluation.evaluate(run_dir, data, split, limit=limit, device="cpu", context=context)
    notes = training["tokens"] / measured["tokens_per_note"]
    return {
        **compare.slim(measured),
        **{key: row.settings[key] for key in (*FACTORS, "rate")},
        "training": {**training, "notes": notes, "processor_seconds": spent},
    }


def _spent(run_dir: Path, seconds: float) -> float:
    """Processor seconds of a run over all the calls that it took, `seconds` of this one among them."""
    place = run_dir / SPENT
    before = float(place.read_text(encoding="utf-8")) if place.is_file() else 0.0
    with atomic_path(place) as temporary:
        temporary.write_text(f"{before + seconds:.3f}\n", encoding="utf-8")
    return before + seconds
