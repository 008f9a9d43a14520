"""A model on held-out pieces: bits per note, what its code keeps and loses, and a record that says where it came from.

    results = evaluate("tiny", data, "validation")
    record(results, "paper/results/tiny.json")

Bits per note is all the bits spent on the pieces, end tokens included, divided by all the notes of the original
performances. Every piece is scored from an empty past on, in windows of 1,024 tokens moved by 512 (likelihood.py), the
same for every system. The interval is a bootstrap over pieces, 95%, seeded. A code that keeps less has fewer bits to
pay for, so `keeps` and the round-trip error always stand beside the figure.

Left out: whether generated music is any good; metrics.py has numbers for that, ears have the last word.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from . import checkpoint, metrics
from .corpora import Piece, open_corpus
from .errors import ConfigError, CorpusError, MidiError
from .likelihood import CONTEXT, STRIDE, piece_bits
from .paths import atomic_path, repository_root


def evaluate(
    name: str | Path, data: str | Path | None, split: str = "validation", limit: int | None = None, progress: bool = True
) -> dict:
    """Figures of a shipped model or run folder on a split, with a row a piece under "per_piece".

    `limit` takes so many pieces, evenly spaced over the split in its own order. Raises CheckpointError, CorpusError,
    ConfigError; pieces that cannot be read are listed under "skipped".
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: give 1 or more pieces")
    found = checkpoint.load(name)
    corpus = open_corpus(data)
    pieces = evenly_spaced(corpus.split(split), limit)
    rows, skipped = [], []
    for piece in _shown(pieces, progress):
        try:
            rows.append(score(found.model, found.tokenizer, piece))
        except MidiError as error:
            skipped.append({"name": piece.name, "reason": str(error)})
    if not rows:
        raise CorpusError(f"{corpus.name}: none of {len(pieces)} pieces in {split} could be scored ({skipped[0]['reason']})")
    return {
        **summary(rows),
        "split": split,
        "corpus": corpus.name,
        "system": found.system,
        "model": found.path.name,
        "parameters": sum(p.numel() for p in found.model.parameters()),
        "keeps": list(found.tokenizer.keeps),
        "tokenizer_hash": found.tokenizer.content_hash,
        "data_hash": data_hash(rows),
        "complete": limit is None or limit >= len(corpus.split(split)),
        "context": CONTEXT,
        "stride": STRIDE,
        "skipped": skipped,
        "per_piece": rows,
    }


def score(model, tokenizer, piece: Piece) -> dict:
    """One piece's row: notes, music seconds, tokens, bits, seconds the model took, round-trip error."""
    original = piece.load()
    if not len(original):
        raise MidiError(f"{piece.name}: holds no notes")
    ids = tokenizer.encode(original)
    began = time.perf_counter()
    bits = piece_bits(model, ids, CONTEXT, STRIDE)
    took = time.perf_counter() - began
    return {
        "name": piece.name,
        "composer": piece.composer,
        "title": piece.title,
        "tokens": len(bits),
        "bits": float(bits.sum()),
        "seconds": original.end,
        "model_seconds": took,
        **metrics.round_trip_error(original, tokenizer.decode(ids)),
    }


def summary(rows: list[dict]) -> dict:
    """Figures over pieces: ratios of sums, so that a long piece counts for its notes; errors are means over notes."""
    bits, notes, tokens, seconds, took = (
        np.array([row[key] for row in rows], float) for key in ("bits", "notes", "tokens", "seconds", "model_seconds")
    )
    low, high = metrics.bootstrap_interval(bits, notes)
    lost = np.array([row["notes_lost"] for row in rows])
    errors = {}
    for key in ("onset_error_ms", "duration_error_ms", "velocity_error"):
        values = np.array([row[key] for row in rows])
        known = np.isfinite(values)
        errors[key] = float(np.average(values[known], weights=(notes - lost)[known])) if known.any() else float("nan")
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
    }


def evenly_spaced(pieces: tuple[Piece, ...], limit: int | None) -> tuple[Piece, ...]:
    """`limit` pieces spread over all of them, the same ones every time; all of them without a limit."""
    if limit is None or limit >= len(pieces):
        return pieces
    return tuple(pieces[i * len(pieces) // limit] for i in range(limit))


def data_hash(rows: Iterable[Mapping]) -> str:
    """Of the names and note counts of the pieces: two results with the same hash were measured on the same music."""
    text = json.dumps(sorted([row["name"], int(row["notes"])] for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record(results: Mapping, path: str | Path) -> dict:
    """Writes results with their provenance (date, commit, device, versions) as JSON, atomically; returns what it wrote."""
    written = {**results, "provenance": provenance()}
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(_plain(written), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return written


def provenance() -> dict[str, str]:
    """Where and with what a figure was made."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": device,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _commit() -> str:
    """The clone's commit, with "+" where files differ from it; the package's version for a plain install."""
    root = repository_root()
    if root is not None:
        try:
            git = ["git", "-C", str(root)]
            head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=20)
            changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=60).returncode
            return head.stdout.strip() + "+" * bool(changed)
        except (OSError, subprocess.SubprocessError):
            pass
    try:
        return f"version {version('ittybitty')}"
    except PackageNotFoundError:
        return "unknown"


def _plain(value):
    """`value` as JSON has it: NumPy numbers as Python's, NaN as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _shown(pieces: tuple[Piece, ...], progress: bool):
    from tqdm.auto import tqdm

    return tqdm(pieces, desc="scoring", unit="piece", disable=None if progress else True)
