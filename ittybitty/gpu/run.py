"""`ittybitty gpu run`: unpacks, checks, times, trains and writes the parcel, each step in a process with its share of the time.

    run("tokens.pack", out, seconds=540)

A step that fails is run again while its share lasts: it continues from its report, a training from its newest checkpoint, and
each attempt runs in a simpler way. A step that takes longer than its share is ended. Both are reported, and the other steps go
on. The time that a step does not use goes to the trainings. If the whole visit is killed, the same call continues it: tokens,
check and race are kept, and trainings resume. SIGTERM and Ctrl-C end the current step; the parcel is then written from what
there is.

Left out: what the steps do (step.py), and what becomes of the parcel (install.py).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .. import checkpoint, paths, systems
from ..errors import CheckpointError, ConfigError, OutputError, TokenizerError
from ..jsonable import dumps
from . import plan, tokens
from .step import read_result, result_file

GRACE = 4.0  # s that a step may take beyond its share, and again to end when it is told to
ATTEMPTS = {"unpack": 2, "check": 3, "race": 3, "train": 3, "home": 2}
LEAST_AGAIN = 8.0  # s that must be left of a share for another attempt: a process needs some of them to start
REHEARSAL = "ittybitty gpu run {tokens} --out {out} --preset nano --seconds 120 --cpu"
BYTES_PER_PARAMETER = 60  # two checkpoints with optimizer state, best weights, parcel


def run(
    pack: str | Path,
    out: str | Path,
    seconds: float,
    preset: str = "small",
    rows: Sequence[str] = plan.ROWS,
    start: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    work: str | Path | None = None,
    cpu: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Spend `seconds` on a GPU, or with `cpu` rehearse without one; {"out", "steps", "rows", "files", "device"}.

    `start` is a parcel, or a run folder, whose weights the trainings start from. ConfigError where there is no card or too little time,
    TokenizerError for tokens of another tokenizer, OutputError for a full disk: before anything is run.
    """
    began = time.monotonic()
    steps = plan.steps(seconds, rows)
    names = check_tokens(pack, rows)
    out = Path(out).expanduser().absolute()
    work = Path(work).expanduser().absolute() if work else out.with_name(f"{out.name}.work")
    if not cpu and not _has_card():
        raise ConfigError(
            f"no CUDA device is here; rehearse on a CPU with: {REHEARSAL.format(tokens=pack, out=out.name)}"
        )
    _make(out, work, rows, preset)
    job = {
        "work": str(work), "out": str(out), "tokens": str(Path(pack).expanduser().absolute()), "rows": list(rows),
        "preset": preset, "settings": dict(settings or {}), "from": _origins(start, rows, work, pack, names),
        "seconds": seconds, **({"greedy": 32, "batches": [4]} if cpu else {}),
    }  # fmt: skip  # arguments in groups
    with _Visit(work, job, began + seconds, cpu, say) as visit:
        for step in steps:
            visit.take(step, steps)
    return visit.summary()


def check_tokens(pack: str | Path, rows: Sequence[str]) -> dict[str, str]:
    """Row -> hash of its tokenizer, of packed tokens; TokenizerError where those of a row are not there."""
    entries, hashes = tokens.listed(pack), {}
    for row in rows:
        name = plan.tokenizer_of(row)
        if name not in entries:
            raise TokenizerError(
                f"{pack}: holds tokens of {', '.join(entries)}, and {row} needs those of {name}; pack them too, or leave {row} out"
            )
        hashes[row] = tokens.index(pack, name)["tokenizer_hash"]
    return hashes


def reports(work: Path) -> dict:
    """What all steps have found so far, by step."""
    found = {name: read_result(work, name) for name in ("visit", "unpack", "check", "race")}
    for file in sorted(work.glob("train-*.json")):
        found[file.stem] = read_result(work, "train", file.stem.removeprefix("train-"))
    return {name: report for name, report in found.items() if report}


