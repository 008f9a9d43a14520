"""Notes a second of the shipped models, drawn as in generation: part of `ittybitty bench decode`.

    tiny            whole events in native code (rows of events)
    tiny_int8       the same with 8-bit weights
    tiny_model      the same ids from the PyTorch model, one by one
    tiny_remi       a row of tokens: several ids a note

Each draws blocks in turn with the others, from nothing, with its row's own sampling. The floor is the time of reading all
weights of `tiny` once, as many bytes as the decoder holds, in one thread: small weights stay in a cache, so the floor is that of
the cache and not of the memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .. import checkpoint, drawing, systems
from ..models.decode import Decoder, decoder
from .timing import Timing, in_turns

TOKENS = 400  # of a block: 100 events
READS = 20  # times that a block of the floor reads the weights


@dataclass
class Block:
    """A continuation that is extended by a block at each call, and counts the notes of each block."""

    ids: Callable[[int], list[int]]  # the ids of the next block
    notes_per_id: np.ndarray
    notes: list[int] = field(default_factory=list)

    def __call__(self) -> None:
        self.notes.append(int(self.notes_per_id[self.ids(TOKENS)].sum()))

    def notes_per_s(self, timing: Timing) -> float:
        """Notes of all blocks that were timed, over their seconds."""
        return sum(self.notes[-len(timing.turns) :]) / sum(timing.turns)


def bench_events(turns: int) -> dict:
    """See the module's text; notes a second."""
    tiny, remi = checkpoint.load("tiny"), checkpoint.load("tiny-remi")
    fast = decoder(tiny.model)
    blocks = {
        "tiny": _block(tiny, fast),
        "tiny_int8": _block(tiny, decoder(tiny.model, "int8")),
        "tiny_model": _block(tiny, tiny.model),
        "tiny_remi": _block(remi, decoder(remi.model)),
    }
    functions: dict[str, Callable[[], object]] = dict(blocks)
    result: dict[str, float] = {}
    if isinstance(fast, Decoder):
        weights = np.ones(fast.bytes_read // 4, np.float32)
        functions["floor"] = lambda: [weights.max() for _ in range(READS)]
    times = in_turns(functions, turns)
    for name, block in blocks.items():
        result[f"{name}_notes_per_s"] = block.notes_per_s(times[name])
    if isinstance(fast, Decoder):
        events = TOKENS // tiny.tokenizer.ids_per_event
        notes_per_event = sum(blocks["tiny"].notes) / (events * len(blocks["tiny"].notes))
        floor = times["floor"].median / READS
        result |= {
            "tiny_bytes": fast.bytes_read,
            "tiny_us_per_event": 1e6 * times["tiny"].median / events,
            "tiny_floor_us_per_event": 1e6 * floor,
            "tiny_floor_notes_per_s": notes_per_event / floor,
        }
    return result


def _block(found: checkpoint.Loaded, player) -> Block:
    config = systems.sampling(found.system, max_new_tokens=10**9, seed=0)
    ids = drawing.generate_tokens(player, found.tokenizer, [found.tokenizer.bos_id], config)
    return Block(lambda count: list(itertools.islice(ids, count)), found.tokenizer.notes_per_id)
