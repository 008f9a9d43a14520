"""The pipeline from a corpus to a trained run, in two calls: `tokenize` and `train`.

The command line, notebooks and scripts all use them. `tokenize` is cached: the tokens of a corpus are kept in a folder
whose name is derived from the corpus, the tokenizer's settings and the size of the vocabulary.

Left out: how tokens are written (tokenizers/store.py) and how a model is trained (train/loop.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from . import paths, systems
from .config import SCALE_PRESETS, override
from .corpora import Corpus, Piece, open_corpus
from .errors import UNREADABLE, CorpusError, OutputError, TokenizerError
from .notes import Performance
from .tokenizers import VARIANTS, Tokenizer, load_tokenizer, make_tokenizer
from .tokenizers.events import VARIANTS as EVENT_VARIANTS
from .tokenizers.events import EventTokenizer
from .tokenizers.store import INDEX, TOKENIZER, TokenStore, tokenize_corpus


def tokenize(
    configs: Mapping,
    data: str | Path | Corpus | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    tokenizer: Tokenizer | None = None,
    learn_from: Sequence[Piece] = (),
) -> TokenStore:
    """The token store of a corpus; it is written now unless the folder `out` has it already.

    `data` is what `open_corpus` takes, or a token folder, which is returned as it is. Without `out` the store is kept in
    the cache. Without a `tokenizer` one is learnt, with the configs' variant and vocabulary, from the pieces `learn_from`
    (the corpus's training pieces unless others are given). TokenizerError for a folder that holds tokens of another
    variant or size.
    """
    if isinstance(data, (str, Path)) and (Path(data) / INDEX).is_file():
        store = TokenStore.open(data)
        if tokenizer is None:
            _check_variant(store.tokenizer(), configs, Path(data))
        return store
    corpus = open_corpus(data, configs["data"].corpus)
    untrained, vocabulary = systems.build_tokenizer(configs), configs["model"].vocab_size
    if out is None:
        out = _place(corpus, untrained, vocabulary, tokenizer)
    with _alone(Path(out)):
        if tokenizer is None:
            tokenizer = _learnt(Path(out), learn_from or corpus.split("train"), untrained, vocabulary, progress)
            _check_variant(tokenizer, configs, Path(out))
        return tokenize_corpus(corpus, tokenizer, out, workers=workers, progress=progress)


def train(
    run_dir: str | Path,
    system: str | None = None,
    preset: str | None = None,
    changes: Mapping[str, object] | None = None,
    data: str | Path | Corpus | None = None,
    resume: bool = False,
    init_from: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> dict:
    """Train a system on a corpus into the folder `run_dir`, tokenizing the corpus first, and return `loop.train`'s summary.

    System, preset and settings that are not given are those of the run that is resumed (`resume`) or started from
    (`init_from`); without such a run they are the system "hybrid" with the preset "tiny". `options` are passed on to
    `loop.train`: parallel, max_hours, on_step.
    """
    from .train import loop
    from .train.start import find_start

    start = find_start(run_dir, resume, init_from)
    header, tokenizer = start.header, load_tokenizer(start.tokenizer_folder) if start.tokenizer_folder else None
    if header and preset is None and (system is None or systems.system(system).name == header["system"]):
        system, preset = header["system"], header.get("preset", "custom")
        configs = override(header["configs"], changes or {})
    else:
        system = system or "hybrid"
        grown = _grown(system, tokenizer)
        if header and grown is not None:  # the ids mean the same, so the model keeps the shape of the weights
            preset, tokenizer = preset or header.get("preset", "custom"), grown
            known = preset if preset in (*SCALE_PRESETS, systems.PUBLISHED) else "tiny"
            configs = override({**systems.build(system, known), "model": header["configs"]["model"]}, changes or {})
        else:
            preset = preset or "tiny"
            configs = systems.build(system, preset, changes)
            if (
                isinstance(tokenizer, EventTokenizer)
                and tokenizer.variant != configs["data"].tokenizer in EVENT_VARIANTS
            ):
                tokenizer = None  # another grid: the weights are taken over class by class (models/events.py)
    store = tokenize(configs, data, progress=progress, tokenizer=tokenizer)
    if init_from is not None:
        _check_held_out(store)
    return loop.train(system, configs, store, start.run_dir, start=start, preset=preset, progress=progress, **options)


def _check_held_out(store: TokenStore) -> None:
    """CorpusError unless there are pieces to learn from and others that say whether it helped.

    Trained weights that are trained further on a few pieces may get better at these only; a held-out piece shows it.
    """
    name, readable = Path(store.corpus).name or "the folder", len(store.pieces)
    if readable < 2:
        raise CorpusError(
            f"{name}: holds {readable} piece that can be read; weights that start from others need one to learn from and one held out: add files"
        )
    for split, purpose in (("train", "nothing is left to learn from"), ("validation", "nothing is held out")):
        if not any(piece.split == split for piece in store.pieces):
            raise CorpusError(
                f"{name}: none of its {readable} readable pieces is in the {split} split, so {purpose}: add files"
            )


def _grown(system: str, start: Tokenizer | None) -> Tokenizer | None:
    """The system's tokenizer, derived from the tokenizer `start`, if it is another variant whose ids mean the same; else None."""
    wanted = systems.system(system).tokenizer
    if start is None or start.variant == wanted:
        return None
    return make_tokenizer(wanted).grown_from(start)


def _place(corpus: Corpus, untrained: Tokenizer, vocab_size: int, tokenizer: Tokenizer | None) -> Path:
    """The cache folder for these tokens; a `tokenizer` that was learnt on another corpus gets a folder of its own."""
    asked = (
        tokenizer.asked if tokenizer else None
    )  # fewer ids may have been learnt, and a run's configuration says how many
    own = token_folder(corpus, untrained, vocab_size if asked is None else asked)
    if tokenizer is None or ((own / INDEX).is_file() and TokenStore.open(own).tokenizer_hash == tokenizer.content_hash):
        return own
    return own.with_name(f"{own.name}-{tokenizer.content_hash[:8]}")


def _alone(out: Path) -> AbstractContextManager:
    """A file lock beside `out`. Under torchrun one rank tokenizes; the other ranks wait and then find the finished folder."""
    from filelock import FileLock

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(out.with_name(f".{out.name}.lock"))
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}); choose a place you may write to") from None


