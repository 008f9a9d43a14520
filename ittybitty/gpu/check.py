"""Checks that a device computes correctly: each path is compared with a reference before anything is trained.

    scans          value and gradient of every path the device has, float32 and half precision, against scan_sequential on the CPU
    convolutions   value and gradient of every path of Mamba's convolution, against torch's conv1d in float64
    models         loss and gradient of each row at size nano, against the same model on the CPU
    greedy         256 ids of each row, drawn greedily on the device and on the CPU: they must be equal, or differ only where two logits are almost equal

A path that fails is listed under "off" (or "off_convolution") and is not used by what follows. In half precision a path may differ
by what the rounding of inputs and outputs costs; inside, all paths compute in float32.

Left out: speed (race.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F

from .. import systems
from ..errors import IttyBittyError
from ..models import conv, scan
from ..models.events import EventModel
from ..models.lm import LanguageModel
from ..models.parts import BOS, EOS, KEYS
from ..models.scan import forced_path

# B, L, E, N. Each E with its N is compiled anew, which takes seconds a kernel: once with masks and once, as in a training, without
SIZES = {"odd": (2, 37, 42, 5), "full": (2, 64, 96, 16), "long": (1, 304, 96, 16)}
NAMES = ("y", "last", "u", "delta", "A", "B", "C", "D", "state", "z")
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}  # of the largest magnitude
GREEDY = 256
FAILURES = (
    IttyBittyError,
    RuntimeError,
    ImportError,
    AttributeError,
    TypeError,
    ValueError,
    OSError,
)  # Triton raises any
TIE = 1e-3  # logits that are nearer than this may fall either way


def half_type(device: torch.device) -> torch.dtype:
    """The half precision that trainings on this device run in."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16
    return torch.bfloat16


def available(device: torch.device) -> list[str]:
    """Scan paths that run on this device, without the reference path."""
    kind = {"cuda": ("mamba_ssm", "triton", "chunked"), "cpu": ("native", "chunked")}[device.type]
    return [row["path"] for row in scan.describe() if row["available"] and row["path"] in kind]


@dataclass(frozen=True)
class _Item:
    """One comparison: where its result stands in the report, how it is made, which path is off when it fails, in which list."""

    place: tuple[str, ...]
    run: Callable[[], dict]
    path: str = ""
    off: str = "off"


