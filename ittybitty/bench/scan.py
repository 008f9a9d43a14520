"""`ittybitty bench scan`: training a Mamba stack on a CPU, beside the same stack without its scan and beside the peers.

    a six-layer stack, B 4, L 1,024, forward and backward     ours; the same with its scan left out
    one layer, B 1, L 512, forward and backward               ours; ours with nothing but PyTorch; transformers'
                                                              MambaMixer on its path without CUDA; mambapy, if installed

All layers hold the same weights and must give the same output before anything is timed.
Marks to hold: at most 2x the stack without its scan; at least 20x faster than transformers in under a quarter of its
memory; with nothing but PyTorch at least 8x faster.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from .. import devices
from ..config import ModelConfig
from ..errors import ResultError
from ..models.hybrid import Stack
from ..models.mamba import Mamba, MambaState
from ..models.scan import forced_path
from .timing import child, in_turns, matmul_rate, peak_memory

WIDTH, LAYERS = 512, 6
STACK_BATCH, STACK_LENGTH, LAYER_LENGTH = 4, 1024, 512


class Scanless(Mamba):
    """The block with all its projections and no recurrence, in as few passes over memory as still use all of them."""

    def forward(self, x: torch.Tensor, state: MambaState | None = None) -> torch.Tensor:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        delta, B, C = self._select(u := self._convolve(u, None))
        y = torch.addcmul((B + C).sum(-1, keepdim=True), delta, u)
        return self.out_proj(y * F.silu(z))


def stack(scanless: bool = False) -> nn.Module:
    """Six Mamba blocks of width 512, with norms and residuals."""
    torch.manual_seed(0)
    made = Stack(ModelConfig(pattern="M" * LAYERS, d_model=WIDTH))
    if scanless:
        for block in made.blocks:
            block.mixer.__class__ = Scanless
    return made


def layer(kind: str) -> nn.Module:
    """One block of width 512 by its maker: "ours", "transformers" or "mambapy"; the same weights in each."""
    torch.manual_seed(0)
    ours = Mamba(ModelConfig(d_model=WIDTH))
    if kind == "ours":
        return ours
    if kind == "transformers":
        from transformers import MambaConfig
        from transformers.models.mamba.modeling_mamba import MambaMixer

        theirs = MambaMixer(
            MambaConfig(hidden_size=WIDTH, state_size=16, expand=2, conv_kernel=4, use_mambapy=False), layer_idx=0
        )
    else:
        from mambapy.mamba import MambaBlock
        from mambapy.mamba import MambaConfig as Config

        theirs = MambaBlock(Config(d_model=WIDTH, n_layers=1))
    theirs.load_state_dict(ours.state_dict())
    return theirs


def training_step(module: nn.Module, batch: int, length: int, path: str | None = None) -> Callable[[], None]:
    """A function that runs `module` forward and backward, where its weights lie."""
    x = torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(1)).to(next(module.parameters()))

    def step() -> None:
        with forced_path(path):
            module(x).square().mean().backward()
        module.zero_grad(set_to_none=True)

    return step


def memory(kind: str, path: str | None, threads: int, device: str = "cpu") -> int:
    """Peak bytes of one layer's training step; for a process of its own."""
    torch.set_num_threads(threads)
    place = devices.device(device)
    step = training_step(layer(kind).to(place), 1, LAYER_LENGTH, path)
    training_step(layer("ours").to(place), 1, 16)()  # what is loaded once
    return peak_memory(step, device)


def peers() -> list[str]:
    """Other implementations that are installed here."""
    return [name for name in ("transformers", "mambapy") if importlib.util.find_spec(name)]


def bench_scan(turns: int = 3, device: str = "cpu") -> dict:
    """See the module's text; times in s (medians), memory in MB, ratios as medians over turns."""
    place = devices.device(device)
    layers = {name: layer(name).to(place) for name in ["ours", *peers()]}
    _check_same(layers)
    stacks = in_turns(
        {
            "ours": training_step(stack().to(place), STACK_BATCH, STACK_LENGTH),
            "no_scan": training_step(stack(scanless=True).to(place), STACK_BATCH, STACK_LENGTH),
        },
        max(turns, 5),
        device=device,
    )
    steps = {name: training_step(module, 1, LAYER_LENGTH) for name, module in layers.items()}
    steps["torch_only"] = training_step(layers["ours"], 1, LAYER_LENGTH, "chunked")
    times = in_turns(steps, turns, device=device)
    threads = torch.get_num_threads()
    ours, theirs = times["ours"], times.get("transformers")
    peak = child("scan", "memory", kind="ours", path=None, threads=threads, device=device)
    result = {
        **devices.ran_on(layers["ours"]),
        "ours_s": stacks["ours"].median,
        "no_scan_s": stacks["no_scan"].median,
        "ratio_vs_no_scan": stacks["ours"].ratio(stacks["no_scan"]),
        "matmul_gflops": matmul_rate(device=device) / 1e9,
        "layer": {name: {"seconds": t.median, "spread": t.spread} for name, t in times.items()},
        "peak_mb": peak / 1e6,
    }
    if theirs:
        result |= {
            "transformers_s": theirs.median,
            "ratio_vs_transformers": theirs.ratio(ours),
            "torch_only_ratio_vs_transformers": theirs.ratio(times["torch_only"]),
            "transformers_peak_mb": child(
                "scan", "memory", kind="transformers", path=None, threads=threads, device=device
            )
            / 1e6,
        }
    return result


def _check_same(layers: dict[str, nn.Module]) -> None:
    x = torch.randn(1, 64, WIDTH, generator=torch.Generator().manual_seed(2)).to(next(layers["ours"].parameters()))
    with torch.no_grad():
        truth = layers["ours"](x)
        for name, module in layers.items():
            error = float((module(x) - truth).abs().max() / truth.abs().max())
            if error > 1e-4:
                raise ResultError(
                    f"{name}: its Mamba layer differs from ours by {error:.1e}; its version is not the one measured here"
                )
