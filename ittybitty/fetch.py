"""Released models: those that are too large for the package are taken from a mirror, checked, joined and installed.

    release("build/small", "build/release", "small")   a model folder -> files to put on a server
    fetch("small")                                     a server -> <cache>/models/small, which `--model small` finds

    small.json                              file names, sizes and sha256
    small.config.json, small.tokenizer.json, small.model-00001-of-00004.safetensors, …

The mirror is a URL: the argument, else $ITTYBITTY_MIRROR, else the release page of the project's repository. It is https://, or
http:// on this machine, or file://. Files are checked against the list as they arrive, the shards become one file, and the
model is loaded once before it is installed.

Left out: uploading, which is the server's own command, and signatures: anybody who can change the list can change the files.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from . import REPOSITORY, checkpoint, paths
from .errors import CheckpointError, ConfigError, OutputError
from .export import FILES
from .jsonable import dumps

VARIABLE = "ITTYBITTY_MIRROR"
MIRROR = f"https://github.com/{REPOSITORY}/releases/latest/download"
FORMAT = 1
TIMEOUT = 30.0  # s without an answer
LIST_BYTES, MODEL_BYTES = 1_000_000, 500_000_000  # at most
BLOCK = 1 << 20  # bytes read at a time
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
HERE = ("localhost", "127.0.0.1", "::1")


def release(folder: str | Path, out: str | Path, name: str) -> dict:
    """Copy a model folder (of `ittybitty export`) to `out` as files of a release; {"out", "name", "files", "bytes"}.

    CheckpointError where the folder holds no model, OutputError where `out` cannot be written.
    """
    folder, out = checkpoint.find(folder), Path(out).expanduser()
    checkpoint.load(folder)
    entries: dict[str, dict] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(file for file in folder.iterdir() if FILES.fullmatch(file.name)):
            shutil.copyfile(file, out / f"{_named(name)}.{file.name}")
            entries[file.name] = {"bytes": file.stat().st_size, "sha256": _hash(file)}
        with paths.atomic_path(out / f"{name}.json") as temporary:
            temporary.write_text(dumps({"format": FORMAT, "files": entries}), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error}); choose a place you may write to"
        ) from None
    size = sum(int(entry["bytes"]) for entry in entries.values())
    return {"out": str(out), "name": name, "files": sorted(entries), "bytes": size}


def fetch(
    name: str,
    mirror: str | None = None,
    into: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Install the released model `name` below `into` (the cache's models); {"name", "out", "bytes", "mirror", "fetched"}.

    A model that is installed already is not changed. ConfigError for a mirror with an unsupported URL, CheckpointError for a
    release that is not there, damaged or of another version, OutputError where the disk is full.
    """
    mirror = _checked(mirror or os.environ.get(VARIABLE) or MIRROR)
    out = (Path(into).expanduser() if into else paths.fetched_dir()) / _named(name)
    if (out / "config.json").is_file():
        return {"name": name, "out": str(out), "bytes": _size(out), "mirror": mirror, "fetched": False}
    listed = _listed(mirror, name)
    with paths.atomic_folder(out, hint="free some space, or give --into") as writing:
        for file, entry in listed.items():
            say(f"{file}: {entry['bytes'] / 1e6:.1f} MB")
            _take(f"{mirror}/{name}.{file}", writing / file, entry)
        _join(writing)
        checkpoint.load(writing)
    return {"name": name, "out": str(out), "bytes": _size(out), "mirror": mirror, "fetched": True}


def _checked(mirror: str) -> str:
    parts = urllib.parse.urlsplit(mirror)
    if parts.scheme in ("https", "file") or (parts.scheme == "http" and parts.hostname in HERE):
        return mirror.rstrip("/")
    raise ConfigError(f"mirror {mirror}: give an address that begins with https:// or file://")


def _named(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name}: is not a valid name of a model; give a name such as small")
    return name


def _listed(mirror: str, name: str) -> dict[str, dict]:
    """File name -> {"bytes", "sha256"} of a release."""
    address = f"{mirror}/{name}.json"
    text = b"".join(_read(address, LIST_BYTES))
    try:
        read = json.loads(text)
        number = read["format"]
        files: dict[str, dict] = {
            str(file): {"bytes": int(e["bytes"]), "sha256": str(e["sha256"])} for file, e in read["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{address}: is not the list of a release; check the mirror's address") from None
    if number != FORMAT:
        raise CheckpointError(f"{address}: has format {number}, this version reads {FORMAT}; install a newer version")
    if wrong := [file for file in files if not FILES.fullmatch(file)]:
        raise CheckpointError(
            f"{address}: names {wrong[0]!r}, which is not a file of a model; check the mirror's address"
        )
    if not {"config.json", "tokenizer.json"} <= set(files) or not any(f.endswith(".safetensors") for f in files):
        raise CheckpointError(f"{address}: lists no whole model; tell the server's owner")
    if (size := sum(entry["bytes"] for entry in files.values())) > MODEL_BYTES:
        raise CheckpointError(
            f"{address}: lists {size / 1e6:,.0f} MB, and {MODEL_BYTES / 1e6:,.0f} are the most that is taken"
        )
    return files


def _take(address: str, place: Path, entry: Mapping) -> None:
    """One file, checked; CheckpointError where its size or hash is another."""
    digest, size = hashlib.sha256(), 0
    with place.open("wb") as file:
        for block in _read(address, entry["bytes"]):
            file.write(block)
            digest.update(block)
            size += len(block)
    if size != entry["bytes"] or digest.hexdigest() != entry["sha256"]:
        raise CheckpointError(
            f"{address}: is not the file that the release lists ({size:,} bytes); fetch it again later"
        )


def _read(address: str, most: int):
    """Blocks of a file on the mirror, at most `most` bytes and one; CheckpointError if it cannot be downloaded."""
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as response:
            left = most + 1
            while left > 0 and (block := response.read(min(left, BLOCK))):
                yield block
                left -= len(block)
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"{address}: the server answers {error.code} {error.reason}; check the name, or give another mirror with --mirror"
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        why = getattr(error, "reason", None) or error or type(error).__name__
        if address.startswith("file:"):
            raise CheckpointError(f"{address}: cannot be read ({why}); give another folder with --mirror") from None
        raise CheckpointError(
            f"{address}: cannot be downloaded ({why}); check the network, or give another mirror with --mirror"
        ) from None


def _join(folder: Path) -> None:
    """Join shards into one file of weights, still in float16."""
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    if not shards:
        return
    tensors = {name: tensor for shard in shards for name, tensor in checkpoint.read_tensors(shard).items()}
    checkpoint.write_tensors(tensors, folder / checkpoint.MODEL)
    for file in (*shards, folder / checkpoint.INDEX):
        file.unlink(missing_ok=True)


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
