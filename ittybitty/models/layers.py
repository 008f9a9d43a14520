"""Base classes and common layers of all models, and the glossary of letters for their shapes.

    B batch    L tokens    D width of the residual stream    E inner width of Mamba, expand * D
    N states per inner channel    R rank of the step projection    K taps of the convolution
    H heads    V vocabulary    Δ step size

A letter has the same meaning in every file, notebook and in the paper. A block is a residual branch with its norm in
front (pre-norm): x + mixer(norm(x)). A mixer maps (B, L, D) to (B, L, D) and has three methods:

    forward(x, state=None)   all L tokens at once; a fresh state is updated to that after the last token
    step(x, state)           one token, x (B, D); the state is updated in place
    init_state(batch_size)   the state before the first token, or None if the mixer has no memory
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..config import ModelConfig


class Mixer(nn.Module, ABC):
    """Base class of what a block computes, such as Mamba or attention; the module's text explains the methods."""

    @abstractmethod
    def step(self, x: torch.Tensor, state: Any) -> torch.Tensor: ...

    @abstractmethod
    def init_state(self, batch_size: int) -> Any: ...

    @abstractmethod
    def outputs(self) -> list[nn.Linear]:
        """The matrices that write into the residual stream."""


class Backbone(nn.Module, ABC):
    """Base class of the layers between embedding and head: forward(x, state) maps (B, L, D) to (B, L, D)."""

    @abstractmethod
    def step(self, x: torch.Tensor, state: Any) -> torch.Tensor:
        """One token, x (B, D); the state is updated in place."""

    @abstractmethod
    def init_state(self, batch_size: int) -> Any:
        """The state before the first token of `batch_size` pieces."""

    @abstractmethod
    def residual_branches(self) -> list[list[nn.Linear]]:
        """Of each residual branch, the matrices that write into the residual stream."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Name of a part -> its modules, for counting parameters."""


def exempt_from_decay(*parameters: nn.Parameter) -> None:
    """Exempt parameters from weight decay, with the attribute that mamba_ssm uses; train/optimizer.py reads it."""
    for parameter in parameters:
        parameter._no_weight_decay = True  # type: ignore[attr-defined]


class FeedForward(Mixer):
    """Two matrices with a GELU between them (Vaswani et al. 2017, section 3.3; GELU: Hendrycks and Gimpel 2016)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: torch.Tensor, state: None = None) -> torch.Tensor:
        return self.down(F.gelu(self.up(x)))

    def step(self, x: torch.Tensor, state: None = None) -> torch.Tensor:
        return self(x)

    def init_state(self, batch_size: int) -> None:
        return None

    def outputs(self) -> list[nn.Linear]:
        """The matrices that write into the residual stream."""
        return [self.down]


class Block(nn.Module):
    """x + dropout(mixer(norm(x))), with root-mean-square norm (Zhang and Sennrich 2019, equation 4)."""

    def __init__(self, mixer: Mixer, config: ModelConfig):
        super().__init__()
        self.norm = nn.RMSNorm(config.d_model, eps=1e-5)
        self.mixer = mixer
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, state: Any = None) -> torch.Tensor:
        return x + self.dropout(self.mixer(self.norm(x), state))

    def step(self, x: torch.Tensor, state: Any) -> torch.Tensor:
        return x + self.mixer.step(self.norm(x), state)
