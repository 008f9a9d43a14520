"""The way through the house, one call an arrow: corpus -> tokens -> run.

What `ittybitty tokenize` and `ittybitty train` do, for notebooks and scripts too. A stage that is done is not done
again: tokens are kept in the cache, under a name that their corpus, tokenizer settings and vocabulary decide.

Left out: the stages themselves; they are tokenizers.store and training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from . import paths, systems
from .corpora import Corpus, open_corpus
from .errors import MidiError, OutputError, TokenizerError
from .tokenizers import load_tokenizer
from .tokenizers.store import INDEX, TOKENIZER, TokenStore, tokenize_corpus


def tokenize(
    configs: Mapping,
    data: str | Path | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    tokenizer=None,
) -> TokenStore:
    """The token store of a corpus, made now unless `out` (a place in the cache if None) has it.

    `data` is what `open_corpus` takes, or a token folder, which is returned as it is. Without a `tokenizer` one is
    learnt from the corpus's training pieces, with the configs' variant and vocabulary.
    """
    if data is not None and (Path(data) / INDEX).is_file():
        return TokenStore.open(data)
    corpus = open_corpus(data)
    untrained = systems.build_tokenizer(configs)
    vocabulary = configs["model"].vocab_size
    out = Path(out) if out is not None else token_folder(corpus, untrained, vocabulary)
    with _alone(out):
        if tokenizer is None:
            tokenizer = _learnt(out, corpus, untrained, vocabulary, progress)
        return tokenize_corpus(corpus, tokenizer, out, workers=workers, progress=progress)


def _alone(out: Path):
    """A lock beside `out`: under torchrun, one rank tokenizes while the others wait and then find it done."""
    from filelock import FileLock

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(out.with_name(f".{out.name}.lock"))
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}); choose a place you may write to") from None


def token_folder(corpus: Corpus, tokenizer, vocab_size: int) -> Path:
    """Where the cache keeps the tokens of this corpus: another file, size, setting or vocabulary is another folder."""
    files = [(p.name, p.split, p.path.stat().st_size if p.path and p.path.is_file() else 0) for p in corpus.pieces]
    content = json.dumps([files, tokenizer.variant, asdict(tokenizer.settings), vocab_size], sort_keys=True)
    name = re.sub(r"[^\w.-]+", "-", Path(corpus.name).name) or "corpus"
    return paths.cache_dir() / "tokens" / f"{name}-{tokenizer.variant}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _learnt(out: Path, corpus: Corpus, tokenizer, vocab_size: int, progress: bool):
    """The tokenizer an earlier, perhaps interrupted, call left in `out`, else a new one."""
    try:
        return load_tokenizer(out)
    except TokenizerError:
        if (out / TOKENIZER).exists():
            raise  # damaged: said, not overwritten
    from tqdm.auto import tqdm

    pieces = tqdm(corpus.split("train"), desc="learning byte pairs", unit="piece", leave=False, disable=None if progress else True)
    return tokenizer.train(_readable(pieces), vocab_size)


def _readable(pieces):
    for piece in pieces:
        try:
            yield piece.load()
        except MidiError:  # tokenize_corpus lists it
            continue