def token_folder(corpus: Corpus, tokenizer: Tokenizer, vocab_size: int) -> Path:
    """The cache folder for the tokens of this corpus. Its name changes with every file, setting and vocabulary size."""
    content = json.dumps([corpus.stamp, tokenizer.variant, tokenizer.fingerprint, vocab_size])
    name = re.sub(r"[^\w.-]+", "-", corpus.name) or "corpus"
    return (
        paths.cache_dir() / "tokens" / f"{name}-{tokenizer.variant}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    )


def _learnt(out: Path, pieces: Sequence[Piece], tokenizer: Tokenizer, vocab_size: int, progress: bool) -> Tokenizer:
    """The tokenizer that an earlier call saved in `out`, even if that call was interrupted; otherwise a newly trained one."""
    try:
        return load_tokenizer(out)
    except TokenizerError:
        if (out / TOKENIZER).exists():
            raise  # damaged: report it, do not overwrite it
    from tqdm.auto import tqdm

    shown = tqdm(pieces, desc="learning tokens", unit="piece", leave=False, disable=None if progress else True)
    return tokenizer.train(_readable(shown), vocab_size)


def _check_variant(tokenizer: Tokenizer, configs: Mapping, where: Path) -> None:
    """TokenizerError if the tokens do not match the configs; a tokenizer with the user's own settings is always accepted."""
    wanted, size = configs["data"].tokenizer, configs["model"].vocab_size
    if tokenizer.variant in VARIANTS and tokenizer.variant != wanted:
        raise TokenizerError(
            f"{where} holds tokens of {tokenizer.variant!r}, and {wanted!r} was asked for: give another folder"
        )
    if tokenizer.asked not in (None, size):
        raise TokenizerError(
            f"{where} holds tokens of a vocabulary of {tokenizer.asked}, and {size} was asked for: give another folder"
        )


def _readable(pieces: Iterable[Piece]) -> Iterator[Performance]:
    """The performances of the pieces that can be read."""
    for piece in pieces:
        try:
            yield piece.load()
        except UNREADABLE:  # tokenize_corpus lists it
            continue
