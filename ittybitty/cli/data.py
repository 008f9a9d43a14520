"""`ittybitty data` and `ittybitty tokenize`: download and check MAESTRO, count what a corpus holds, write tokens to disk."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ..errors import ConfigError, CorpusError
from .parser import Result, Verbs, add_data, add_verb, changes, table, terminal


def add_verbs(verbs: Verbs) -> None:
    """Adds this module's verbs."""
    parser = add_verb(
        verbs,
        "data",
        data,
        "fetch and verify MAESTRO, or count what a corpus holds",
        "ittybitty data fetch",
        "ittybitty data verify --root ~/music",
        "ittybitty data stats --root embedded",
    )
    parser.add_argument(
        "action",
        choices=("fetch", "verify", "stats"),
        help="fetch: download and unpack; verify: check every file; stats: count pieces, notes and hours",
    )
    parser.add_argument(
        "--root",
        "--data",
        dest="data",
        metavar="DIR",
        help='folder that holds, or will hold, maestro-v3.0.0/; for stats also asap/, MIDI files or "embedded" '
        "(default: $ITTYBITTY_DATA, else where MAESTRO is found, else the cache; for stats, embedded in place of the cache)",
    )

    parser = add_verb(
        verbs,
        "tokenize",
        tokenize,
        "turn a corpus into a folder of tokens; the tokenizer learns from its training pieces only",
        "ittybitty tokenize --system hybrid --data ~/music --out tokens/remi",
    )
    parser.add_argument(
        "--system",
        default="hybrid",
        metavar="NAME",
        help="a row of `ittybitty systems`; it names the tokenizer (%(default)s)",
    )
    parser.add_argument(
        "--preset",
        default="tiny",
        metavar="NAME",
        help="size of the model, which decides the size of the vocabulary (%(default)s)",
    )
    add_data(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the tokens; an interrupted run is continued"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    parser.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="change a setting, such as model.vocab_size=4000"
    )


def data(options: argparse.Namespace) -> Result:
    """Fetch, verify or count."""
    return {"fetch": _fetch, "verify": _verify, "stats": _stats}[options.action](options)


def _fetch(options: argparse.Namespace) -> Result:
    from ..corpora import maestro

    folder = maestro.fetch(options.data, progress=terminal())
    return {"folder": folder}, f"MAESTRO v3.0.0 is in {folder}"


def _verify(options: argparse.Namespace) -> Result:
    from ..corpora import maestro

    found = maestro.verify(options.data, progress=terminal())
    if not found.complete:
        first = next(iter([*found.missing, *found.damaged]), "its CSV is not the official one")
        bad = f"{len(found.missing)} files missing, {len(found.damaged)} damaged"
        raise CorpusError(
            f"{found.folder}: {bad} (the first: {first}); delete the folder and run 'ittybitty data fetch'"
        )
    counts = ", ".join(f"{count} {split}" for split, count in found.counts.items())
    return {"folder": found.folder, "complete": True, "counts": found.counts}, f"{found.folder} is complete: {counts}"


def _stats(options: argparse.Namespace) -> Result:
    from ..corpora import open_corpus, statistics

    corpus = open_corpus(options.data)
    rows = [{"split": split, **counts} for split, counts in statistics(corpus, progress=terminal()).items()]
    columns = {name: name for name in ("split", "pieces", "notes", "hours", "unreadable")}
    result = {"corpus": corpus.name, "licence": corpus.licence, "splits": rows}
    return result, f"{corpus.name} ({corpus.licence})\n\n{table(rows, columns)}"


def tokenize(options: argparse.Namespace) -> Result:
    """Write the tokens of a corpus to a folder."""
    from .. import pipeline, systems

    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"--workers is {options.workers}: give 1 or more")
    configs = systems.build(options.system, options.preset, changes(options.set))
    return _describe(pipeline.tokenize(configs, options.data, options.out, options.workers, progress=terminal()))


def _describe(tokens) -> Result:
    """Describe a token folder: counts as a dictionary and as text."""
    from ..corpora import SPLITS

    rows = []
    for split in dict.fromkeys([*SPLITS, *(piece.split for piece in tokens.pieces)]):
        pieces = [piece for piece in tokens.pieces if piece.split == split]
        rows.append(
            {
                "split": split,
                "pieces": len(pieces),
                "notes": sum(p.notes for p in pieces),
                "tokens": sum(p.length for p in pieces),
            }
        )
    total = {key: sum(row[key] for row in rows) for key in ("pieces", "notes", "tokens")}
    result = {"out": tokens.path, **total, "tokens_per_note": total["tokens"] / max(1, total["notes"]), "splits": rows}
    result |= {"tokenizer_hash": tokens.tokenizer_hash, "skipped": [asdict(piece) for piece in tokens.skipped]}
    text = [table(rows, {"split": "split", "pieces": "pieces", "notes": "notes", "tokens": "tokens"})]
    text += [f"{result['tokens_per_note']:.2f} tokens a note, in {tokens.path}"]
    text += [f"skipped, because unreadable: {piece.reason}" for piece in tokens.skipped]
    return result, "\n".join(text)
