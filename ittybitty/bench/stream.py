"""`ittybitty bench stream`: measures whether token 100,000 costs as much as token 2,000.

`tiny` continues an empty seed for 100,000 tokens, grammar and sampling included. Its state is kept at token 2,000 and
at the end; then both continue in turn, block by block. With a recurrent state or a cache of fixed size both should take the same time.
Mark to hold: time a token and memory at the end within 5% of those at token 2,000.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import psutil
import torch

from ..checkpoint import load
from ..devices import ran_on
from ..models.decode import decoder
from ..models.states import Player
from ..sampling import sample
from .timing import in_turns

EARLY, LATE, BLOCK = 2_000, 100_000, 200


class _Stream:
    """A continuation that never ends."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.generator = model, tokenizer, torch.Generator().manual_seed(0)
        self.grammar = tokenizer.grammar()
        self.rules, self.state = self.grammar.start([tokenizer.bos_id]), model.init_state(1)
        with torch.no_grad():
            first = torch.tensor([[tokenizer.bos_id]], device=place_of(model))
            self.logits = model.prefill(first, self.state)

    def copy(self) -> _Stream:
        """A copy in the same state; the model is shared."""
        twin = copy.copy(self)
        twin.state, twin.rules = copy.deepcopy(self.state), copy.deepcopy(self.rules)
        twin.logits, twin.generator = self.logits.clone(), self.generator.clone_state()
        return twin

    @torch.no_grad()
    def advance(self, tokens: int) -> None:
        """Sample the given number of tokens."""
        for _ in range(tokens):
            mask = self.grammar.mask(self.rules)
            mask[self.tokenizer.eos_id] = False
            drawn = sample(self.logits, self.generator, mask=mask)
            self.rules = self.grammar.advance(self.rules, int(drawn))
            self.logits = self.model.step(drawn, self.state)


def place_of(model: Player) -> torch.device:
    """The device for a model's tokens; for a native decoder, the CPU."""
    return next(model.parameters()).device if isinstance(model, torch.nn.Module) else torch.device("cpu")


def bench_stream(
    turns: int = 11, late: int = LATE, progress: Callable[[int], None] | None = None, device: str = "cpu"
) -> dict:
    """See the module's text; times in ms a token (medians over blocks), memory of the process in MB."""
    loaded = load("tiny", device)
    stream = _Stream(decoder(loaded.model), loaded.tokenizer)
    process = psutil.Process()
    stream.advance(EARLY)
    early, memory_early = stream.copy(), process.memory_info().rss
    done = EARLY
    while done < late:
        step = min(1_000, late - done)
        stream.advance(step)
        done += step
        if progress:
            progress(done)
    memory_late = process.memory_info().rss
    # both continue with weights in one layout, each with its own state
    twins = {"early": early, "late": stream}
    for twin in twins.values():
        twin.model = decoder(loaded.model)
    times = in_turns({name: partial(twin.advance, BLOCK) for name, twin in twins.items()}, turns, device=device)
    return {
        **ran_on(loaded.model),
        "tokens": late,
        "ms_at_2000": 1e3 * times["early"].median / BLOCK,
        f"ms_at_{late}": 1e3 * times["late"].median / BLOCK,
        "ratio": times["late"].ratio(times["early"]),
        "rss_mb": memory_early / 1e6,
        "rss_growth_mb": (memory_late - memory_early) / 1e6,
        "rss_growth_share": memory_late / memory_early - 1,
    }
