"""Measures data leakage: one system is trained under three ways of splitting the data, and its claimed result is compared
with its true one.

    windows     overlapping windows of transposed copies are split at random: the neighbours of a held-out window, also in
                other keys, are in the training set (as the eight models were published)
    pieces      pieces are split at random, so that another performance of a held-out work may be in the training set; the
                byte pairs are learnt on all pieces (as the published hybrid did)
    official    MAESTRO's split by composition; byte pairs are learnt on training pieces only

All three use the same training pieces, model and number of steps. "claimed" is the best validation result, in bits per
note, on the windows that the protocol itself held out. "true" is the evaluation on official validation pieces, which no
protocol has seen. All pieces come from the official training split, so that "true" is fair to all three.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import evaluation, pipeline, systems
from ..corpora import open_corpus
from ..errors import ConfigError
from ..evaluation.bits import evenly_spaced
from ..tokenizers import Tokenizer
from ..tokenizers.store import TokenStore
from ..train import loop
from ..train.windows import Windows
from .compare import part_of, slim
from .recipe import Clock, Recipe, Row, setting

PROTOCOLS = ("windows", "pieces", "official")
HELD_OUT = 0.1  # share of the data that the random protocols hold out


@dataclass(frozen=True)
class _Cut:
    """A training window that is treated as a piece."""

    name: str
    split: str
    length: int
    flat: bool = False


class WindowStore:
    """A token store whose pieces are windows, split at random. It leaks: the experiment shows why nobody should train on it."""

    def __init__(self, windows: Windows, tokenizer: Tokenizer, share: float, seed: int):
        self._windows, self._tokenizer = windows, tokenizer
        self.corpus = self.licence = ""  # a run that must not be used records no corpus
        self.tokenizer_hash = tokenizer.content_hash
        held_out = np.random.default_rng(seed).random(len(windows)) < share
        lengths = [len(windows.tokens(0, i)) for i in range(len(windows))]
        self.pieces = [
            _Cut(f"window {i}", "validation" if out else "train", n)
            for i, (out, n) in enumerate(zip(held_out, lengths))
        ]

    def split(self, name: str) -> list[int]:
        """Indices of the windows of a split."""
        return [i for i, piece in enumerate(self.pieces) if piece.split == name]

    def tokens(self, i: int) -> np.ndarray:
        """Ids of window i."""
        return self._windows.tokens(0, i)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the ids."""
        return self._tokenizer


def run(recipe: Recipe, row: Row, data: str | Path | None, run_dir: Path, clock: Clock) -> dict | None:
    """Train one protocol. Returns its claimed and its true bits per note, or None if the time ended first."""
    protocol = str(setting(row, "protocol", row.name))
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol is {protocol!r}: give one of {', '.join(PROTOCOLS)}")
    name, preset = str(setting(row, "system")), str(setting(row, "preset", "tiny"))
    configs = systems.build(name, preset, {**setting(row, "set", {}), "train.steps": int(setting(row, "steps"))})
    recipe.claim(row, run_dir)
    store: TokenStore | WindowStore = _store(protocol, configs, row, data)
    if isinstance(store, TokenStore) and protocol == "windows":  # windows overlap
        store = _leaking(store, configs)
        whole = {"stride": 0, "copies": 0, "pitch_shift": 0, "velocity_shift": 0, "tempo_stretch": 0.0}  # done already
        configs = {**configs, "data": dataclasses.replace(configs["data"], **whole)}
    summary = loop.train(
        name, configs, store, run_dir, resume=True, parallel="none", max_hours=clock.left, preset=preset
    )
    if summary["stopped"] not in ("finished", "patience"):
        return None
    true = evaluation.evaluate(run_dir, data, "validation", limit=int(setting(row, "pieces", 0)) or None)
    return {
        **slim(true),
        "protocol": protocol,
        "claimed_bits_per_note": summary["bits_per_note"],
        "claimed_nats_per_token": summary["validation_nll"],
        "claimed_at_step": summary["best_step"],
        "training": {key: summary[key] for key in ("steps", "tokens", "tokens_per_second", "parameters", "ran_on")}
        | {"hours": summary["seconds"] / 3600, "seed": configs["train"].seed},
    }


def _store(protocol: str, configs: dict, row: Row, data: str | Path | None) -> TokenStore:
    """Tokens of the training pieces, split and with byte pairs learnt as the protocol does it."""
    corpus = open_corpus(data, configs["data"].corpus)
    pool = evenly_spaced(corpus.split("train"), int(setting(row, "training_pieces")))
    if protocol == "official":
        pieces = (*pool, *evenly_spaced(corpus.split("validation"), int(setting(row, "held_out_pieces", 16))))
    else:
        if len(pool) < 2:
            raise ConfigError(f"{len(pool)} training piece is too few to hold one out: give 2 or more training_pieces")
        out = np.zeros(len(pool), bool)
        out[np.random.default_rng(0).permutation(len(pool))[: max(1, round(HELD_OUT * len(pool)))]] = True
        random = protocol == "pieces"  # protocol "windows" splits later, so here all pieces are training pieces
        pieces = tuple(
            dataclasses.replace(p, split="validation" if random and o else "train") for p, o in zip(pool, out)
        )
    return pipeline.tokenize(configs, part_of(corpus, f"leak-{protocol}", pieces), learn_from=pool)


def _leaking(store: TokenStore, configs: dict) -> WindowStore:
    tokenizer = store.tokenizer()
    windows = Windows(
        store,
        "train",
        configs["data"].context,
        configs["train"].batch_size,
        tokenizer,
        configs["data"],
        configs["train"].seed,
    )
    return WindowStore(windows, tokenizer, HELD_OUT, configs["train"].seed)
