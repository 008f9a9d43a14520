"""Compares systems on equal terms: each is trained on the same amount of music and evaluated on the same held-out pieces.

`passes: 0.1` trains each row on a tenth of an epoch of its own windows, drawn at random from all pieces: about the same
number of notes for every tokenizer. `steps: 400` gives all rows the same number of tokens instead. `training_pieces: 96`
uses only 96 of the training pieces, evenly spaced; `from: experiment/row` starts from the weights of that row. With
`as: performance` a row is measured at the information of Magenta's performance encoding (evaluation/performance.py);
`context: 512` evaluates in windows of 512 tokens or events, for models that cannot read more than they were trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import evaluation, pipeline, systems
from ..corpora import Corpus, Piece, open_corpus
from ..evaluation.likelihood import CONTEXT
from ..evaluation.performance import as_performance
from ..train.log import read_log
from ..train.windows import Windows
from .recipe import Clock, Recipe, Row, setting, trained_before


def run(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict | None:
    """Train and evaluate one row. Returns its figures, or None if the time ended before it was trained."""
    recipe.claim(row, run_dir)
    training = trained(row, data, run_dir, clock)
    if training is None:
        return None
    split, limit = str(setting(row, "split", "validation")), int(setting(row, "pieces", 0)) or None
    if setting(row, "as", "") == "performance":
        measured = as_performance(run_dir, data, split, limit=limit)
    else:
        context = int(setting(row, "context", CONTEXT))
        measured = evaluation.evaluate(run_dir, data, split, limit=limit, context=context)
    return {**slim(measured), "training": training}


def trained(row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict | None:
    """Train the row's system in `run_dir`, or resume it. Returns a summary with the hours it took, or None if unfinished."""
    name, preset = str(setting(row, "system", row.name)), str(setting(row, "preset", "tiny"))
    changes = dict(setting(row, "set", {}))
    start = trained_before(row, "from", run_dir) if "from" in row.settings else None
    configs = systems.build(name, preset, changes)
    if "training_pieces" in row.settings:
        corpus = open_corpus(data, configs["data"].corpus)
        pool = evaluation.evenly_spaced(corpus.split("train"), int(row.settings["training_pieces"]))
        held_out = corpus.split("validation") if "validation" in {piece.split for piece in corpus.pieces} else ()
        data = pipeline.tokenize(configs, part_of(corpus, f"part-{len(pool)}", (*pool, *held_out))).path
    if "passes" in row.settings:
        changes["train.steps"] = steps_of(float(row.settings["passes"]), configs, data)
    elif "steps" in row.settings:
        changes["train.steps"] = int(row.settings["steps"])
    summary = pipeline.train(
        run_dir, name, preset, changes, data=data, resume=True, init_from=start, max_hours=clock.left, parallel="none"
    )
    if summary["stopped"] not in ("finished", "patience"):
        return None
    kept = ("steps", "tokens", "tokens_per_second", "parameters", "validation_nll", "best_step", "ran_on")
    return {
        **{key: summary[key] for key in kept},
        "system": name,
        "preset": preset,
        "seed": systems.build(name, preset, changes)["train"].seed,
        "passes": summary["epoch"],
        "hours": summary["seconds"] / 3600,
        **_learning_curve(run_dir),
    }


def _learning_curve(run_dir: Path) -> dict:
    """{"curve": what each validation of the training found}, where there was more than the last one."""
    kept = ("step", "tokens", "seconds", "validation_nll", "bits_per_note")
    found = [record for record in read_log(run_dir / "log.jsonl") if "validation_nll" in record]
    return {"curve": [{key: record.get(key) for key in kept} for record in found]} if len(found) > 1 else {}


def steps_of(passes: float, configs: Mapping, data: str | Path | None) -> int:
    """Number of optimizer steps that read this share of the training windows once; at least one."""
    store = pipeline.tokenize(configs, data)
    windows = Windows(
        store, "train", configs["data"].context, configs["train"].batch_size, store.tokenizer(), configs["data"]
    )
    return max(1, round(passes * windows.steps_per_epoch))


def slim(measured: Mapping) -> dict:
    """An evaluation's result with only name, notes and bits of each piece, which is what paired comparisons need."""
    rows = [{key: piece[key] for key in ("name", "notes", "bits")} for piece in measured["per_piece"]]
    return {**measured, "per_piece": rows}


def part_of(corpus: Corpus, name: str, pieces: tuple[Piece, ...]) -> Corpus:
    """Some pieces of a corpus, perhaps in other splits, as a corpus of their own; its tokens are cached under its own name."""
    return Corpus(f"{corpus.name}, {name}", corpus.licence, pieces, corpus.version)
