"""A trained model with its tokenizer, ready to play.

    piano = Piano.load("tiny")
    piano.continue_("seed.mid", seconds=60, out="longer.mid")
    for note in piano.stream("seed.mid", seconds=60): ...

Left out: how a continuation is made (generation.py), and where the trained weights come from (checkpoint/, fetch.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import checkpoint, systems
from .config import DataConfig, GenerationConfig
from .errors import ConfigError
from .generation import (
    TOKENS_PER_SECOND,
    Continuation,
    Listen,
    Progress,
    continuation,
    generate_continuation,
    stream,
    write_continuation,
)
from .midi import read_midi
from .models.decode import Decoder, native_decoder, playable
from .notes import Note, Performance
from .paths import atomic_path
from .tokenizers.protocol import Tokenizer

if TYPE_CHECKING:
    from .models.lm import LanguageModel

MOST_TOKENS_PER_NOTE = 32  # more than any encoding needs, rests and pedal included; bounds a request in notes


@dataclass(frozen=True)
class Piano:
    """A trained model with its tokenizer, ready to play: `ittybitty.load()`."""

    model: LanguageModel | Decoder
    tokenizer: Tokenizer
    data: DataConfig
    name: str
    path: Path | None = None
    sampling: GenerationConfig = GenerationConfig()  # how its system is sampled by default

    @classmethod
    def load(cls, name: str | Path = "tiny", device: str = "cpu") -> Piano:
        """A model that ships with the package, or a run folder, on a device ("auto", "cpu", "cuda:1" …).

        One piece at a time is decoded fastest on the CPU, where native code does it. CheckpointError says what is
        wrong with the model, ConfigError what with the device.
        """
        found = checkpoint.load(name, device)
        return cls(
            found.model, found.tokenizer, found.configs["data"], str(name), found.path, systems.sampling(found.system)
        )

    @classmethod
    def for_playing(cls, name: str | Path = "tiny", device: str = "cpu", precision: str = "float32") -> Piano:
        """As `load`, but only to generate, in one precision: PyTorch is not imported if native code can run the model."""
        folder, header, tokenizer = checkpoint.opened(name)
        config = header["configs"]["model"]
        if device == "cpu" and playable(config):
            with contextlib.suppress(KeyError, ValueError):  # weights that do not fit: `load` names them
                player = native_decoder(config, checkpoint.read_arrays(folder), precision)
                return cls(
                    player, tokenizer, header["configs"]["data"], str(name), folder, systems.sampling(header["system"])
                )
        return cls.load(name, device)

    def continue_(
        self,
        seed_file: str | Path | Performance,
        /,
        seconds: float | None = None,
        tokens: int | None = None,
        out: str | Path | None = None,
        progress: Progress | None = None,
        listen: Listen | None = None,
        **options,
    ) -> Continuation:
        """Continue a MIDI file or a performance by `seconds` of music or `tokens` (512), and write it to `out` if given.

        `options` are fields of GenerationConfig (temperature, top_k, top_p, notes, seed, only_new, …) and `prompt_seconds`,
        `prompt_tokens`. ConfigError for one that makes no sense. `progress` and `listen` are those of `continuation`.
        """
        config, wanted = self._configs(seconds, tokens, options)
        if not isinstance(seed_file, Performance):
            return generate_continuation(self.model, self.tokenizer, seed_file, out, config, wanted, progress, listen)
        with atomic_path(out) if out is not None else contextlib.nullcontext() as place:
            made = continuation(self.model, self.tokenizer, seed_file, config, wanted, progress, listen)
            if place is not None:
                write_continuation(made, place, wanted.only_new)
        return made

    def stream(
        self,
        seed_file: str | Path | Performance = Performance(),
        /,
        seconds: float | None = None,
        tokens: int | None = None,
        **options,
    ) -> Iterator[Note]:
        """The notes of a continuation as they are generated; without a seed, those of a new piece."""
        config, wanted = self._configs(seconds, tokens, options)
        seed = seed_file if isinstance(seed_file, Performance) else read_midi(seed_file, repair=True)
        return stream(self.model, self.tokenizer, seed, config, wanted)

    def _configs(self, seconds: float | None, tokens: int | None, options: dict) -> tuple[DataConfig, GenerationConfig]:
        listening = {k: options.pop(k) for k in ("prompt_seconds", "prompt_tokens") if k in options}
        for name, value in listening.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value}: give a number above 0")
        if unknown := options.keys() - {f.name for f in dataclasses.fields(GenerationConfig)}:
            raise ConfigError(f"no option is called {min(unknown)!r}: see ittybitty.GenerationConfig")
        if tokens is None:
            notes = options.get("notes") or 0
            music = TOKENS_PER_SECOND * (seconds if seconds and seconds > 0 else 0), MOST_TOKENS_PER_NOTE * notes
            tokens = 512 + math.ceil(min(max(music), 1e9))
        options.setdefault("max_new_tokens", tokens)
        return dataclasses.replace(self.data, **listening), self.sampling.changed(seconds=seconds, **options)
