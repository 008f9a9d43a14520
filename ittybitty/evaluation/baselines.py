"""Baselines without a neural network: bits per note of held-out pieces by an n-gram model and by xz compression.

    evaluate_baseline("ngram", data, "validation")   # Kneser–Ney on the ids of all training pieces (ngram.py)
    evaluate_baseline("xz", data, "validation")      # a compact list of notes, piece by piece (notelist.py)

Both score the same pieces on the same grid as the tokenizer they are given (that of a shipped model or a run), so that their
bits per note can be compared with those of models that use it. The order of the n-gram is chosen on one in twenty of the
training pieces; then all training pieces are counted.

Left out: bits by attribute, which need the whole distribution at every token.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from .. import checkpoint, pipeline
from ..corpora import Corpus, Piece
from ..errors import CheckpointError, ConfigError, CorpusError
from ..tokenizers import PianoTokenizer, RestTokenizer, Tokenizer, load_tokenizer
from . import notelist
from .bits import chosen_pieces, piece_row, read_piece, scored, summary
from .ngram import KneserNey
from .results import data_hash

BASELINES = {"ngram": "n-gram of tokens, Kneser-Ney", "xz": "xz on a list of notes"}
TOKENIZER = "tiny-remi"
LONGEST = 6  # order of the n-grams that are counted unless told
HELD_BACK = 20  # every 20th training piece is held back to choose the order


def evaluate_baseline(
    name: str,
    data: str | Path | Corpus | None,
    split: str = "validation",
    limit: int | None = None,
    tokenizer: str | Path = TOKENIZER,
    order: int | None = None,
    progress: bool = True,
) -> dict:
    """Bits per note of one of BASELINES on a split, in the format of `evaluation.evaluate`.

    `tokenizer` is the shipped model or run folder whose tokenizer sets the grid and, for the n-gram, the ids. Raises
    ConfigError, CheckpointError, CorpusError.
    """
    if order is not None and order < 1:
        raise ConfigError(f"order is {order}: give 1 or more tokens")
    if name not in BASELINES:
        raise ConfigError(f"no baseline is called {name!r}: there is {', '.join(BASELINES)}")
    folder = checkpoint.find(tokenizer)
    configs, encoder = checkpoint.read_config(folder)["configs"], load_tokenizer(folder)
    corpus, pieces = chosen_pieces(data, split, limit, configs["data"].corpus)
    if name == "xz":
        if not (isinstance(encoder, PianoTokenizer | RestTokenizer) and encoder.exact_clock):
            raise ConfigError(
                f"{tokenizer}: its tokenizer {encoder.variant} has no grid of seconds; give --tokenizer one of the REMI kind"
            )
        found = {"parameters": 0, "method": "LZMA2, preset 9 extreme, raw stream; each piece by itself"}
        rows, skipped = scored(pieces, lambda piece: score_xz(encoder, piece), progress)
    else:
        store = pipeline.tokenize(configs, data, tokenizer=encoder, progress=progress)
        model, found = counted([store.tokens(i) for i in store.split("train")], encoder.vocab_size, order)
        rows, skipped = scored(pieces, lambda piece: score_ngram(model, encoder, piece), progress)
        found |= {"bits_per_note_by_order": _by_order(rows)}
    return {
        **summary(rows),
        "split": split,
        "corpus": corpus.name,
        "system": name,
        "model": BASELINES[name],
        **found,
        "keeps": list(encoder.keeps),
        "tokenizer": encoder.variant,
        "tokenizer_hash": encoder.content_hash,
        "data_hash": data_hash(rows),
        "complete": len(pieces) == len(corpus.split(split)),
        "skipped": skipped,
        "per_piece": rows,
    }


def counted(pieces: list[np.ndarray], vocab_size: int, order: int | None = None) -> tuple[KneserNey, dict]:
    """Count an n-gram model on all pieces. Returns the model, and how it was made.

    Without an `order`, the best of 1 … LONGEST on held-back pieces is taken; with fewer than two pieces, LONGEST.
    """
    tried = {}
    if order is None and len(pieces) >= 2:
        every = min(HELD_BACK, len(pieces))
        held = pieces[every - 1 :: every]
        trial = KneserNey.fit([piece for i, piece in enumerate(pieces) if (i + 1) % every], vocab_size, LONGEST)
        tried = dict(enumerate((np.concatenate([trial.bits_by_order(piece) for piece in held], 1)).mean(1).tolist(), 1))
        del trial  # gigabytes on MAESTRO
    if order is None:
        order = min(tried, key=lambda n: tried[n]) if tried else LONGEST
    model = KneserNey.fit(pieces, vocab_size, order)
    return model, {
        "parameters": model.size,  # distinct n-grams, each a count
        "order": order,
        "method": "interpolated modified Kneser-Ney, counted on the training split's ids",
        "training_pieces": len(pieces),
        "training_tokens": int(sum(len(piece) - 1 for piece in pieces)),
        "bits_per_token_on_training_pieces_held_back": tried or None,
    }


def score_ngram(model: KneserNey, tokenizer: Tokenizer, piece: Piece) -> dict:
    """One piece's row, with the bits of all lower orders too."""
    original = read_piece(piece)
    ids = tokenizer.encode(tokenizer.prepare(original))
    if len(ids) and ids.max() >= model.vocab_size:
        raise CheckpointError(
            f"token {ids.max()} is not among the {model.vocab_size} that were counted: use the same tokenizer"
        )
    began = time.perf_counter()
    bits = model.bits_by_order(ids)
    took = time.perf_counter() - began
    row = piece_row(piece, original, bits.shape[1], float(bits[-1].sum()), took, tokenizer.decode(ids))
    return row | {"bits_by_order": bits.sum(1).tolist()}


def score_xz(tokenizer: PianoTokenizer | RestTokenizer, piece: Piece) -> dict:
    """One piece's row. The list holds what the tokens hold; it is decompressed and compared with them."""
    original = read_piece(piece)
    decoded = tokenizer.decode(tokenizer.encode(tokenizer.prepare(original)))
    rate = tokenizer.vocabulary.ticks_per_second
    began = time.perf_counter()
    try:
        data = notelist.pack(decoded, rate)
    except ValueError as error:
        raise CorpusError(f"{piece.name}: cannot be written as a list of notes ({error})") from None
    bits = notelist.compressed_bits(data)
    took = time.perf_counter() - began
    return piece_row(piece, original, None, float(bits), took, notelist.unpack(data, rate)) | {"bytes": len(data)}


def _by_order(rows: list[dict]) -> dict[str, float]:
    bits, notes = np.array([row["bits_by_order"] for row in rows]), sum(row["notes"] for row in rows)
    return {str(order): float(total / notes) for order, total in enumerate(bits.sum(0), 1)}
