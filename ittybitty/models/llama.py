"""The LLaMA-style Transformer of V7 and V8: LlamaModel of the library transformers with the interface of this package.

[1] Touvron et al. 2023, LLaMA, arXiv:2302.13971: RMSNorm before each branch, SwiGLU, rotary positions [2].
[2] Su et al. 2021, RoFormer, arXiv:2104.09864: keys are rotated by their position, scores depend on distances alone.

Every token sees the last `attn_reach` tokens, including itself. Up to that length this is exactly LlamaForCausalLM (a
test compares the logits). Beyond it, full attention would have distances that it was never trained on and a cache
that grows without limit, so the window slides: `forward` masks what is further back, and the cache is a ring buffer, so
that `step` equals `forward` at any length and every token costs the same. Through its layers a token still
depends on tokens up to n_layers windows back.

Left out: grouped keys, and rescaled rotary bases for longer contexts; the published models have neither.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel
from transformers.cache_utils import Cache

from ..config import ModelConfig
from ..errors import ConfigError
from .layers import Backbone
from .lm import LanguageModel


class Rings(Cache):
    """Rotated keys and values of the last `reach` tokens, one ring buffer per layer; transformers' attention calls `update`."""

    def __init__(self, layers: int, shape: tuple[int, int, int, int], like: torch.Tensor):
        self.layers: list = []  # transformers' own; unused
        self.reach = shape[2]
        self.keys = [like.new_zeros(shape) for _ in range(layers)]  # (B, H, reach, D / H)
        self.values = [like.new_zeros(shape) for _ in range(layers)]
        self.position = 0  # tokens seen

    def kept(self) -> torch.Tensor:
        """Indices of the filled slots, oldest token first."""
        return torch.arange(max(0, self.position - self.reach), self.position) % self.reach

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_, **__
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (B, H, L, D / H) new keys and values; returns all keys and values that the new tokens may read."""
        p, L = self.position, keys.shape[2]
        found = []
        for ring, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if L == 1:
                ring[:, :, p % self.reach] = new[:, :, 0]
                found.append(ring[:, :, : p + 1])  # in any order, since the rotation encodes the position
                continue
            found.append(torch.cat([ring[:, :, self.kept()].to(new.dtype), new], dim=2) if p else new)
            last = torch.arange(max(0, L - self.reach), L)
            ring[:, :, (p + last) % self.reach] = new[:, :, last].to(ring.dtype)
        return found[0], found[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Number of tokens seen; transformers calls this."""
        return self.position


class LlamaLayers(Backbone):
    """Backbone (B, L, D) -> (B, L, D): transformers' LlamaModel without its embedding, final norm included."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.d_model % (2 * config.n_heads):
            raise ConfigError(
                f"a llama of width {config.d_model} with {config.n_heads} heads: twice the heads must divide the width"
            )
        self.reach, self.shape = (
            config.attn_reach,
            (config.n_heads, config.attn_reach, config.d_model // config.n_heads),
        )
        self.llama = LlamaModel(
            LlamaConfig(
                vocab_size=1,  # replaced by our own embedding
                hidden_size=config.d_model,
                intermediate_size=config.d_ff,
                num_hidden_layers=config.n_layers,
                num_attention_heads=config.n_heads,
                rms_norm_eps=1e-5,
                attention_dropout=config.dropout,
                max_position_embeddings=config.attn_reach,
                pad_token_id=None,
                bos_token_id=None,
                eos_token_id=None,
                use_cache=False,
                attn_implementation="sdpa",
            )
        )
        self.llama.embed_tokens = None

    def forward(self, x: torch.Tensor, state: Rings | None = None) -> torch.Tensor:
        L, position = x.shape[1], 0 if state is None else state.position
        places = torch.arange(position, position + L, device=x.device)
        whole = state is None and self.reach >= L  # transformers' own causal mask suffices
        y = self.llama(
            inputs_embeds=x,
            position_ids=None if whole else places[None],
            attention_mask=None if whole else self._mask(places, position),
            past_key_values=state,
            use_cache=False,
        ).last_hidden_state
        if state is not None:
            state.position += L
        return y

    def _mask(self, places: torch.Tensor, position: int) -> torch.Tensor:
        """(1, 1, L, keys) bool: True for the last `reach` keys of each query, in the order of `Rings.update`."""
        if position and len(places) == 1:
            return torch.ones(1, 1, 1, min(position + 1, self.reach), dtype=torch.bool, device=places.device)
        keys = torch.arange(max(0, position - self.reach), position + len(places), device=places.device)
        distance = places[:, None] - keys
        return ((distance >= 0) & (distance < self.reach))[None, None]

    def step(self, x: torch.Tensor, state: Rings) -> torch.Tensor:
        return self(x[:, None], state)[:, 0]

    def init_state(self, batch_size: int) -> Rings:
        return Rings(len(self.llama.layers), (batch_size, *self.shape), self.llama.norm.weight)

    def residual_branches(self) -> list[list[nn.Linear]]:
        """Of each branch, the matrix that writes into the residual stream."""
        return [[m] for layer in self.llama.layers for m in (layer.self_attn.o_proj, layer.mlp.down_proj)]

    def parts(self) -> dict[str, nn.Module]:
        """Name of a part -> its modules, for counting parameters."""
        layers = self.llama.layers
        norms = [norm for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
        return {
            "attention": nn.ModuleList(layer.self_attn for layer in layers),
            "feed-forward": nn.ModuleList(layer.mlp for layer in layers),
            "norms": nn.ModuleList([*norms, self.llama.norm]),
        }


class LlamaLanguageModel(LanguageModel):
    """Language model: `n_layers` of attention and SwiGLU, with one matrix as embedding and head."""

    def __init__(self, config: ModelConfig):
        super().__init__(LlamaLayers(config), config, norm=nn.Identity())
