"""The paper's two sanity checks: a model that cannot memorise one sequence cannot learn.

    synthetic   train on the sequence 0, 1, 2 … 1999 until greedy decoding reproduces it from its first token
    piece       train on one piece until greedy decoding (nearly) reproduces it from its first tokens

The result is the number of steps, or the share that was reproduced. The checks test the program and the model's capacity;
they say nothing about music.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from .. import pipeline, systems
from ..errors import ConfigError, CorpusError
from ..models.decode import decoder
from ..models.lm import LanguageModel
from ..train.optimizer import adamw, learning_rate
from ..train.stop import deterministic
from .recipe import Clock, Recipe, Row, setting

LENGTH = 2000  # of the synthetic sequence, and tokens of the piece at most
EVERY = 20  # steps between two attempts to reproduce it


def run(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict:
    """Number of steps, seconds, and the share of tokens that greedy decoding reproduces."""
    name, preset = str(setting(row, "system")), str(setting(row, "preset", "nano"))
    configs = systems.build(name, preset, {**setting(row, "set", {}), "train.steps": int(setting(row, "steps", 600))})
    task = str(setting(row, "task"))
    if task == "synthetic":
        ids, vocabulary, prompt = torch.arange(LENGTH), LENGTH, 1
    elif task == "piece":
        ids, vocabulary = _piece(configs, data, int(setting(row, "tokens", LENGTH)))
        prompt = int(setting(row, "prompt", 128))
    else:
        raise ConfigError(f"task is {task!r}: give 'synthetic' or 'piece'")
    configs = {**configs, "model": dataclasses.replace(configs["model"], vocab_size=vocabulary)}
    with deterministic(torch.device("cpu")):
        return {"task": task, "system": name, "length": len(ids), "prompt": prompt, **memorise(configs, ids, prompt)}


def _piece(configs: dict, data: str | Path | None, tokens: int) -> tuple[torch.Tensor, int]:
    store = pipeline.tokenize(configs, data)
    long = [i for i in store.split("train") if store.pieces[i].length >= tokens]
    if not long:
        raise CorpusError(f"no training piece has {tokens} tokens; give fewer")
    return torch.as_tensor(store.tokens(long[0])[:tokens].astype("int64")), store.tokenizer().vocab_size


def memorise(configs: dict, ids: torch.Tensor, prompt: int) -> dict:
    """Train on ids (L,) alone until greedy decoding from the first `prompt` ids reproduces the rest, or the steps are used up."""
    config = configs["train"]
    torch.manual_seed(config.seed)
    model = systems.build_model(configs)
    optimizer = adamw(model, config)
    began, given_back, curve = time.perf_counter(), 0.0, []
    x, y = ids[None, :-1], ids[None, 1:]
    for step in range(1, config.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, config)
        model.train()
        loss, nats, count = model(x, y)
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % EVERY == 0:
            given_back = share_given_back(model, ids, prompt)
            curve.append({"step": step, "nats_per_token": float(nats / count), "given_back": given_back})
            if given_back == 1.0:
                break
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "memorised": given_back == 1.0,
        "given_back": given_back,
        "steps": step,
        "nats_per_token": float(nats / count),
        "seconds": time.perf_counter() - began,
        "seed": config.seed,
        "curve": curve,
    }


@torch.no_grad()
def share_given_back(model: LanguageModel, ids: torch.Tensor, prompt: int) -> float:
    """Share of ids[prompt:] that greedy decoding, fed with its own tokens, gets right."""
    model.eval()
    player = decoder(model)
    state = player.init_state(1)
    token = player.prefill(ids[None, :prompt], state).argmax(-1)
    right = 0
    for truth in ids[prompt:].tolist():
        right += int(token) == truth
        token = player.step(token, state).argmax(-1)
    return right / max(1, len(ids) - prompt)
