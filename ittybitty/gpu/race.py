"""Which way of running a training step is the fastest on this device? Tokens and notes a second of each, beside floors.

    path        of the selective scan: those that check.py did not switch off
    precision   half, and float32
    batch       windows of a micro-batch, doubled until memory ends or nothing is gained
    mode        eager, compile, graph (modes.py)

One thing is changed at a time, from the likeliest on, until the time is up; every figure is kept as soon as it is there. A way
whose loss is not that of the first one is refused. Beside them stand what the card copies and multiplies at best, and the
time on paper (floors.py).

Left out: data loading, which the training overlaps with the steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from .. import systems
from ..config import override
from ..errors import IttyBittyError
from ..models.scan import forced_path
from ..train.optimizer import Autocast, optimizer, precision
from . import modes
from .check import available, half_type, music
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


def race(
    row: str,
    configs: Mapping,
    device: torch.device,
    seconds: float,
    off: Sequence[str] = (),
    notes_per_token: float = 0.0,
    keep: Callable[[dict], None] = lambda report: None,
    batches: Sequence[int] = BATCHES,
) -> dict:
    """{"ways", "fastest", "failed"} of a row; `keep` gets the report after every figure."""
    end = time.monotonic() + seconds
    paths = [path for path in available(device) if path not in off] or ["sequential"]
    half = str(half_type(device)).removeprefix("torch.") if device.type == "cuda" else "float32"
    report: dict = {"row": row, "ways": [], "failed": [], "fastest": None}
    truth: list[float] = []

    def measured(way: Way) -> float:
        """Tokens a second; 0 for a way that failed, or that no time was left for."""
        if time.monotonic() > end:
            return 0.0
        try:
            found = measure(configs, way, device)
        except (IttyBittyError, RuntimeError, ImportError, NotImplementedError, AttributeError, TypeError) as error:
            report["failed"].append(
                {**asdict(way), "why": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            )
            keep(report)
            return 0.0
        truth.append(found["loss"])
        if abs(found["loss"] - truth[0]) > ALIKE * abs(truth[0]):
            report["failed"].append({**asdict(way), "why": f"loss {found['loss']:.4f}, not {truth[0]:.4f}"})
            truth.pop()
        else:
            report["ways"].append(
                {**asdict(way), **found, "notes_per_second": found["tokens_per_second"] * notes_per_token}
            )
            report["fastest"] = max(report["ways"], key=lambda one: one["tokens_per_second"])
        keep(report)
        return found["tokens_per_second"]

    best, rate = Way(paths[0], half, batches[0]), 0.0
    for batch in batches:
        now = measured(way := replace(best, batch=batch))
        if now < GAIN * rate:
            break
        best, rate = way, now
    for mode in modes.MODES[1:] if device.type == "cuda" else ():
        measured(replace(best, mode=mode))
    for path in paths[1:]:
        measured(replace(best, path=path))
    if half != "float32":
        measured(replace(best, precision="float32"))
    return report


def measure(configs: Mapping, way: Way, device: torch.device) -> dict:
    """{"tokens_per_second", "ms", "peak_mb", "loss"} of one way; RuntimeError where memory ends."""
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
        step()
        times = timed(step, device, TIMED if device.type == "cuda" else 1)
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    return {"tokens_per_second": way.batch * context / times, "ms": 1e3 * times, "peak_mb": peak, "loss": loss}


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
    """{"forward_ms", "both_ms"} of one layer's scan at the size of a training step, in float32."""
    from ..models.scan import selective_scan

    model, L = configs["model"], configs["data"].context // (IDS_PER_EVENT if configs["model"].events else 1)
    E, N, g = model.expand * model.d_model, model.d_state, torch.Generator().manual_seed(0)
    u, z = (torch.randn(batch, L, E, generator=g).to(device).requires_grad_() for _ in range(2))
    delta = torch.full((batch, L, E), 0.01, device=device, requires_grad=True)
    B, C = (torch.randn(batch, L, N, generator=g).to(device).requires_grad_() for _ in range(2))
    A, D = -torch.arange(1.0, N + 1, device=device).repeat(E, 1), torch.ones(E, device=device)
    upstream = torch.ones(batch, L, E, device=device)

    def both() -> None:
        y = selective_scan(u, delta, A, B, C, D, None, z, path=path)[0]
        torch.autograd.grad(y, [u, z, delta, B, C], upstream)

    def forward() -> None:
        with torch.no_grad():
            selective_scan(u, delta, A, B, C, D, None, z, path=path)

    result = {}
    for name, function in (("forward_ms", forward), ("both_ms", both)):
        function()
        result[name] = 1e3 * timed(function, device, 3 if device.type == "cuda" else 1)
    return result
