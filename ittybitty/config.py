"""Every number of a model, its data and its training, in frozen dataclasses with the paper's letter and unit.

A preset is a dict of three: ``{"model": ModelConfig, "data": DataConfig, "train": TrainConfig}``.
Change one value with ``override(preset, {"train.learning_rate": "1e-3"})``; an unknown key is refused and the
nearest one named. This module imports no torch, so that the command line starts quickly.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from .errors import ConfigError
from .jsonable import dumps


def _at_least(least: int, part: str, config: object, *names: str) -> None:
    _check(lambda value: least <= value < math.inf, f"{least} or more", part, config, names)


def _above_zero(part: str, config: object, *names: str) -> None:
    _check(lambda value: value > 0, "a number above 0", part, config, names)


def _below_one(part: str, config: object, *names: str) -> None:
    _check(lambda value: 0 <= value < 1, "0 or more, below 1", part, config, names)


def _check(good: Callable[[Any], bool], hint: str, part: str, config: object, names: tuple[str, ...]) -> None:
    """ConfigError for the first of these settings that is not a number or not a `good` one; NaN never is."""
    for name in names:
        if not (isinstance(value := getattr(config, name), Real) and good(value)):
            raise ConfigError(f"{part}.{name} is {value}: give {hint}")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a language model. A setting of another family than its own is not read.

    `pattern` is read left to right, one residual block for each letter (spaces are ignored):
    M Mamba, S the same block without selection, F feed-forward, C closed-form continuous-time cell, A sparse attention.
    """

    family: str = "stack"  # "stack" of blocks that `pattern` spells, "lstm" or "llama"
    pattern: str = "MF MF MFA MF MF MFA"
    vocab_size: int = 2000  # V; 0 means the ids of the encoding itself, without byte pairs
    tied_head: bool = True  # stack: the embedding is the head too
    d_model: int = 512  # D, width of the residual stream (llama's too)
    d_state: int = 16  # N, states per inner channel
    d_conv: int = 4  # K, taps of the causal convolution
    expand: int = 2  # E = expand * D
    dt_rank: int = 0  # R, rank of the step projection; 0 means ceil(D / 16)
    d_ff: int = 2000  # width of the feed-forward block (llama's too)
    d_cfc: int = 0  # U, units of a CfC's backbone; 0 means as many as give a feed-forward block's parameters
    cfc_sweeps: int = 2  # of the parallel CfC; 0 means the recurrent cell, token by token
    n_heads: int = 8  # H
    attn_window: int = 128  # w, every one of the last w tokens is seen
    attn_stride: int = 64  # s, and every s-th token (a landmark) before them
    attn_reach: int = (
        1024  # r, up to r tokens back; the cache holds w + r / s + 1 keys, however long the piece (llama: the last r)
    )
    attn_bias: str = "learned"  # "learned" per head over distances 0..w, "alibi" fixed slopes, "none"
    logit_scaling: bool = True  # small embeddings, so that the tied head starts with logits near 0
    dropout: float = 0.0
    n_layers: int = 8  # llama: layers of attention and SwiGLU
    lstm_sizes: tuple[int, ...] = (512, 512, 512)  # lstm: units of each layer
    lstm_input: str = "embedding"  # "embedding" learned, of width d_embedding; "float": id / V, one number
    d_embedding: int = 128
    events: tuple[
        int, ...
    ] = ()  # classes of time, what, duration, velocity: one step of the backbone per event, not per id
    zero_residuals: bool = False  # outputs of residual branches start at 0, not 1 / sqrt(branches) smaller

    def __post_init__(self):
        _at_least(
            1, "model", self, "d_model", "d_state", "d_conv", "expand", "d_ff", "n_heads", "attn_window", "attn_stride", "attn_reach",
            "n_layers", "d_embedding",
        )  # fmt: skip  # a list of names, read as one sentence
        _at_least(0, "model", self, "vocab_size", "dt_rank", "d_cfc", "cfc_sweeps")
        _below_one("model", self, "dropout")
        if not self.lstm_sizes or min(self.lstm_sizes) < 1:
            raise ConfigError(
                f"model.lstm_sizes is {self.lstm_sizes}: give the units of each layer, such as 512,512,512"
            )

    @property
    def shape(self) -> str:
        """The model in a word or two, for tables."""
        if self.family == "lstm":
            return f"LSTM {'-'.join(map(str, self.lstm_sizes))}, {'one number' if self.lstm_input == 'float' else self.d_embedding} in"
        return f"LLaMA {self.n_layers} x {self.d_model}" if self.family == "llama" else self.pattern


