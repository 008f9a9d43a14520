"""A performance <-> numbers for a language model.

`VARIANTS` lists what there is by name; `PianoTokenizer(name)` makes one, `load_tokenizer(path)` reads a saved one.
"""

from .remi import VARIANTS, PianoTokenizer, load_tokenizer

__all__ = ["VARIANTS", "PianoTokenizer", "load_tokenizer"]
