"""The selective scan: one plain truth, and fast paths that are held to it in value and gradient.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752: equation 2a the recurrence, equation 4 the zero-order hold,
    section 3.3.2 why states are recomputed in the backward pass and never stored.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t        (B, E, N)
    y_t = (C_t h_t + D u_t) silu(z_t)             (B, E); the gate z is the block's, and optional here

`selective_scan` chooses a path by what the machine has; `ITTYBITTY_SCAN` or the argument `path` forces one:

    sequential   the two lines above in a loop, for teaching and for tests
    chunked      nothing but PyTorch; recomputes chunk by chunk in its backward
    native       C++ for the CPU, compiled on first use where a compiler is found (native/)
    mamba_ssm    the CUDA kernel of mamba-ssm where it is installed
    triton       our kernels for a GPU without it; CUDA builds of PyTorch bring Triton along (triton_scan.py)

Left out: parallel (log-depth) scans; on a CPU they move more memory than they save.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from ..errors import ConfigError
from . import native

VARIABLE = "ITTYBITTY_SCAN"
_forced: ContextVar[str] = ContextVar("forced scan path", default="")
CHUNK = 16  # steps whose (B, E, N) states live at once; more costs memory and no longer fits the cache


def selective_scan(
    u, delta, A, B, C, D, state=None, z=None, path: str | None = None, softplus: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """y and the last state of the recurrence above.

    u, delta (B, L, E); A (E, N), negative; B, C (B, L, N); D (E,); state (B, E, N) or None for zeros; z (B, L, E) or None.
    With `softplus`, Δ is softplus(delta). Returns y (B, L, E) in the type of u and the state (B, E, N). The scan itself runs
    in float32 (float64 stays float64), outside autocast: its sums can pass the largest float16.
    """
    kind = u.dtype
    wide = torch.float64 if kind == torch.float64 else torch.float32
    with torch.autocast(u.device.type, enabled=False):
        path = _checked(path, u.device.type, "path") if path else chosen(u.device.type)
        if state is None:
            state = u.new_zeros(u.shape[0], u.shape[2], A.shape[1], dtype=wide)
        A, D, state = (t.to(wide) for t in (A, D, state))
        if path == "triton" and wide == torch.float32:  # reads half precision as it is, which is half the traffic
            return scan_triton(u, delta, A, B, C, D, state, z, softplus)
        u, delta, B, C = (t.to(wide) for t in (u, delta, B, C))
        delta = torch.nn.functional.softplus(delta) if softplus else delta
        y, last = PATHS[path](u, delta, A, B, C, D, state, z if z is None else z.to(wide))
    return y.to(kind), last


def scan_sequential(u, delta, A, B, C, D, state, z=None):
    """The truth: one step at a time, differentiated by autograd."""
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * A)  # zero-order hold, [1] equation 4 (B, E, N)
        state = decay * state + (delta[:, t] * u[:, t])[..., None] * B[:, t, None]  # [1] equation 2a, Euler step for B
        outputs.append((state * C[:, t, None]).sum(-1) + D * u[:, t])  # [1] equation 2b (B, E)
    return _gated(torch.stack(outputs, dim=1), z), state


def _gated(y, z):
    return y if z is None else y * torch.nn.functional.silu(z)


def scan_chunked(u, delta, A, B, C, D, state, z=None):
    """Plain PyTorch that trains: keeps one state a chunk, recomputes the rest in the backward."""
    y, last = _Chunked.apply(u, delta, A, B, C, state)
    return _gated(torch.addcmul(y, D, u), z), last


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, state):
        y, entries = torch.empty_like(u), []
        for s in range(0, u.shape[1], CHUNK):
            now = slice(s, s + CHUNK)
            entries.append(state)
            _, h = _chunk_states(u[:, now], delta[:, now], A, B[:, now], state)
            y[:, now] = _read(h, C[:, now])
            state = h[-1].clone()
        ctx.save_for_backward(u, delta, A, B, C, *entries)
        return y, state

    @staticmethod
    def backward(ctx, dy, dlast):
        u, delta, A, B, C, *entries = ctx.saved_tensors
        du, ddelta, dA, dB, dC = (torch.zeros_like(t) for t in (u, delta, A, B, C))
        carried = dlast  # gradient of the loss with respect to the state that leaves the chunk (B, E, N)
        for i in reversed(range(len(entries))):
            now = slice(i * CHUNK, (i + 1) * CHUNK)
            decay, h = _chunk_states(u[:, now], delta[:, now], A, B[:, now], entries[i])
            g = dy[:, now].transpose(0, 1)[..., None] * C[:, now].transpose(0, 1)[:, :, None]  # (k, B, E, N)
            g[-1] += carried
            for t in range(len(g) - 2, -1, -1):
                g[t].addcmul_(decay[t + 1], g[t + 1])
            carried = decay[0] * g[0]
            dC[:, now] = (dy[:, now, None] @ h.transpose(0, 1))[:, :, 0]
            before = torch.cat([entries[i][None], h[:-1]])
            through = g * decay * before  # dL/d(ΔA)
            dA += torch.einsum("kben,bke->en", through, delta[:, now])
            gB = torch.einsum("kben,bkn->bke", g, B[:, now])
            ddelta[:, now] = torch.einsum("kben,en->bke", through, A) + gB * u[:, now]
            du[:, now] = gB * delta[:, now]
            dB[:, now] = ((delta[:, now] * u[:, now])[:, :, None] @ g.transpose(0, 1))[:, :, 0]
        return du, ddelta, dA, dB, dC, carried


def _chunk_states(u, delta, A, B, state):
    """Decays and states (k, B, E, N) of one chunk; time first, so that a step is one contiguous block."""
    decay = torch.exp(delta.transpose(0, 1)[..., None] * A)
    h = (delta * u).transpose(0, 1)[..., None] * B.transpose(0, 1)[:, :, None]
    for t in range(len(h)):
        h[t].addcmul_(decay[t], state if t == 0 else h[t - 1])
    return decay, h


def _read(h, C):
    """(k, B, E, N) states and (B, k, N) readings -> (B, k, E)."""
    return (h.transpose(0, 1) @ C[..., None])[..., 0]


def scan_native(u, delta, A, B, C, D, state, z=None):
    """The C++ scan of native/scan.cpp, differentiable."""
    return native.Scan.apply(u, delta, A, B, C, D, state, z)


def scan_mamba_ssm(u, delta, A, B, C, D, state, z=None):
    """mamba-ssm's kernel. It starts from a zero state; a given one is added as its own decayed response."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    swap = [t.transpose(1, 2).contiguous() for t in (u, delta, B, C)]  # (B, E, L), (B, N, L)
    if not state.requires_grad and not bool(state.any()):
        gate = z if z is None else z.transpose(1, 2).contiguous()
        y, last = selective_scan_fn(swap[0], swap[1], A, swap[2], swap[3], D, z=gate, return_last_state=True)
        return y.transpose(1, 2), last
    y, last = selective_scan_fn(swap[0], swap[1], A, swap[2], swap[3], D, return_last_state=True)
    decay = torch.exp(delta.cumsum(1)[..., None] * A)  # the recurrence is linear in the state (B, L, E, N)
    y = y.transpose(1, 2) + torch.einsum("blen,ben,bln->ble", decay, state, C)
    return _gated(y, z), last + decay[:, -1] * state


