"""Likelihood at the information of Magenta's performance encoding, in which published models of MAESTRO are measured.

    result = as_performance("runs/performance", data, "validation")
    result["bits_per_note_as_performance"]

That encoding [1] writes a performance as note-on, note-off, time-shift and velocity events: times on a grid of 10 ms, 32
classes of velocity, no pedal (it is folded into durations, tokenizers/events/sustain.py), every note at least one step long.
Published figures are nats per such token. Nats per token times tokens per note (`token_count`), divided by ln 2, are bits per
note, which can be compared with ours:

    bits_per_note(1.82, tokens_per_note)

Our model has to say exactly as much. It is trained on the encoding `notes-performance`, whose classes are exact up to two
seconds. What a wider class leaves open is added to the bills: log2 of the number of steps in the class, and for the last
class, which has no end, the Elias gamma code of the steps beyond its beginning. So the sum is the length of a real code for
the performance on its 10 ms grid.

Two differences stay, both in our favour and both small. Notes within one step are in order of pitch here, and in order of
their exact onset there: `order_bits` is the most that this can be worth. Of two strikes of a key within one step one is left
out here (`merged_notes` counts them; the published notes are still those that bits are divided by).

[1] Oore et al. 2018, arXiv:1808.03715; note_seq/performance_lib.py and sequences_lib.py, quantize_note_sequence_absolute.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .. import checkpoint, metrics
from ..corpora import Corpus, Piece
from ..errors import ConfigError
from ..models.lm import LanguageModel
from ..notes import Performance
from ..tokenizers.events import EventTokenizer
from ..tokenizers.events.grid import EventGrid, quantise
from ..tokenizers.events.sustain import with_sustain
from ..tokenizers.grid import closest
from ..tokenizers.protocol import Tokenizer
from .bits import chosen_pieces, read_piece, scored, shown
from .likelihood import CONTEXT, STRIDE, piece_bits
from .results import data_hash, header

VARIANT = "notes-performance"  # the encoding with this information
STEPS_PER_SECOND = 100
PARTS = ("time", "pitch", "duration", "velocity")
LONGEST_SHIFT = 100  # steps of one time-shift event
VELOCITY_BIN = 4  # MIDI velocities of one class: 1 … 4, 5 … 8, …


def token_count(performance: Performance) -> dict[str, int]:
    """Events that note-seq writes for a performance, by kind, with "notes" as they were played.

    Two for each note, one for each change of velocity class from note to note, and for each time between events as many
    time shifts as it takes. Neither a beginning nor an end is counted.
    """
    sounding = with_sustain(performance)
    notes = sounding.notes
    start, end = _steps(notes["onset"]), _steps(notes["onset"] + notes["duration"])
    end = np.where(end == start, start + 1, end)
    instants = np.unique(np.concatenate([[0], start, end]))
    shifts = np.ceil(np.diff(instants) / LONGEST_SHIFT).astype(np.int64)
    classes = (notes["velocity"].astype(np.int64) - 1) // VELOCITY_BIN
    changes = int((np.diff(classes, prepend=-1) != 0).sum())
    return {
        "note_on": len(notes),
        "note_off": len(notes),
        "time_shift": int(shifts.sum()),
        "velocity": changes,
        "tokens": 2 * len(notes) + int(shifts.sum()) + changes,
        "notes": len(performance),
    }


def _steps(seconds: np.ndarray) -> np.ndarray:
    return np.floor(np.maximum(seconds, 0) * STEPS_PER_SECOND + 0.5).astype(np.int64)


def order_bits(performance: Performance) -> float:
    """The most bits that the order of notes within a step can hold: log2 k! for k notes."""
    _, struck = np.unique(_steps(with_sustain(performance).notes["onset"]), return_counts=True)
    return float(sum(math.lgamma(k + 1) for k in struck.tolist()) / math.log(2))


def bits_per_note(nats_per_token: float, tokens_per_note: float) -> float:
    """A published likelihood in nats per event of the performance encoding, as bits per note."""
    return nats_per_token * tokens_per_note / math.log(2)


def count(corpus: Corpus, split: str, progress: bool = True) -> dict:
    """Tokens of the performance encoding per note of a split, with the counts by kind.

    Raises the errors of reading a corpus.
    """
    total: dict[str, int] = {}
    order, pieces = 0.0, corpus.split(split)
    for piece in shown(pieces, progress, "counting"):
        performance = read_piece(piece)
        order += order_bits(performance)
        for kind, number in token_count(performance).items():
            total[kind] = total.get(kind, 0) + number
    return {
        "split": split,
        "corpus": corpus.name,
        "pieces": len(pieces),
        **total,
        "tokens_per_note": total["tokens"] / total["notes"],
        "order_bits_per_note_at_most": order / total["notes"],
    }


def exact_ids(tokenizer: EventTokenizer, performance: Performance) -> tuple[np.ndarray, float]:
    """Ids (L,) of a performance with each time in its own class, and the bits that the classes leave open.

    `EventTokenizer.encode` shortens the times that follow a rounded silence, so that no error adds up when the ids are
    played. Here nothing is played, and what the rounding leaves open is paid for.
    """
    grid = tokenizer.grid
    events = quantise(performance, grid)
    waits = np.diff(events.time, prepend=0)
    lengths = _lengths(performance, grid)
    rows = tokenizer.rows(events, closest(grid.times, waits))
    body = np.concatenate([[tokenizer.bos_id], rows.ravel(), [tokenizer.eos_id]])
    return body.astype(np.uint16), open_bits(grid.times, waits) + open_bits(grid.lengths, lengths)


def _lengths(performance: Performance, grid: EventGrid) -> np.ndarray:
    """Exact durations in steps of the events of a performance, in any order."""
    exact = EventGrid(
        grid.ticks_per_second, exact=1, silence_steps=((1, 1),), durations=((_LONGEST, 1),), pedal=False, sustain=True
    )
    return exact.lengths[quantise(performance, exact).duration]


_LONGEST = 65_536  # steps: eleven minutes


def open_bits(classes: np.ndarray, values: np.ndarray) -> float:
    """Bits that say which of a class's values is meant, for all values: log2 of how many share a class.

    `classes` are the rising representatives to which values are rounded. The last class has no end: there the Elias gamma
    code of the distance from its beginning is paid.
    """
    last = len(classes) - 1
    everything = np.arange(int(classes[0]), int(classes[-1]) + 1)
    member = closest(classes, everything)
    sizes, begins = np.bincount(member, minlength=last + 1), np.searchsorted(member, np.arange(last + 1))
    found = closest(classes, values)
    bits = np.log2(np.maximum(sizes[found], 1))
    beyond = values - (int(classes[0]) + begins[last]) + 1
    bits[found == last] = 2 * np.floor(np.log2(np.maximum(beyond[found == last], 1))) + 1
    return float(bits.sum())


def score(model: LanguageModel, tokenizer: EventTokenizer, piece: Piece) -> dict:
    """Score one piece: bits of the model and of what its classes leave open, notes, and tokens of the published encoding."""
    original = read_piece(piece)
    ids, left_open = exact_ids(tokenizer, original)
    began = time.perf_counter()
    spent = piece_bits(model, ids, CONTEXT, STRIDE)  # of ids[1:]
    bits = float(spent.sum())
    counts = token_count(original)
    return {
        "name": piece.name,
        "composer": piece.composer,
        "title": piece.title,
        "notes": len(original),
        "merged_notes": counts["note_on"] - (len(ids) - 2) // tokenizer.ids_per_event,
        "bits": bits + left_open,
        "open_bits": left_open,
        "bits_by_part": {
            name: float(spent[part :: tokenizer.ids_per_event].sum()) for part, name in enumerate(PARTS)
        },  # with the end of the piece, whose place is that of a time
        "performance_tokens": counts["tokens"],
        "model_seconds": time.perf_counter() - began,
    }


def as_performance(
    name: str | Path,
    data: str | Path | Corpus | None,
    split: str = "validation",
    limit: int | None = None,
    progress: bool = True,
    device: str = "auto",
) -> dict:
    """Bits per note of a model at the information of the performance encoding, and nats per token of that encoding.

    The model must have been trained on `notes-performance`; ConfigError says how. `limit` as in `evaluate`; raises the
    errors of `evaluate`.
    """
    found = checkpoint.load(name, device)
    tokenizer = checked(found.tokenizer, str(name))
    corpus, pieces = chosen_pieces(data, split, limit, found.configs["data"].corpus)
    rows, skipped = scored(pieces, lambda piece: score(found.model, tokenizer, piece), progress)
    return {
        "measures": "likelihood at the information of the performance encoding",
        **summary(rows),
        **header(found, corpus, split),
        "data_hash": data_hash(rows),
        "complete": len(pieces) == len(corpus.split(split)),
        "context": CONTEXT,
        "stride": STRIDE,
        "skipped": skipped,
        "per_piece": rows,
    }


def summary(rows: list[dict]) -> dict:
    """Figures over all pieces; the interval is a bootstrap over pieces."""
    bits, notes, tokens, left = (
        np.array([row[key] for row in rows], float) for key in ("bits", "notes", "performance_tokens", "open_bits")
    )
    return {
        "bits_per_note_as_performance": float(bits.sum() / notes.sum()),
        "ci95": list(metrics.bootstrap_interval(bits, notes)),
        "open_bits_per_note": float(left.sum() / notes.sum()),
        "performance_tokens_per_note": float(tokens.sum() / notes.sum()),
        "nats_per_performance_token": float(bits.sum() * math.log(2) / tokens.sum()),
        "bits_per_note_by_part": {
            name: sum(row["bits_by_part"][name] for row in rows) / float(notes.sum()) for name in PARTS
        },
        "pieces": len(rows),
        "notes": int(notes.sum()),
        "merged_notes": int(sum(row["merged_notes"] for row in rows)),
    }


def checked(tokenizer: Tokenizer, name: str) -> EventTokenizer:
    """The tokenizer, which must have the information of the performance encoding; ConfigError if it has another."""
    if isinstance(tokenizer, EventTokenizer) and tokenizer.content_hash == EventTokenizer(VARIANT).content_hash:
        return tokenizer
    raise ConfigError(
        f"{name} reads the encoding {tokenizer.variant}, which keeps another amount of information: "
        f"train a model on {VARIANT} first (ittybitty experiment performance)"
    )


def published(rows: list[Mapping], tokens_per_note: Mapping[str, float]) -> list[dict]:
    """Published figures with their conversion: "bits_per_note" for each row's "nats_per_token" and "split".

    A row whose split is not stated is converted as validation.
    """
    return [
        {
            **row,
            "bits_per_note": bits_per_note(
                row["nats_per_token"], tokens_per_note.get(row["split"], tokens_per_note["validation"])
            ),
        }
        for row in rows
    ]
