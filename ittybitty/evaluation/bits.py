"""Bits per note of a model on held-out pieces, with what its encoding keeps and loses.

    results = evaluate("tiny", data, "validation")
    record(results, "paper/results/tiny.json")

Bits per note is the sum of all bits spent on the pieces, end tokens included, divided by the number of notes of the
original performances. Every piece is scored from its beginning with an empty context, in windows of 1,024 tokens that move
by 512 (likelihood.py); this is the same for every system. The interval is a seeded 95% bootstrap interval over pieces. An
encoding that drops information needs fewer bits, so `keeps` and the round-trip error are always reported beside the figure.

    lengths = by_position("tiny", data, "validation")

measures how much a context helps that is longer than the one used in training.

Left out: baselines without a network (baselines.py), the quality of generated music (continuation_metrics.py), and what is
copied from the training pieces (memorisation.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import checkpoint, metrics
from ..corpora import Corpus, Piece, open_corpus
from ..errors import UNREADABLE, ConfigError, CorpusError, MidiError
from ..models.lm import LanguageModel
from ..notes import Performance
from ..tokenizers.protocol import ATTRIBUTES, Tokenizer
from .likelihood import CONTEXT, STRIDE, Spelling, piece_bits, piece_bits_by_attribute, unbroken_bits
from .results import data_hash, header

ATTRIBUTE_RULE = (
    "chain rule over base tokens: each pays for what it adds to the ids whose spelling begins alike; "
    "the price of an id's ending is counted with the base token that follows it"
)
T = TypeVar("T")

LENGTH = 8192  # tokens that by_position reads of each piece
FIRST_EDGE = 128  # tokens; by_position's bins double from here on


def evaluate(
    name: str | Path,
    data: str | Path | Corpus | None,
    split: str = "validation",
    limit: int | None = None,
    progress: bool = True,
    device: str = "auto",
    context: int = CONTEXT,
) -> dict:
    """Bits per note of a shipped model or run folder on a split, with one row per piece under "per_piece".

    `limit` is the number of pieces, evenly spaced over the split. Windows have `context` steps and overlap by half. Raises
    CheckpointError, CorpusError, ConfigError; pieces that cannot be read are listed under "skipped".
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: give 1 or more pieces")
    found = checkpoint.load(name, device)
    spelling = Spelling.of(found.tokenizer)
    corpus, pieces = chosen_pieces(data, split, limit, found.configs["data"].corpus)
    rows, skipped = scored(
        pieces, lambda piece: score(found.model, found.tokenizer, piece, spelling, context), progress
    )
    return {
        **summary(rows),
        **header(found, corpus, split),
        "data_hash": data_hash(rows),
        "complete": len(pieces) == len(corpus.split(split)),
        "context": context,
        "stride": context // 2,
        "attribute_rule": ATTRIBUTE_RULE,
        "skipped": skipped,
        "per_piece": rows,
    }


