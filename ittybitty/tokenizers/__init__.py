"""Tokenizers convert a performance to ids for a language model, and ids back to a performance.

`VARIANTS` lists them by name; `make_tokenizer(name)` returns an untrained one, and `load_tokenizer(path)` reads a saved one of
any kind. All have the members of `Tokenizer` (protocol.py). `PianoTokenizer` is the REMI encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import nearest
from ..errors import ConfigError
from . import beats, events, pitch_string, remi, rests, saved
from .beats import BeatTokenizer
from .events import EventTokenizer
from .pitch_string import PitchStringTokenizer
from .protocol import Tokenizer
from .remi import PianoTokenizer
from .rests import RestTokenizer

# class -> its variants by name, with their settings
_KINDS: dict[Any, Mapping[str, object]] = {
    PianoTokenizer: remi.VARIANTS,
    RestTokenizer: rests.VARIANTS,
    PitchStringTokenizer: pitch_string.VARIANTS,
    BeatTokenizer: beats.VARIANTS,
    EventTokenizer: events.VARIANTS,
}

VARIANTS: dict[str, object] = {name: settings for variants in _KINDS.values() for name, settings in variants.items()}

__all__ = [
    "VARIANTS",
    "BeatTokenizer",
    "EventTokenizer",
    "PianoTokenizer",
    "PitchStringTokenizer",
    "RestTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "make_tokenizer",
]


def make_tokenizer(variant: str) -> Tokenizer:
    """An untrained tokenizer of that name; ConfigError names the nearest for an unknown one."""
    for kind, variants in _KINDS.items():
        if variant in variants:
            return kind(variant)
    raise ConfigError(f"no tokenizer is called {variant!r}: {nearest(variant, VARIANTS)}")


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer in a tokenizer.json, or in a folder that holds one; TokenizerError if there is none or it is damaged."""
    path = Path(path)
    return saved.read(path / saved.FILE if path.is_dir() else path, {kind.kind: kind for kind in _KINDS})
