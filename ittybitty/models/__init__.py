"""Models: ids -> logits. One stack of blocks, one language model around it."""

from .hybrid import PianoHybridModel, Stack
from .lm import IGNORED, LanguageModel

__all__ = ["IGNORED", "LanguageModel", "PianoHybridModel", "Stack"]