def chosen_pieces(
    data: str | Path | Corpus | None, split: str, limit: int | None, prefer: str = ""
) -> tuple[Corpus, Sequence[Piece]]:
    """The corpus (`open_corpus`), and `limit` pieces of its split, evenly spaced; CorpusError for an empty split, ConfigError for a bad limit."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: give 1 or more pieces")
    corpus = open_corpus(data, prefer)
    return corpus, evenly_spaced(corpus.split(split), limit)


def scored(
    pieces: Iterable[Piece], score_one: Callable[[Piece], dict], progress: bool
) -> tuple[list[dict], list[dict]]:
    """Score the pieces. Returns the rows, and {"name", "reason"} of pieces that cannot be scored; CorpusError if none can."""
    rows, skipped = [], []
    for piece in shown(pieces, progress, "scoring"):
        try:
            rows.append(score_one(piece))
        except UNREADABLE as error:
            skipped.append({"name": piece.name, "reason": str(error)})
    if not rows:
        reason = f" ({skipped[0]['reason']})" if skipped else ""
        raise CorpusError(f"none of {len(skipped)} pieces could be scored{reason}; give other pieces")
    return rows, skipped


def read_piece(piece: Piece) -> Performance:
    """Load a performance. MidiError if it cannot be read or holds no notes."""
    performance = piece.load()
    if not len(performance):
        raise MidiError(f"{piece.name}: holds no notes; leave it out")
    return performance


def score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    piece: Piece,
    spelling: Spelling | None = None,
    context: int = CONTEXT,
) -> dict:
    """Score one piece. Returns its row: notes, seconds of music, tokens, bits, seconds of computation, round-trip error.

    If the tokenizer's `spelling` is given, the row has the bits by attribute too.
    """
    original = read_piece(piece)
    ids = tokenizer.encode(tokenizer.prepare(original))
    began = time.perf_counter()
    parts: dict[str, Any] = {}
    if spelling is None:
        bits = piece_bits(model, ids, context, context // 2)
    else:
        divided = piece_bits_by_attribute(model, ids, spelling, context, context // 2)
        bits = divided.sum(1)
        parts = {"bits_by_attribute": dict(zip(ATTRIBUTES, divided.sum(0).tolist()))}
    took = time.perf_counter() - began
    decoded = tokenizer.decode(ids)
    if "pedal" in tokenizer.keeps:
        parts |= metrics.pedal_error(original, decoded)
    return piece_row(piece, original, len(bits), float(bits.sum()), took, decoded) | parts


def piece_row(
    piece: Piece, original: Performance, tokens: int | None, bits: float, took: float, decoded: Performance
) -> dict:
    """A row of "per_piece", the same for every tokenizer and baseline."""
    return {
        "name": piece.name,
        "composer": piece.composer,
        "title": piece.title,
        "tokens": tokens,
        "bits": bits,
        "seconds": original.end,
        "model_seconds": took,
        **metrics.round_trip_error(original, decoded),
    }


def summary(rows: list[dict]) -> dict:
    """Figures over all pieces. Ratios are ratios of sums, so a piece counts by its notes; errors are means over notes."""
    bits, notes, tokens, seconds, took = (
        np.array([row[key] for row in rows], float) for key in ("bits", "notes", "tokens", "seconds", "model_seconds")
    )  # None (a baseline without tokens) becomes NaN
    low, high = metrics.bootstrap_interval(bits, notes)
    lost = np.array([row["notes_lost"] for row in rows])
    errors = {}
    for key in ("onset_error_ms", "duration_error_ms", "velocity_error"):
        values = np.array([row[key] for row in rows])
        known = np.isfinite(values)
        errors[key] = float(np.average(values[known], weights=(notes - lost)[known])) if known.any() else float("nan")
    if moved := [row for row in rows if row.get("pedal_error_ms") is not None]:
        kept = [row["pedals"] - row["pedals_lost"] for row in moved]
        errors["pedal_error_ms"] = float(np.average([row["pedal_error_ms"] for row in moved], weights=kept))
        errors["pedals_lost"] = sum(row["pedals_lost"] for row in moved)
    return {
        "bits_per_note": float(bits.sum() / notes.sum()),
        "ci95": [low, high],
        "tokens_per_note": float(tokens.sum() / notes.sum()),
        "bits_per_token": float(bits.sum() / tokens.sum()),
        "bits_per_second": float(bits.sum() / max(seconds.sum(), 1e-9)),
        "pieces": len(rows),
        "notes": int(notes.sum()),
        "notes_lost": int(lost.sum()),
        **errors,
        "notes_per_second": float(notes.sum() / max(took.sum(), 1e-9)),
        **_attributes(rows),
    }


def _attributes(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Bits per note of each attribute (their sum is bits per note) and their shares; {} if the rows have no such bits."""
    if not all("bits_by_attribute" in row for row in rows):
        return {}
    notes = sum(row["notes"] for row in rows)
    spent = {what: sum(row["bits_by_attribute"][what] for row in rows) for what in ATTRIBUTES}
    total = sum(spent.values())
    return {
        "bits_per_note_by_attribute": {what: bits / notes for what, bits in spent.items()},
        "share_by_attribute": {what: bits / total for what, bits in spent.items()},
    }