def _has_card() -> bool:
    """Whether there is a CUDA device. Another process asks, since CUDA would keep memory of this one for the whole visit."""
    program = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def _make(out: Path, work: Path, rows: Sequence[str], preset: str) -> None:
    """Both folders; OutputError where they cannot be made, or the disk has no room for the checkpoints."""
    try:
        for folder in (out, work):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose a place you may write to") from None
    needed = sum(BYTES_PER_PARAMETER * _parameters(row, preset) for row in rows)
    if (free := shutil.disk_usage(work).free) < needed:
        raise OutputError(
            f"{work}: has {free / 1e6:,.0f} MB free, and checkpoints need {needed / 1e6:,.0f}; free some space, or give another --work"
        )


def _parameters(row: str, preset: str) -> int:
    return systems.parameter_count(row, preset)


def _origins(start, rows: Sequence[str], work: Path, pack: str | Path, hashes: Mapping[str, str]) -> dict[str, str]:
    """Row -> run folder that it starts from. CheckpointError for weights of another tokenizer, ConfigError where no row is of `start`."""
    if start is None:
        return {}
    from . import parcel

    try:
        found = parcel.join(start, work / "from") if not (work / "from").exists() else {}
        found = found or {row: work / "from" / row for row in rows if (work / "from" / row).is_dir()}
    except CheckpointError:
        folder = checkpoint.find(start)
        found = {checkpoint.read_config(folder)["system"]: folder}
    origins = {row: folder for row, folder in found.items() if row in rows}
    if not origins:
        raise ConfigError(f"{start}: holds weights of {', '.join(found)}, and the rows are {', '.join(rows)}")
    for row, folder in origins.items():
        theirs = checkpoint.read_config(folder)["tokenizer_hash"]
        if theirs != hashes[row]:
            raise CheckpointError(
                f"{start}: its {row} was trained with tokenizer {theirs[:12]}, and {pack} holds tokens of {hashes[row][:12]}; "
                "pack tokens of the same tokenizer"
            )
    return {row: str(folder) for row, folder in origins.items()}


