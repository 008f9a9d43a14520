"""One error class per kind of trouble (bad file, bad data, bad weights, bad option).

Every message is one line that names the thing, says what is wrong with it and what to do.
The command line prints that line and ends with code 2; a notebook shows it as the exception's text.
"""

from __future__ import annotations


class IttyBittyError(ValueError):
    """Root of every error that a user can mend; never raised itself."""


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
)  # what one damaged piece raises: it is named and left out, the others go on
