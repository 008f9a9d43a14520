"""Music metrics along continuations many times as long as a training window, compared with the pianist.

    result = endurance("tiny", data, "validation", pieces=10, tokens=10_000)

The opening of each piece is the seed. The model's continuation and the pianist's are cut into windows of equal numbers of
notes, and each window is measured as if it were a piece. If a model drifts into noise, silence or a loop, its metrics move
away from the pianists' from some window on and do not return.

Left out: musical form. Each window is measured without the windows before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import checkpoint, metrics, systems
from ..corpora import Corpus, Piece
from ..errors import UNREADABLE, ConfigError, CorpusError
from ..generation import Continuation, continuation
from ..notes import Performance, between
from .bits import chosen_pieces, evenly_spaced, read_piece, shown
from .results import data_hash, header

WINDOW = 500  # notes
EXPECTED_TOKENS_PER_NOTE = 2.5  # decides how many notes the pianist must have played for the two to be compared


def endurance(
    name: str | Path,
    data: str | Path | Corpus | None,
    split: str = "validation",
    pieces: int = 10,
    tokens: int = 10_000,
    window: int = WINDOW,
    seed: int = 0,
    progress: bool = True,
    **sampling,
) -> dict:
    """Generate continuations of `tokens` tokens for `pieces` pieces and measure them in windows of `window` notes.

    Returns {"windows": [{"from_note", "to_note", "generated", "truth", "more"}], …}; each of the last three is
    {metric: {"mean", "ci95"}} in the units of `window_metrics`. "more" is the difference between a continuation and what the
    pianist played from the same opening. Each row of "per_piece" holds the windows of both, because a mean can hide two
    opposite kinds of failure.

    Pieces are evenly spaced among those of the split that are long enough. The number of windows is that of the shortest
    continuation. Raises CheckpointError, ConfigError, and CorpusError if no piece or no window is left.
    """
    if pieces < 1 or window < 2 or tokens < 1:
        raise ConfigError(
            f"pieces is {pieces}, tokens {tokens}, window {window}: give 1 or more, and windows of 2 notes or more"
        )
    found = checkpoint.load(name)
    corpus, all_of_split = chosen_pieces(data, split, None, found.configs["data"].corpus)
    needed = math.ceil(tokens / EXPECTED_TOKENS_PER_NOTE)
    long = _long_enough(all_of_split, found.configs["data"].prompt_seconds, needed)
    if not long:
        raise CorpusError(
            f"{corpus.name}: no piece of {split} has {needed:,} notes after its opening; ask for fewer tokens"
        )
    config = systems.sampling(found.system, **{"max_new_tokens": tokens, **sampling})
    made, rows = [], []
    chosen = evenly_spaced(long, pieces)
    for i, (piece, opening, _) in enumerate(shown(chosen, progress, "continuing")):
        drawn = dataclasses.replace(config, seed=1000 * seed + i)
        one = continuation(found.model, found.tokenizer, opening, found.configs["data"], drawn)
        made.append(metrics_by_window(one.new, window))
        rows.append(_row(piece, opening, one))
    played = [metrics_by_window(rest, window) for _, _, rest in chosen]
    count = min(map(len, made + played))
    rows = [
        {**row, "windows": {"generated": ours[:count], "truth": theirs[:count]}}
        for row, ours, theirs in zip(rows, made, played)
    ]
    if not count:
        raise CorpusError(
            f"no continuation of {tokens:,} tokens has {window} notes; ask for more tokens or smaller windows"
        )
    return {
        "measures": "music metrics by window of long continuations",
        "windows": [_compared(i, window, made, played) for i in range(count)],
        "window": window,
        "tokens": tokens,
        "trained_context": found.configs["data"].context,
        **header(found, corpus, split),
        "data_hash": data_hash(rows),
        "pieces": len(rows),
        "seed": seed,
        "sampling": {key: getattr(config, key) for key in ("temperature", "top_k", "top_p", "repetition_penalty")},
        "per_piece": rows,
    }


def _row(piece: str, opening: Performance, made: Continuation) -> dict:
    """Details of one continuation."""
    return {
        "name": piece,
        "notes": len(made.new),
        "tokens": made.tokens,
        "seconds": made.new.end - opening.end,
        "draw_seconds": made.seconds,
    }


def _compared(i: int, window: int, made: Sequence[list[dict]], played: Sequence[list[dict]]) -> dict:
    """Means over the pieces of window i: of the continuations, of the pianists, and of their differences."""
    more = [{key: ours[i][key] - theirs[i][key] for key in ours[i]} for ours, theirs in zip(made, played)]
    return {
        "from_note": i * window,
        "to_note": (i + 1) * window,
        "generated": _means([windows[i] for windows in made]),
        "truth": _means([windows[i] for windows in played]),
        "more": _means(more),
    }


def _long_enough(
    pieces: Sequence[Piece], seconds: float, notes: int
) -> tuple[tuple[str, Performance, Performance], ...]:
    """Name, opening and rest of the pieces with at least `notes` notes after their opening; unreadable pieces are skipped."""
    long = []
    for piece in pieces:
        try:
            opening, rest = opened(read_piece(piece), seconds)
        except UNREADABLE:
            continue
        if len(rest) >= notes:
            long.append((piece.name, opening, rest))
    return tuple(long)


def opened(performance: Performance, seconds: float) -> tuple[Performance, Performance]:
    """Split a performance after the first note that begins at least `seconds` after the first one: (opening, rest)."""
    onsets = performance.notes["onset"]
    later = onsets[onsets >= onsets.min() + seconds] if len(onsets) else onsets
    join = math.nextafter(float(later.min()), math.inf) if len(later) else math.inf
    return between(performance, -math.inf, join), between(performance, join, math.inf)


def metrics_by_window(performance: Performance, size: int) -> list[dict[str, float]]:
    """`window_metrics` of each full window of `size` notes, in order."""
    notes = np.sort(performance.notes, order=("onset", "pitch"))
    return [window_metrics(notes[at : at + size]) for at in range(0, len(notes) - size + 1, size)]


def window_metrics(notes: np.ndarray) -> dict[str, float]:
    """Metrics of (N,) notes: notes per second, longest time without an onset (s), entropy of pitch classes (bits), pitch
    range (semitones), mean velocity, and the share of runs of four pitches that occurred earlier in the window."""
    onsets, pitches = notes["onset"], notes["pitch"].astype(int)
    gaps, classes = np.diff(onsets), metrics.pitch_class_histogram(Performance(notes))
    classes = classes[classes > 0]
    return {
        "notes_per_second": len(notes) / max(float(onsets[-1] - onsets[0]), 1e-9),
        "longest_gap": float(gaps.max()),
        "pitch_class_entropy": float(-(classes * np.log2(classes)).sum()),
        "pitch_range": float(np.ptp(pitches)),
        "velocity": float(notes["velocity"].mean()),
        "repetition": metrics.repetition(Performance(notes)),
    }


def _means(rows: Sequence[dict[str, float]]) -> dict[str, dict]:
    return {
        key: {"mean": float(np.mean(v)), "ci95": list(metrics.bootstrap_interval(v))}
        for key in rows[0]
        for v in [[row[key] for row in rows]]
    }
