"""`ittybitty beats`: learn and measure the beat encoding: cell cache, codebook of patterns, velocity codes, figures."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError
from .parser import Result, Verbs, add_data, add_verb, bar, outputs, terminal, whole

# which options belong to which action; the others refuse them
_OPTIONS = {
    "cache": ("data", "split", "out", "codebook", "velocity"),
    "codebook": ("cells", "out", "seed"),
    "velocity": ("cells", "out", "seed", "steps", "batch_size"),
    "verify": ("data", "split", "limit", "codebook", "velocity", "record"),
}
ESTIMATED = 5  # every fifth piece's beats are estimated: it takes seconds a piece
_NEEDS = {"cache": ("out",), "codebook": ("cells", "out"), "velocity": ("cells", "out"), "verify": ()}


def add_verbs(verbs: Verbs) -> None:
    """Adds this module's verb."""
    parser = add_verb(
        verbs,
        "beats",
        beats,
        "the beat encoding: collect cells, learn the codebook and the velocity codes, measure what they keep",
        "ittybitty beats verify --data ~/music --split validation",
        "ittybitty beats cache --data ~/music --split train --out cells.npz",
        "ittybitty beats codebook --cells cells.npz --out codebook.npz",
        "ittybitty beats velocity --cells cells.npz --out velocity.safetensors",
    )
    parser.add_argument(
        "action",
        choices=tuple(_OPTIONS),
        help="cache: collect all cells of a split; codebook: learn it by k-means; velocity: train the VQ-VAE (an interrupted training is resumed); verify: measure what the encoding keeps",
    )
    add_data(parser)
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="cache, verify: a value of the corpus's split column (cache: train, verify: validation)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="verify: only N pieces, evenly spaced over the split")
    parser.add_argument("--cells", metavar="CELLS.npz", help="codebook, velocity: what `ittybitty beats cache` wrote")
    parser.add_argument("--out", metavar="FILE", help="cache, codebook, velocity: where to write")
    parser.add_argument(
        "--codebook", metavar="FILE.npz", help="cache, verify: a codebook other than the one that ships"
    )
    parser.add_argument(
        "--velocity", metavar="FILE.safetensors", help="cache, verify: another velocity model than the one that ships"
    )
    parser.add_argument(
        "--record",
        metavar="FILE.json",
        help="verify: also write the figures there, with codes in use and how well beats are estimated, date, commit, versions",
    )
    parser.add_argument("--seed", type=whole(0), metavar="N", help="codebook, velocity: random seed (0)")
    parser.add_argument("--steps", type=int, metavar="N", help="velocity: training steps")
    parser.add_argument("--batch-size", type=int, metavar="N", help="velocity: cells a step")


def beats(options: argparse.Namespace) -> Result:
    """Run one action."""
    action = options.action
    given = {name for names in _OPTIONS.values() for name in names if getattr(options, name) is not None}
    if wrong := sorted(given - set(_OPTIONS[action])):
        raise ConfigError(f"--{wrong[0].replace('_', '-')} does not go with beats {action}: leave it out")
    if missing := [name for name in _NEEDS[action] if name not in given]:
        raise ConfigError(f"beats {action} needs --{missing[0]}: see ittybitty beats --help")
    for name in ("limit", "steps", "batch_size"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}: give 1 or more")
    return {"cache": _cache, "codebook": _codebook, "velocity": _velocity, "verify": _verify}[action](options)


def _codes(options: argparse.Namespace):
    """(codebook, velocity model) of the options; the shipped ones by default."""
    from ..tokenizers.beats.codebook import Codebook
    from ..tokenizers.beats.tokenizer import shipped
    from ..tokenizers.beats.velocity import VelocityVQ

    book = Codebook.load(options.codebook or shipped("codebook.npz"))
    return book, VelocityVQ.read(options.velocity or shipped("velocity.safetensors"))


def _pieces(options: argparse.Namespace, default: str, scores: bool):
    """(corpus name, split, its pieces)."""
    from ..corpora import open_corpus

    split = options.split or default
    corpus = open_corpus(options.data, "asap+scores" if scores else "asap")
    return corpus.name, split, corpus.split(split)


@contextlib.contextmanager
def _watched(pieces) -> Iterator:
    from tqdm import tqdm

    with tqdm(pieces, desc="reading", unit="piece", disable=not terminal(), leave=False) as shown:
        yield shown


