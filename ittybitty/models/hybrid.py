"""A stack of blocks that is described by a string: the published hybrid, pure Mamba and every ablation.

``"MF MF MFA MF MF MFA"`` is Itty Bitty Piano: six groups of Mamba and feed-forward, with sparse attention in every third.
Pure Mamba is ``"M" * 15`` at the size `small`, and ``"M" * 6`` of width 2,048 as published.
A new kind of block is one entry of `MIXERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from ..config import ModelConfig
from ..errors import ConfigError
from .attention import SparseAttention
from .cfc import CfC
from .layers import Backbone, Block, FeedForward, Mixer
from .lm import LanguageModel
from .mamba import Mamba
from .ssm import PlainSSM

MIXERS: dict[str, Callable[[ModelConfig], Mixer]] = {
    "M": Mamba,
    "S": PlainSSM,
    "F": FeedForward,
    "C": CfC,
    "A": SparseAttention,
}
NAMES = {"M": "mamba", "S": "plain ssm", "F": "feed-forward", "C": "cfc", "A": "attention"}  # for tables


class Stack(Backbone):
    """Backbone (B, L, D) -> (B, L, D): one block for each letter of `config.pattern`, from left to right."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        letters = config.pattern.replace(" ", "")
        unknown = sorted(set(letters) - set(MIXERS))
        if unknown or not letters:
            raise ConfigError(f"model.pattern is {config.pattern!r}: write it with the letters {', '.join(MIXERS)}")
        self.letters = letters
        blocks = nn.ModuleList(Block(MIXERS[letter](config), config) for letter in letters)
        self.blocks = cast(Sequence[Block], blocks)  # ModuleList has no type of its elements

    def forward(self, x: torch.Tensor, state: list | None = None) -> torch.Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, state[i] if state else None)
        return x

    def step(self, x: torch.Tensor, state: list) -> torch.Tensor:
        for block, past in zip(self.blocks, state):
            x = block.step(x, past)
        return x

    def init_state(self, batch_size: int) -> list:
        return [block.mixer.init_state(batch_size) for block in self.blocks]

    def residual_branches(self) -> list[list[nn.Linear]]:
        """Of each block, the matrices that write into the residual stream."""
        return [block.mixer.outputs() for block in self.blocks]

    def parts(self) -> dict[str, nn.Module]:
        """Name of a part -> its modules, for counting parameters."""
        mixers = {
            name: nn.ModuleList(b.mixer for b, letter in zip(self.blocks, self.letters) if letter == key)
            for key, name in NAMES.items()
        }
        return {**{k: v for k, v in mixers.items() if len(v)}, "norms": nn.ModuleList(b.norm for b in self.blocks)}


class PianoHybridModel(LanguageModel):
    """Language model over a `Stack`: ``PianoHybridModel(SCALE_PRESETS["small"]["model"])``."""

    def __init__(self, config: ModelConfig):
        head = None if config.tied_head else nn.Linear(config.d_model, config.vocab_size, bias=False)
        super().__init__(Stack(config), config, head=head)
