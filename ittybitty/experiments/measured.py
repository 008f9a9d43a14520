"""Experiments that train no model: they measure trained models, this machine, or a corpus.

A row's `model` is a shipped model or a run folder. `run: equal_music/mamba` is the run that this row of another
experiment trained.

    position        bits per note by position, to 8,192 tokens and beyond the trained context
    music           music metrics of continuations, and what the grammar forbids
    endurance       music metrics along continuations of ten thousand tokens
    ears            whether continuations fit their openings, stay within what pianists play, get stuck or fall silent
    drift           how far pianists move from the pace, register and loudness of their openings
    two-sample      whether a small classifier tells continuations from what pianists played
    memorisation    the longest run that continuations share with the training pieces
    complexity      time and memory of a mixer against length
    performance-tokens
                    tokens per note of Magenta's performance encoding
    vocabulary      pitch strings: the number of different events in a growing corpus, and the share of held-out events among them
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import evaluation, systems
from ..corpora import open_corpus
from .recipe import Clock, Recipe, Row, setting, trained_before

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def model_of(row: Row, run_dir: Path) -> str | Path:
    """The model or run folder that a row names. CheckpointError says how to train a run that is missing."""
    return trained_before(row, "run", run_dir) if "run" in row.settings else str(setting(row, "model"))


def position(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Bits per note by position."""
    limit = int(setting(row, "pieces", 0)) or None
    split = str(setting(row, "split", "validation"))
    return evaluation.by_position(
        model_of(row, run_dir), data, split, limit, length=int(setting(row, "length", evaluation.LENGTH))
    )


def _trials(row: Row, data: str | Path | None, run_dir: Path):
    from ..evaluation.trials import make_trials

    return make_trials(
        model_of(row, run_dir),
        data,
        str(setting(row, "split", "validation")),
        pieces=int(setting(row, "pieces", 40)),
        seconds=float(setting(row, "seconds", 30.0)),
        seed=int(setting(row, "seed", 0)),
        **setting(row, "sampling", {}),
    )


def music(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Music metrics of continuations."""
    from ..evaluation.continuation_metrics import listen

    return listen(_trials(row, data, run_dir))


def endurance(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Music metrics by window of long continuations."""
    from ..evaluation.long_continuations import endurance as measure

    return measure(
        model_of(row, run_dir),
        data,
        str(setting(row, "split", "validation")),
        pieces=int(setting(row, "pieces", 10)),
        tokens=int(setting(row, "tokens", 10_000)),
        seed=int(setting(row, "seed", 0)),
        **setting(row, "sampling", {}),
    )


def ears(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Matching, endurance, stuck and silent; `model: pianists` is what was really played."""
    from ..evaluation.ears import listen

    return listen(data=data, **_listened(row, run_dir))


def drift(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """How pianists go on after an opening."""
    from ..evaluation.ears.drift import DriftPlan
    from ..evaluation.ears.drift import drift as measure

    chosen = {name: row.settings[name] for name in ("pieces", "opening", "notes", "window") if name in row.settings}
    return measure(data, str(setting(row, "split", "train")), DriftPlan(**chosen))


def two_sample(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Accuracy of a classifier that tells continuations from what pianists played."""
    from ..evaluation.ears import Plan
    from ..evaluation.two_sample import two_sample as measure

    plan = Plan(
        pieces=int(setting(row, "pieces", 137)),
        opening=float(setting(row, "opening", 40.0)),
        seconds=float(setting(row, "seconds", 60.0)),
        long=0,
        whole_files=0,
    )
    return measure(
        model_of(row, run_dir),
        data,
        str(setting(row, "split", "validation")),
        plan,
        int(setting(row, "seed", 0)),
        **setting(row, "sampling", {}),
    )


def draw_rolls(row: Row, data: str | Path | None, run_dir: Path) -> Figure:
    """The figure of six openings of a row of "ears", each with both its continuations."""
    from ..evaluation.ears import rolls

    asked = _listened(row, run_dir)
    plan = dataclasses.replace(asked.pop("plan"), pieces=6)
    return rolls(data=data, plan=plan, **asked)


def _listened(row: Row, run_dir: Path) -> dict:
    """Arguments of `listen` and `rolls`, data apart."""
    from ..evaluation.ears import Plan

    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Plan)}
    wanted = {name: type(usual)(row.settings[name]) for name, usual in defaults.items() if name in row.settings}
    return {
        "name": model_of(row, run_dir),
        "split": str(setting(row, "split", "validation")),
        "plan": Plan(**wanted),
        "seed": int(setting(row, "seed", 0)),
        **setting(row, "sampling", {}),
    }


def memorisation(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Runs shared with the training pieces."""
    from ..evaluation.memorisation import memorisation as measure

    trials = _trials(row, data, run_dir)
    return measure(trials, open_corpus(data, trials.prefer).split("train"))


def complexity(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Seconds, bytes and exponents of every mixer."""
    from ..bench.complexity import complexity as measure

    return measure(turns=int(setting(row, "turns", 5)))


def performance_tokens(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Tokens per note of the encoding in which published likelihoods of MAESTRO are stated."""
    from ..evaluation.performance import count

    return count(open_corpus(data), str(setting(row, "split", row.name)))


def vocabulary(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Vocabulary of pitch strings for growing parts of the training pieces, and the share of held-out events it covers."""
    corpus = open_corpus(data)
    training = corpus.split("train")
    held_out = [
        piece.load() for piece in evaluation.evenly_spaced(corpus.split("validation"), int(setting(row, "pieces", 40)))
    ]
    untrained = systems.build(str(setting(row, "system")), str(setting(row, "preset", "tiny")))
    sizes = []
    for count in setting(row, "training_pieces"):
        performances = [piece.load() for piece in evaluation.evenly_spaced(training, int(count))]
        tokenizer = systems.build_tokenizer(untrained).train(performances, int(setting(row, "largest", 65_536)))
        used = np.unique(np.concatenate([tokenizer.encode(p, bos=False, eos=False) for p in performances]))
        ids = np.concatenate([tokenizer.encode(p, bos=False, eos=False) for p in held_out])
        sizes.append(
            {
                "training_pieces": len(performances),
                "events": len(used),
                "with_transpositions": tokenizer.vocab_size,
                "held_out_tokens_per_note": len(ids) / sum(len(p) for p in held_out),
                "held_out_tokens_never_seen": float(np.isin(ids, used, invert=True).mean()),
            }
        )
    return {
        "system": str(setting(row, "system")),
        "corpus": corpus.name,
        "held_out_pieces": len(held_out),
        "sizes": sizes,
    }


KINDS = {
    "position": position,
    "music": music,
    "endurance": endurance,
    "ears": ears,
    "drift": drift,
    "two-sample": two_sample,
    "memorisation": memorisation,
    "complexity": complexity,
    "performance-tokens": performance_tokens,
    "vocabulary": vocabulary,
}