def _cache(options: argparse.Namespace) -> Result:
    """Write all cells of a corpus to one file, and how often each code is used to a second one."""
    from ..tokenizers.beats import cells

    codes = _codes(options)
    corpus, split, pieces = _pieces(options, "train", scores=True)
    with outputs(None, options.out) as (place,):
        with _watched(pieces) as shown:
            made = cells.build(shown, split, corpus)
        made.save(place)
    use = cells.count_use(made, *codes)
    cells.save_use(use, options.out, made)
    result = {
        "out": options.out,
        "use": cells.use_path(options.out),
        "cells": len(made),
        "patterns": len(made.patterns),
        "pieces": len(made.pieces),
        "skipped": len(pieces) - len(made.pieces),
        "of_one_velocity": int(made.flat.sum()),
        "hash": made.content_hash,
    }
    text = f"{len(made):,} cells of {len(made.pieces):,} pieces, {len(made.patterns):,} different patterns, in {options.out}"
    return result, f"{text}\n{cells.describe_use(use)}"


def _codebook(options: argparse.Namespace) -> Result:
    """Learn a codebook from cells."""
    from ..tokenizers.beats import cells, codebook

    cache = cells.CellCache.load(options.cells)
    source = {"corpus": cache.corpus, "split": cache.split, "cells": cache.content_hash}
    with outputs(options.cells, options.out) as (place,), bar(3, "levels") as tick:
        book = codebook.learn(cache.patterns, cache.counts, options.seed or 0, source, progress=tick)
        book.save(place)
    shares = codebook.exact_shares(book, cache.patterns, cache.counts)
    result = {"out": options.out, "hash": book.content_hash, "codes": [len(level) for level in book.levels], **shares}
    text = [f"{len(level):,} {name}-beat patterns" for level, name in zip(book.levels, ("full", "half", "quarter"))]
    share = ", ".join(f"{value:.2%} {name.removeprefix('exact_share_')}" for name, value in shares.items())
    return result, f"{', '.join(text)} in {options.out} (hash {book.content_hash})\nof its own cells exact: {share}"


def _velocity(options: argparse.Namespace) -> Result:
    """Train the velocity model on cells; an interrupted training is kept beside the output file and resumed."""
    from ..tokenizers.beats import cells, velocity

    cache = cells.CellCache.load(options.cells)
    rows, counts = cache.velocity_rows(cache.expressive())
    given = {"steps": options.steps, "batch_size": options.batch_size, "seed": options.seed}
    recipe = velocity.VelocityRecipe(**{name: value for name, value in given.items() if value is not None})
    training = Path(options.out).expanduser().with_suffix(".training.safetensors")
    began = training.exists()
    with outputs(options.cells, options.out) as (place,), bar(recipe.steps, "steps") as tick:
        model = velocity.train(
            rows, counts, recipe, state=training, on_step=(lambda step, _: tick(step)) if tick else None
        )
        model.write(place)
    training.unlink(missing_ok=True)
    error = velocity.mean_absolute_error(model, rows, counts)
    used = len(set(model.codes(rows).tolist()))
    result = {
        "out": options.out,
        "hash": model.content_hash,
        "velocity_mae": error,
        "codes_used": used,
        "rows": len(rows),
        "resumed": began,
    }
    return (
        result,
        f"{options.out}: off by {error:.3f} MIDI steps on its own cells; {used} of {model.config.codes} codes are used",
    )


def _verify(options: argparse.Namespace) -> Result:
    """Measure what the beat encoding keeps of a split."""
    import numpy as np

    from ..evaluation.bits import evenly_spaced
    from ..evaluation.results import record
    from ..tokenizers.beats import cells, estimate
    from ..tokenizers.beats.verify import verify
    from ..tokenizers.beats.vocabulary import SIZE

    codebook, velocity = _codes(options)
    corpus, split, pieces = _pieces(options, "validation", scores=False)
    pieces = evenly_spaced(pieces, options.limit)
    use = np.zeros(SIZE, np.int64)
    with outputs(None, options.record) as (place,):
        with _watched(pieces) as shown:
            result = verify(shown, codebook, velocity, on_use=lambda ids: np.add.at(use, ids, 1))
        if place:
            with _watched(pieces[::ESTIMATED]) as shown:
                estimated = estimate.against_annotations(shown)
            about = {
                "corpus": corpus,
                "split": split,
                "codebook": codebook.content_hash,
                "velocity": velocity.content_hash,
            }
            record({**about, "verify": result, "use": cells.usage(use), "estimated_beats": estimated}, place)
    notes = result.pop("notes")
    text = (
        f"{result['cells']:,} cells of {split}: {result['exact_share_l1']:.2%} exact as one full-beat code, {result['exact_share_l2']:.2%} as two "
        f"half-beat codes, {result['exact_share_l3']:.2%} as four quarter-beat codes; {result['escape_share']:.2%} by the nearest code or an escape\n"
        f"onsets off by {result['onset_mae_ms']:.2f} ms on their own beats, {result['notes_lost']:,} of {notes:,} notes lost; "
        f"velocity off by {result['velocity_mae']:.3f} MIDI steps\n{result['vocabulary']:,} ids"
    )
    return result, text
