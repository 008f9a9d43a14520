"""`ittybitty bench tokenize`: MIDI files to tokens on disk, a whole corpus, and miditok beside it on some of its pieces.

The corpus is read, encoded with the tokenizer of the shipped `tiny-remi` and written by as many processes as there are cores, as
`ittybitty tokenize` does. Mark to hold: all of MAESTRO in at most 60 s on 2 cores; never extrapolated.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from ..corpora import open_corpus
from ..paths import pretrained_dir
from ..tokenizers import grid, load_tokenizer
from ..tokenizers.store import tokenize_corpus
from ..tokenizers.tradeoffs import to_score
from .timing import in_turns

PEER_PIECES = 4


def bench_tokenize(data: str | None = None, turns: int = 3, progress: bool = False) -> dict:
    """See the module's text; times in s."""
    corpus, tokenizer = open_corpus(data), load_tokenizer(pretrained_dir() / "tiny-remi" / "tokenizer.json")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        store = tokenize_corpus(corpus, tokenizer, Path(folder) / "tokens", progress=progress)
        seconds = time.perf_counter() - began
    notes = sum(piece.notes for piece in store.pieces)
    whole = corpus.name.lower().startswith("maestro") and len(store.pieces) == len(corpus)
    return {
        "corpus": corpus.name,
        "pieces": len(store.pieces),
        "notes": notes,
        "tokens_per_note": sum(piece.length for piece in store.pieces) / notes,
        "seconds": seconds,
        "notes_per_s": notes / seconds,
        "seconds_all_maestro": seconds if whole else None,
        **_beside_miditok(corpus, tokenizer, turns),
    }


def _beside_miditok(corpus, tokenizer, turns: int) -> dict:
    """Notes a second of one process, notes in memory to base ids, ours and miditok's in turns."""
    performances = [piece.load() for piece in corpus.pieces[:: max(1, len(corpus) // PEER_PIECES)][:PEER_PIECES]]
    peer, vocabulary = tokenizer.settings.miditok(), tokenizer.vocabulary
    scores = [to_score(grid.quantise(p, vocabulary), vocabulary.positions_per_beat) for p in performances]
    times = in_turns(
        {
            "ours": lambda: [tokenizer.encode_base(p) for p in performances],
            "miditok": lambda: [peer.encode(score, encode_ids=False) for score in scores],
        },
        turns,
    )
    notes = sum(map(len, performances))
    return {
        "one_process_notes_per_s": notes / times["ours"].median,
        "miditok_notes_per_s": notes / times["miditok"].median,
        "ratio_vs_miditok": times["miditok"].ratio(times["ours"]),
    }