def scan_triton(u, delta, A, B, C, D, state, z=None, softplus=False):
    """Triton's kernels of triton_scan.py, differentiable; on a CPU only in Triton's interpreter."""
    from . import triton_scan

    return triton_scan.Scan.apply(u, delta, A, B, C, D, state, z, softplus)


PATHS = {
    "sequential": scan_sequential,
    "chunked": scan_chunked,
    "native": scan_native,
    "mamba_ssm": scan_mamba_ssm,
    "triton": scan_triton,
}


def describe() -> list[dict]:
    """What each path needs and whether this machine has it: rows of {"path", "available", "why"}."""
    kernels, why_kernels = _mamba_ssm_status()
    compiled, why = native.status()
    triton, why_triton = _triton_status()
    return [
        {"path": "mamba_ssm", "available": kernels, "why": why_kernels},
        {"path": "triton", "available": triton, "why": why_triton},
        {"path": "native", "available": compiled, "why": why},
        {"path": "chunked", "available": True, "why": "needs nothing but PyTorch"},
        {"path": "sequential", "available": True, "why": "the slow truth, for tests and teaching"},
    ]


def _mamba_ssm_status() -> tuple[bool, str]:
    """Does mamba-ssm's kernel run here, and why (not)?"""
    if not torch.cuda.is_available():
        return False, "no CUDA device"
    if importlib.util.find_spec("mamba_ssm") is None:
        return False, "mamba-ssm is not installed (optional)"
    return True, "CUDA and mamba-ssm"


@functools.cache
def _triton_status() -> tuple[bool, str]:
    """Do the Triton kernels run here, and why (not)?"""
    if not torch.cuda.is_available():
        return False, "no CUDA device"
    if torch.version.hip is None and torch.cuda.get_device_capability() < (7, 5):
        return False, "Triton needs a GPU of compute capability 7.5 or newer"
    try:
        import triton
    except ImportError:
        return False, "Triton is not installed (CUDA builds of PyTorch for Linux bring it)"
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 3):
        return False, f"Triton {triton.__version__} is too old: 3.3 or newer is needed (PyTorch 2.7 and newer bring it)"
    return True, f"CUDA and Triton {triton.__version__}"


@contextlib.contextmanager
def forced_path(path: str | None) -> Iterator[None]:
    """Within it, all scans of this thread take `path`; None changes nothing."""
    token = _forced.set(path or _forced.get())
    try:
        yield
    finally:
        _forced.reset(token)


def chosen(device: str = "cpu") -> str:
    """The path that `selective_scan` takes on this kind of device; ConfigError if one is forced that cannot run there."""
    forced = _forced.get() or os.environ.get(VARIABLE, "")
    return _checked(forced, device, VARIABLE) if forced else _best(device)


def _checked(path: str, device: str, source: str) -> str:
    """`path`, once it is known and can run on this kind of device; `source` names the setting that asked for it."""
    if path not in PATHS:
        raise ConfigError(f"{source} is {path!r}: give one of {', '.join(PATHS)}, or leave it unset")
    if why := obstacle(path, device):
        raise ConfigError(f"{source} forces the scan path {path!r}, but {why}; leave it unset, or force 'chunked'")
    return path


def obstacle(path: str, device: str) -> str:
    """Why this path cannot run on data of this kind of device; empty where it can."""
    if path == "native":
        if device != "cpu":
            return f"it runs on a CPU only and the data is on {device}"
        there, why = native.status()
    elif path == "triton" and os.environ.get("TRITON_INTERPRET") == "1":
        there, why = importlib.util.find_spec("triton") is not None, "Triton is not installed"
    elif path in ("triton", "mamba_ssm"):
        if device != "cuda":
            return f"it needs a CUDA device and the data is on {device}"
        there, why = _triton_status() if path == "triton" else _mamba_ssm_status()
    else:
        return ""
    return "" if there else why


@functools.cache
def _best(device: str) -> str:
    if device == "cuda":
        return "mamba_ssm" if importlib.util.find_spec("mamba_ssm") else "triton" if _triton_status()[0] else "chunked"
    return "native" if device == "cpu" and native.status()[0] else "chunked"
