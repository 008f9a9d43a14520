"""Models that map token ids to logits: stacks of blocks, and the published LSTM and LLaMA for comparison.

PyTorch is imported with the first name that needs it, because native decoding (decode.py) does not need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ..config import ModelConfig, nearest
from ..errors import ConfigError

if TYPE_CHECKING:
    from .hybrid import PianoHybridModel, Stack
    from .lm import IGNORED, LanguageModel

__all__ = ["FAMILIES", "IGNORED", "LanguageModel", "PianoHybridModel", "Stack", "build"]

_HOME = {"PianoHybridModel": "hybrid", "Stack": "hybrid", "IGNORED": "lm", "LanguageModel": "lm"}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    return value


def _stack(config: ModelConfig) -> LanguageModel:
    from .hybrid import PianoHybridModel

    return PianoHybridModel(config)


def _lstm(config: ModelConfig) -> LanguageModel:
    from .lstm import LSTMModel

    return LSTMModel(config)


def _llama(config: ModelConfig) -> LanguageModel:
    from .llama import LlamaLanguageModel  # transformers takes seconds to import

    return LlamaLanguageModel(config)


def _events(config: ModelConfig) -> LanguageModel:
    """A model of events: the backbone of any family, with embeddings and heads of events."""
    from torch import nn

    from .events import EventModel

    if config.family == "lstm":
        from .lstm import LSTMLayers

        layers = LSTMLayers(config.d_embedding, config)
        return EventModel(layers, config, nn.Identity(), config.d_embedding, config.lstm_sizes[-1])
    if config.family == "llama":
        from .llama import LlamaLayers

        return EventModel(LlamaLayers(config), config, nn.Identity(), config.d_model, config.d_model)
    from .hybrid import Stack

    return EventModel(Stack(config), config, None, config.d_model, config.d_model)


FAMILIES = {"stack": _stack, "lstm": _lstm, "llama": _llama}


def build(config: ModelConfig) -> LanguageModel:
    """The model of `config.family`, initialised from torch's global random numbers; ConfigError for an unknown family."""
    if config.family not in FAMILIES:
        raise ConfigError(f"model.family is {config.family!r}: {nearest(config.family, FAMILIES)}")
    return _events(config) if config.events else FAMILIES[config.family](config)
