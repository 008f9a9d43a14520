"""Draws ids one after the other from a model, within the grammar of its tokenizer.

    for id in generate_tokens(model, tokenizer, prompt_ids, config): …

    begun = begin(model, tokenizer, prompt_ids)          # the prompt is read once …
    for id, log_end in drawn(begun.copy(), config): …    # … for as many takes as one likes

A native decoder draws whole events in one call where the rules allow it; any other model gives logits for one id at a time.
Both give the same ids. By default the end token is never drawn, so that a request for 512 tokens gives 512
(`GenerationConfig.stop_at_end`).

Left out: how one id is drawn (sampling.py), and which ids are allowed (the grammars of tokenizers/).
"""

from __future__ import annotations

import copy
import dataclasses
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import sampling
from .config import GenerationConfig
from .errors import CheckpointError, ConfigError
from .models.decode import Decoder
from .models.decode_events import Choice, EventDecoder
from .models.parts import TIME, G
from .models.states import Player
from .tokenizers.events.grammar import EventGrammar
from .tokenizers.protocol import Rules, Tokenizer

PENALTY_WINDOW = 256  # tokens back that the repetition penalty looks


@dataclass
class Begun:
    """The state of a generation: what the model has read so far, and the logits of the next id."""

    model: Player
    tokenizer: Tokenizer
    grammar: Rules
    rules: Any  # the grammar's state
    seed: Any  # the grammar's state at the end of the prompt
    state: Any  # the model's
    logits: np.ndarray  # (V,) of the next id
    history: deque[int]  # the last ids

    def copy(self) -> Begun:
        """An independent copy: drawing from one does not change the other."""
        return dataclasses.replace(self, state=copy.deepcopy(self.state), history=self.history.copy())


def begin(model: Player, tokenizer: Tokenizer, prompt_ids: Iterable[int]) -> Begun:
    """Read a prompt, which may be as long as memory allows; BOS stands for an empty one."""
    ids = [int(i) for i in prompt_ids] or [tokenizer.bos_id]
    grammar, state = tokenizer.grammar(), model.init_state(1)
    rules, logits = grammar.start(ids), _logits(model, np.array(ids), state, prompt=True)
    return Begun(model, tokenizer, grammar, rules, rules, state, logits, deque(ids, PENALTY_WINDOW))


def generate_tokens(
    model: Player, tokenizer: Tokenizer, prompt_ids: Iterable[int], config: GenerationConfig
) -> Iterator[int]:
    """New ids as they are drawn, at most `max_new_tokens`; EOS only with `stop_at_end`, and then it is the last.

    `model` is anything with init_state, prefill and step. Raises ConfigError for options that this encoding does not have,
    and CheckpointError for a model that has diverged.
    """
    if (config.by_part or config.hold) and tokenizer.ids_per_event == 1:
        raise ConfigError(
            "time_…, expression_… and hold are for models that write a note in parts (notes-*): leave them out here"
        )
    for id, _ in drawn(begin(model, tokenizer, prompt_ids), config):
        yield id


def drawn(begun: Begun, config: GenerationConfig, ends: bool = False) -> Iterator[tuple[int, float]]:
    """Each id that is drawn, and the logarithm of the probability that the model gave to the end of the piece in its place.

    Without `ends` the latter may be NaN. An id within an event has -inf: a piece does not end there.
    """
    chance = sampling.Chance(secrets.randbits(32) if config.seed is None else config.seed)
    whole = isinstance(begun.model, EventDecoder) and begun.rules.place == TIME and config.repetition_penalty == 1
    one_by_one = _whole_events(begun, chance, config) if whole else _single_ids(begun, chance, config, ends)
    try:
        for count, pair in enumerate(one_by_one, 1):
            yield pair
            if pair[0] == begun.tokenizer.eos_id or count == config.max_new_tokens:
                return
    except ValueError as error:
        raise CheckpointError(f"no token can be drawn: {error}; take other weights") from None


def _whole_events(begun: Begun, chance: sampling.Chance, config: GenerationConfig) -> Iterator[tuple[int, float]]:
    """The ids that `_single_ids` would draw, drawn event by event in native code."""
    grammar, model = begun.grammar, begun.model
    assert isinstance(grammar, EventGrammar) and isinstance(model, EventDecoder)  # `drawn` has asked
    temperature, top_k, top_p = zip(*(config.of_part(part) for part in range(G)))
    limits = grammar.longest, grammar.span, grammar.max_share
    held = grammar.hold(begun.seed, config.hold)
    choice = Choice(
        grammar.times,
        *limits,
        grammar.pedals,
        config.stop_at_end,
        temperature,
        top_k,
        top_p,
        pull=held.pull,
        low=held.low,
        high=held.high,
        steps=grammar.steps,
        loudness=grammar.loudness,
    )
    for event in model.events(begun.state, begun.rules, choice, chance):
        for i, id in enumerate(event.ids):
            yield id, -np.inf if i else event.log_end


def _single_ids(
    begun: Begun, chance: sampling.Chance, config: GenerationConfig, ends: bool
) -> Iterator[tuple[int, float]]:
    """Ids without end, each drawn from the logits after the id before it."""
    grammar, end = begun.grammar, begun.tokenizer.eos_id
    rules, logits, history = begun.rules, begun.logits, begun.history
    in_parts = begun.tokenizer.ids_per_event > 1
    events = grammar if isinstance(grammar, EventGrammar) and config.hold else None
    held = events.hold(begun.seed, config.hold) if events else None
    while True:
        mask = grammar.mask(rules)
        log_end = sampling.log_probability(logits, end) if ends and mask[end] else -np.inf
        if not config.stop_at_end:
            mask[end] = False
        if config.repetition_penalty != 1:
            logits = sampling.penalized(logits, np.array(history), config.repetition_penalty)
        if events and held:
            logits = events.tilted(logits, rules, held)
        id = int(sampling.draw(logits, chance(1)[0], *config.of_part(rules.place if in_parts else -1), mask))
        yield id, log_end
        rules = grammar.advance(rules, id)
        history.append(id)
        logits = _logits(begun.model, np.array([id]), begun.state)


def _logits(model: Player, ids: np.ndarray, state, prompt: bool = False) -> np.ndarray:
    """(V,) logits of what follows ids (L,), the rest of a piece so far; `state` moves on. L is 1, or they are a prompt."""
    if isinstance(model, Decoder):
        return (model.prefill(ids[None], state) if prompt else model.step(ids, state))[0]
    import torch

    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    given = torch.from_numpy(ids).to(next((p.device for p in parameters), "cpu"))
    with torch.no_grad():
        logits = model.prefill(given[None], state) if prompt else model.step(given, state)
    return logits[0].float().numpy(force=True)
