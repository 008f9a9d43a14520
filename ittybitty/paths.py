"""Finds folders: data, cache, trained weights, run folders and Kaggle's mounts. Also writes files and folders atomically.

Nothing is created or searched at import. If a folder is given (argument, else $ITTYBITTY_DATA), only that folder is
searched; without one, Kaggle's mounts and then the cache are searched.

Left out: what is inside the folders; see corpora, checkpoint and tokenizers.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

DATA_VARIABLE = "ITTYBITTY_DATA"  # folder that holds maestro-v3.0.0/, asap/ or MIDI files
CACHE_VARIABLE = "ITTYBITTY_CACHE"
KAGGLE_VARIABLE = "ITTYBITTY_KAGGLE_ROOT"  # replaces /kaggle, for tests
MAESTRO_CSV = "maestro-v3.0.0.csv"
ASAP_CSV = "metadata.csv"
MOUNT_DEPTH = 6  # /kaggle/input/datasets/<owner>/<slug>/<folder>/maestro-v3.0.0 is 5 below input


def repository_root() -> Path | None:
    """The clone that contains this package or the current folder; None for a plain install."""
    for folder in (Path(__file__).resolve().parents[1], Path.cwd(), *Path.cwd().parents):
        if (folder / "pyproject.toml").is_file() and (folder / "ittybitty" / "paths.py").is_file():
            return folder
    return None


def cache_dir() -> Path:
    """$ITTYBITTY_CACHE, else $XDG_CACHE_HOME/ittybitty, else ~/.cache/ittybitty; it may not exist yet."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ittybitty"


def kaggle_root() -> Path:
    """/kaggle, or the folder that $ITTYBITTY_KAGGLE_ROOT names."""
    return Path(os.environ.get(KAGGLE_VARIABLE) or "/kaggle")


def kaggle_input() -> Path:
    """The folder in which Kaggle mounts data sets, read only."""
    return kaggle_root() / "input"


def kaggle_working() -> Path:
    """The folder whose content Kaggle keeps as a notebook's output."""
    return kaggle_root() / "working"


def on_kaggle() -> bool:
    """True in a Kaggle notebook or script."""
    return bool(os.environ.get("KAGGLE_KERNEL_RUN_TYPE")) or kaggle_working().is_dir()


def data_dir(data: str | Path | None = None) -> Path | None:
    """The folder that the user named (argument, else $ITTYBITTY_DATA); None if neither is given."""
    chosen = data or os.environ.get(DATA_VARIABLE)
    return Path(chosen).expanduser() if chosen else None


def find_maestro(data: str | Path | None = None) -> Path | None:
    """The folder that holds maestro-v3.0.0.csv, or None."""
    return _find(data, "maestro-v3.0.0", lambda folder: (folder / MAESTRO_CSV).is_file())


def find_asap(data: str | Path | None = None) -> Path | None:
    """The folder that holds ASAP's metadata.csv, or None."""
    return _find(data, "asap", _holds_asap)


def _holds_asap(folder: Path) -> bool:
    try:
        with open(folder / ASAP_CSV, encoding="utf-8") as file:
            return "performance_annotations" in file.readline()
    except (OSError, UnicodeDecodeError):
        return False


def _find(data: str | Path | None, name: str, holds) -> Path | None:
    chosen = data_dir(data)
    if chosen is not None:
        candidates = [chosen, chosen / name, chosen / f"{name}-dataset", chosen / name / name]
    else:
        candidates = [*_folders(kaggle_input(), MOUNT_DEPTH), cache_dir() / name]
    return next((folder for folder in candidates if holds(folder)), None)


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders below it, level by level, so that a folder near the root is found fast."""
    level = [root] if root.is_dir() else []
    for _ in range(depth + 1):
        yield from level
        below = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    below += sorted(Path(e.path) for e in entries if e.is_dir())
            except OSError:  # skip a mount that may not be listed
                continue
        level = below


def pretrained_dir() -> Path:
    """The folder of the trained weights that ship with the package, one folder per model inside."""
    return Path(__file__).resolve().parent / "pretrained"


def fetched_dir() -> Path:
    """Models that `ittybitty fetch` installed, one folder a model; it may not exist yet."""
    return cache_dir() / "models"


def run_dirs() -> list[Path]:
    """Run folders (those with a config.json) below ./runs, the clone's runs/ and Kaggle's working folder, each once."""
    root = repository_root()
    parents = [Path.cwd() / "runs", root / "runs" if root else None, kaggle_working(), kaggle_working() / "runs"]
    found: dict[Path, Path] = {}
    for parent in filter(None, parents):
        for config in sorted(parent.glob("*/config.json")):
            found.setdefault(config.parent.resolve(), config.parent)
    return list(found.values())


def attached_runs() -> list[Path]:
    """Run folders on Kaggle's mounts: the output of another notebook or of a previous version, or weights as a data set."""
    return [
        folder
        for folder in _folders(kaggle_input(), MOUNT_DEPTH)
        if (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()
    ]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields an empty temporary file beside `path`, with its suffix; renames it to `path` on success, removes it on error.

    OutputError if `path` is a folder or a device, if its folder is missing or write-protected, or if the
    disk is full. A symbolic link is followed: its target is replaced and the link stays.
    """
    shown, path = Path(path), Path(path).expanduser()
    path = path.resolve()
    if path.is_dir():
        raise OutputError(f"{shown}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{shown}: is not a regular file; give another name")
    if path.parent.exists() and not path.parent.is_dir():
        raise OutputError(f"{shown}: {shown.parent} is a file, not a folder; write elsewhere")
    if not path.parent.is_dir():
        raise OutputError(f"{shown}: the folder {shown.parent} does not exist; make it, or write elsewhere")
    temporary = path.with_name(f".{path.stem[:100]}-{secrets.token_hex(4)}{path.suffix}")
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file is write-protected")
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _unwritable(shown, error) from None
    try:
        yield temporary
        os.replace(temporary, path)
    except OutputError as error:  # of a writer that was given the temporary name
        raise OutputError(str(error).replace(str(temporary), str(shown))) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise _unwritable(shown, error) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    path: str | Path, replace: bool = False, hint: str = "choose a place you may write to"
) -> Iterator[Path]:
    """Yields an empty temporary folder beside `path`; renames it to `path` on success, removes it on error.

    Missing parents are made. With `replace` a folder of that name is replaced together with its content, and restored if
    the new one cannot be renamed; without, a folder that is not empty is refused. OutputError, which ends with `hint`, for
    any OSError, also one that is raised while the caller writes.
    """
    shown, path = Path(path), Path(path).expanduser().resolve()
    temporary = path.with_name(f".{path.name[:100]}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if replace and path.exists():
            _replace_folder(temporary, path)
        else:
            os.rename(temporary, path)
    except OSError as error:
        raise OutputError(f"{shown}: cannot be written ({error.strerror or error}); {hint}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`. A folder cannot be renamed onto a full one, so the old one is first renamed, then removed."""
    old = path.with_name(f"{new.name}-old")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); choose a place you may write to")
