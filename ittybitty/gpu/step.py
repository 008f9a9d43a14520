"""One step of a visit in a process of its own: ``python -m ittybitty.gpu.step NAME JOB.json``.

The job says what and for how long; the result is a JSON file beside it, written anew after every figure, so that whoever ends
this process keeps what it has found. What a step prints goes to its log. Exit code 0, or 2 with one line on stderr.

Left out: the order of the steps and the time each one gets (run.py).
"""

from __future__ import annotations

import json
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
    """Every path of the device against the truth."""
    from .check import check as run

    return run(job["rows"], _device(), end - time.monotonic(), job.get("greedy", 256))


def race(job: dict, end: float) -> dict:
    """The fastest way to run a training step of each row."""
    from . import floors as paper
    from . import race as racing
    from .plan import configs

    work, device = Path(job["work"]), _device()
    off, unpacked = read_result(work, "check").get("off", ()), read_result(work, "unpack")
    report: dict = {"floors": racing.floors(device), "rows": {}}
    keep = _keep(work, "race")
    for place, row in enumerate(job["rows"]):
        own = configs(row, job["preset"], bool(job["from"]), job["settings"])
        share = (end - time.monotonic()) / (len(job["rows"]) - place)
        notes = unpacked.get(row, {}).get("notes_per_token", 0.0)

        def kept(found: dict, row: str = row) -> None:
            report["rows"][row] = found
            keep(report)

        found = racing.race(row, own, device, share, off, notes, kept, job.get("batches", racing.BATCHES))
        if found["fastest"]:
            found["paper"] = {
                key: paper.expected(own, found["fastest"]["batch"], card)["tokens_per_second"]
                for key, card in paper.CARDS.items()
            }
            path, batch = found["fastest"]["path"], found["fastest"]["batch"]
            found["scan"] = racing.scan_rate(path, own, batch, device)
            least = paper.scan(
                1, paper.steps_of_backbone(own, batch), 2 * own["model"].d_model, own["model"].d_state
            ).least
            found["scan"]["least_ms"] = 1e3 * least / report["floors"]["copied_bytes_per_second"]
        kept(found)
    return report


def train(job: dict, end: float) -> dict:
    """One row until its share is spent, with a parcel after each checkpoint."""
    from ..tokenizers.store import TokenStore
    from .plan import configs
    from .training import learn

    work, row = Path(job["work"]), job["row"]
    own = configs(row, job["preset"], bool(job["from"].get(row)), job["settings"])
    store = TokenStore.open(read_result(work, "unpack")[row]["folder"])
    fastest = read_result(work, "race").get("rows", {}).get(row, {}).get("fastest")
    return learn(
        row, own, store, work / "runs" / row, end, fastest, job["from"].get(row), job["preset"],
        saved=lambda: _bring_home(job), say=lambda line: print(line, file=sys.stderr, flush=True),
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
    end = time.monotonic() + job["seconds"]
    try:
        report = STEPS[name](job, end)
    except IttyBittyError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    _keep(Path(job["work"]), name, job.get("row", ""))(report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
