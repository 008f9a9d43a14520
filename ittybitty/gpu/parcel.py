"""Writes and reads the result of a visit: at most eight files of at most 15 MB, complete at whatever moment it is ended.

    home/parcel.json                  rows with configuration, tokenizer and log; reports of the steps; names of the shards
    home/weights-00001-of-00007.safetensors    float16; a large tensor may be cut in two along its first dimension

A parcel holds the weights with the lowest validation loss, and no optimizer state. It is first written next to the old parcel,
then renamed to take its place, as a checkpoint is: after a kill at any moment there is one that can be read. If not all rows
fit into the files, the first ones are written, and the parcel lists the others.

Left out: the evaluation, which needs no GPU (install.py).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from .. import checkpoint
from ..errors import CheckpointError, OutputError
from ..jsonable import dumps

FORMAT = 1
FOLDER, WRITING, PREVIOUS = "home", "home.writing", "home.previous"
LIST = "parcel.json"
SHARD_BYTES, FILES = 15_000_000, 8
ENTRY_BYTES = 200  # of a shard's header for each tensor, at most
LARGEST_HALF = 65504.0
CUT = re.compile(r"(.+)\[(\d+)\]")  # name[first row] of a part of a tensor


def write(runs: Mapping[str, str | Path], reports: Mapping, out: str | Path, work: str | Path | None = None) -> dict:
    """Put the runs that hold weights into out/home; {"rows", "left_out", "files", "bytes"}.

    `runs` are run folders by row, the most important first; `reports` anything JSON can write. The parcel is made in
    `work`, else in `out`. CheckpointError where no run holds weights yet, OutputError where the disk is full.
    """
    out = Path(out)
    rows, halves, left_out = {}, {}, []
    for row, run in runs.items():
        found = _row(Path(run))
        if found is None:
            continue
        rows[row], own = found
        halves[row] = own
        if len(_shards(halves)) + 1 > FILES:
            left_out.append(row)
            del rows[row], halves[row]
    if not rows:
        raise CheckpointError(
            f"{', '.join(map(str, runs.values()))}: hold no weights{' that fit' if left_out else ' yet'}; train longer"
        )
    shards = _shards(halves)
    names = [f"weights-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    listed = {"format": FORMAT, "rows": rows, "left_out": left_out, "shards": names, "reports": dict(reports)}
    writing = Path(work or out) / WRITING
    try:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        for name, shard in zip(names, shards):
            checkpoint.write_tensors(shard, writing / name)
        (writing / LIST).write_text(dumps(listed), encoding="utf-8")
        _put(writing, out)
    except OSError as error:
        raise OutputError(f"{out}: the parcel cannot be written ({error.strerror or error}); free some space") from None
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return contents(out)


def contents(place: str | Path) -> dict:
    """{"rows", "left_out", "files", "bytes"} of a parcel; CheckpointError where there is none."""
    home = _find(Path(place))
    listed = json.loads((home / LIST).read_text(encoding="utf-8"))
    sizes = {file.name: file.stat().st_size for file in sorted(home.iterdir())}
    return {"rows": list(listed["rows"]), "left_out": listed["left_out"], "files": sizes, "bytes": sum(sizes.values())}


def read(place: str | Path) -> tuple[dict, dict[str, dict[str, torch.Tensor]]]:
    """(parcel.json, weights by row and name, float16) of a folder with a parcel in it, or of the parcel itself.

    CheckpointError where there is none, or a shard is missing or damaged.
    """
    home = _find(Path(place).expanduser())
    listed = json.loads((home / LIST).read_text(encoding="utf-8"))
    parts: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for name in listed["shards"]:
        if Path(name).name != name or not (home / name).is_file():
            raise CheckpointError(f"{home}: lacks {name}; copy all files of the parcel")
        for key, tensor in checkpoint.read_tensors(home / name).items():
            whole = CUT.fullmatch(key)
            parts.setdefault(whole[1] if whole else key, []).append((int(whole[2]) if whole else 0, tensor))
    found: dict[str, dict[str, torch.Tensor]] = {row: {} for row in listed["rows"]}
    for key, pieces in parts.items():
        row, _, name = key.partition("/")
        ordered = [tensor for _, tensor in sorted(pieces, key=lambda piece: piece[0])]
        found[row][name] = ordered[0] if len(ordered) == 1 else torch.cat(ordered)
    return listed, found


def join(place: str | Path, out: str | Path) -> dict[str, Path]:
    """Run folders out/ROW of a parcel's rows: configuration, tokenizer, log, float16 weights. OutputError where one is there."""
    listed, tensors = read(place)
    made = {}
    for row, entry in listed["rows"].items():
        folder = Path(out).expanduser() / row
        if folder.exists():
            raise OutputError(f"{folder}: is there already; give a new folder")
        try:
            folder.mkdir(parents=True)
            for name, text in entry["files"].items():
                if Path(name).name != name:
                    raise CheckpointError(f"{place}: names a file outside its folder ({name}); it is no parcel of ours")
                (folder / name).write_text(text, encoding="utf-8")
            checkpoint.write_tensors(tensors[row], folder / checkpoint.MODEL)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another place"
            ) from None
        made[row] = folder
    return made


