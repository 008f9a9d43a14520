"""MAESTRO v3: 1,276 piano performances, 199 hours, with official splits by composition [1].

URL, size and sha256 are those that muspy declares [2]. The download is our own: muspy 0.5 writes directly
to the final name, neither resumes nor times out, sums its progress incorrectly and has no splits.

    fetch(root)     archive -> verified zip -> root/maestro-v3.0.0/
    verify(root)    every file of the CSV is there and can be read
    open(root)      the corpus, joined with the CSV's splits

[1] Hawthorne et al. 2019, Enabling factorized piano music modeling and generation with the MAESTRO dataset. ICLR.
[2] Dong et al. 2020, MusPy: a toolkit for symbolic music generation. ISMIR.
"""

from __future__ import annotations

import csv
import hashlib
import http.client
import os
import shutil
import ssl
import stat
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from .. import paths
from ..errors import CorpusError, MidiError, OutputError
from .pieces import SPLITS, Corpus, Piece

LICENCE = "CC BY-NC-SA 4.0"
FOLDER = "maestro-v3.0.0"
OFFICIAL_COUNTS = {"train": 962, "validation": 137, "test": 177}
COLUMNS = ("canonical_composer", "canonical_title", "split", "midi_filename")

ATTEMPTS = 4  # attempts in a row without a new byte, after which a transfer fails
TIMEOUT = 30.0  # s without a byte
CHUNK = 1 << 18  # bytes
LARGEST_UNPACKED = 1 << 30  # bytes; the real one unpacks to 85 MB


@dataclass(frozen=True)
class Archive:
    """An archive to download: its URL, size and hash."""

    url: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Verification:
    """The result of `verify`."""

    folder: Path
    counts: dict[str, int]  # pieces of the CSV in each split
    missing: tuple[str, ...]  # files of the CSV that are not there
    damaged: tuple[str, ...]  # one line each for files that cannot be read

    @property
    def complete(self) -> bool:
        """True if every file is there and the counts are those of MAESTRO v3."""
        return not self.missing and not self.damaged and self.counts == OFFICIAL_COUNTS


def declared() -> Archive:
    """The archive as muspy declares it."""
    from muspy.datasets import MAESTRODatasetV3  # takes seconds, because it imports music21 and matplotlib

    source = MAESTRODatasetV3._sources["maestro"]
    return Archive(source["url"], source["size"], source["sha256"])


def open(root: str | Path | None = None) -> Corpus:
    """The corpus in `root` (the CSV's folder, or one that holds it; None searches); CorpusError when it is not there."""
    folder = paths.find_maestro(root)
    if folder is None:
        place = root or paths.data_dir() or "Kaggle's mounts and the cache"
        raise CorpusError(f"{place}: holds no {paths.MAESTRO_CSV}; run 'ittybitty data fetch', or use 'embedded'")
    pieces = tuple(_pieces(folder))
    if not any(file.is_file() for piece in pieces for file in piece.files):
        raise CorpusError(
            f"{folder}: holds the CSV but none of its {len(pieces)} MIDI files; run 'ittybitty data fetch'"
        )
    return Corpus("maestro", LICENCE, pieces)


def _pieces(folder: Path) -> list[Piece]:
    table = folder / paths.MAESTRO_CSV
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{table}: cannot be read ({error}); fetch it again") from None
    missing = set(COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise CorpusError(f"{table}: has no rows with {sorted(missing)[0]!r}; fetch it again")
    return [_piece(folder, table, row) for row in rows]


def _piece(folder: Path, table: Path, row: dict[str, str]) -> Piece:
    name, split = row["midi_filename"] or "", row["split"]
    if split not in SPLITS or not _stays_inside(name):
        raise CorpusError(f"{table}: its row of {name!r} (split {split!r}) makes no sense; fetch it again")
    return Piece(name.rsplit(".", 1)[0], row["canonical_composer"], row["canonical_title"], split, folder / name)


def verify(root: str | Path | None = None, progress: bool = True) -> Verification:
    """Reads every file that the CSV names: about 5 s. CorpusError when there is no CSV."""
    from tqdm.auto import tqdm

    pieces = open(root).pieces
    folder = paths.find_maestro(root)
    assert folder is not None, "open raises where there is none"
    missing, damaged = [], []
    for piece in tqdm(pieces, desc="verifying MAESTRO", unit="file", disable=None if progress else True):
        absent = [file.relative_to(folder).as_posix() for file in piece.files if not file.is_file()]
        if absent:
            missing += absent
            continue
        try:
            piece.load()
        except MidiError as error:
            damaged.append(str(error))
    return Verification(folder, Corpus("maestro", LICENCE, pieces).counts(), tuple(missing), tuple(damaged))


def fetch(
    root: str | Path | None = None, progress: bool = True, archive: Archive | None = None, pause: float = 1.0
) -> Path:
    """Download, check and unpack MAESTRO into root/maestro-v3.0.0, and return that folder.

    Without `root` it is the folder where MAESTRO is found, else $ITTYBITTY_DATA, else the cache: the folders that `open`
    searches. A complete folder is not changed. An interrupted download is continued, in this call (after `pause` seconds,
    doubled each time) or in the next one. `archive` replaces muspy's declaration. CorpusError if the archive cannot be
    downloaded or is not the declared one, OutputError if `root` cannot be written.
    """
    if str(root or paths.data_dir()) == "embedded":
        raise CorpusError(
            "the embedded corpus is in the package: there is nothing to fetch; give --root a folder for MAESTRO"
        )
    if (whole := _whole(root)) is not None:
        return whole
    root = paths.data_dir(root) or paths.cache_dir()
    archive = archive or declared()
    try:
        root.mkdir(parents=True, exist_ok=True)
        zipped = root / f"{FOLDER}-midi.zip"
        _download(archive, zipped, progress, pause)
        folder = _unpack(zipped, root / FOLDER)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            f"{root}: cannot be written ({error.strerror}); give --root a folder you may write to"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{root}: {error.strerror or error}; free some space, or give --root another folder"
        ) from None
    zipped.unlink(missing_ok=True)
    (root / ".muspy.success").touch()  # so that muspy's own class opens `root` without a second download
    return folder


