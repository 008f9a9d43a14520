"""Ends a continuation near a given length: draws its last seconds several times, and keeps the one that sounds most like an end.

A model that was trained on whole pieces can judge an ending, by the probability that it gives to the end token. Near the
length asked for, `TAKES` takes are drawn, and every place in them is asked for that probability. The piece ends at the place
where it is highest. A pedal that is down there stays down while the last chord rings.

Left out: leading the music towards an end from far off, for which the remaining time would have to be an input of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .tokenizers.protocol import NoteReader, Tokenizer

TAKES = 8
RING = 3.0  # s after the last onset that a pedal stays down which is down at the end
BEFORE, AFTER = 3.0, 4.0  # s around the length asked for, within which the piece may end
CONTEXT = 4096  # ids of the past that a take reads; a multiple of the ids of an event


@dataclass(frozen=True)
class Ending:
    """The ids of the last seconds, and how sure the model is that the piece ends there."""

    ids: tuple[int, ...]
    log_probability: float  # nats, of the end token after them


def whole(tokenizer: Tokenizer, prompt_ids: Iterable[int], ids: list[int]) -> list[int]:
    """The longest beginning of `ids` that ends with a whole note or movement of the pedal."""
    grammar = tokenizer.grammar()
    complete = _complete(grammar, grammar.start(prompt_ids), ids)
    return ids[: int(np.flatnonzero(complete)[-1]) + 1] if complete.any() else []


def close(
    tokenizer: Tokenizer,
    past: list[int],
    reader: NoteReader,
    span: tuple[float, float],
    draw: Callable[[int], Iterator[tuple[int, float]]],
    takes: int = TAKES,
) -> Ending | None:
    """The best of `takes` endings after the ids `past`, between the seconds `span` of the reader's clock; None if there is none.

    `draw(k)` gives the ids of take k after `past`, each with the logarithm of the probability that the piece ends before it;
    `reader` has read `past` and is left as it is.
    """
    grammar = tokenizer.grammar()
    begins = grammar.start(past)
    best: Ending | None = None
    for k in range(takes):
        ids, clocks, ends, ear = [], [], [], copy.deepcopy(reader)
        for id, log_end in draw(k):
            ends.append(log_end)
            ear.feed(id)
            if ear.clock > span[1]:
                break
            ids.append(id)
            clocks.append(ear.clock)
        known = len(ends) - 1  # places after which the probability of the end is known
        possible = _complete(grammar, begins, ids)[:known] & (np.array(clocks[:known]) >= span[0])
        for at in np.flatnonzero(possible).tolist():
            if best is None or ends[at + 1] > best.log_probability:
                best = Ending(tuple(ids[: at + 1]), ends[at + 1])
    return best


def ring(pedals: np.ndarray, last_onset: float, end: float) -> np.ndarray:
    """(N,) PEDAL, of which one that is down when the last key comes up, at second `end`, is held for RING after the last onset."""
    pedals = pedals.copy()
    held = pedals["onset"] + pedals["duration"] >= end - 1e-6
    pedals["duration"][held] = np.maximum(pedals["duration"][held], last_onset + RING - pedals["onset"][held])
    return pedals


def _complete(grammar, state, ids: list[int]) -> np.ndarray:
    """(n,) bool: after which of `ids` no note is half written; False everywhere if the encoding's rules cannot tell."""
    complete = np.zeros(len(ids), bool)
    for i, id in enumerate(ids):
        state = grammar.advance(state, id)
        complete[i] = grammar.complete(state)
    return complete
