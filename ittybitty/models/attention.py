"""Sparse causal attention with a learned relative bias, and a cache that never grows.

A token sees every one of the last w tokens, and before them one landmark in s, up to r tokens back:

    distance   0 ........ w ................................ r
    seen       ||||||||||||   |       |       |       |      |      (a landmark is a position j with j mod s = s - 1)

A token of `small` reads 128 neighbours and at most 15 landmarks instead of up to 1,024 tokens, and the cache
never holds more than w + r / s + 1 keys. The pattern is local plus strided (Child et al. 2019, Sparse Transformers,
section 4.2): Mamba carries the long context, attention is needed to copy exactly from the recent bar, and the
landmarks reach back a phrase or two. The bias is a table per head over distances 0..w, clipped beyond. It starts
as the straight lines of ALiBi (Press et al. 2021, section 3) and is then learned. There is no other position encoding.
"""

from __future__ import annotations

import torch
from torch import nn

from ..config import ModelConfig
from ..errors import ConfigError
from .layers import Mixer, exempt_from_decay
from .states import AttentionState


def alibi_slopes(heads: int) -> torch.Tensor:
    """(H,) slopes 2^(-8/H), 2^(-16/H), …: ALiBi's geometric sequence."""
    return 2.0 ** (-8.0 / heads * torch.arange(1, heads + 1))


