"""The language model around every backbone: embedding, final norm, head, loss.

    forward(ids)                   (B, L) -> logits (B, L, V)
    forward(ids, targets)          -> sums over the targets: (training loss, nats, number of targets), each of shape (1,)
    read(ids, state)               the same logits, for parts of a piece one after the other, with a state of fixed size
    prefill(ids, state), step(ids, state)   the same, but only the logits of the last token

The loss is computed inside forward, as sums. So under DataParallel nothing of size (B, L, V) is sent between devices,
and replicas with unequal shares of the batch still add up to exactly the loss of one device.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..errors import CheckpointError
from .layers import Backbone

IGNORED = -100  # a target that is not scored


class _CrossEntropy(torch.autograd.Function):
    """Sums over targets of the smoothed loss and of the plain nats: logits (T, V), targets (T,).

    Szegedy et al. 2016, section 7: weight 1 - ε on the target, ε spread evenly over the vocabulary. The gradient is
    softmax - weights; computed directly, it needs a third of autograd's passes over (T, V).
    """

    @staticmethod
    def forward(ctx, logits, targets, smoothing):
        scored, index = targets != IGNORED, targets.clamp(min=0)[:, None]
        total = logits.logsumexp(-1)
        nats = total - logits.gather(-1, index)[:, 0]
        loss = nats if not smoothing else (1 - smoothing) * nats + smoothing * (total - logits.mean(-1))
        ctx.save_for_backward(logits, total, index, scored)
        ctx.smoothing = smoothing
        sums = (loss * scored).sum(), (nats * scored).sum()
        ctx.mark_non_differentiable(sums[1])
        return sums

    @staticmethod
    def backward(ctx, upstream, _):
        logits, total, index, scored = ctx.saved_tensors
        gradient = (logits - total[:, None]).exp_()
        if ctx.smoothing:
            gradient -= ctx.smoothing / logits.shape[1]
        gradient.scatter_add_(1, index, torch.full_like(gradient[:, :1], ctx.smoothing - 1))
        return gradient.mul_((upstream * scored)[:, None]), None, None


class LanguageModel(nn.Module):
    """A language model; its `backbone` maps (B, L, D) to (B, L, D) and has the methods of layers.Backbone.

    By default it has an embedding that is also the head (`tied_head`). A family may give its own
    `embedding`: (B, L) ids -> (B, L, …), `norm` and `head`: (B, L, D) -> (B, L, V); without a `head` the embedding is tied.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: ModelConfig,
        embedding: nn.Module | None = None,
        norm: nn.Module | None = None,
        head: nn.Module | None = None,
    ):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model) if embedding is None else embedding
        self.backbone = backbone
        self.norm = nn.RMSNorm(config.d_model, eps=1e-5) if norm is None else norm
        if head is not None:
            self.head = head
        # A tied head multiplies the embedding with itself. With torch's standard deviation of 1, the logit of the token just
        # read starts at D and the others at sqrt(D); an early published version with this was reported to collapse to one
        # token (an ablation of the paper). Small embeddings scale all logits down by 50 (Radford et al. 2018, section 4.1).
        if isinstance(self.embedding, nn.Embedding):
            nn.init.normal_(self.embedding.weight, std=0.02 if config.logit_scaling else 1.0)
        self._shrink_residual_branches()

    @property
    def tied(self) -> bool:
        """Whether the embedding is also the head."""
        return not hasattr(self, "head")

    @torch.no_grad()
    def _shrink_residual_branches(self) -> None:
        """Scale the initial outputs of residual branches by 1 / sqrt(branches) (Radford et al. 2019, section 2.3), or by 0."""
        branches = self.backbone.residual_branches()
        for module in (m for branch in branches for m in branch):
            module.weight.mul_(0.0 if self.config.zero_residuals else len(branches) ** -0.5)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids)

    def _head(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        return F.linear(x, cast(nn.Embedding, self.embedding).weight) if self.tied else self.head(x)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor | None = None, label_smoothing: float = 0.0) -> Any:
        logits = self._head(self.backbone(self._embed(ids)))  # (B, L, V)
        if targets is None:
            return logits
        loss, nats = _CrossEntropy.apply(logits.float().flatten(0, 1), targets.flatten(), label_smoothing)
        return loss.view(1), nats.view(1), (targets != IGNORED).sum().view(1)

    def init_state(self, batch_size: int = 1) -> Any:
        """The state before the first token of `batch_size` pieces."""
        return self.backbone.init_state(batch_size)

    def read(self, ids: torch.Tensor, state: Any) -> torch.Tensor:
        """Read (B, L) tokens in parallel and update `state` in place; logits (B, L, V) of the token after each of them."""
        return self._head(self.backbone(self._embed(ids), state))

    def prefill(self, ids: torch.Tensor, state: Any) -> torch.Tensor:
        """Read (B, L) tokens in parallel and update `state` in place; logits (B, V) of the token after the last one."""
        return self._head(self.backbone(self._embed(ids), state)[:, -1])

    def step(self, ids: torch.Tensor, state: Any) -> torch.Tensor:
        """Read one token (B,) and update `state` in place; logits (B, V) of the next token."""
        return self._head(self.backbone.step(self._embed(ids), state))

    def parameters_by_part(self) -> dict[str, int]:
        """Part -> number of parameters; the values add up to the total."""
        own = (
            {"embedding (tied with the head)": self.embedding}
            if self.tied
            else {"embedding": self.embedding, "head": self.head}
        )
        parts = {**own, **self.backbone.parts()}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        counts["norms"] = counts.get("norms", 0) + sum(p.numel() for p in self.norm.parameters())
        return {name: count for name, count in counts.items() if count}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch, except that ``strict=False`` warns of what it skipped, and other shapes raise CheckpointError."""
        own = self.state_dict()
        other = [k for k, v in state_dict.items() if k in own and own[k].shape != v.shape]
        if other:
            k = other[0]
            raise CheckpointError(
                f"weights do not fit this configuration: {k} is {tuple(state_dict[k].shape)} in the file and "
                f"{tuple(own[k].shape)} in the model; use the configuration that was saved with the weights"
            )
        if not set(own) & set(state_dict):
            raise CheckpointError(
                "weights do not fit: no tensor name of the file is known to the model; is it of another model?"
            )
        result = super().load_state_dict(state_dict, strict=strict, assign=assign)
        for what, keys in (
            ("missing from the file", result.missing_keys),
            ("unknown to the model", result.unexpected_keys),
        ):
            if keys:
                warnings.warn(
                    f"{len(keys)} tensors are {what}: {', '.join(keys[:4])}{' …' if len(keys) > 4 else ''}",
                    stacklevel=2,
                )
        return result
