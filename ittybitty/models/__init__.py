"""Models: ids -> logits. One language model around every backbone; stacks of blocks, and the published rivals."""

from torch import nn

from ..config import ModelConfig, nearest
from ..errors import ConfigError
from .hybrid import PianoHybridModel, Stack
from .lm import IGNORED, LanguageModel

__all__ = ["FAMILIES", "IGNORED", "LanguageModel", "PianoHybridModel", "Stack", "build"]


def _lstm(config: ModelConfig) -> LanguageModel:
    from .lstm import LSTMModel

    return LSTMModel(config)


def _llama(config: ModelConfig) -> LanguageModel:
    from .llama import LlamaLanguageModel  # transformers takes seconds to import

    return LlamaLanguageModel(config)


def _events(config: ModelConfig) -> LanguageModel:
    """The backbone of any family between embeddings and heads of events."""
    from .events import EventModel

    if config.family == "lstm":
        from .lstm import LSTMLayers

        layers = LSTMLayers(config.d_embedding, config)
        return EventModel(layers, config, nn.Identity(), config.d_embedding, config.lstm_sizes[-1])
    if config.family == "llama":
        from .llama import LlamaLayers

        return EventModel(LlamaLayers(config), config, nn.Identity(), config.d_model, config.d_model)
    return EventModel(Stack(config), config, None, config.d_model, config.d_model)


FAMILIES = {"stack": PianoHybridModel, "lstm": _lstm, "llama": _llama}


def build(config: ModelConfig) -> LanguageModel:
    """The model of `config.family`, drawn from torch's global random numbers; ConfigError for an unknown one."""
    if config.family not in FAMILIES:
        raise ConfigError(f"model.family is {config.family!r}: {nearest(config.family, FAMILIES)}")
    return _events(config) if config.events else FAMILIES[config.family](config)
