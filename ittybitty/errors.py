"""Error classes, one for each kind of bad input (file, data, weights, option).

Every message is one line that names the file or setting, what is wrong with it, and what to do.
The command line prints that line and ends with code 2; a notebook shows it as the exception's text.
"""

from __future__ import annotations


class IttyBittyError(ValueError):
    """Base class of all errors that a user can fix; never raised itself."""


class MidiError(IttyBittyError):
    """A MIDI file cannot be read, or holds no piano notes."""


class CorpusError(IttyBittyError):
    """A corpus is missing, incomplete or damaged."""


class TokenizerError(IttyBittyError):
    """A tokenizer file is damaged, or does not belong to these tokens or this model."""


class CheckpointError(IttyBittyError):
    """A run folder or weights file is missing, damaged or of another model."""


class ConfigError(IttyBittyError):
    """An option or a configuration value makes no sense."""


class OutputError(IttyBittyError):
    """A result cannot be written where the user asked for it."""


class ResultError(IttyBittyError):
    """A measurement failed, or its record is missing, damaged or does not say how it was made."""


UNREADABLE = (
    MidiError,
    CorpusError,
    TokenizerError,
)  # raised for a single damaged piece: it is reported and skipped, and the other pieces are processed
