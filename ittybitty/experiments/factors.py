"""A factorial: every encoding with every optimizer and every architecture, trained on equal music.

    kind: factors
    budget: 27 h of one core       # written down before anything is run
    preset: tiny
    amounts: [0.05, 0.1]           # passes over the training split; every cell is trained on each amount from the beginning
    rates: [0.5, 1, 2]             # times an optimizer's learning rates: so many tries for every cell
    seeds: 3                       # seed 0 tries every rate; the others take the rate that was best for their cell
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

A row is one run, named encoding-optimizer-architecture and, where there are several, -p amount, -r rate, -s seed. Each
finished run is one results file, so any machine can add runs on any day, and an interrupted one is resumed. Rows stand in
the order in which they are best run: an architecture with all its encodings and optimizers before the next one.

The best rate of a cell is the one with the lowest loss on the validation windows that the training itself read; the figures
are of whole validation pieces, read in windows as long as those of the training. Windows should hold about the same number of
notes in every encoding, or encodings differ in the number of updates too.

Processor time of the training stands in each record, because hours of a shared machine say little. The analysis is
variance.py's.
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
from ..errors import ConfigError
from ..paths import atomic_path
from . import compare
from .recipe import Clock, Recipe, Row, setting

FACTORS = ("encoding", "optimizer", "architecture")
PLAN = {"amounts", "rates", "seeds", "optimizers", "encodings", "budget"}  # settings of the plan, not of a row
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
    every = list(dict.fromkeys(name for one in plan["encodings"].values() for name in one["architectures"]))
    rates, seeds = list(plan.get("rates", [1])), int(plan.get("seeds", 1))
    for amount, seed, architecture, encoding, optimizer in product(
        plan["amounts"], range(seeds), every, plan["encodings"], plan["optimizers"]
    ):
        chosen = plan["encodings"][encoding]
        if architecture not in chosen["architectures"]:
            continue
        for rate in rates if seed == 0 else [BEST]:
            name = f"{encoding}-{optimizer}-{architecture}"
            name += f"-p{amount:g}" * (len(plan["amounts"]) > 1)
            name += f"-r{rate}" * (len(rates) > 1 and seed == 0) + f"-s{seed}" * (seeds > 1)
            changes = {
                **shared.get("set", {}),
                **chosen.get("set", {}),
                **plan["optimizers"][optimizer],
                **chosen["architectures"][architecture],
                "train.seed": seed,
            }
            found[name] = {
                **shared,
                "system": chosen["system"],
                "passes": float(amount),
                "set": changes,
                "encoding": encoding,
                "optimizer": optimizer,
                "architecture": architecture,
                "rate": rate,
            }
    return found


def resolved(recipe: Recipe, row: Row, results: Path) -> Row | None:
    """The row with its learning rates; None for one that waits for the rates that its cell has to try first."""
    rate = setting(row, "rate")
    if rate == BEST:
        rate = best_rate(recipe, row, results)
        if rate is None:
            return None
    changes = dict(setting(row, "set"))
    built = systems.build(str(setting(row, "system")), str(setting(row, "preset", "tiny")), changes)
    for name in RATES:
        changes[name] = float(getattr(built["train"], name.partition(".")[2])) * float(rate)
    return replace(row, settings={**row.settings, "set": changes, "rate": float(rate)})


def best_rate(recipe: Recipe, row: Row, results: Path) -> float | None:
    """The rate with the lowest loss on the validation windows of training; None while a try is not recorded."""
    same = (*FACTORS, "passes")
    tries = [
        one
        for one in recipe.rows
        if one.settings["rate"] != BEST and all(one.settings[key] == row.settings[key] for key in same)
    ]
    found = []
    for one in tries:
        place = recipe.place(one, results)
        if not recipe.is_recorded(one, place):
            return None
        found.append(
            (json.loads(place.read_text(encoding="utf-8"))["training"]["validation_nll"], one.settings["rate"])
        )
    return float(min(found)[1]) if found else None


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