def _find(place: Path) -> Path:
    """The folder with the parcel's list; CheckpointError where there is none that can be read."""
    home = next((home for home in (place, place / FOLDER, place / PREVIOUS) if (home / LIST).is_file()), None)
    if home is None:
        raise CheckpointError(f"{place}: holds no parcel ({LIST}); give the folder that `ittybitty gpu run` wrote")
    try:
        listed = json.loads((home / LIST).read_text(encoding="utf-8"))
        known, whole = (
            listed["format"] == FORMAT,
            isinstance(listed["rows"], dict) and isinstance(listed["shards"], list),
        )
    except (OSError, ValueError, KeyError, TypeError):
        known, whole = True, False
    if not whole:
        raise CheckpointError(f"{home / LIST}: is damaged; copy the parcel again")
    if not known:
        raise CheckpointError(f"{home / LIST}: is of another version; use the version that wrote it")
    return home


def _row(run: Path) -> tuple[dict, dict[str, torch.Tensor]] | None:
    """The part of a run folder that is written: its small files as text, its weights as float16; None where it has no weights yet."""
    if not (run / "config.json").is_file():
        return None
    try:
        weights = checkpoint.read_weights(run)
    except CheckpointError:
        return None
    files = {
        name: (run / name).read_text(encoding="utf-8")
        for name in ("config.json", "tokenizer.json", "log.jsonl")
        if (run / name).is_file()
    }
    entry: dict = {"files": files}
    beyond = [name for name, t in weights.items() if t.is_floating_point() and float(t.abs().max()) > LARGEST_HALF]
    if beyond:  # a clipped number that is reported is better than no weights
        entry["clipped"] = beyond
    halves = {
        name: t.clamp(-LARGEST_HALF, LARGEST_HALF).half() if t.is_floating_point() else t for name, t in weights.items()
    }
    return entry, halves


def _shards(halves: Mapping[str, Mapping[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Tensors in order, each shard filled up: a tensor that does not fit any more is cut along its first dimension."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    room = SHARD_BYTES
    for key, part in _parts(halves):
        size = part.nbytes + ENTRY_BYTES
        while size > room and part.ndim and len(part) > 1:
            row_bytes = part[0].nbytes
            fits = min(len(part) - 1, max(0, room - ENTRY_BYTES) // max(1, row_bytes))
            if fits:
                shards[-1][_cut(key)] = part[:fits].contiguous()
                key, part = _cut(key, fits), part[fits:]
            shards.append({})
            room, size = SHARD_BYTES, part.nbytes + ENTRY_BYTES
        if size > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][key] = part.contiguous()
        room -= size
    return shards


def _parts(halves: Mapping[str, Mapping[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    for row, tensors in halves.items():
        for name, tensor in tensors.items():
            yield f"{row}/{name}", tensor


def _cut(key: str, rows: int = 0) -> str:
    """The key of a part: name[first row], moved on by `rows`."""
    whole = CUT.fullmatch(key)
    name, first = (whole[1], int(whole[2])) if whole else (key, 0)
    return f"{name}[{first + rows}]"


def _put(writing: Path, out: Path) -> None:
    """The new parcel takes the old one's place; across file systems it is copied beside it first."""
    out.mkdir(parents=True, exist_ok=True)
    home, previous = out / FOLDER, out / PREVIOUS
    if writing.parent != out:
        beside = out / WRITING
        shutil.rmtree(beside, ignore_errors=True)
        try:
            os.rename(writing, beside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copytree(writing, beside)
        writing = beside
    if home.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(home, previous)
    os.rename(writing, home)
    shutil.rmtree(previous, ignore_errors=True)
