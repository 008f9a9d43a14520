"""How a continuation of a given length closes: several takes of its last seconds, and the one that sounds most like an end.

A model that has read whole pieces knows what their ends look like: the probability that it gives to the end token. Near the
length asked for, `TAKES` takes are drawn, and every place in them is asked for that probability. The piece ends at the place
where it is highest.

Left out: leading the music towards an end from far off, for which a model would have to be told how much time is left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

TAKES = 4
BEFORE, AFTER = 3.0, 4.0  # s around the length asked for, within which the piece may end
CONTEXT = 4096  # ids of the past that a take reads; a multiple of the ids of an event


@dataclass(frozen=True)
class Ending:
    """The ids of the last seconds, and how sure the model is that the piece ends there."""

    ids: tuple[int, ...]
    log_probability: float  # nats, of the end token after them


def whole(tokenizer, prompt_ids: Iterable[int], ids: list[int]) -> list[int]:
    """The longest beginning of `ids` that ends with a whole note or movement of the pedal."""
    complete = _complete(tokenizer, prompt_ids, ids)
    return ids[: int(np.flatnonzero(complete)[-1]) + 1] if complete.any() else []


def close(
    model,
    tokenizer,
    past: list[int],
    reader,
    span: tuple[float, float],
    draw: Callable[[list[int], int], Iterator[int]],
    takes: int = TAKES,
) -> Ending | None:
    """The best of `takes` endings after the ids `past`, between the seconds `span` of the reader's clock; None if there is none.

    `draw(ids, k)` gives the ids of take k after the ids it is given; `reader` has read `past` and is left as it is.
    """
    past = past[-CONTEXT:]
    best: Ending | None = None
    for k in range(takes):
        ids, clocks, ear = [], [], copy.deepcopy(reader)
        for id in draw(past, k):
            ear.feed(id)
            if ear.clock > span[1]:
                break
            ids.append(id)
            clocks.append(ear.clock)
        found = _best_place(model, tokenizer, past, ids, np.array(clocks), span)
        if found is not None and (best is None or found.log_probability > best.log_probability):
            best = found
    return best


def _complete(tokenizer, past: Iterable[int], ids: list[int]) -> np.ndarray:
    """(n,) bool: after which of `ids` no note is half written; nowhere for an encoding whose rules do not tell."""
    grammar = tokenizer.grammar(None)
    state, complete = grammar.start(past), np.zeros(len(ids), bool)
    for i, id in enumerate(ids):
        state = grammar.advance(state, id)
        complete[i] = getattr(state, "complete", False)
    return complete


@torch.no_grad()
def _best_place(model, tokenizer, past: list[int], ids: list[int], clocks: np.ndarray, span) -> Ending | None:
    """Where in `ids`, at a whole event within the span, the end token is likeliest."""
    complete = _complete(tokenizer, past, ids)
    places = np.flatnonzero(complete & (clocks >= span[0]))
    if not len(places):
        return None
    device = next(model.parameters()).device
    logits = model(torch.tensor([past + ids], device=device))[0, len(past) :].float()  # (n, V) after each of ids
    chances = logits.log_softmax(-1)[:, tokenizer.eos_id].cpu().numpy()[places]
    at = int(places[chances.argmax()])
    return Ending(tuple(ids[: at + 1]), float(chances.max()))
