"""Every row end to end on a few real pieces: tokens, training, resuming, a continuation, bits per note.

    ittybitty systems --smoke --data DIR

It shows that a row works, not what it is worth: the pieces are the shortest of the corpus, the size is `nano`, and the
steps are few. Everything is made in a folder of its own that is gone afterwards; the cache is left as it was. A row that
counts in beats takes the embedded works where the data hold no annotated beats: estimated ones would be another test.

Left out: real comparisons, which are experiments/.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from .. import pipeline, systems
from ..corpora import Corpus, embedded, open_corpus
from ..errors import CorpusError
from ..evaluation.bits import evaluate
from ..notes import between
from ..piano import Piano

TRAIN, HELD_OUT = 12, 3  # pieces
STEPS, TOKENS = 60, 192  # optimizer steps, half of them before the resume; tokens of the continuation
SEED_SECONDS = 10.0
SHORT = {"train.batch_size": 8, "train.checkpoint_every": STEPS, "train.validation_windows": 8}


def smoke(
    data: str | Path | None,
    preset: str = "nano",
    names: Iterable[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[dict]:
    """A row of the table for each system of `names` (all): row, corpus, params, tokens_per_note, keeps, bits_per_note, ci95, new_notes.

    `progress` is called with the number of rows done. Raises the errors of tokenization, training, generation and evaluation.
    """
    chosen = [systems.system(name) for name in (systems.SYSTEMS if names is None else names)]
    with tempfile.TemporaryDirectory(prefix="ittybitty-smoke-") as folder:
        rows = []
        for row in chosen:
            corpus = open_corpus(data, row.corpus)
            if row.corpus and corpus.name not in (*row.corpus.split("+"), embedded.NAME):
                corpus = embedded.open()
            rows.append(_through(row.name, preset, shortest(corpus), Path(folder)))
            if progress:
                progress(len(rows))
    return rows


def shortest(corpus: Corpus) -> Corpus:
    """Its shortest pieces by size of file: TRAIN of the training split and HELD_OUT of the validation split."""

    def size(piece) -> int:
        return piece.path.stat().st_size if piece.path else 0

    there = [piece for piece in corpus.pieces if piece.path is None or piece.path.is_file()]
    kept = []
    for split, most in (("train", TRAIN), ("validation", HELD_OUT)):
        found = sorted((piece for piece in there if piece.split == split), key=size)[:most]
        if not found:
            raise CorpusError(
                f"{corpus.name}: no piece of its {len(corpus)} is in the {split} split; --smoke needs both, give a whole corpus"
            )
        kept += found
    return replace(corpus, pieces=tuple(kept))


def _through(name: str, preset: str, corpus: Corpus, folder: Path) -> dict:
    """One row, from notes to bits."""
    configs = systems.build(name, preset, SHORT)
    tokens = folder / f"{corpus.stamp}-{configs['data'].tokenizer}-{configs['model'].vocab_size}"
    store = pipeline.tokenize(configs, corpus, tokens, progress=False)  # shared by the rows of one encoding
    run = folder / name
    pipeline.train(run, name, preset, {**SHORT, "train.steps": STEPS // 2}, data=store.path, progress=False)
    trained = pipeline.train(run, changes={"train.steps": STEPS}, data=store.path, resume=True, progress=False)
    made = Piano.load(run).continue_(_seed(corpus), tokens=TOKENS, seed=0)
    measured = evaluate(run, corpus, "validation", progress=False)
    return {
        "row": name,
        "corpus": corpus.name,
        "params": trained["parameters"],
        "tokens_per_note": measured["tokens_per_note"],
        "keeps": measured["keeps"],
        "bits_per_note": measured["bits_per_note"],
        "ci95": measured["ci95"],
        "new_notes": len(made.new),
    }


def _seed(corpus: Corpus):
    """The first seconds of a held-out piece."""
    piece = corpus.split("validation")[0].load()
    return between(piece, 0.0, float(piece.notes["onset"][0]) + SEED_SECONDS)