@dataclass(frozen=True)
class DataConfig:
    """What the model reads: tokenizer, window, augmentation, and how much of a seed it is given."""

    tokenizer: str = "remi"  # a name of ittybitty.tokenizers.VARIANTS
    corpus: str = ""  # "asap": where a folder holds several corpora, read that one
    context: int = 1024  # ids of a training window
    stride: int = 0  # tokens from one window to the next; 0 means the context: no token is read twice in an epoch
    copies: int = 0  # transposed copies of each piece, read beside it; 0 means that each window is transposed by a new interval each time
    pitch_shift: int = 6  # semitones, drawn from ±pitch_shift
    velocity_shift: int = 2  # velocity classes, drawn from ±velocity_shift
    tempo_stretch: float = 0.1  # factor drawn from 1 ± tempo_stretch
    prompt_seconds: float = 10.0  # s of the seed's end that are continued
    prompt_tokens: int = 128  # and at most this many tokens

    def __post_init__(self):
        _at_least(1, "data", self, "context", "prompt_tokens")
        _at_least(0, "data", self, "stride", "copies", "pitch_shift", "velocity_shift")
        _below_one("data", self, "tempo_stretch")
        _above_zero("data", self, "prompt_seconds")


OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "stable", "stairs")


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe: published values, unless a preset changes them."""

    steps: int = 10_000
    epochs: int = 0  # passes over the training windows; above 0 they decide the steps
    batch_size: int = 64  # windows a step, over all devices and accumulated micro-batches
    accumulation: int = 1  # micro-batches a step
    minutes: float = (
        0.0  # above 0 the schedule follows the time spent training, and the run ends with it or with its steps
    )
    optimizer: str = "adamw"  # or "muon": Muon for the hidden matrices, AdamW for the rest
    learning_rate: float = 3e-4  # of AdamW
    muon_learning_rate: float = 0.01
    momentum: float = 0.95  # of Muon
    schedule: str = "cosine"  # after the warm-up; "stable": constant, then a straight fall over the last `cooldown`;
    # "stairs": times `decay` every `decay_epochs`
    cooldown: float = 0.3  # part of the run
    min_learning_rate: float = 3e-5  # where cosine and cooldown end
    decay: float = 0.1
    decay_epochs: int = 3
    warmup: int = 200  # steps
    weight_decay: float = 0.01  # on matrices only
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0  # largest gradient norm
    label_smoothing: float = 0.1
    precision: str = "auto"  # "auto", "float32", "float16", "bfloat16"
    validate_every: int = 0  # steps; 0 means once an epoch
    validation_windows: int = 0  # windows of the validation split that are read each time; 0 means all
    patience: int = 0  # validations without gain before an early stop; 0 means never
    checkpoint_every: int = 200  # steps
    seed: int = 0

    def __post_init__(self):
        _at_least(1, "train", self, "steps", "batch_size", "accumulation", "decay_epochs", "checkpoint_every")
        _at_least(
            0, "train", self, "epochs", "learning_rate", "min_learning_rate", "warmup", "weight_decay", "validate_every",
            "validation_windows", "patience", "seed",
        )  # fmt: skip  # a list of names, read as one sentence
        _below_one("train", self, "beta1", "beta2", "label_smoothing", "momentum")
        _at_least(0, "train", self, "minutes", "muon_learning_rate")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"train.optimizer is {self.optimizer!r}: {nearest(self.optimizer, OPTIMIZERS)}")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"train.schedule is {self.schedule!r}: {nearest(self.schedule, SCHEDULES)}")
        if not 0 < self.cooldown <= 1:
            raise ConfigError(f"train.cooldown is {self.cooldown}: give a part of the run, above 0, at most 1")
        _above_zero("train", self, "decay", "clip")


COLDEST = 1e-6  # temperature: the likeliest token is drawn practically always, and no logit overflows
LONGEST = 1_000_000_000  # tokens or notes of one continuation
DAY = 86_400  # s of music of one continuation


@dataclass(frozen=True)
class GenerationConfig:
    """How the next token is drawn. `max_new_tokens` counts tokens; `seconds` of music or `notes`, if given, stop earlier."""

    max_new_tokens: int = 512
    temperature: float = 0.95
    top_p: float = 0.97
    top_k: int = 0  # 0 means all
    # If one step is a note (notes-*), its parts may be drawn with settings of their own; None: those above.
    time_temperature: float | None = None  # of the time since the event before
    time_top_p: float | None = None
    expression_temperature: float | None = None  # of durations and velocities
    expression_top_p: float | None = None
    # notes-*: how firmly pace, register and loudness are held near those of the seed (tokenizers/events/hold.py); 0 is not at all
    hold: float = 0.0
    seconds: float | None = None  # s of new music
    notes: int | None = None  # new notes
    repetition_penalty: float = 1.0  # Keskar et al. 2019 (CTRL), section 4.1; 1 is off, above 1 discourages repeats
    seed: int | None = None  # same number, same music; None draws one and reports it
    precision: str = "float32"  # or "int8": a quarter of the bytes, and music that may differ (CPU only)
    stop_at_end: bool = False  # let the model end the piece early; otherwise its end token is never drawn
    ending: bool = False  # end the piece near `seconds` (endings.py) instead of cutting it there
    only_new: bool = False  # write the continuation without the seed
    start: float | None = None  # s of the seed at which the new music begins; None for its end
    before_ending: bool = False  # where the seed ends in an ending (seeds.py), begin before it

    def __post_init__(self):
        checks = {
            "max_new_tokens": (1 <= self.max_new_tokens <= LONGEST, f"1 to {LONGEST:,}"),
            "temperature": (COLDEST <= self.temperature <= 10, f"{COLDEST:f} to 10 (0.9 is a good start)"),
            "top_p": (0 < self.top_p <= 1, "above 0, at most 1 (1 is off)"),
            "top_k": (self.top_k >= 0, "0 (off) or more"),
            **{
                name: (getattr(self, name) is None or least <= getattr(self, name) <= most, f"{least:f} to {most}")
                for part in ("time", "expression")
                for name, least, most in ((f"{part}_temperature", COLDEST, 10), (f"{part}_top_p", 1e-6, 1))
            },
            "hold": (0 <= self.hold <= 100, "0 (off) to 100"),
            "seconds": (self.seconds is None or 0 < self.seconds <= DAY, f"a number above 0, at most {DAY:,}"),
            "start": (self.start is None or 0 < self.start < math.inf, "a second above 0"),
            "notes": (self.notes is None or 1 <= self.notes <= LONGEST, f"1 to {LONGEST:,}"),
            "precision": (self.precision in ("float32", "int8"), "float32 or int8"),
            "repetition_penalty": (
                1 <= self.repetition_penalty <= 10,
                "1 (off) to 10; below 1 would reward repetition",
            ),
        }
        for name, (good, hint) in checks.items():
            if not good:
                raise ConfigError(f"{name} is {getattr(self, name)}: give {hint}")

    @property
    def by_part(self) -> bool:
        """Whether some parts of an event are drawn with settings of their own."""
        return any(
            getattr(self, f"{part}_{name}") for part in ("time", "expression") for name in ("temperature", "top_p")
        )

    def changed(self, **options) -> GenerationConfig:
        """A copy with some fields changed.

        A `temperature` or `top_p` that differs from this one's holds for every part of an event, except where `options` give a
        part its own: a user who moves the temperature slider expects it to act on every part.
        """
        for name in ("temperature", "top_p"):
            if options.get(name, getattr(self, name)) != getattr(self, name):
                options = {f"{part}_{name}": None for part in ("time", "expression")} | options
        return dataclasses.replace(self, **options)

    def of_part(self, part: int) -> tuple[float, int, float]:
        """Temperature, top-k and top-p of a part of an event: its time (0), what it is (1), its duration (2) or velocity (3)."""
        own = {0: (self.time_temperature, self.time_top_p)}
        own[2] = own[3] = (self.expression_temperature, self.expression_top_p)
        temperature, top_p = own.get(part, (None, None))
        return temperature or self.temperature, self.top_k, top_p or self.top_p


def _preset(model: dict, train: dict | None = None, data: dict | None = None) -> dict:
    return {"model": ModelConfig(**model), "data": DataConfig(**(data or {})), "train": TrainConfig(**(train or {}))}


# Parameter counts are held by tests/test_models.py; FFN width 2,000 (expansion 3.9) brings `small` to the published 25.6M.
SCALE_PRESETS: dict[str, dict] = {
    # name       parameters
    "nano": _preset(  # 0.1M, for tests: learns within seconds on a CPU
        dict(
            pattern="MF MFA",
            d_model=48,
            d_ff=96,
            n_heads=2,
            vocab_size=512,
            attn_window=32,
            attn_stride=16,
            attn_reach=128,
        ),
        dict(steps=60, batch_size=8, learning_rate=3e-3, min_learning_rate=3e-4, warmup=10, checkpoint_every=20),
        dict(context=128, prompt_tokens=64),
    ),
    "tiny": _preset(  # 2.9M, one pass over MAESTRO: an evening on a laptop's CPU; its Mamba alone ships as tiny-remi
        dict(pattern="MF MFA MF MFA", d_model=192, d_ff=768, n_heads=6),
        dict(
            steps=3_800,
            batch_size=4,
            learning_rate=2e-3,
            min_learning_rate=1e-4,
            weight_decay=0.1,
            validate_every=600,
            validation_windows=160,
        ),
        dict(pitch_shift=0, velocity_shift=0, tempo_stretch=0.0),  # in a single pass nothing is read twice
    ),
    "small": _preset(dict()),  # 25.6M, the published model
    "medium": _preset(dict(pattern="MF MF MFA MF MF MFA MF MF MFA", d_model=640, d_ff=2560, n_heads=10)),  # about 60M
    "large": _preset(
        dict(pattern="MF MF MFA MF MF MFA MF MF MFA MF MF MFA", d_model=768, d_ff=2560, n_heads=12)
    ),  # about 100M
}


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for an unknown name: "did you mean 'X'?", or the list of known names."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "there is " + ", ".join(map(str, names))


def preset(name: str) -> dict:
    """The preset of that name; ConfigError names the nearest one."""
    if name not in SCALE_PRESETS:
        raise ConfigError(f"no preset is called {name!r}: {nearest(name, [*SCALE_PRESETS, 'published'])}")
    return dict(SCALE_PRESETS[name])


def override(configs: Mapping[str, Any], changes: Mapping[str, object]) -> dict:
    """A copy of a preset with `changes` such as {"train.steps": "500"} applied; strings are read as the field's type.

    If `changes` give steps, the setting for epochs is dropped.
    """
    if "train.steps" in changes:
        changes = {"train.epochs": 0, **changes}
    changed = dict(configs)
    known = [f"{part}.{f.name}" for part, config in changed.items() for f in dataclasses.fields(config)]
    for key, value in changes.items():
        if key not in known:
            raise ConfigError(f"no setting is called {key!r}: {nearest(key, known)}")
        part, name = key.split(".")
        changed[part] = dataclasses.replace(changed[part], **{name: _cast(key, getattr(changed[part], name), value)})
    return changed


def _cast(key: str, old: Any, value: object) -> object:
    if not isinstance(value, str) or isinstance(old, str):
        return value
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
        if isinstance(old, tuple):
            return tuple(int(part) for part in value.split(","))
        return int(float(value)) if isinstance(old, int) and float(value) == int(float(value)) else type(old)(value)
    except (KeyError, ValueError, TypeError, OverflowError):  # int(float('inf'))
        raise ConfigError(
            f"{key} is {value!r}: give a value of type {type(old).__name__}, such as {_shown(old)}"
        ) from None


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else repr(value)


def to_json(configs: Mapping[str, Any]) -> str:
    """A preset as text that `from_json` reads back."""
    return dumps({part: dataclasses.asdict(config) for part, config in configs.items()}, indent=1)


def from_json(text: str | Mapping) -> dict:
    """A preset from the text of `to_json` (or its parsed form); ConfigError on unknown keys."""
    parts = json.loads(text) if isinstance(text, str) else text
    classes = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig}
    try:
        return {part: classes[part](**_tuples(values)) for part, values in parts.items() if part in classes}
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"the configuration does not fit this version: {error}") from None


def _tuples(values: Mapping) -> dict:
    """The lists of JSON as tuples: no setting is a list."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