def check(
    rows: Sequence[str],
    device: torch.device,
    seconds: float,
    tokens: int = GREEDY,
    keep: Callable[[dict], None] = lambda report: None,
    before: Mapping | None = None,
) -> dict:
    """The report: {"scans", "convolutions", "models", "greedy", "off", "off_convolution", "peak_mb", …}; a part for which no time was left says so.

    `keep` gets the report before and after each comparison. `before` is the report of an attempt that was ended: its
    results are kept, and the comparison during which it ended counts as failed. RuntimeError where a comparison leaves the
    device unusable, as an illegal memory access does: the next attempt, in a new process, continues after it.
    """
    end = time.monotonic() + seconds
    torch.backends.cuda.matmul.allow_tf32 = False
    report: dict = {
        "device": _name(device), "half": _name_of(half_type(device)), "off": [], "off_convolution": [], "trying": None,
    }  # fmt: skip  # one measurement a line
    report.update(before or {})
    fatal, report["done"] = report["trying"], False
    for item in [*_kernel_items(device), *_model_items(rows, device, tokens, report)]:
        if _found(report, item.place) is None:
            late = time.monotonic() > end
            result = _compared(item, report, "ended the process" if fatal == list(item.place) else "", late, keep)
            if not usable(device):
                raise RuntimeError(f"{' '.join(item.place)} leaves the device unusable: {result.get('why')}")
    if device.type == "cuda":
        report["peak_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    report["done"] = True
    return report


def _kernel_items(device: torch.device) -> list[_Item]:
    """Every path of the scan and of the convolution, in float32 and in half precision."""
    kinds, items = (torch.float32, half_type(device)), []
    for path in available(device):
        for kind in kinds:
            run = _tried(partial(scan_errors, path, kind, device), TOLERANCE[kind])
            items.append(_Item(("scans", path, _name_of(kind)), run, path))
    for path in conv.available(device.type):
        for kind in kinds:
            run = _tried(partial(convolution_errors, path, kind, device), TOLERANCE[kind])
            items.append(_Item(("convolutions", path, _name_of(kind)), run, path, "off_convolution"))
    return items


def _model_items(rows: Sequence[str], device: torch.device, tokens: int, report: Mapping) -> list[_Item]:
    """Loss, gradients and greedy ids of each row, on a scan path that has not been switched off by then."""

    def sound_path() -> str | None:
        return next((path for path in available(device) if path not in report["off"]), None)

    items = []
    for row in rows:
        errors = partial(_on_path, sound_path, partial(model_errors, row, device))
        items.append(_Item(("models", row), _tried(errors, 10 * TOLERANCE[torch.float32])))
    for row in rows:
        drawn = partial(_on_path, sound_path, partial(greedy, row, device, tokens))
        items.append(_Item(("greedy", row), partial(_tried_greedy, drawn)))
    return items


def _compared(item: _Item, report: dict, failed: str, late: bool, keep: Callable[[dict], None]) -> dict:
    """Make one comparison and write its result into the report, unless it `failed` before or it is too late for it.

    The path that it is about is off until all its comparisons have passed: this process may not live to say that one failed.
    """
    if item.path and item.path not in report[item.off]:
        report[item.off].append(item.path)
    if failed:
        result = {"ok": False, "why": failed}
    elif late:
        result = {"ok": None, "why": "no time was left"}
    else:
        report["trying"] = list(item.place)
        keep(report)
        result = item.run()
    _put(report, item.place, result)
    if item.path and all(one["ok"] is not False for one in report[item.place[0]][item.path].values()):
        report[item.off].remove(item.path)
    report["trying"] = None
    keep(report)
    return result


def _found(report: Mapping, place: Sequence[str]) -> dict | None:
    """The result at this place of the report."""
    found: Mapping | None = report
    for name in place:
        found = (found or {}).get(name)
    return dict(found) if found else None


def _put(report: dict, place: Sequence[str], result: dict) -> None:
    for name in place[:-1]:
        report = report.setdefault(name, {})
    report[place[-1]] = result


def _on_path(path: Callable[[], str | None], function: Callable[[], dict]) -> dict:
    with forced_path(path()):
        return function()


def usable(device: torch.device) -> bool:
    """Whether the device still computes. After an illegal memory access it does not, until the process ends."""
    try:
        return float(torch.ones(8, device=device).sum()) == 8.0
    except RuntimeError:
        return False


def _name_of(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _tried(errors: Callable[[], dict[str, float]], most: float) -> Callable[[], dict]:
    """A comparison -> a function that gives {"ok", "largest", "of"} of its errors, or why it could not be made."""

    def run() -> dict:
        try:
            found = errors()
        except FAILURES as error:
            return {"ok": False, "why": _line(error)}
        worst = max(found, key=found.__getitem__)
        return {"ok": found[worst] <= most, "largest": found[worst], "of": worst}

    return run


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest difference, divided by the largest magnitude of `truth`, the reference; infinite where a value is not a number."""
    truth = truth.detach().double().cpu()
    error = float((found.detach().double().cpu() - truth).abs().max() / truth.abs().max().clamp(min=1e-30))
    return math.inf if math.isnan(error) else error


def scan_errors(path: str, kind: torch.dtype, device: torch.device) -> dict[str, float]:
    """Errors of value and gradients on all SIZES; the reference gets the same rounded inputs and computes in float64."""
    worst: dict[str, float] = {}
    for sizes in SIZES.values():
        inputs = _inputs(sizes, kind)
        truth = _values_and_gradients("sequential", [t.double() for t in inputs])
        found = _values_and_gradients(path, [t.to(device) for t in inputs])
        for name, a, b in zip(NAMES, found, truth):
            worst[name] = max(worst.get(name, 0.0), relative(a, b))
    return worst


def _inputs(sizes: tuple[int, int, int, int], kind: torch.dtype) -> list[torch.Tensor]:
    """u, Δ before its softplus, A, B, C, D, state, z as the Mamba block makes them: A, D and the state are float32 in every precision."""
    (B, L, E, N), g = sizes, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    A = -torch.rand(E, N, generator=g) * 16
    made = normal(B, L, E), normal(B, L, E) - 3, normal(B, L, N), normal(B, L, N), normal(B, L, E)
    u, delta, read, write, z = (t.to(kind) for t in made)
    return [u, delta, A, read, write, normal(E), normal(B, E, N), z]


def _values_and_gradients(path: str, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    u, delta, A, B, C, D, state, z = inputs
    y, last = scan.selective_scan(u, delta, A, B, C, D, state, z, path=path, softplus=True)
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=g).to(t.device, torch.float64) for t in (y, last)]
    return [y, last, *torch.autograd.grad((y * weights[0]).sum() + (last * weights[1]).sum(), inputs)]


def convolution_errors(path: str, kind: torch.dtype, device: torch.device) -> dict[str, float]:
    """Mamba's convolution on the device, beside conv1d in float64; its weights are float32 in every precision."""
    (B, L, E, K), g = (2, 131, 96, 4), torch.Generator().manual_seed(1)
    wide, weight, bias = (torch.randn(*shape, generator=g) for shape in ((B, L, 2 * E), (E, K), (E,)))
    upstream = torch.randn(B, L, E, generator=g, dtype=torch.float64)
    wide = wide.to(kind)
    ours = [t.to(device).requires_grad_() for t in (wide, weight, bias)]
    y = conv.causal_convolution(
        ours[0][..., :E], None, ours[1], ours[2], path
    )  # one half of a wider array, as in the block
    found = [y, *torch.autograd.grad((y * upstream.to(device)).sum(), ours)]
    theirs = [t.double().requires_grad_() for t in (wide, weight, bias)]
    u = theirs[0][..., :E].mT
    plain = F.silu(F.conv1d(u, theirs[1][:, None], theirs[2], padding=K - 1, groups=E)[..., :L]).mT
    truth = [plain, *torch.autograd.grad((plain * upstream).sum(), theirs)]
    return {name: relative(a, b) for name, a, b in zip(("value", "u", "weight", "bias"), found, truth)}


def started(row: str, preset: str) -> LanguageModel:
    """A model with weights that are nowhere zero, the same on every machine: heads that start at zero would hide errors."""
    torch.manual_seed(0)
    model = systems.build_model(systems.build(row, preset))
    with torch.no_grad():
        for p in model.parameters():
            if not bool(p.any()):
                p.normal_(std=0.05)
    return model.eval()


def music(model: LanguageModel, length: int, batch: int = 1) -> torch.Tensor:
    """(B, L) ids that the model may meet: any, or of an event model whole events from BOS on, drawn from a fixed seed."""
    g, config = torch.Generator().manual_seed(2), model.config
    if not isinstance(model, EventModel):
        return torch.randint(3, config.vocab_size, (batch, length), generator=g)
    parts = [
        start + (first := int(place == 0)) + torch.randint(0, size - first, (batch, -(-length // 4)), generator=g)
        for place, (start, size) in enumerate(zip(model.starts, model.classes))
    ]
    parts[1] = parts[1].clamp(max=model.starts[1] + KEYS - 1)  # keys, which have duration and velocity
    events = torch.stack(parts, dim=2).flatten(1)
    return torch.cat([torch.full((batch, 1), BOS), events], dim=1)[:, :length]


def model_errors(row: str, device: torch.device) -> dict[str, float]:
    """Loss, and the gradient of every parameter, of the row at size nano: the device beside the CPU."""
    ours, truth = started(row, "nano").to(device), started(row, "nano").double()
    ids = music(truth, 129, 2)
    x, y = ids[:, :-1], ids[:, 1:]
    values = []
    for model, path in ((ours, None), (truth, "sequential")):
        with forced_path(path):
            loss = model(x.to(device if model is ours else "cpu"), y.to(device if model is ours else "cpu"))[0].sum()
            loss.backward()
        values.append(loss)
    errors = {"loss": relative(*values)}
    for (name, a), b in zip(ours.named_parameters(), truth.parameters()):
        if b.grad is not None and float(b.grad.abs().max()) > 1e-6:
            errors[name] = math.inf if a.grad is None else relative(a.grad, b.grad)
    return errors


def _tried_greedy(drawn: Callable[[], dict]) -> dict:
    try:
        return drawn()
    except FAILURES as error:
        return {"ok": False, "why": _line(error)}


@torch.no_grad()
def greedy(row: str, device: torch.device, tokens: int, preset: str = "tiny") -> dict:
    """{"ok", "tokens", "first_difference", "gap"}: the likeliest id each time, on the CPU and on the device, from one prompt."""
    model = started(row, preset)
    prompt = music(model, 65)
    truth, gaps = _drawn(model, prompt, tokens)
    found, _ = _drawn(model.to(device), prompt.to(device), tokens)
    different = [i for i, (a, b) in enumerate(zip(truth, found)) if a != b]
    if not different:
        return {"ok": True, "tokens": tokens}
    first = different[0]
    return {"ok": gaps[first] < TIE, "tokens": tokens, "first_difference": first, "gap": gaps[first]}


def _drawn(model: LanguageModel, prompt: torch.Tensor, tokens: int) -> tuple[list[int], list[float]]:
    """Ids, and of each how far the second-best logit was behind. The end of the piece is never drawn."""
    state = model.init_state(1)
    logits, ids, gaps = model.prefill(prompt, state), [], []
    for _ in range(tokens):
        if model.config.events:
            logits[:, EOS] = -torch.inf
        best = logits[0].float().topk(2)
        ids.append(int(best.indices[0]))
        gaps.append(float(best.values[0] - best.values[1]))
        logits = model.step(best.indices[:1], state)
    return ids, gaps
