"""Measures which way of running a training step is the fastest on this device, in tokens and notes per second.

    path        of the selective scan: those that check.py did not switch off
    precision   half, and float32
    batch       windows of a micro-batch, doubled until memory is full or nothing is gained
    mode        eager, compile, graph (modes.py)

One setting is changed at a time, the most promising first, until the time is up. Every figure is kept as soon as it is known. If
a way ends the process, the next attempt skips it. A way is refused if its loss differs from that of the first one. The report
also holds the card's measured speed of copying and of matrix products, and the estimated time (floors.py).

Left out: data loading, which the training overlaps with the steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from .. import systems
from ..config import override
from ..models.scan import forced_path
from ..train.optimizer import Autocast, optimizer, precision
from . import modes
from .check import FAILURES, available, half_type, music, usable
from .floors import IDS_PER_EVENT

BATCHES = (4, 8, 16, 32, 64)
TIMED = 4  # steps of each figure, after two that warm up
ALIKE = 0.03  # losses of two ways may differ by this part: precision and order of sums
GAIN = 1.05  # a batch twice as large has to be this much faster


@dataclass(frozen=True)
class Way:
    """One way to run a training step."""

    path: str
    precision: str
    batch: int
    mode: str = "eager"


class Race:
    """The ways of one row that were measured, and those that failed: `report` is what JSON gets.

    `training` is the time that the training of the row will have, s: a mode that takes long to compile is worth it only there.
    """

    def __init__(
        self,
        row: str,
        configs: Mapping,
        device: torch.device,
        off: Sequence[str] = (),
        notes_per_token: float = 0.0,
        keep: Callable[[dict], None] = lambda report: None,
        training: float = math.inf,
        before: Mapping | None = None,
    ):
        self.configs, self.device, self.keep = configs, device, keep
        self.notes_per_token, self.training = notes_per_token, training
        # without a path that passed, plain PyTorch is the one that is trusted
        self.paths = [path for path in available(device) if path not in off] or ["chunked"]
        self.half = str(half_type(device)).removeprefix("torch.") if device.type == "cuda" else "float32"
        self.report: dict = {"row": row, "ways": [], "failed": [], "fastest": None, "trying": None}
        self.report.update(before or {})
        if self.report["trying"]:  # the attempt before did not live to say how it ended
            self.report["failed"].append({**self.report["trying"], "why": "ended the process"})
            self.report["trying"] = None
        self.best = Way(self.paths[0], self.half, 0)

    def batches(self, sizes: Sequence[int], end: float) -> None:
        """Batches from the smallest on, as long as a larger one gains, each path at the best, and float32."""
        rate = 0.0
        for batch in sizes:
            now = self.measured(way := replace(self.best, batch=batch), end)
            if now < GAIN * rate:
                break
            if now:
                self.best, rate = way, now
        self.best = replace(self.best, batch=self.best.batch or sizes[0])
        for path in self.paths[1:]:
            self.measured(replace(self.best, path=path), end)
        if self.half != "float32":
            self.measured(replace(self.best, precision="float32"), end)

    def modes(self, names: Sequence[str], end: float) -> None:
        """The fastest way yet, in other modes."""
        found = self.report["fastest"]
        if found and self.device.type == "cuda":
            best = Way(found["path"], found["precision"], found["batch"])
            for mode in names:
                self.measured(replace(best, mode=mode), end)

    def measured(self, way: Way, end: float) -> float:
        """Tokens a second; 0 for a way that failed, or that no time is left for."""
        report, name = self.report, asdict(way)
        if (known := _known(report["ways"], name)) is not None:
            return known["tokens_per_second"]
        if time.monotonic() > end or _known(report["failed"], name) is not None:
            return 0.0
        report["trying"] = name
        self.keep(report)
        why, found = "", {}
        try:
            found = measure(self.configs, way, self.device)
            first = report["ways"][0]["loss"] if report["ways"] else found["loss"]
            if not abs(found["loss"] - first) <= ALIKE * abs(first):  # nor where it is not a number
                why = f"loss {found['loss']:.4f}, not {first:.4f}"
        except FAILURES as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        report["trying"] = None
        if why:
            report["failed"].append({**name, "why": why})
        else:
            notes = found["tokens_per_second"] * self.notes_per_token
            report["ways"].append({**name, **found, "notes_per_second": notes})
            report["fastest"] = max(report["ways"], key=self.worth)
        self.keep(report)
        if not usable(self.device):
            raise RuntimeError(f"{name} leaves the device unusable: {why}")
        return found.get("tokens_per_second", 0.0) if not why else 0.0

    def worth(self, way: Mapping) -> float:
        """Tokens a second over the whole training, what it takes to compile included."""
        late = min(1.0, way.get("start_s", 0.0) / self.training)
        return way["tokens_per_second"] * (1 - late)


def _known(entries: Sequence[Mapping], name: Mapping) -> Mapping | None:
    """The entry of this way."""
    return next((entry for entry in entries if all(entry.get(key) == value for key, value in name.items())), None)


def measure(configs: Mapping, way: Way, device: torch.device) -> dict:
    """{"tokens_per_second", "ms", "peak_mb", "loss", "start_s"} of one way; RuntimeError where memory ends."""
    changed = override(configs, {"train.precision": way.precision, "train.batch_size": way.batch})
    torch.manual_seed(0)
    model, context = systems.build_model(changed).to(device), changed["data"].context
    ids = music(model, context + 1, way.batch).to(device)
    dtype = precision(way.precision, device)
    steps = -(-context // IDS_PER_EVENT) if changed["model"].events else context
    rule, run = optimizer(model, changed["train"], dtype), Autocast(model, device.type, dtype)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began = time.monotonic()
    with forced_path(way.path):
        modes.apply(model, way.mode, way.batch, steps, dtype)
        model.train()

        def step() -> torch.Tensor:
            loss = run(ids[:, :-1], ids[:, 1:])[0].sum() / (way.batch * context)
            scaler.scale(loss).backward()
            scaler.unscale_(rule)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(rule)
            scaler.update()
            rule.zero_grad(set_to_none=True)
            return loss.detach()

        loss = float(step())
        start = time.monotonic() - began
        step()
        times = timed(step, device, TIMED if device.type == "cuda" else 1)
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    return {
        "tokens_per_second": way.batch * context / times, "ms": 1e3 * times, "peak_mb": peak, "loss": loss,
        "start_s": start,
    }  # fmt: skip  # fields in groups


def timed(function: Callable[[], object], device: torch.device, turns: int) -> float:
    """Seconds of one call, on average over `turns` of them that follow each other."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(turns):
        function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / turns