class _Visit:
    """Steps that have been run, and the current one."""

    def __init__(self, work: Path, job: dict, end: float, cpu: bool, say: Callable[[str], None]):
        self.work, self.job, self.end, self.cpu, self.say = work, job, end, cpu, say
        self.done: list[dict] = []
        self.child: subprocess.Popen | None = None
        self.stopped = ""

    def __enter__(self) -> _Visit:
        self._before = {n: signal.signal(n, self._stop) for n in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.child is not None and self.child.poll() is None:
            self.child.kill()

    def _stop(self, number: int, frame) -> None:
        self.stopped = signal.Signals(number).name
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)  # a training then saves a checkpoint

    def take(self, step: plan.Step, steps: Sequence[plan.Step]) -> None:
        """Run one step, unless an earlier visit has done it or what it needs is missing."""
        if self.stopped and step.name != "home":
            return
        if step.name in ("check", "race") and read_result(self.work, step.name).get("done"):
            self._report(step, True, 0.0, "kept from before")
            return
        if step.name == "train" and step.row not in read_result(self.work, "unpack"):
            self._report(step, False, 0.0, "its tokens are not there")
            return
        seconds = step.seconds if step.name != "train" else self._share(step, steps)
        began = time.monotonic()
        end, attempt = began + seconds, 0
        while True:
            code, why, late = self._run(step, end, attempt)
            attempt += 1
            again = code != 0 and not late and not self.stopped and attempt < ATTEMPTS[step.name]
            if not again or end - time.monotonic() < LEAST_AGAIN:
                break
            self.say(f"{step.title}: {why}; it is run again")
        if step.name in ("check", "race") and not self.stopped and (found := read_result(self.work, step.name)):
            self._write(step.name, {**found, "done": True})  # what it did not find in its share is not asked for again
        self._report(step, code == 0, time.monotonic() - began, why, attempt)

    def _share(self, step: plan.Step, steps: Sequence[plan.Step]) -> float:
        """Seconds of a training: its part of what is left, so that what others did not use is used."""
        left = self.end - time.monotonic() - sum(one.seconds for one in steps if one.name == "home") - GRACE
        to_come = steps[list(steps).index(step) :]
        return max(1.0, left * step.seconds / sum(one.seconds for one in to_come if one.name == "train"))

    def _run(self, step: plan.Step, end: float, attempt: int) -> tuple[int, str, bool]:
        """Exit code, the last line of what it printed where it failed, and whether it was ended because its share was spent."""
        file, log = (self.work / f"{step.title.replace(' ', '-')}.{kind}" for kind in ("job", "log"))
        seconds, now = end - time.monotonic(), time.time()
        times = {"began": now, "end": now + seconds}  # of the wall clock, which all processes share
        file.write_text(dumps({**self.job, **times, "row": step.row, "attempt": attempt}), encoding="utf-8")
        self.say(f"{step.title}: {seconds:.0f} s")
        command = [sys.executable, "-m", f"{__package__}.step", step.name, str(file)]
        with open(log, "ab") as output:
            self.child = subprocess.Popen(command, stdout=output, stderr=output, env=self._environment())
            try:
                code = self.child.wait(max(0.0, seconds) + GRACE)
            except subprocess.TimeoutExpired:
                return self._end(), "took longer than its share, and was ended", True
        return code, "" if code == 0 else _last_line(log) or f"ended with {code}", False

    def _end(self) -> int:
        """Tell the step to end, and end it."""
        assert self.child is not None
        self.child.terminate()
        try:
            return self.child.wait(GRACE) or 1
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()

    def _environment(self) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[2])
        found = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
        # what one step compiles, the next ones find; the machine's own caches may not be writable
        caches = {
            name: str(self.work / "cache" / name.lower()) for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
        }
        found = {**caches, **found}
        return {**found, "CUDA_VISIBLE_DEVICES": ""} if self.cpu else found

    def _report(self, step: plan.Step, ok: bool, seconds: float, why: str, attempts: int = 1) -> None:
        entry = {"step": step.title, "ok": ok, "seconds": round(seconds, 1), **({"why": why} if why else {})}
        self.done.append({**entry, **({"attempts": attempts} if attempts > 1 else {})})
        if not ok or why:
            self.say(f"{step.title}: {why}")
        self._write("visit", {"preset": self.job["preset"], "steps": self.done})

    def _write(self, name: str, report: dict) -> None:
        with paths.atomic_path(result_file(self.work, name)) as temporary:
            temporary.write_text(dumps(report), encoding="utf-8")

    def _brought_home(self) -> dict:
        """The contents of the parcel: of the last step, or where that was ended, the parcel that a training wrote before."""
        from . import parcel

        if self.done and self.done[-1]["ok"] and (found := read_result(self.work, "home")):
            return found
        try:
            return parcel.contents(self.job["out"])
        except CheckpointError:
            return {}

    def summary(self) -> dict:
        """What `run` returns. OutputError where no parcel could be written."""
        home, check = self._brought_home(), read_result(self.work, "check")
        failed = [one for one in self.done if not one["ok"]]
        if not home:
            raise OutputError(
                f"{self.job['out']}: no result was written; {failed[0]['step']}: {failed[0].get('why', '')} (more in {self.work})"
                if failed
                else f"{self.job['out']}: no result was written"
            )
        trained = {row: read_result(self.work, "train", row) for row in self.job["rows"]}
        return {
            "out": self.job["out"], "device": check.get("device"), "off": check.get("off", []), "steps": self.done,
            "rows": {row: {k: r.get(k) for k in ("steps", "tokens", "epoch", "micro_batch", "bits_per_note")} for row, r in trained.items() if r},
            "files": home.get("files", {}), "left_out": home.get("left_out", []), "stopped": self.stopped,
        }  # fmt: skip  # fields in groups


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
