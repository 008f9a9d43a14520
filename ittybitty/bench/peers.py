"""Published models of the comparison, built from their libraries, to be timed beside ours."""

from __future__ import annotations

import torch
from torch import nn


class LSTM(nn.Module):
    """The published V6 shape over our vocabulary: embedding 128, 3 x 512, a head."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocabulary, 128), nn.Linear(512, vocabulary)
        self.lstm = nn.LSTM(128, 512, num_layers=3, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(ids))[0])


def llama(vocabulary: int) -> nn.Module:
    """transformers' LlamaForCausalLM of the published V7 shape (34M parameters), for pieces of up to 4,096 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=8,
            num_attention_heads=8,
            tie_word_embeddings=True,
            max_position_embeddings=4096,
        )
    )