class SparseAttention(Mixer):
    """Mixer (B, L, D) -> (B, L, D); see the module's text."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.H, self.w, self.s, self.r = config.n_heads, config.attn_window, config.attn_stride, config.attn_reach
        if config.d_model % self.H or self.w % self.s or self.r % self.s or self.r < self.w:
            raise ConfigError(
                f"attention of width {config.d_model}, {self.H} heads, window {self.w}, stride {self.s}, reach {self.r}: "
                "heads must divide the width, the stride must divide window and reach, and reach be at least the window"
            )
        self.kind = config.attn_bias
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        lines = -alibi_slopes(self.H)[:, None] * torch.arange(self.w + 1)  # (H, w + 1)
        if self.kind == "learned":
            self.bias = nn.Parameter(lines)
            exempt_from_decay(self.bias)
        elif self.kind not in ("alibi", "none"):
            raise ConfigError(f"model.attn_bias is {self.kind!r}: give 'learned', 'alibi' or 'none'")

    def relative_bias(self, distance: torch.Tensor) -> torch.Tensor:
        """(...,) distances in tokens -> (H, ...) bias that is added to the scores."""
        if self.kind == "learned":
            return self.bias[:, distance.clamp(0, self.w)]
        if self.kind == "alibi":
            return -alibi_slopes(self.H).to(distance.device).view(-1, *[1] * distance.dim()) * distance
        return torch.zeros(self.H, *distance.shape, device=distance.device)

    def seen(self, length: int) -> torch.Tensor:
        """(L, L) bool: may query i read key j? This defines the pattern; it is used for pictures and tests."""
        i, j = torch.arange(length)[:, None], torch.arange(length)[None]
        distance = i - j
        near = (distance >= 0) & (distance < self.w)
        landmark = (j % self.s == self.s - 1) & (distance >= self.w) & (distance <= self.r)
        return near | landmark

    def _split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, L, D) -> q, k, v, each (B, H, L, D / H)."""
        B, L, _ = x.shape
        return self.qkv(x).view(B, L, 3, self.H, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: torch.Tensor, state: AttentionState | None = None) -> torch.Tensor:
        if state is not None and state.position:  # in the middle of a piece the chunks below would not be aligned
            return torch.stack([self.step(token, state) for token in x.unbind(1)], dim=1)
        B, L, D = x.shape
        q, k, v = self._split(x)
        if state is not None:
            self._remember(k, v, state)
        chunks, w = -(-L // self.w), self.w
        pad = chunks * w - L
        q, k, v = (torch.nn.functional.pad(t, (0, 0, 0, pad)) for t in (q, k, v))
        q = q.view(B, self.H, chunks, w, -1) * q.shape[-1] ** -0.5
        scores = q @ self._gather(k, chunks).transpose(-1, -2) + self._pattern(
            chunks, x.device
        )  # (B, H, chunks, w, keys)
        y = scores.softmax(-1).to(v.dtype) @ self._gather(v, chunks)  # (B, H, chunks, w, D / H)
        return self.out(y.flatten(2, 3)[:, :, :L].transpose(1, 2).reshape(B, L, D))

    def _gather(self, t: torch.Tensor, chunks: int) -> torch.Tensor:
        """Keys that any query of a chunk can see: the chunk before, the chunk, the landmarks. (B, H, chunks, keys, D / H)"""
        B, H, _, d = t.shape
        own = t.view(B, H, chunks, self.w, d)
        before = torch.cat([torch.zeros_like(own[:, :, :1]), own[:, :, :-1]], dim=2)
        landmarks = torch.nn.functional.pad(t[:, :, self.s - 1 :: self.s], (0, 0, self.r // self.s, 0))
        landmarks = landmarks.unfold(2, (self.r + self.w) // self.s, self.w // self.s).transpose(-1, -2)
        return torch.cat([before, own, landmarks], dim=3)

    def _pattern(self, chunks: int, device) -> torch.Tensor:
        """The bias, or -inf, for the scores of the keys that `_gather` returns. (H, chunks, w, keys)"""
        near = torch.arange(-self.w, self.w, device=device)  # key positions from the chunk's start
        far = torch.arange(-self.r, self.w, self.s, device=device) + self.s - 1
        i = torch.arange(self.w, device=device)[:, None]
        distance = i - torch.cat([near, far])  # (w, keys)
        seen_near = (distance >= 0) & (distance < self.w)
        seen_far = (distance >= self.w) & (distance <= self.r)
        seen = torch.cat([seen_near[:, : 2 * self.w], seen_far[:, 2 * self.w :]], dim=1)
        start = torch.arange(chunks, device=device)[:, None, None] * self.w
        exists = start + torch.cat([near, far]) >= 0  # (chunks, 1, keys)
        return self.relative_bias(distance.clamp(min=0))[:, None].masked_fill(~(seen & exists), float("-inf"))

    def _remember(self, k: torch.Tensor, v: torch.Tensor, state: AttentionState) -> None:
        """Fill the ring buffers of a fresh state with the end of k and v."""
        L = k.shape[2]
        last = torch.arange(max(0, L - self.w), L)
        landmarks = torch.arange(L // self.s)[-state.landmark_keys.shape[2] :] * self.s + self.s - 1
        slots = (landmarks // self.s) % state.landmark_keys.shape[2]
        for ring, marks, t in ((state.keys, state.landmark_keys, k), (state.values, state.landmark_values, v)):
            ring[:, :, last % self.w] = t[:, :, last].to(ring.dtype)
            marks[:, :, slots] = t[:, :, landmarks].to(marks.dtype)
        state.position = L

    def step(self, x: torch.Tensor, state: AttentionState) -> torch.Tensor:
        """One token (B, D) against the w + r / s + 1 keys of the cache."""
        q, k, v = (t[:, :, 0] for t in self._split(x[:, None]))  # (B, H, D / H)
        t, marks = state.position, state.landmark_keys.shape[2]
        state.keys[:, :, t % self.w], state.values[:, :, t % self.w] = k, v
        if t % self.s == self.s - 1:
            slot = (t // self.s) % marks
            state.landmark_keys[:, :, slot], state.landmark_values[:, :, slot] = k, v
        state.position += 1
        distance, seen = self._ring_distances(t, marks, x.device)
        keys = torch.cat([state.keys, state.landmark_keys], dim=2)
        values = torch.cat([state.values, state.landmark_values], dim=2)
        scores = (keys @ q[..., None])[..., 0] * q.shape[-1] ** -0.5 + self.relative_bias(distance.clamp(min=0))
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)  # (B, H, keys)
        return self.out((weights[:, :, None] @ values)[:, :, 0].flatten(1))

    def _ring_distances(self, t: int, marks: int, device) -> tuple[torch.Tensor, torch.Tensor]:
        """The distance of each slot of the ring buffers at position t, and whether it may be read. (w + marks,) each."""
        near = (t - torch.arange(self.w, device=device)) % self.w
        newest = (t + 1) // self.s - 1  # index of the newest landmark, -1 before the first
        index = newest - (newest - torch.arange(marks, device=device)) % marks
        far = t - (index * self.s + self.s - 1)
        seen = torch.cat([near <= t, (index >= 0) & (far >= self.w) & (far <= self.r)])
        return torch.cat([near, far]), seen

    def outputs(self) -> list[nn.Linear]:
        """The matrices that write into the residual stream."""
        return [self.out]

    def init_state(self, batch_size: int) -> AttentionState:
        def ring(n):
            return self.out.weight.new_zeros(batch_size, self.H, n, self.out.in_features // self.H)

        marks = self.r // self.s + 1
        return AttentionState(ring(self.w), ring(self.w), ring(marks), ring(marks))
