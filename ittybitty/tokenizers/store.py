"""Tokenizes a corpus into one file of token ids with an index of its pieces, and reads it.

    tokens/remi/tokenizer.json   what the ids mean
    tokens/remi/ids.u16          all pieces one after the other, each [BOS … EOS], little-endian uint16
    tokens/remi/store.json       the tokenizer's hash, and of each piece name, split, start, length, notes, seconds

`tokenize_corpus` works on all cores and appends each piece to ids.part and a line to pieces.part, so that an interrupted
run continues where it stopped. store.json is written last and atomically: a folder without it is not finished.

Left out: any choice among pieces; train/windows.py cuts a split into training windows.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import paths
from ..corpora import Corpus
from ..errors import ConfigError, CorpusError, IttyBittyError, OutputError, TokenizerError
from ..jsonable import dumps
from ..notes import Performance
from . import load_tokenizer
from .protocol import Tokenizer

IDS, INDEX, TOKENIZER = "ids.u16", "store.json", "tokenizer.json"
IDS_PART, PIECES_PART = "ids.part", "pieces.part"
FORMAT = 1


@dataclass(frozen=True)
class TokenizedPiece:
    """Where a piece is in the store."""

    name: str
    split: str  # "train", "validation" or "test"
    start: int  # index of its BOS
    length: int  # ids, BOS and EOS included
    notes: int  # of the original performance: the divisor of bits per note
    seconds: float  # s until the last release
    flat: bool = False  # all notes have one velocity: an engraved score, whose velocity is nothing to learn


@dataclass(frozen=True)
class Skipped:
    """A piece that could not be read, and why."""

    name: str
    reason: str


class TokenStore:
    """The ids of a corpus, memory-mapped, and the list of its pieces. Make one with `tokenize_corpus` or `open`."""

    def __init__(self, path: Path, ids: np.ndarray, pieces: list[TokenizedPiece], skipped: list[Skipped], header: dict):
        self.path, self.ids, self.pieces, self.skipped = path, ids, pieces, skipped
        self.tokenizer_hash: str = header["tokenizer_hash"]
        self.corpus: str = header["corpus"]
        self.licence: str = header["licence"]

    @classmethod
    def open(cls, path: Path | str) -> TokenStore:
        """The finished store in a folder; TokenizerError if it is missing, unfinished or damaged."""
        path = Path(path)
        try:
            index = json.loads((path / INDEX).read_text(encoding="utf-8"))
            if index["format"] != FORMAT:
                raise TokenizerError(f"{path / INDEX} has format {index['format']}; this version reads {FORMAT}")
            pieces = [TokenizedPiece(**piece) for piece in index["pieces"]]
            skipped = [Skipped(**piece) for piece in index["skipped"]]
            size = sum(piece.length for piece in pieces)
            if os.path.getsize(path / IDS) != 2 * size:
                raise ValueError(f"{IDS} has not the {size} ids of the index")
            ids = np.memmap(path / IDS, "<u2", "r", shape=(size,))
            return cls(path, ids, pieces, skipped, index)
        except FileNotFoundError:
            raise TokenizerError(
                f"{path} holds no finished token files: run `ittybitty tokenize` to make them"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, TokenizerError):
                raise
            why = f"{INDEX} lacks {error}" if isinstance(error, KeyError) else error
            raise TokenizerError(
                f"{path} holds damaged token files ({why}): delete the folder and tokenize again"
            ) from None

    def __len__(self) -> int:
        return len(self.pieces)

    def tokens(self, i: int) -> np.ndarray:
        """The ids [BOS … EOS] of piece i, a view of the file."""
        piece = self.pieces[i]
        return self.ids[piece.start : piece.start + piece.length]

    def split(self, name: str) -> list[int]:
        """Indices of the pieces of a split; CorpusError if it has none."""
        found = [i for i, piece in enumerate(self.pieces) if piece.split == name]
        if not found:
            there = ", ".join(sorted({piece.split for piece in self.pieces}))
            raise CorpusError(f"{self.path}: no piece is in the split {name!r}; there is {there}")
        return found

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids; TokenizerError if the one in the folder is another."""
        tokenizer = load_tokenizer(self.path / TOKENIZER)
        if tokenizer.content_hash != self.tokenizer_hash:
            raise TokenizerError(_other_tokenizer(self.path, self.tokenizer_hash, tokenizer.content_hash))
        if len(self.ids) and int(self.ids.max()) >= tokenizer.vocab_size:
            raise TokenizerError(
                f"{self.path} holds damaged token files (an id is above {tokenizer.vocab_size - 1}): delete the folder and tokenize again"
            )
        return tokenizer


def tokenize_corpus(
    corpus: Corpus, tokenizer: Tokenizer, out: Path | str, workers: int | None = None, progress: bool = True
) -> TokenStore:
    """All pieces of a corpus as a store in the folder `out`.

    Uses `workers` processes (all cores by default). Unreadable files are skipped and listed in `skipped`. A folder of
    the same corpus and tokenizer is continued, or returned as it is when finished; of another, refused.
    """
    out = Path(out)
    header = {
        "format": FORMAT,
        "tokenizer_hash": tokenizer.content_hash,
        "corpus": corpus.name,
        "licence": corpus.licence,
        "names": [piece.name for piece in corpus.pieces],
    }
    with _writable(out):
        out.mkdir(parents=True, exist_ok=True)
        if (out / INDEX).exists():
            return _finished(out, header)
        lines = _recover(out, header)
        tokenizer.save(out / TOKENIZER)
        todo = corpus.pieces[len(lines) :]
        with open(out / IDS_PART, "ab") as ids_file, open(out / PIECES_PART, "a", encoding="utf-8") as piece_file:
            for ids, line in _bar(_encoded(todo, tokenizer, workers), len(todo), len(lines), progress):
                ids_file.write(ids)
                ids_file.flush()
                piece_file.write(dumps(line) + "\n")
                piece_file.flush()
                lines.append(line)
        _finish(out, header, lines)
    return TokenStore.open(out)


