"""Notes and pedal movements as events of four ids each: the encoding of the models that take one step per note."""

from .grammar import EventGrammar
from .tokenizer import IDS_PER_EVENT, VARIANTS, EventReader, EventTokenizer

__all__ = ["IDS_PER_EVENT", "VARIANTS", "EventGrammar", "EventReader", "EventTokenizer"]