def _whole(root: str | Path | None) -> Path | None:
    folder = paths.find_maestro(root)
    try:
        return folder if folder and all(file.is_file() for piece in _pieces(folder) for file in piece.files) else None
    except CorpusError:  # a damaged CSV is fetched again
        return None


def _download(archive: Archive, path: Path, progress: bool, pause: float) -> None:
    """Download the declared bytes to `path`, else CorpusError; an incomplete download is kept in `path`.part."""
    if path.is_file() and _mismatch(archive, path) is None:
        return
    part = path.with_name(path.name + ".part")
    fruitless = farthest = 0
    while fruitless < ATTEMPTS:
        if fruitless:
            time.sleep(pause * 2 ** (fruitless - 1))
        resumed = _size(part) > 0
        trouble = _transfer(archive, part, progress)
        if trouble is None:
            trouble = _mismatch(archive, part)
            if trouble is None:
                os.replace(part, path)
                return
            part.unlink()
            if not resumed:  # these are the server's bytes: another download would not change them
                raise CorpusError(
                    f"{archive.url}: {trouble}; nothing was unpacked: try again later, or tell the server's owner"
                )
        fruitless = fruitless + 1 if _size(part) <= farthest else 1
        farthest = max(farthest, _size(part))
    raise CorpusError(f"{archive.url}: {trouble}; check the network and run it again: it continues where it stopped")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mismatch(archive: Archive, path: Path) -> str | None:
    """The difference between a complete file and its declaration in words, or None."""
    if path.stat().st_size != archive.size:
        return f"has {path.stat().st_size:,} bytes instead of {archive.size:,}"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == archive.sha256 else f"has sha256 {digest[:12]}… instead of {archive.sha256[:12]}…"


def _transfer(archive: Archive, part: Path, progress: bool) -> str | None:
    """Append the missing bytes of the archive to `part`; returns None when complete, else what went wrong."""
    from tqdm.auto import tqdm

    have = _size(part)
    if have >= archive.size:  # whole, or of another archive: the hash tells
        return None
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if have and not _continues(response, have):
                have = 0  # the server sends the whole again
            bar = tqdm(
                total=archive.size,
                initial=have,
                unit="B",
                unit_scale=True,
                desc="MAESTRO",
                disable=None if progress else True,
            )
            with part.open("ab" if have else "wb") as file, bar:
                while have <= archive.size and (chunk := response.read(CHUNK)):
                    file.write(chunk)
                    have += len(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code in (400, 401, 403, 404, 410):  # would answer the same again
            raise CorpusError(
                f"{archive.url}: the server answers {error.code} {error.reason}; look for a newer version of this kit"
            ) from None
        if error.code == 416:  # what we have is longer than what the server has
            part.unlink(missing_ok=True)
        return f"the server answers {error.code} {error.reason}"
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        return f"the transfer broke off ({getattr(error, 'reason', None) or error or type(error).__name__})"
    return None if have >= archive.size else f"the transfer broke off after {have:,} of {archive.size:,} bytes"


def _continues(response, have: int) -> bool:
    return response.status == 206 and (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")


def _unpack(zipped: Path, target: Path) -> Path:
    """Unpack the archive into `target`, through a temporary folder; other files in `target` are not changed."""
    with tempfile.TemporaryDirectory(prefix=f".{FOLDER}-", dir=target.parent) as temporary:
        try:
            with zipfile.ZipFile(zipped) as archive:
                _check_members(zipped, archive.infolist())
                archive.extractall(temporary)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
            raise CorpusError(f"{zipped}: cannot be unpacked ({error}); delete it and fetch again") from None
        table = next(Path(temporary).rglob(paths.MAESTRO_CSV), None)
        if table is None:
            raise CorpusError(f"{zipped}: holds no {paths.MAESTRO_CSV}; it is not the MAESTRO archive")
        absent = [file.name for piece in _pieces(table.parent) for file in piece.files if not file.is_file()]
        if absent:
            raise CorpusError(
                f"{zipped}: lacks {len(absent)} files that its CSV names, such as {absent[0]}; fetch another"
            )
        os.chmod(table.parent, 0o755)
        if target.exists():
            shutil.copytree(table.parent, target, dirs_exist_ok=True, copy_function=os.replace)
        else:
            os.replace(table.parent, target)
    return target


def _check_members(zipped: Path, members: list[zipfile.ZipInfo]) -> None:
    """CorpusError if a member would be written outside the folder, is a link or device, or if the total is too large."""
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or not _stays_inside(member.orig_filename):
            raise CorpusError(
                f"{zipped}: its member {member.orig_filename!r} would leave the folder; nothing was unpacked"
            )
    total = sum(member.file_size for member in members)
    if total > LARGEST_UNPACKED:
        raise CorpusError(f"{zipped}: would unpack to {total:,} bytes; it is not the MAESTRO archive")


def _stays_inside(name: str) -> bool:
    """True for a relative path without '..', drives, backslashes or NULs."""
    path = PurePosixPath(name)
    clean = bool(name) and "\\" not in name and "\0" not in name
    return clean and not path.is_absolute() and not PureWindowsPath(name).drive and ".." not in path.parts