def _finished(out: Path, header: dict) -> TokenStore:
    store = TokenStore.open(out)
    if store.tokenizer_hash != header["tokenizer_hash"]:
        raise TokenizerError(_other_tokenizer(out, store.tokenizer_hash, header["tokenizer_hash"]))
    names = [piece.name for piece in store.pieces] + [piece.name for piece in store.skipped]
    if sorted(names) != sorted(header["names"]):
        raise TokenizerError(f"{out} holds token files of other pieces: choose another folder, or delete this one")
    return store


def _other_tokenizer(out: Path, theirs: str, ours: str) -> str:
    return f"{out} was made with tokenizer {theirs}, not {ours}: choose another folder, or delete this one"


def _recover(out: Path, header: dict) -> list[dict]:
    """The lines of an interrupted run, its ids cut to them; a fresh start writes the header."""
    try:
        first, *rest = (out / PIECES_PART).read_text(encoding="utf-8").split("\n")[:-1]  # the last may be half
        started, lines = json.loads(first), [json.loads(line) for line in rest]
    except (FileNotFoundError, ValueError):
        (out / PIECES_PART).write_text(dumps(header) + "\n", encoding="utf-8")
        (out / IDS_PART).write_bytes(b"")
        return []
    if started["tokenizer_hash"] != header["tokenizer_hash"]:
        raise TokenizerError(_other_tokenizer(out, started["tokenizer_hash"], header["tokenizer_hash"]))
    if started != header:
        raise TokenizerError(f"{out} holds token files of other pieces: choose another folder, or delete this one")
    size = os.path.getsize(out / IDS_PART) if (out / IDS_PART).exists() else 0
    whole, end = [], 0
    for line in lines:
        if end + 2 * line.get("length", 0) > size:
            break
        end += 2 * line.get("length", 0)
        whole.append(line)
    with open(out / IDS_PART, "ab") as file:
        file.truncate(end)
    text = "".join(dumps(line) + "\n" for line in [header, *whole])
    with paths.atomic_path(out / PIECES_PART) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return whole


def _finish(out: Path, header: dict, lines: list[dict]) -> None:
    skipped = [line for line in lines if "reason" in line]
    kept = [line for line in lines if "reason" not in line]
    if not kept:
        reason = f"; the first: {skipped[0]['reason']}" if skipped else ""
        raise CorpusError(f"no piece of {header['corpus']} could be read{reason}")
    starts = np.cumsum([0] + [line["length"] for line in kept])
    pieces = [asdict(TokenizedPiece(start=int(start), **line)) for start, line in zip(starts, kept)]
    index = {key: value for key, value in header.items() if key != "names"}
    os.replace(out / IDS_PART, out / IDS)
    with paths.atomic_path(out / INDEX) as temporary:
        temporary.write_text(dumps({**index, "pieces": pieces, "skipped": skipped}), encoding="utf-8")
    (out / PIECES_PART).unlink()


_worker_tokenizer: Tokenizer | None = None  # set once in each worker process, so that it is not sent with every piece


def _start_worker(tokenizer: Tokenizer) -> None:
    global _worker_tokenizer
    _worker_tokenizer = tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    if "torch" in sys.modules:  # a forked process has none of the parent's threads and would wait for them forever
        sys.modules["torch"].set_num_threads(1)


def _encode_in_worker(piece) -> tuple[bytes, dict]:
    assert _worker_tokenizer is not None, "_start_worker sets it"
    return _encode_piece(piece, _worker_tokenizer)


def _encode_piece(piece, tokenizer: Tokenizer) -> tuple[bytes, dict]:
    try:
        performance = piece.load()
        ids = tokenizer.encode(performance)
    except (IttyBittyError, OSError) as error:
        return b"", {"name": piece.name, "reason": str(error)}
    line = {"name": piece.name, "split": piece.split, "length": len(ids), "notes": len(performance)}
    flat = len(np.unique(performance.notes["velocity"])) == 1
    return ids.astype("<u2").tobytes(), {
        **line,
        "seconds": round(performance.end, 3),
        **({"flat": True} if flat else {}),
    }


def _encoded(pieces, tokenizer: Tokenizer, workers: int | None) -> Iterator[tuple[bytes, dict]]:
    """(ids, line) of each piece, in order."""
    workers = min(workers or _cores(), len(pieces))
    tokenizer.encode(Performance.of([(0, 1, 60, 64)]))  # its tables are made before the workers start
    if workers <= 1:
        yield from (_encode_piece(piece, tokenizer) for piece in pieces)
        return
    method = "fork" if sys.platform.startswith("linux") else "spawn"
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (tokenizer,))  # multiprocessing.Pool waits for ever
    try:
        yield from pool.map(_encode_in_worker, pieces, chunksize=8)
    except BrokenProcessPool:
        raise ConfigError(
            f"one of {workers} workers was killed, most likely for want of memory; what is done is kept: run it again with fewer"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bar(items: Iterator, total: int, done: int, progress: bool) -> Iterator:
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    if not shown:
        return items
    from tqdm import tqdm

    return tqdm(items, desc="tokenize", total=done + total, initial=done, unit="piece")


@contextmanager
def _writable(out: Path):
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror or error}): choose another folder") from None
