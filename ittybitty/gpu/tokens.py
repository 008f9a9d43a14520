"""Packs token folders for transport to a GPU machine, and unpacks them there.

    tokens.pack/pack.json            which stores, in what order they are made, and the hash of each one's ids
    tokens.pack/remi/ids.xz          the ids of a store, compressed
    tokens.pack/notes/patches.npz    for a store that is computed from another one: the differences
    tokens.pack/*/tokenizer.json, store.json

`notes` and `remi` keep the same notes on the same grid. If the ids of one are decoded and encoded again, they are those of the
other, except for one id in some thousands (the pedal of `notes` is coarser, and is rounded from the performance). Therefore only
one of the two is packed whole, with a patch for the other: all of MAESTRO in both takes less than 30 MB. Every store is compared
with its hash before it is used.

Left out: tokenizing a corpus (pipeline.py).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..errors import OutputError, TokenizerError
from ..jsonable import dumps
from ..tokenizers import load_tokenizer
from ..tokenizers.store import IDS, INDEX, TOKENIZER, TokenStore

FORMAT = 1
PACK = "pack.json"
PACKED, PATCHES = "ids.xz", "patches.npz"
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 1, "pb": 1}]  # ids are two bytes each


def pack(stores: Mapping[str, TokenStore], out: str | Path) -> dict:
    """Write the token stores, by the name of their tokenizer, as one folder; {"out", "bytes", "stores"}.

    A store with the pieces of an earlier one is packed as a patch, if that is smaller. OutputError where `out`
    holds something else or cannot be written.
    """
    out = Path(out).expanduser()
    if out.exists() and not (out.is_dir() and ((out / PACK).is_file() or not any(out.iterdir()))):
        raise OutputError(f"{out}: holds other things than packed tokens; give a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_list(out, {})  # of a folder that is not whole yet
        listed: dict[str, dict] = {}
        for name, store in stores.items():
            folder = out / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for file in (TOKENIZER, INDEX):
                shutil.copyfile(store.path / file, folder / file)
            source = next((other for other in listed if _same_pieces(stores[other], store)), None)
            if source is None or not _write_patches(folder, stores[source], store):
                source = None
                (folder / PACKED).write_bytes(
                    lzma.compress(np.asarray(store.ids).tobytes(), lzma.FORMAT_XZ, filters=FILTERS)
                )
            listed[name] = {"from": source, "sha256": _hash(store.ids)}
        _write_list(out, listed)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); choose a place you may write to"
        ) from None
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {"out": str(out), "bytes": size, "stores": listed}


def listed(pack: str | Path) -> dict[str, dict]:
    """Tokenizer name -> {"from", "sha256"} of a packed folder; TokenizerError where it is none, or damaged."""
    pack = Path(pack)
    if pack.exists() and not pack.is_dir():
        raise TokenizerError(f"{pack}: is a file; give the folder that `ittybitty gpu pack` wrote")
    try:
        read = json.loads((pack / PACK).read_text(encoding="utf-8"))
        if read["format"] != FORMAT:
            raise TokenizerError(f"{pack / PACK}: has format {read['format']}; this version reads {FORMAT}")
        if not read["stores"]:
            raise TokenizerError(f"{pack}: packing was not finished; run `ittybitty gpu pack` again")
        return {name: {"from": entry["from"], "sha256": entry["sha256"]} for name, entry in read["stores"].items()}
    except FileNotFoundError:
        raise TokenizerError(f"{pack}: holds no packed tokens; make them with `ittybitty gpu pack`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{pack / PACK}: is damaged ({error}); pack the tokens again") from None


def index(pack: str | Path, name: str) -> dict:
    """store.json of one packed store: its header and its pieces."""
    try:
        read = json.loads((Path(pack) / name / INDEX).read_text(encoding="utf-8"))
        return {**read, "pieces": list(read["pieces"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenizerError(f"{Path(pack) / name / INDEX}: cannot be read ({error}); pack the tokens again") from None


def unpack(pack: str | Path, name: str, out: str | Path, workers: int | None = None) -> TokenStore:
    """The store `name` of a packed folder as a token folder out/name, with those that it follows from; made once.

    TokenizerError where it is not there or damaged, OutputError where the disk is full.
    """
    pack, out, entries = Path(pack), Path(out), listed(pack)
    if name not in entries:
        raise TokenizerError(f"{pack}: holds tokens of {', '.join(entries)}, not of {name}; pack those too")
    folder, entry = out / name, entries[name]
    if (folder / INDEX).is_file():  # written last
        return TokenStore.open(folder)
    source = None if entry["from"] is None else unpack(pack, entry["from"], out, workers)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pack / name / TOKENIZER, folder / TOKENIZER)
        ids = _read_ids(pack / name) if source is None else _read_patched(pack / name, source, workers)
        if _hash(ids) != entry["sha256"]:
            raise TokenizerError(f"{pack / name}: its ids are not those that were packed; copy or pack them again")
        with paths.atomic_path(folder / IDS) as temporary:
            temporary.write_bytes(ids.tobytes())
        with paths.atomic_path(folder / INDEX) as temporary:
            shutil.copyfile(pack / name / INDEX, temporary)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); free some space") from None
    return TokenStore.open(folder)


def _write_list(out: Path, stores: Mapping[str, Mapping]) -> None:
    with paths.atomic_path(out / PACK) as temporary:
        temporary.write_text(dumps({"format": FORMAT, "stores": stores}), encoding="utf-8")


def _same_pieces(one: TokenStore, other: TokenStore) -> bool:
    return [(p.name, p.split, p.notes) for p in one.pieces] == [(p.name, p.split, p.notes) for p in other.pieces]


def _write_patches(folder: Path, source: TokenStore, store: TokenStore) -> bool:
    """patches.npz: of each piece, where its ids are not the source's encoded again. False where patches are no gain."""
    piece, position, value, whole, ids = [], [], [], [], [np.empty(0, np.uint16)]
    for i, made in enumerate(_derived(source, store.path)):
        true = np.asarray(store.tokens(i))
        if len(made) != len(true):
            whole.append(i)
            ids.append(true)
            continue
        different = np.flatnonzero(made != true)
        piece.append(np.full(len(different), i))
        position.append(different)
        value.append(true[different])
    if sum(map(len, ids)) + 4 * sum(map(len, value)) > len(store.ids) // 2:
        return False
    counts = {"piece": piece, "position": position}
    arrays: dict[str, Any] = {
        key: np.concatenate([np.empty(0), *parts]).astype(np.uint32) for key, parts in counts.items()
    }
    np.savez_compressed(
        folder / PATCHES,
        **arrays,
        value=np.concatenate([np.empty(0), *value]).astype(np.uint16),
        whole=np.array(whole, np.uint32),
        ids=np.concatenate(ids).astype(np.uint16),
    )
    return True


