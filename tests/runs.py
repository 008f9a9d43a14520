"""A corpus of a few bars and configurations that train on it in a second: for the tests of training and of run folders."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ittybitty import checkpoint, systems
from ittybitty.config import preset
from ittybitty.corpora import Corpus
from ittybitty.models import PianoHybridModel
from ittybitty.notes import Performance, transpose
from ittybitty.tokenizers import PianoTokenizer, make_tokenizer
from ittybitty.tokenizers.store import TokenStore, tokenize_corpus
from ittybitty.train import loop


@dataclass(frozen=True)
class Played:
    """A piece that is in memory."""

    name: str
    split: str
    performance: Performance

    def load(self) -> Performance:
        return self.performance


def small_store(folder, performance: Performance, validation: bool = True, encoding: str = "remi") -> TokenStore:
    """Eight transpositions of a performance as tokens, two of them held out."""
    splits = ["train"] * 6 + ["validation" if validation else "train"] * 2
    pieces = [Played(f"piece {i}", split, transpose(performance, i - 4)) for i, split in enumerate(splits)]
    corpus = Corpus(name="test", licence="CC0", pieces=tuple(pieces))
    return tokenize_corpus(corpus, make_tokenizer(encoding), folder, workers=1, progress=False)


def small_configs(**changes) -> dict:
    """A Mamba, feed-forward and attention block each of width 16, with dropout, so that random numbers matter."""
    model = {
        "pattern": "MFA",
        "d_model": 16,
        "d_ff": 16,
        "n_heads": 2,
        "dropout": 0.1,
        "attn_window": 8,
        "attn_stride": 4,
        "attn_reach": 16,
    }
    train = {"steps": 12, "batch_size": 3, "warmup": 2, "checkpoint_every": 4, "validate_every": 4}
    overrides = {f"model.{k}": v for k, v in model.items()} | {f"train.{k}": v for k, v in train.items()}
    return systems.build("hybrid", "nano", {**overrides, "data.context": 32, **changes})


def untrained_run(folder: Path, pieces: Iterable[Performance]) -> Path:
    """A run folder of random weights, whose tokenizer has learnt from these pieces."""
    tokenizer = PianoTokenizer().train(pieces, 380)
    torch.manual_seed(0)
    configs = {**preset("nano"), "model": replace(preset("nano")["model"], vocab_size=tokenizer.vocab_size)}
    checkpoint.write_config(folder, configs, "hybrid", "nano", tokenizer.content_hash, {})
    checkpoint.save_model(folder, PianoHybridModel(configs["model"]))
    tokenizer.save(folder / "tokenizer.json")
    return folder


def random_notes() -> Performance:
    """300 notes, one every tenth of a second, at random pitches."""
    pitches = np.random.default_rng(0).integers(40, 90, 300)
    return Performance.of((0.1 * i, 0.2, int(pitch), 80) for i, pitch in enumerate(pitches))


def train_process(
    store: str, run_dir: str, changes: dict, environment: dict, options: dict, kill: tuple[int, float] | None = None
) -> None:
    """A training in a process of its own; with `kill` it ends as `kill_at_change` says."""
    os.environ.update(environment, ITTYBITTY_NATIVE="0")  # nothing is compiled for a dozen steps
    torch.set_num_threads(1)
    if kill is not None:
        kill_at_change(run_dir, *kill)
    loop.train("hybrid", small_configs(**changes), TokenStore.open(store), run_dir, progress=False, **options)


def kill_at_change(folder: str, number: int, delay: float) -> None:
    """SIGKILL to this process, `delay` seconds after its `number`-th change of a file or folder below `folder` begins.

    A change is a file opened for writing, or a file or folder that is created, renamed or removed. Unlike a kill by the
    clock alone, it falls into the same part of the work however busy the machine is.
    """
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            return
        if str(arguments[0]).startswith(folder):
            seen += 1
            if seen == number:
                if delay == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    sys.addaudithook(watch)


def processes():
    """Processes that are forked after the imports, from a parent without threads: a start costs no seconds."""
    context = multiprocessing.get_context("forkserver")
    wanted = ["ittybitty.train", "ittybitty.models", "ittybitty.tokenizers.store", "safetensors.torch"]
    context.set_forkserver_preload([*wanted, "torch._dynamo"])  # which the first optimizer imports, for two seconds
    return context


def train_group(store: str, run_dir: str, changes: dict, world: int = 2) -> None:
    """One training by `world` processes over gloo on the loopback, in the environment that torchrun gives its workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = [{**address, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    group = [
        processes().Process(target=train_process, args=(store, run_dir, changes, place, {"parallel": "ddp"}))
        for place in places
    ]
    for process in group:
        process.start()
    for process in group:
        process.join(120)
    assert [process.exitcode for process in group] == [0] * world
