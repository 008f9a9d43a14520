"""What models remember of the past of a piece, in memory of a fixed size.

The arrays are PyTorch's where a model plays (mamba.py, attention.py, events.py) and NumPy's where native code does
(decode.py); native code reads and moves on either. This module imports neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from ..config import ModelConfig


@dataclass
class MambaState:
    """All that Mamba remembers of the past, however long it was."""

    conv: Any  # (B, K - 1, E) the last inputs of the convolution
    ssm: Any  # (B, E, N) float32


@dataclass
class AttentionState:
    """Rings of the last w keys and of the last r / s + 1 landmarks."""

    keys: Any  # (B, H, w, D / H)
    values: Any
    landmark_keys: Any  # (B, H, r / s + 1, D / H)
    landmark_values: Any
    position: int = 0  # tokens seen


@dataclass
class EventState:
    """The backbone's memory, its last output, and the ids of the event that is being written."""

    backbone: Any
    h: Any  # (B, D) after the last whole event; zeros before the first
    told: Any = None  # (B, D) h and the conditions of the ids so far
    ids: list = field(default_factory=list)  # (B,) each; fewer than the ids of an event


class Player(Protocol):
    """What music is drawn from: a LanguageModel, its native Decoder, or any object with these members.

    Ids and logits are tensors or NumPy arrays, as the model takes them; the state is whatever `init_state` returns.
    """

    config: ModelConfig

    def init_state(self, batch_size: int = 1) -> Any:
        """The state before the first token of `batch_size` pieces."""

    def prefill(self, ids: Any, state: Any) -> Any:
        """Read (B, L) ids and update `state` in place; logits (B, V) of the id after the last one."""

    def step(self, ids: Any, state: Any) -> Any:
        """Read one id (B,) of each piece and update `state` in place; logits (B, V) of the next one."""
