"""Installs the result of `ittybitty gpu run` (the parcel): run folders, figures on held-out pieces, model card, installed model.

    install("out", data="~/music", name="small")

Evaluates on this machine, as `ittybitty evaluate` does, so that the figures of a card are those of the float16 weights that
it is about. A model above 60 MB is not put into the package: it stays where it was exported.

Left out: uploading it anywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from .. import paths
from ..errors import ConfigError, OutputError
from ..evaluation.bits import evaluate
from ..evaluation.results import record
from ..export import export
from . import parcel

MOST_BYTES = 60_000_000  # of a model among those that ship with the package


def install(
    place: str | Path,
    data: str | Path | None = None,
    split: str = "validation",
    limit: int | None = None,
    into: str | Path | None = None,
    runs: str | Path | None = None,
    only: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict]:
    """A row for each model of the parcel: {"row", "run", "out", "bits_per_note", "bytes", "visit"}.

    Joined run folders come below `runs` (beside the parcel), models below `into` (the package's own), each called by its
    preset and row; `only` takes one row. CheckpointError for a parcel that is not whole, OutputError for a place that is taken.
    """
    place = Path(place).expanduser()
    listed, _ = parcel.read(place)
    if only is not None and only not in listed["rows"]:
        raise ConfigError(f"{place}: holds {', '.join(listed['rows'])}, not {only}; name one of those")
    preset = listed["reports"].get("visit", {}).get("preset", "gpu")
    into = Path(into).expanduser() if into else paths.pretrained_dir()
    runs = Path(runs).expanduser() if runs else place / "runs"
    for row in listed["rows"]:
        if (into / f"{preset}-{row}").exists() and (only in (None, row)):
            raise OutputError(f"{into / f'{preset}-{row}'}: is there already; give another --into, or delete it")
    folders = {row: runs / row for row in listed["rows"]}
    if not all(folder.is_dir() for folder in folders.values()):
        folders = parcel.join(place, runs)
    made = []
    for row, run in folders.items():
        if only not in (None, row):
            continue
        say(f"{row}: evaluating on {limit or 'all'} pieces of the {split} split")
        results = record(evaluate(run, data, split, limit, progress=False), run / "results.json")
        out = run.with_name(f"{run.name}.export")
        shutil.rmtree(out, ignore_errors=True)
        written = export(run, out, results)
        size = sum(written["files"].values())
        if size <= MOST_BYTES:
            out = _put(out, into / f"{preset}-{row}")
        else:
            say(f"{row}: {size / 1e6:.0f} MB are too much to ship with the package; it is left in {out}")
        made.append(
            {
                "row": row, "run": str(run), "out": str(out), "bits_per_note": results["bits_per_note"], "bytes": size,
                "visit": listed["reports"].get(f"train-{row}", {}),
            }
        )  # fmt: skip  # fields in groups
    return made


def _put(folder: Path, place: Path) -> Path:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, place)
    except OSError as error:
        raise OutputError(
            f"{place}: cannot be written ({error.strerror or error}); give another --into, the model is in {folder}"
        ) from None
    return place
