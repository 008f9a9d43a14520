"""The Mamba block (selective state-space model), with the names and shapes of `mamba_ssm.Mamba`.

[1] Gu and Dao 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv:2312.00752.
    Section 3.4 and figure 3: the block. Section 3.6: how Δ and A start.

    x ── in_proj ─┬─ u ── causal conv ── SiLU ── selective scan ── · ── out_proj ── y
                  └─ z ─────────────────── SiLU ───────────────────┘

State dicts of this class and of `mamba_ssm.Mamba` with the same sizes are interchangeable.
Left out: the fused CUDA kernel for the whole block; the speed depends on the scan (see scan.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from ..config import ModelConfig
from .conv import causal_convolution
from .layers import Mixer, exempt_from_decay
from .scan import chosen, selective_scan
from .states import MambaState

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4  # [1] section 3.6: Δ starts log-uniform between these


def start_of_dt(E: int) -> torch.Tensor:
    """(E,) initial biases whose softplus, the step Δ, is log-uniform between DT_MIN and DT_MAX."""
    dt = torch.exp(torch.rand(E) * math.log(DT_MAX / DT_MIN) + math.log(DT_MIN)).clamp(min=DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus


class GatedConvolution(Mixer):
    """Base class of Mamba and the block without selection (ssm.py): convolution and state. Subclasses have the parameters."""

    E: int
    N: int
    K: int
    in_proj: nn.Linear
    conv1d: nn.Conv1d
    out_proj: nn.Linear

    @property
    def _conv_bias(self) -> torch.Tensor:
        return cast(torch.Tensor, self.conv1d.bias)  # torch's type allows None

    def _convolve(self, u: torch.Tensor, state: MambaState | None) -> torch.Tensor:
        """Causal depthwise convolution, bias and SiLU (conv.py); the state moves on behind u."""
        past = None
        if state:
            past = state.conv.to(u.dtype, copy=True)
            state.conv.copy_(torch.cat([past, u], dim=1)[:, u.shape[1] :])
        return causal_convolution(u, past, self.conv1d.weight[:, 0], self._conv_bias)

    def outputs(self) -> list[nn.Linear]:
        """The matrices that write into the residual stream."""
        return [self.out_proj]

    def init_state(self, batch_size: int) -> MambaState:
        weight = self.in_proj.weight
        return MambaState(
            weight.new_zeros(batch_size, self.K - 1, self.E),
            weight.new_zeros(batch_size, self.E, self.N, dtype=torch.float32),
        )


class Mamba(GatedConvolution):
    """Mixer (B, L, D) -> (B, L, D); see the module's text."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, N, K = config.d_model, config.d_state, config.d_conv
        self.E, self.N, self.K = E, _, _ = config.expand * D, N, K
        self.R = R = config.dt_rank or math.ceil(D / 16)
        self.in_proj = nn.Linear(D, 2 * E, bias=False)
        self.conv1d = nn.Conv1d(E, E, K, groups=E, padding=K - 1)
        self.x_proj = nn.Linear(E, R + 2 * N, bias=False)
        self.dt_proj = nn.Linear(R, E)
        self.A_log = nn.Parameter(torch.arange(1, N + 1, dtype=torch.float32).log().repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E))
        self.out_proj = nn.Linear(E, D, bias=False)
        exempt_from_decay(self.A_log, self.D)  # weight decay would pull all time constants to one value
        self._reset_dt()

    @torch.no_grad()
    def _reset_dt(self) -> None:
        nn.init.uniform_(self.dt_proj.weight, -(self.R**-0.5), self.R**-0.5)
        self.dt_proj.bias.copy_(start_of_dt(self.E))

    def forward(self, x: torch.Tensor, state: MambaState | None = None) -> torch.Tensor:
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, E) twice
        u = self._convolve(u, state)
        dt, B, C = self._projected(u)
        A, past = -torch.exp(self.A_log.float()), state.ssm if state else None
        y, last = selective_scan(u, dt, A, B, C, self.D, past, z, softplus=True)
        if state:
            state.ssm.copy_(last)
        return self.out_proj(y.to(z.dtype))  # z has the type that the projections compute in

    def _projected(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What makes the scan selective ([1] algorithm 2): Δ before its softplus (..., E), B and C (..., N), all of the input."""
        dt, B, C = self.x_proj(u).split([self.R, self.N, self.N], dim=-1)
        return self.dt_proj(dt), B, C

    def _select(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Δ (..., E) in float32, B and C (..., N)."""
        dt, B, C = self._projected(u)
        return F.softplus(dt.float()), B, C

    def step(self, x: torch.Tensor, state: MambaState) -> torch.Tensor:
        """One token: the recurrence of [1] equation 2a, A by the zero-order hold of equation 4, B by an Euler step as in scan.py."""
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, E)
        window = torch.cat([state.conv.to(u.dtype), u[:, None]], dim=1)  # (B, K, E)
        state.conv.copy_(window[:, 1:])
        u = F.silu((window * self.conv1d.weight[:, 0].T).sum(1) + self._conv_bias)
        delta, B, C = self._select(u)
        A = -torch.exp(self.A_log.float())
        decay = torch.exp(delta[..., None] * A)  # (B, E, N)
        state.ssm.mul_(decay).add_((delta * u)[..., None] * B[:, None].float())
        y = (state.ssm @ C[..., None].float())[..., 0] + self.D * u
        return self.out_proj(y.to(z.dtype) * F.silu(z))


def warm_up(model: nn.Module, devices: Iterable[torch.device], dtype: torch.dtype | None = None) -> None:
    """Compile the kernels that `model`'s blocks launch on each CUDA device, where Triton's are the chosen ones.

    `dtype` is autocast's, None where there is none. DataParallel runs one thread a device: without this, all of them would
    wait in the first step for one that compiles.
    """
    if chosen("cuda") == "triton":
        from . import triton_conv, triton_scan

        blocks = [block for block in model.modules() if isinstance(block, Mamba)]
        for E, N, K in sorted({(block.E, block.N, block.K) for block in blocks}):
            triton_scan.warm_up(devices, E, N, dtype or torch.float32)
            triton_conv.warm_up(devices, E, K, dtype or torch.float32)
