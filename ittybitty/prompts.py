"""Makes the prompt, which is the part of a seed that a model reads: the ids of its end, beginning at a bar line of its clock.

The end of the seed is encoded from a bar line of its own clock on (2 s at 120 beats a minute), up to its last note and
with the pedal as it stands there. An encoding with a clock of its own (pitch strings: one event a step) is shifted as a
whole, so that its last onset of the prompt falls on the seed's.

Left out: where in the seed the new music begins (seeds.py).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from .config import DataConfig
from .notes import Performance, between, shift
from .tokenizers.protocol import Tokenizer

BAR_SECONDS = 2.0  # the clock's bar; prompts start on one


@dataclass(frozen=True)
class Prompt:
    """What the model is given of a seed."""

    ids: np.ndarray  # (L,)
    performance: Performance  # the same notes, at the seed's own times
    start: float  # s that the ids' clock begins after the seed's
    join: float  # s, onset of the seed's last note: new music begins there or later


def make_prompt(seed: Performance, tokenizer: Tokenizer, config: DataConfig) -> Prompt:
    """The last `prompt_seconds` of a seed or its last `prompt_tokens` tokens, whichever is shorter; at least its last note.

    A whole seed begins with BOS, one that is cut does not: both occur in training.
    """
    seed = tokenizer.prepare(seed)
    if not len(seed):
        return Prompt(np.array([tokenizer.bos_id]), seed, 0.0, 0.0)
    onsets = np.unique(seed.notes["onset"])
    join_at = float(onsets[-1])
    end = min(
        seed.end, join_at + config.prompt_seconds / 2
    )  # so that a last chord that is held for long does not fill the whole prompt
    first = min(int(np.searchsorted(onsets, end - config.prompt_seconds)), len(onsets) - 1)

    def cut(index: int) -> Prompt:
        start = math.floor(float(onsets[index]) / BAR_SECONDS) * BAR_SECONDS if index else 0.0
        part = between(seed, float(onsets[index]) if index else -math.inf, math.inf)
        return Prompt(_encode(shift(part, -start), tokenizer, bos=index == 0), part, start, join_at)

    low, high = first, len(onsets) - 1  # the earliest cut that keeps within prompt_tokens; tokens fall as cuts move on
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(cut(middle).ids) <= config.prompt_tokens else (middle + 1, high)
    prompt = cut(low)
    if tokenizer.exact_clock:
        return prompt
    onsets = tokenizer.decode(prompt.ids).notes["onset"]
    return dataclasses.replace(prompt, start=join_at - float(onsets.max(initial=0.0)))


def _encode(part: Performance, tokenizer: Tokenizer, bos: bool) -> np.ndarray:
    """Ids up to the last note: a pedal that is down there stays down, and its end is left to the continuation."""
    last = float(part.notes["onset"][-1])
    pedals = part.pedals[part.pedals["onset"] <= last].copy()
    held = pedals["onset"] + pedals["duration"] > last
    pedals["duration"][held] = last - pedals["onset"][held] + 4 * BAR_SECONDS
    ids = tokenizer.encode(dataclasses.replace(part, pedals=pedals), bos=bos, eos=False)
    notes = len(tokenizer.decode(ids))
    low, high = 0, len(ids)  # the shortest beginning that holds every note
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(tokenizer.decode(ids[:middle])) == notes else (middle + 1, high)
    return ids[: max(low, int(bos))]
