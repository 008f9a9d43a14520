"""The plain state-space model: Mamba's block without selection, to measure what selection is worth.

[1] Gu and Dao 2023, Mamba, arXiv:2312.00752: section 3.2, what selection is; table 6, the ablation of it.
[2] Gu et al. 2022, On the Parameterization and Initialization of Diagonal State Space Models (S4D), arXiv:2206.11893:
    equation 2 the recurrence, section 3.1 the kernel.

Δ (E,), B and C (E, N) are parameters, the same for every token; in Mamba all three are computed from the token. Everything else
is as in Mamba: the projections, the short convolution, the gate, and the initial A, D and Δ. A constant recurrence is one
long convolution, so `forward` is an FFT in O(L log L) and `step` is the recurrence:

    h_t = exp(Δ A) h_{t-1} + Δ B u_t,   y_t = C h_t + D u_t      =      y = K * u + D u,   K_t = Σ_n C_n exp(t Δ A_n) Δ B_n

Left out: complex states and their HiPPO initialisation; Mamba also has a real diagonal.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..config import ModelConfig
from .layers import exempt_from_decay
from .mamba import GatedConvolution, MambaState, start_of_dt

CHUNK = 256  # tokens read at once with a state: (E, N, CHUNK) decays are in memory at once


class PlainSSM(GatedConvolution):
    """Mixer (B, L, D) -> (B, L, D); see the module's text."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, N, K = config.d_model, config.d_state, config.d_conv
        self.E, self.N, self.K = E, _, _ = config.expand * D, N, K
        self.in_proj = nn.Linear(D, 2 * E, bias=False)
        self.conv1d = nn.Conv1d(E, E, K, groups=E, padding=K - 1)
        self.dt = nn.Parameter(start_of_dt(E))
        self.B, self.C = nn.Parameter(torch.randn(E, N)), nn.Parameter(torch.randn(E, N))
        self.A_log = nn.Parameter(torch.arange(1, N + 1, dtype=torch.float32).log().repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E))
        self.out_proj = nn.Linear(E, D, bias=False)
        exempt_from_decay(self.A_log, self.D, self.B, self.C)

    def _rates(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Δ A and Δ B, (E, N) each, in float32 at least, because an FFT on a CPU has no half precision."""
        delta = F.softplus(_wide(self.dt))[:, None]
        return -delta * torch.exp(_wide(self.A_log)), delta * _wide(self.B)

    def kernel(self, L: int) -> torch.Tensor:
        """(E, L) response to an impulse, K_t = Σ_n C_n exp(t Δ A_n) Δ B_n.

        With t = a T + b the exponential is a product of two, so that no (E, N, L) tensor is needed.
        """
        T = round(L**0.5)
        rate, drive = self._rates()
        times = torch.arange(max(T, -(-L // T)), device=rate.device)
        coarse = (
            torch.exp(rate[:, None] * T * times[: -(-L // T), None]) * (_wide(self.C) * drive)[:, None]
        )  # (E, L / T, N)
        fine = torch.exp(rate[..., None] * times[:T])  # (E, N, T)
        return (coarse @ fine).flatten(1)[:, :L]

    def forward(self, x: torch.Tensor, state: MambaState | None = None) -> torch.Tensor:
        if state is not None and x.shape[1] > CHUNK:
            return torch.cat([self.forward(part, state) for part in x.split(CHUNK, dim=1)], dim=1)
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, E) twice
        u = self._convolve(u, state)
        with torch.autocast(x.device.type, enabled=False):
            wide = _wide(u)
            y = fft_convolution(wide, self.kernel(x.shape[1])) + self.D * wide
            if state is not None:
                y = y + self._carry(wide, state)
        return self.out_proj(y.to(x.dtype) * F.silu(z))

    def _carry(self, u: torch.Tensor, state: MambaState) -> torch.Tensor:
        """The contribution of the past to (B, L, E) outputs; the state is updated to that after them."""
        rate, drive = self._rates()
        decay = torch.exp(rate[..., None] * torch.arange(u.shape[1] + 1, device=u.device))  # (E, N, L + 1)
        y = torch.einsum("ben,enl,en->ble", state.ssm, decay[..., 1:], _wide(self.C))
        arrived = torch.einsum("ble,enl->ben", u, decay[..., :-1].flip(-1)) * drive
        state.ssm.copy_(decay[..., -1] * state.ssm + arrived)
        return y

    def step(self, x: torch.Tensor, state: MambaState) -> torch.Tensor:
        """One token (B, D) by the recurrence."""
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, E)
        window = torch.cat([state.conv.to(u.dtype), u[:, None]], dim=1)  # (B, K, E)
        state.conv.copy_(window[:, 1:])
        u = F.silu((window * self.conv1d.weight[:, 0].T).sum(1) + self._conv_bias)
        rate, drive = self._rates()
        state.ssm.mul_(torch.exp(rate)).add_(u[..., None].float() * drive)
        y = (state.ssm * self.C).sum(-1) + self.D * u
        return self.out_proj(y.to(z.dtype) * F.silu(z))


def _wide(t: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or unchanged if it is float64."""
    return t if t.dtype == torch.float64 else t.float()


def fft_convolution(u: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Causal convolution of u (B, L, E) with kernel (E, L) in O(L log L); zero padding to 2 L prevents wrapping around."""
    L = u.shape[1]
    product = torch.fft.rfft(u.transpose(1, 2), 2 * L) * torch.fft.rfft(kernel, 2 * L)
    return torch.fft.irfft(product, 2 * L)[..., :L].transpose(1, 2)
