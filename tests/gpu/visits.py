"""Packed tokens of a few bars, and visits to a GPU that is not there: for the tests of ittybitty.gpu."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ittybitty import systems
from ittybitty.corpora import Corpus
from ittybitty.gpu import tokens
from ittybitty.notes import Performance, transpose
from ittybitty.tokenizers import make_tokenizer
from ittybitty.tokenizers.store import TokenStore, tokenize_corpus
from runs import Played

REFUSING = Path(__file__).with_name("refusing")
ROOT = Path(__file__).parents[2]


def stores(folder: Path, performance: Performance) -> dict[str, TokenStore]:
    """Transpositions of a performance in the encodings of both rows, as they would be at size nano."""
    splits = ["train"] * 6 + ["validation"] * 2
    pieces = tuple(Played(f"piece {i}", split, transpose(performance, i - 4)) for i, split in enumerate(splits))
    corpus, made = Corpus(name="test", licence="CC0", pieces=pieces), {}
    for row in ("hybrid", "notes-hybrid"):
        configs = systems.build(row, "nano")
        name = configs["data"].tokenizer
        tokenizer = make_tokenizer(name).train([p.performance for p in pieces], configs["model"].vocab_size)
        made[name] = tokenize_corpus(corpus, tokenizer, folder / name, workers=1, progress=False)
    return made


def packed(folder: Path, performance: Performance) -> Path:
    """The same, packed."""
    return Path(tokens.pack(stores(folder / "stores", performance), folder / "tokens.pack")["out"])


def environment(**more: str) -> dict[str, str]:
    """Of a Python that has what a rented machine has, and one thread."""
    paths = os.pathsep.join([str(REFUSING), str(ROOT)])
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "ITTYBITTY_NATIVE": "0",
        "CUDA_VISIBLE_DEVICES": "",
        **more,
    }


def command(*arguments: object) -> list[str]:
    """`ittybitty gpu` with arguments, as a process is given it."""
    return [sys.executable, "-m", "ittybitty", "gpu", *map(str, arguments)]


def ran(*arguments: object) -> subprocess.CompletedProcess:
    """`ittybitty gpu` as it runs on such a machine, to its end."""
    return subprocess.run(command(*arguments), env=environment(), capture_output=True, text=True, timeout=1800)