def by_position(
    name: str | Path,
    data: str | Path | None,
    split: str = "validation",
    limit: int | None = None,
    length: int = LENGTH,
    progress: bool = True,
    device: str = "auto",
) -> dict:
    """Bits per note by position in the piece, for the first `length` tokens of all pieces that are that long.

    Every token is scored twice: with the whole piece before it as context, in one pass, and with the sliding windows of
    `evaluate`, whose context is 512 to 1,024 tokens. All bins contain the same pieces, so two bins differ in position and
    music only, and the difference of the two scores within a bin is the gain from the longer context alone. Bits of a
    bin are divided by the number of notes that begin in it. Raises the errors of `evaluate`, and CorpusError if no piece
    is long enough.
    """
    if length <= FIRST_EDGE:
        raise ConfigError(f"length is {length}: give more than {FIRST_EDGE} tokens")
    found = checkpoint.load(name, device)
    corpus, pieces = chosen_pieces(data, split, limit, found.configs["data"].corpus)
    edges = position_edges(length)
    rows, shorter, longest = [], 0, 0
    for piece in shown(pieces, progress, "scoring"):
        try:
            ids = found.tokenizer.encode(found.tokenizer.prepare(read_piece(piece)), eos=False)
        except UNREADABLE:
            shorter += 1
            continue
        longest = max(longest, len(ids) - 1)
        if len(ids) <= length:
            shorter += 1
            continue
        rows.append({"name": piece.name, **position_row(found.model, found.tokenizer, ids[: length + 1], edges)})
    if not rows:
        raise CorpusError(
            f"{corpus.name}: no piece in {split} has {length} tokens (the longest has {longest}); give a shorter --length"
        )
    return {
        "measures": "bits per note by position",
        "bins": _positions(rows, edges),
        "length": length,
        "pieces": len(rows),
        "shorter_pieces": shorter,
        "trained_context": found.configs["data"].context,
        "windowed": {"context": CONTEXT, "stride": STRIDE},
        **header(found, corpus, split),
        "data_hash": data_hash([{"name": row["name"], "notes": sum(row["notes"])} for row in rows]),
        "per_piece": rows,
    }


def position_edges(length: int) -> list[int]:
    """Edges of the bins: 0, 128, 256, 512 … up to `length`."""
    edges = [0, FIRST_EDGE]
    while edges[-1] < length:
        edges.append(min(2 * edges[-1], length))
    return edges


def position_row(
    model: LanguageModel, tokenizer: Tokenizer, ids: np.ndarray, edges: list[int]
) -> dict[str, list[float]]:
    """Bits and notes of the tokens ids[1:] in each bin [edges[i], edges[i + 1]), scored in one pass and in windows."""
    starts = np.array(edges[:-1])
    sums = {"bits": unbroken_bits(model, ids), "windowed_bits": piece_bits(model, ids, CONTEXT, STRIDE)}
    sums["notes"] = tokenizer.notes_per_id[np.asarray(ids[1:], np.int64)]
    return {key: np.add.reduceat(values[: edges[-1]], starts).tolist() for key, values in sums.items()}


def _positions(rows: list[dict], edges: list[int]) -> list[dict]:
    bits, windowed, notes = (
        np.array([row[key] for row in rows], float) for key in ("bits", "windowed_bits", "notes")
    )  # (P, bins)
    bins = []
    for i, (start, end) in enumerate(pairwise(edges)):
        total = notes[:, i].sum()
        bins.append(
            {
                "from_token": start,
                "to_token": end,
                "notes": int(total),
                "bits_per_token": float(bits[:, i].mean() / (end - start)),
                "bits_per_note": float(bits[:, i].sum() / total) if total else float("nan"),
                "ci95": list(metrics.bootstrap_interval(bits[:, i], notes[:, i])) if notes[:, i].all() else None,
                "windowed_bits_per_note": float(windowed[:, i].sum() / total) if total else float("nan"),
                "gain_ci95": list(metrics.bootstrap_interval(windowed[:, i] - bits[:, i], notes[:, i]))
                if notes[:, i].all()
                else None,
            }
        )
    return bins


def evenly_spaced(pieces: Sequence[T], limit: int | None) -> Sequence[T]:
    """`limit` of the pieces, evenly spaced and always the same; all pieces if there is no limit."""
    if limit is None or limit >= len(pieces):
        return pieces
    return tuple(pieces[i * len(pieces) // limit] for i in range(limit))


def shown(pieces: Iterable[T], progress: bool, doing: str) -> Iterable[T]:
    """The pieces, with a progress bar on a terminal or in a notebook."""
    from tqdm.auto import tqdm

    return tqdm(pieces, desc=doing, unit="piece", disable=None if progress else True)
