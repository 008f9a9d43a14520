"""Itty Bitty: a short piano seed goes in, a longer piece comes out.

    import ittybitty
    piano = ittybitty.load()                        # the small model that ships with the package
    piano.continue_("seed.mid", seconds=60, out="longer.mid")

Importing the package loads nothing heavy: each name below is fetched from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .piano import Piano

__version__ = "0.2.0"
TAG = f"v{__version__}"  # of this version in git: what is told to install the package names it, not a branch
REPOSITORY = (
    "ittybitty-piano/ittybitty"  # owner/name on GitHub; the badges of README and notebooks are held to it by tests
)

_HOME = {
    "SCALE_PRESETS": "config",
    "ModelConfig": "config",
    "DataConfig": "config",
    "TrainConfig": "config",
    "GenerationConfig": "config",
    "IttyBittyError": "errors",
    "Note": "notes",
    "Pedal": "notes",
    "Performance": "notes",
    "read_midi": "midi",
    "write_midi": "midi",
    "open_corpus": "corpora",
    "PianoTokenizer": "tokenizers",
    "PianoHybridModel": "models",
    "Piano": "piano",
    "generate_continuation": "generation",
}

__all__ = ["REPOSITORY", "TAG", "load", *_HOME]


def load(name: str = "tiny") -> Piano:
    """A `Piano` ready to play: `name` is a model that ships with the package ("tiny", "tiny-remi") or a run folder."""
    from .piano import Piano

    return Piano.load(name)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
