"""Models: ids -> logits. One language model around every backbone; stacks of blocks, and the published rivals."""

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


FAMILIES = {"stack": PianoHybridModel, "lstm": _lstm, "llama": _llama}


def build(config: ModelConfig) -> LanguageModel:
    """The model of `config.family`, drawn from torch's global random numbers; ConfigError for an unknown one."""
    if config.family not in FAMILIES:
        raise ConfigError(f"model.family is {config.family!r}: {nearest(config.family, FAMILIES)}")
    return FAMILIES[config.family](config)
