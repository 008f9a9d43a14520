"""`ittybitty bench train`: training tokens a second of the 25.6M hybrid on this machine, beside its rivals.

Forward and backward with loss, B 1, L 1,024, in turns: the hybrid, transformers' LLaMA of the published V7 shape (34M) and
an LSTM of 3 x 512. All three get the same tokens; optimizers are left out, since all would use the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from .. import devices
from ..config import preset
from ..models import PianoHybridModel
from .timing import in_turns, matmul_rate

LENGTH = 1024


class _LSTM(nn.Module):
    """The published V6 shape over our vocabulary: embedding 128, 3 x 512, a head."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocabulary, 128), nn.Linear(512, vocabulary)
        self.lstm = nn.LSTM(128, 512, num_layers=3, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(ids))[0])


def _llama(vocabulary: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=8,
            num_attention_heads=8,
            tie_word_embeddings=True,
        )
    )


def bench_train(name: str = "small", turns: int = 5, device: str = "cpu") -> dict:
    """See the module's text; rates are medians over turns."""
    torch.manual_seed(0)
    place = devices.device(device)
    config = preset(name)["model"]
    ids = torch.randint(0, config.vocab_size, (1, LENGTH + 1), generator=torch.Generator().manual_seed(0)).to(place)
    x, y = ids[:, :-1], ids[:, 1:]
    makers = PianoHybridModel(config), _llama(config.vocab_size), _LSTM(config.vocab_size)
    ours, llama, lstm = (model.to(place) for model in makers)

    def step(model: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            (loss() / LENGTH).backward()
            model.zero_grad(set_to_none=True)

        return run

    times = in_turns(
        {
            "ours": step(ours, lambda: ours(x, y, 0.1)[0]),
            "llama": step(llama, lambda: F.cross_entropy(llama(x).logits[0], y[0], reduction="sum")),
            "lstm": step(lstm, lambda: F.cross_entropy(lstm(x)[0], y[0], reduction="sum")),
        },
        turns,
        device=device,
    )
    return {
        "preset": name,
        **devices.ran_on(ours),
        "tokens_per_s": LENGTH / times["ours"].median,
        "llama_tokens_per_s": LENGTH / times["llama"].median,
        "lstm_tokens_per_s": LENGTH / times["lstm"].median,
        "ratio_vs_llama": times["llama"].ratio(times["ours"]),
        "ratio_vs_lstm": times["lstm"].ratio(times["ours"]),
        "parameters": {
            n: sum(p.numel() for p in m.parameters()) for n, m in (("ours", ours), ("llama", llama), ("lstm", lstm))
        },
        "matmul_gflops": matmul_rate(device=device) / 1e9,
    }
