"""REMI with rests, chords and a tempo in tokens, as the published V6 has it."""

from .grammar import RestGrammar
from .tokenizer import VARIANTS, RestTokenizer

__all__ = ["VARIANTS", "RestGrammar", "RestTokenizer"]
