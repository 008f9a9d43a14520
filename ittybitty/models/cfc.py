"""Closed-form continuous-time cells (CfC) as a block of the stack, instead of the feed-forward.

[1] Hasani et al. 2022, Closed-form continuous-time neural networks, Nature Machine Intelligence 4: equation 10.
[2] ncps 1.0.1, ncps.torch.CfCCell with one layer of backbone: the reference; names and state dicts are compatible.

    z_t = lecun_tanh(backbone([x_t, h_{t-1}]))                       U units
    s_t = sigmoid(time_a(z_t) Δt + time_b(z_t))                      the time gate, Δt = 1: tokens are evenly spaced
    h_t = (1 - s_t) tanh(ff1(z_t)) + s_t tanh(ff2(z_t))              the output, and the memory

**Recurrent** (`cfc_sweeps = 0`) is exactly [2]. Every token waits for the one before it: a Python loop over time, too slow
for training on a CPU.

**Parallel** (`cfc_sweeps = k`) solves the same equations for all tokens at once by k sweeps of a fixed-point iteration
(Jacobi's). The first sweep has h = 0; each further one reads the h_{t-1} of the sweep before:

    h⁰ = 0,   hⁱ_t = cell(x_t, hⁱ⁻¹_{t-1}),   i = 1 … k

How they differ: after k sweeps the first k tokens equal those of the recurrent cell exactly, and token t is
that of a recurrent cell which was started with h = 0 at token t - k + 1. So the parallel cell remembers the last k tokens and
nothing before, and its difference from the recurrent cell decreases with each sweep as fast as the cell forgets. In this stack
Mamba carries the long memory. With one sweep there is no memory, and the weights that would read h are left out: the cell
is a gated feed-forward with a time constant for each token.

Left out: the sparse wirings of ncps, its "pure" and "no_gate" modes, irregular time steps.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from ..config import ModelConfig
from .layers import Mixer


class CfC(Mixer):
    """Mixer (B, L, D) -> (B, L, D); see the module's text. Its state is (B, levels, D): h of the last token, one level per sweep."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, self.sweeps = config.d_model, config.cfc_sweeps
        inputs = D if self.sweeps == 1 else 2 * D
        # as many parameters as the feed-forward's 2 D d_ff: the backbone has `inputs` U, the four maps behind it 4 U D
        U = config.d_cfc or 2 * D * config.d_ff // (inputs + 4 * D)
        self.backbone = nn.Sequential(nn.Linear(inputs, U), _LeCunTanh())
        self.ff1, self.ff2, self.time_a, self.time_b = (nn.Linear(U, D) for _ in range(4))
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)  # as [2]

    @property
    def levels(self) -> int:
        """Number of remembered h: one for the recurrent cell; for the parallel one, each sweep's h that another sweep reads."""
        return 1 if self.sweeps == 0 else self.sweeps - 1

    def _read(self, x: torch.Tensor) -> torch.Tensor:
        """The part of the backbone that does not depend on h: (..., D) -> (..., U), computed once for all sweeps."""
        return F.linear(x, self._first.weight[:, : x.shape[-1]], self._first.bias)

    @property
    def _first(self) -> nn.Linear:
        """The backbone's matrix: first the columns for x, then those for h."""
        return cast(nn.Linear, self.backbone[0])

    def _cell(self, read: torch.Tensor, h: torch.Tensor | None) -> torch.Tensor:
        """h_t from `_read(x_t)` and h_{t-1}; None means zeros."""
        if h is not None:
            read = read + F.linear(h, self._first.weight[:, -h.shape[-1] :])
        z = self.backbone[1](read)
        gate = torch.sigmoid(self.time_a(z) + self.time_b(z))  # [1] equation 10 with Δt = 1
        return torch.lerp(torch.tanh(self.ff1(z)), torch.tanh(self.ff2(z)), gate)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        past = self.init_state(len(x)) if state is None else state.clone()
        read = self._read(x)  # (B, L, U)
        if self.sweeps == 0:
            h, outputs = past[:, 0].to(x.dtype), []
            for token in read.unbind(1):
                h = self._cell(token, h)
                outputs.append(h)
            if state is not None:
                state[:, 0] = h
            return torch.stack(outputs, dim=1)
        h = self._cell(read, None)
        for level in range(self.levels):
            before = torch.cat([past[:, level : level + 1].to(h.dtype), h[:, :-1]], dim=1)
            if state is not None:
                state[:, level] = h[:, -1]
            h = self._cell(read, before)
        return h

    def step(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """One token (B, D)."""
        return self.forward(x[:, None], state)[:, 0]

    def outputs(self) -> list[nn.Linear]:
        """The matrices that write into the residual stream."""
        return [self.ff1, self.ff2]

    def init_state(self, batch_size: int) -> torch.Tensor:
        return self.ff1.weight.new_zeros(batch_size, self.levels, self.ff1.out_features)


class _LeCunTanh(nn.Module):
    """1.7159 tanh(0.666 x), as ncps has it (LeCun et al. 1998, Efficient backprop, section 4.4)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(0.666 * x)
