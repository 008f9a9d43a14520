"""LSTM language models: the pitch-string networks V2-V5 and the REMI network V6 of "Eight models".

[1] Hochreiter and Schmidhuber 1997, Long short-term memory (with the forget gate of Gers et al. 2000).

There are two kinds of input, both published. "float": the id divided by the vocabulary's size, one number per token, so that
neighbouring ids look alike whatever they mean (V2-V5). "embedding": a learned vector per token (V6). The head is a matrix of its
own with a bias. There is no norm and no position encoding, because the state can count.

Left out: attention over past states, and weight tying (the widths differ).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..config import ModelConfig
from ..errors import ConfigError
from .layers import Backbone
from .lm import LanguageModel


@dataclass
class LSTMState:
    """The state of one layer, of fixed size however many tokens it has read."""

    h: torch.Tensor  # (1, B, units)
    c: torch.Tensor


class FloatInput(nn.Module):
    """Input of one number: (...,) ids -> (..., 1), id / V, without parameters."""

    def __init__(self, vocab_size: int):
        super().__init__()
        self.V = vocab_size

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return (ids.to(torch.get_default_dtype()) / self.V)[..., None]


class LSTMLayers(Backbone):
    """Backbone (B, L, inputs) -> (B, L, units of the last layer), with dropout after every layer."""

    def __init__(self, inputs: int, config: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise((inputs, *config.lstm_sizes)))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, state: list[LSTMState] | None = None) -> torch.Tensor:
        for i, layer in enumerate(self.layers):
            x, (h, c) = layer(x, None if state is None else (state[i].h, state[i].c))
            if state is not None:
                state[i].h, state[i].c = h, c
            x = self.dropout(x)
        return x

    def step(self, x: torch.Tensor, state: list[LSTMState]) -> torch.Tensor:
        return self(x[:, None], state)[:, 0]

    def init_state(self, batch_size: int) -> list[LSTMState]:
        def zeros(layer):
            return layer.weight_hh_l0.new_zeros(1, batch_size, layer.hidden_size)

        return [LSTMState(zeros(layer), zeros(layer)) for layer in self.layers]

    def residual_branches(self) -> list[list[nn.Linear]]:
        """None, because the layers have no residual connections."""
        return []

    def parts(self) -> dict[str, nn.Module]:
        """Name of a part -> its modules, for counting parameters."""
        return {"lstm": self.layers}


class LSTMModel(LanguageModel):
    """Language model of an embedding or float input, LSTM layers of `lstm_sizes`, and a head."""

    def __init__(self, config: ModelConfig):
        if config.lstm_input not in ("embedding", "float"):
            raise ConfigError(f"model.lstm_input is {config.lstm_input!r}: give 'embedding' or 'float'")
        learned = config.lstm_input == "embedding"
        embedding = nn.Embedding(config.vocab_size, config.d_embedding) if learned else FloatInput(config.vocab_size)
        backbone = LSTMLayers(config.d_embedding if learned else 1, config)
        head = nn.Linear(config.lstm_sizes[-1], config.vocab_size)
        super().__init__(backbone, config, embedding, nn.Identity(), head)