def _read_patched(folder: Path, source: TokenStore, workers: int | None) -> np.ndarray:
    """All ids (n,) of a store that follows from `source`."""
    try:
        with np.load(folder / PATCHES, allow_pickle=False) as read:
            patches = {key: read[key] for key in ("piece", "position", "value", "whole", "ids")}
        lengths = [piece["length"] for piece in index(folder.parent, folder.name)["pieces"]]
        at, rest, parts = np.searchsorted(patches["piece"], np.arange(len(lengths) + 1)), patches["ids"], []
        whole = set(patches["whole"].tolist())
        for i, made in enumerate(_derived(source, folder, workers)):
            if i in whole:
                made, rest = rest[: lengths[i]], rest[lengths[i] :]
            else:
                now = slice(at[i], at[i + 1])
                made[patches["position"][now]] = patches["value"][now]
            parts.append(made)
        return np.concatenate(parts).astype("<u2")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise TokenizerError(f"{folder / PATCHES}: is damaged ({error}); copy or pack the tokens again") from None


def _read_ids(folder: Path) -> np.ndarray:
    try:
        return np.frombuffer(lzma.decompress((folder / PACKED).read_bytes()), "<u2")
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise TokenizerError(f"{folder / PACKED}: is damaged ({error}); copy or pack the tokens again") from None


def _hash(ids: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids, "<u2").tobytes()).hexdigest()


_job: tuple | None = None  # of a worker process: the source's store and tokenizer, and the tokenizer that is wanted


def _start(source: TokenStore, wanted: Path) -> None:
    global _job
    _job = source, source.tokenizer(), load_tokenizer(wanted)


def _encoded_again(i: int) -> np.ndarray:
    assert _job is not None
    source, before, after = _job
    return after.encode(before.decode(source.tokens(i)))


def _derived(source: TokenStore, wanted: Path, workers: int | None = None) -> Iterator[np.ndarray]:
    """Ids of each piece of `source` in the encoding of the tokenizer in the folder `wanted`, in order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or cores, len(source) // 16)  # a process takes as long to start as some pieces take
    if workers <= 1:
        _start(source, wanted)
        yield from map(_encoded_again, range(len(source)))
        return
    method = "fork" if sys.platform.startswith("linux") else "spawn"  # the workers use NumPy alone
    with multiprocessing.get_context(method).Pool(workers, _start, (source, wanted)) as pool:
        yield from pool.imap(_encoded_again, range(len(source)), chunksize=8)