def floors(device: torch.device) -> dict:
    """{"copied_bytes_per_second", "product_operations_per_second", "type"}: what the device does at best."""
    large = device.type == "cuda"
    dtype = half_type(device) if large else torch.float32
    source = torch.ones(2**28 if large else 2**24, dtype=torch.uint8, device=device)
    target, size = torch.empty_like(source), 8192 if large else 512
    a = torch.randn(size, size, device=device).to(dtype)
    fastest = {}
    for name, function in (("copy", lambda: target.copy_(source)), ("product", lambda: a @ a)):
        function()
        fastest[name] = min(timed(function, device, 4) for _ in range(3))
    return {
        "copied_bytes_per_second": 2 * source.nbytes / fastest["copy"],
        "product_operations_per_second": 2 * size**3 / fastest["product"],
        "type": str(dtype).removeprefix("torch."),
    }


def scan_rate(path: str, configs: Mapping, batch: int, device: torch.device) -> dict:
    """{"forward_ms", "both_ms"} of one layer's scan at the size of a training step, as a Mamba block calls it."""
    from ..models.scan import selective_scan

    model, L = configs["model"], configs["data"].context // (IDS_PER_EVENT if configs["model"].events else 1)
    E, N, g = model.expand * model.d_model, model.d_state, torch.Generator().manual_seed(0)
    kind = half_type(device) if device.type == "cuda" else torch.float32
    u, z, delta = (torch.randn(batch, L, E, generator=g).to(device, kind).requires_grad_() for _ in range(3))
    B, C = (torch.randn(batch, L, N, generator=g).to(device, kind).requires_grad_() for _ in range(2))
    A, D = -torch.arange(1.0, N + 1, device=device).repeat(E, 1), torch.ones(E, device=device)
    upstream = torch.ones(batch, L, E, device=device, dtype=kind)

    def both() -> None:
        y = selective_scan(u, delta, A, B, C, D, None, z, path, softplus=True)[0]
        torch.autograd.grad(y, [u, z, delta, B, C], upstream)

    def forward() -> None:
        with torch.no_grad():
            selective_scan(u, delta, A, B, C, D, None, z, path, softplus=True)

    result = {}
    for name, function in (("forward_ms", forward), ("both_ms", both)):
        function()
        result[name] = 1e3 * timed(function, device, 3 if device.type == "cuda" else 1)
    return result
