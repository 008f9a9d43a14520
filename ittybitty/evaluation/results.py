"""Results files: JSON records of what was measured, each with its provenance (date, commit, device, versions).

    record(evaluate("tiny", data), "paper/results/tiny.json")
    read_records("paper/results", "bits_per_note")

Left out: what is measured; that is what the other modules of this folder do.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .. import checkpoint, devices
from ..corpora import Corpus
from ..errors import ResultError
from ..jsonable import dumps
from ..paths import atomic_path, repository_root


def header(found: checkpoint.Loaded, corpus: Corpus, split: str) -> dict:
    """The fields that every record of a model begins with: model, tokenizer, data, and the device that computed."""
    return {
        "split": split,
        "corpus": corpus.name,
        "system": found.system,
        "model": found.path.name,
        "parameters": sum(p.numel() for p in found.model.parameters()),
        "weights_hash": checkpoint.weights_hash(found.model),
        "keeps": list(found.tokenizer.keeps),
        "tokenizer_hash": found.tokenizer.content_hash,
        "ran_on": devices.ran_on(found.model),
    }


def data_hash(rows: Iterable[Mapping]) -> str:
    """Hash of the pieces' names and note counts. Two results with the same hash were measured on the same music."""
    text = json.dumps(sorted([row["name"], int(row["notes"])] for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record(results: Mapping, path: str | Path) -> dict:
    """Write results with their provenance (date, commit, device, versions) as JSON, atomically. Returns what was written."""
    written = {**results, "provenance": provenance(results.get("ran_on"))}
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(dumps(written, indent=1) + "\n", encoding="utf-8")
    return written


def read_records(folder: str | Path, key: str) -> list[dict]:
    """All results in `folder` that have `key` ("bits_per_note", "bins", "mgeval", "longest" …), sorted, each with its file's "name".

    A folder that does not exist has no results. ResultError for a file that cannot be read.
    """
    found = []
    for path in sorted(Path(folder).glob("[!.]*.json")):  # a file that is being written begins with a dot
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ResultError(f"{path}: cannot be read ({error}); record it again") from None
        if isinstance(result, dict) and key in result:
            found.append({**result, "name": path.stem})
    return found


def provenance(ran_on: Mapping | None = None) -> dict:
    """Where and with what a figure was measured: on the CPU, unless `ran_on` (devices.ran_on) says otherwise."""
    import torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        **(ran_on or {"device": devices.title(torch.device("cpu")), "threads": torch.get_num_threads()}),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _commit() -> str:
    """The clone's commit, with "+" where files differ from it or the package holds files that git does not know; the
    package's version for a plain install."""
    root = repository_root()
    if root is not None:
        try:
            git = ["git", "-C", str(root)]
            head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=20)
            changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=60).returncode
            others = ["ls-files", "--others", "--exclude-standard", "--", "ittybitty"]
            unknown = subprocess.run([*git, *others], capture_output=True, check=True, timeout=60).stdout
            return head.stdout.strip() + "+" * bool(changed or unknown)
        except (OSError, subprocess.SubprocessError):
            pass
    try:
        return f"version {version('ittybitty')}"
    except PackageNotFoundError:
        return "unknown"
