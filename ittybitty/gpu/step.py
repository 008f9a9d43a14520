"""One step of a visit in a process of its own: ``python -m ittybitty.gpu.step NAME JOB.json``.

The job names the work and its time. The result is a JSON file in the same folder, written again after every figure, so that
nothing is lost when this process is ended. What a step prints goes to its log. Exit code 0, or 2 with one line on stderr.

Left out: the order of the steps and the time each one gets (run.py).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .. import paths
from ..errors import IttyBittyError
from ..jsonable import dumps


def result_file(work: Path, name: str, row: str = "") -> Path:
    """Where a step leaves what it found."""
    return work / f"{name}{'-' + row if row else ''}.json"


def read_result(work: Path, name: str, row: str = "") -> dict:
    """What a step found; {} where it found nothing, or was ended while it wrote."""
    try:
        read = json.loads(result_file(work, name, row).read_text(encoding="utf-8"))
        return read if isinstance(read, dict) else {}
    except (OSError, ValueError):
        return {}


def _keep(work: Path, name: str, row: str = "") -> Callable[[dict], None]:
    def keep(report: dict) -> None:
        with paths.atomic_path(result_file(work, name, row)) as temporary:
            temporary.write_text(dumps(report), encoding="utf-8")

    return keep


def unpack(job: dict, end: float) -> dict:
    """Packed tokens -> token folders."""
    from . import tokens
    from .plan import tokenizer_of

    work, found = Path(job["work"]), {}
    for row in job["rows"]:
        store = tokens.unpack(job["tokens"], tokenizer_of(row), work / "tokens")
        notes, ids = sum(p.notes for p in store.pieces), sum(p.length for p in store.pieces)
        found[row] = {"folder": str(store.path), "pieces": len(store), "ids": ids, "notes_per_token": notes / ids}
        _keep(work, "unpack")(found)
    return found


def check(job: dict, end: float) -> dict:
    """Compares every path of the device with a reference."""
    from .check import check as run

    work = Path(job["work"])
    before = read_result(work, "check") if job["attempt"] else {}
    return run(job["rows"], _device(), end - time.monotonic(), job.get("greedy", 256), _keep(work, "check"), before)


def race(job: dict, end: float) -> dict:
    """The fastest way to run a training step of each row."""
    from . import race as racing
    from .plan import configs, shares

    work, device, rows = Path(job["work"]), _device(), job["rows"]
    off, unpacked = _switched_off(work), read_result(work, "unpack")
    before = read_result(work, "race") if job["attempt"] else {}
    report: dict = {"rows": {}, **before, "done": False}
    keep, races = _keep(work, "race"), {}
    report.setdefault("floors", racing.floors(device))
    for row in rows:

        def kept(found: dict, row: str = row) -> None:
            report["rows"][row] = found
            keep(report)

        races[row] = racing.Race(
            row, configs(row, job["preset"], bool(job["from"]), job["settings"]), device, off,
            unpacked.get(row, {}).get("notes_per_token", 0.0), kept, shares(job["seconds"], rows)[row], report["rows"].get(row),
        )  # fmt: skip  # arguments in groups
    # what surely works comes first in all rows; compiling may take longer than there is time
    for place, one in enumerate(races.values()):
        one.batches(job.get("batches", racing.BATCHES), _part(end, len(rows) - place, 0.7))
    for place, one in enumerate(races.values()):
        one.modes(("graph",), _part(end, len(rows) - place))
    for one in races.values():
        if one.report["fastest"]:
            _beside_paper(one, report["floors"])
            one.keep(one.report)
    for one in races.values():
        one.modes(("compile",), end)
    return {**report, "done": True}


def _switched_off(work: Path) -> list[str]:
    """The scan paths that failed in the check; convolution paths that did are kept from running in this process."""
    from ..models import conv

    found = read_result(work, "check")
    if found.get("off_convolution"):
        os.environ[conv.VARIABLE] = "plain"
    return found.get("off", [])


def _part(end: float, parts: int, of: float = 1.0) -> float:
    """When the first of so many equal parts of the time (or of a part of it) until `end` is over."""
    now = time.monotonic()
    return now + (end - now) * of / parts


def _beside_paper(race, measured: dict) -> None:
    """Add the time of one scan, the least time of its memory traffic, and the estimated rates."""
    from . import floors
    from . import race as racing

    report, configs = race.report, race.configs
    path, batch = report["fastest"]["path"], report["fastest"]["batch"]
    report["paper"] = {
        key: floors.expected(configs, batch, card)["tokens_per_second"] for key, card in floors.CARDS.items()
    }
    report["scan"] = racing.scan_rate(path, configs, batch, race.device)
    least = floors.scan(
        1, floors.steps_of_backbone(configs, batch), 2 * configs["model"].d_model, configs["model"].d_state
    ).least
    report["scan"]["least_ms"] = 1e3 * least / measured["copied_bytes_per_second"]


def train(job: dict, end: float) -> dict:
    """One row until its share is spent, with a parcel after each checkpoint."""
    from ..tokenizers.store import TokenStore
    from .plan import configs
    from .training import learn

    work, row = Path(job["work"]), job["row"]
    _switched_off(work)
    own = configs(row, job["preset"], bool(job["from"].get(row)), job["settings"])
    store = TokenStore.open(read_result(work, "unpack")[row]["folder"])
    fastest = read_result(work, "race").get("rows", {}).get(row, {}).get("fastest")
    return learn(
        row, own, store, work / "runs" / row, end, fastest, job["from"].get(row), job["preset"],
        saved=lambda: _bring_home(job), say=lambda line: print(line, file=sys.stderr, flush=True),
        attempt=job["attempt"], started=time.time() - job["began"],
    )  # fmt: skip  # arguments in groups


def home(job: dict, end: float) -> dict:
    """The parcel once more, with all reports."""
    return _bring_home(job)


def _bring_home(job: dict) -> dict:
    from . import parcel
    from .run import reports

    work = Path(job["work"])
    runs = {row: work / "runs" / row for row in job["rows"]}
    return parcel.write(runs, reports(work), job["out"], work)


def _device():
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


STEPS = {"unpack": unpack, "check": check, "race": race, "train": train, "home": home}


def main(arguments: list[str]) -> int:
    """Run one step; the exit code."""
    name, file = arguments
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    end = time.monotonic() + job["end"] - time.time()
    try:
        report = STEPS[name](job, end)
    except IttyBittyError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    _keep(Path(job["work"]), name, job.get("row", ""))(report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
