"""The systems, which are the rows of the results table: what each name stands for, and how its tokenizer and model are built.

To add a system, add one `System(...)` to TABLE. Nothing else in the package depends on a system's name. At the presets of
config.py (nano … large) all systems share one recipe and have about the same number of parameters, so that they can be
compared. The preset "published" is a system's own size and recipe, as far as its source states them (published.py).
`published` holds figures that the source reports, which are shown beside our measurements.

Numbers in brackets are SOURCES.
Left out: settings that all systems share at a preset (config.py), and trained weights (checkpoint/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .config import SCALE_PRESETS, GenerationConfig, nearest, override, preset
from .errors import ConfigError
from .published import (
    BEATS,
    BEATS_PUBLISHED,
    BEATS_SIZES,
    EIGHT_SAMPLING,
    HYBRID_RECIPE,
    HYBRID_SAMPLING,
    LLAMA_RECIPE,
    LSTM_RECIPE,
    MAMBA_RECIPE,
    NO_AUGMENTATION,
)

if TYPE_CHECKING:
    from .models.lm import LanguageModel
    from .tokenizers.protocol import Tokenizer

PUBLISHED = "published"  # the preset of a system's own size and recipe
SOURCES = {
    1: "Itty Bitty Piano, model card",
    2: "Symbolic music generation using Mamba architecture, 2024",
    3: "Eight models, 34 million parameters: V2-V8",
    4: "backbone_base_kmeans: beat-aligned piano LM",
}
SIZES = tuple(SCALE_PRESETS)  # nano, tiny, small, medium, large
HYBRID = tuple(configs["model"].pattern for configs in SCALE_PRESETS.values())  # the hybrid's pattern at each size


@dataclass(frozen=True)
class System:
    """One row of the table. Settings are named as in config.py, such as "model.pattern"."""

    name: str
    summary: str
    tokenizer: str  # a name of ittybitty.tokenizers.VARIANTS
    # settings at every preset, "published" too
    changes: Mapping[str, object] = field(default_factory=dict)
    # setting -> its value at each of SIZES; None: the preset's own
    sizes: Mapping[str, tuple] = field(default_factory=dict)
    # settings of the preset "published", over those of `small`
    recipe: Mapping[str, object] = field(default_factory=dict)
    # fields of GenerationConfig that differ from its defaults
    sampling: Mapping[str, Any] = field(default_factory=dict)
    # figures that the source reports
    published: Mapping[str, object] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    corpus: str = ""  # "asap": the corpus to read where a folder holds several

    def at(self, size: str) -> dict[str, object]:
        """The settings of `sizes` at a preset."""
        at = SIZES.index(size)
        return {setting: values[at] for setting, values in self.sizes.items() if values[at] is not None}


# ---------------------------------------------------------------------- settings of our own rows on events
# One step of the backbone per event (tokenizers/events), Muon and AdamW. The recipe was chosen by measured runs (paper/LOG.md).

_EVENT_SIZES = (271, 90, 128, 32)  # of the encoding `notes`; a test compares them
_EVENTS = {
    "model.events": _EVENT_SIZES,
    "model.vocab_size": 4 + sum(_EVENT_SIZES),
    "data.context": 2048,  # 512 events
    "data.prompt_seconds": 3600.0,  # the whole seed …
    "data.prompt_tokens": 16_384,  # … or its last 4,096 events
    "train.optimizer": "muon",
    "train.muon_learning_rate": 0.02,
    "train.learning_rate": 4e-3,
    "train.min_learning_rate": 8e-5,
    "train.schedule": "stable",
    "train.cooldown": 0.35,
    "train.weight_decay": 0.1,
    "train.label_smoothing": 0.0,
    "train.batch_size": 4,
    "train.warmup": 100,
}
_EVENT_SAMPLING = {  # keys are drawn without their unlikeliest tail, times, durations and velocities from all there is (paper/LOG.md)
    "temperature": 0.97,
    "top_k": 0,
    "top_p": 0.98,
    **dict.fromkeys(("time_temperature", "time_top_p", "expression_temperature", "expression_top_p"), 1.0),
    "hold": 1.0,  # pace, register and loudness stay near the seed's
}
_NOTES_SIZES = {  # a nano model also reads shorter windows
    "model.d_model": (32, None, None, None, None),
    "data.context": (256, None, None, None, None),
    "data.prompt_tokens": (1024, None, None, None, None),
    "train.batch_size": (8, None, None, None, None),
}
_NOTES_PUBLISHED = {"parameters": None, "status": "our own"}
_ABLATION_PUBLISHED = {"parameters": None, "status": "not published"}

# ---------------------------------------------------------------------- the table
# `sizes` are chosen so that the number of parameters is nearest to the hybrid's at the same preset; a test holds them within
# 5% (nano: 20%, because one block is a fifth of a nano model).

_PITCH_VOCABULARY = 1279  # V4's, the largest published one; V5 had 629, which its own recipe uses

TABLE = (
    System(
        name="hybrid",
        summary="Mamba, feed-forward and sparse attention [1]",
        tokenizer="remi",
        recipe=HYBRID_RECIPE,
        published={
            "parameters": 25_600_000,
            "vocabulary": 2000,
            "context": 1024,
            "sampling": HYBRID_SAMPLING,
            "licence": "CC BY 4.0 and MIT (wrong)",
        },
        aliases=("itty-bitty-piano", "ittybitty"),
    ),
    System(
        name="hybrid-cfc",
        summary="CfC in place of feed-forward, announced as the hybrid's successor [1]",
        tokenizer="remi",
        sizes={"model.pattern": tuple(pattern.replace("F", "C") for pattern in HYBRID)},
        recipe={**HYBRID_RECIPE, "model.pattern": HYBRID[SIZES.index("small")].replace("F", "C")},
        published={"parameters": None, "status": "announced, never published"},
        aliases=("cfc",),
    ),
    System(
        name="mamba",
        summary="Mamba alone, as deep as the hybrid's parameters allow [2]",
        tokenizer="remi",
        sizes={"model.pattern": ("M" * 4, "M" * 10, "M" * 15, "M" * 22, "M" * 27)},
        recipe=MAMBA_RECIPE,
        # its sampler divided by a repetition penalty of 0.9, which rewards repetition; GenerationConfig refuses that
        published={"parameters": 249_000_000, "vocabulary": 20_000, "d_model": 2048, "layers": 6, "d_state": 128},
        aliases=("pure-mamba", "mamba-paper"),
    ),
    System(
        name="ssm",
        summary="Mamba's block without selection: constant Δ, B, C [2]",
        tokenizer="remi",
        sizes={"model.pattern": ("S" * 4, "S" * 10, "S" * 15, "S" * 23, "S" * 28)},
        recipe={**MAMBA_RECIPE, "model.pattern": "SSSSSS"},
        published={"parameters": None, "status": "a column of table 1, without a figure"},
        aliases=("plain-ssm",),
    ),
    System(
        name="lstm-pitch",
        summary="LSTM on pitch strings, ids as numbers [3]",
        tokenizer="pitch-string",
        changes={"model.family": "lstm", "model.lstm_input": "float", "model.vocab_size": _PITCH_VOCABULARY},
        sizes={
            "model.lstm_sizes": (
                (42, 84, 42),
                (250, 500, 250),
                (784, 1568, 784),
                (1200, 2400, 1200),
                (1592, 3184, 1592),
            ),
            "model.vocab_size": (512, None, None, None, None),
        },
        recipe={**LSTM_RECIPE, "model.lstm_sizes": (256, 512, 256)},
        published={"parameters": None, "vocabulary": (59, 635, 1279), "context": 100, "sampling": EIGHT_SAMPLING},
        aliases=("V2", "V3", "V4"),
    ),
    System(
        name="lstm-pitch-wide",
        summary="the same, three wide layers [3]",
        tokenizer="pitch-string",
        changes={"model.family": "lstm", "model.lstm_input": "float", "model.vocab_size": _PITCH_VOCABULARY},
        sizes={
            "model.lstm_sizes": ((56,) * 3, (348,) * 3, (1096,) * 3, (1688,) * 3, (2240,) * 3),
            "model.vocab_size": (512, None, None, None, None),
        },
        recipe={**LSTM_RECIPE, "model.lstm_sizes": (512, 512, 512), "model.vocab_size": 629},
        published={"parameters": None, "vocabulary": 629, "context": 100, "sampling": EIGHT_SAMPLING},
        aliases=("V5",),
    ),
    System(
        name="lstm-remi",
        summary="LSTM on REMI with chords and rests, no byte pairs [3]",
        tokenizer="remi-rests",
        changes={"model.family": "lstm", "model.lstm_input": "embedding", "model.vocab_size": 288},  # published 362
        sizes={
            "model.lstm_sizes": ((54,) * 3, (356,) * 3, (1108,) * 3, (1704,) * 3, (2248,) * 3),
            "model.d_embedding": (32, None, None, None, None),
        },
        recipe={**LSTM_RECIPE, "model.lstm_sizes": (512, 512, 512), "model.d_embedding": 128},
        published={
            "parameters": None,
            "vocabulary": 362,
            "context": 100,
            "validation_loss": 0.3491,
            "sampling": EIGHT_SAMPLING,
        },
        aliases=("V6",),
    ),
    System(
        name="llama-512",
        summary="LLaMA-style Transformer, 512 tokens [3]",
        tokenizer="remi",
        changes={"model.family": "llama", "model.vocab_size": 512},
        sizes={"model.n_layers": (2, 6, 6, 9, 11), "model.d_ff": (176, 544, 2064, 2560, 3040)},
        recipe={**LLAMA_RECIPE, "train.warmup": 2000},
        published={
            "parameters": 33_825_280,
            "vocabulary": 512,
            "context": 256,
            "sampling": EIGHT_SAMPLING,
            "validation_loss": 0.0952,
        },
        aliases=("V7",),
    ),
    System(
        name="llama-1024",
        summary="LLaMA-style Transformer, 1,024 tokens [3]",
        tokenizer="remi",
        changes={"model.family": "llama", "model.vocab_size": 1024},
        sizes={"model.n_layers": (2, 6, 6, 9, 11), "model.d_ff": (80, 512, 2032, 2544, 3024)},
        recipe={**LLAMA_RECIPE, "train.warmup": 4000},
        published={
            "parameters": 34_087_424,
            "vocabulary": 1024,
            "context": 256,
            "sampling": EIGHT_SAMPLING,
            "validation_loss": 0.9201,
        },
        aliases=("V8",),
    ),
    System(
        name="beat-base",
        summary="LLaMA-style Transformer on patterns of keys within beats [4]",
        tokenizer="beat-base",
        corpus="asap+scores",
        changes=BEATS,
        sizes=BEATS_SIZES,
        recipe=NO_AUGMENTATION,
        published=BEATS_PUBLISHED,
        aliases=("backbone-base-kmeans",),
    ),
    System(
        name="beat-velocity",
        summary="the same with a velocity code for each pattern; starts from beat-base [4]",
        tokenizer="beat-velocity",  # one vocabulary with beat-base, so that it can start from its weights
        corpus="asap+scores",
        changes=BEATS,
        sizes=BEATS_SIZES,
        recipe=NO_AUGMENTATION,
        published=BEATS_PUBLISHED,
        aliases=("backbone-velocity-kmeans",),
    ),
    # ------------------------------------------------------------------ the hybrid with one thing changed
    System(
        name="hybrid-no-attention",
        summary="ablation: no attention, its parameters given to the feed-forward",
        tokenizer="remi",
        sizes={
            "model.pattern": tuple(pattern.replace("A", "") for pattern in HYBRID),
            "model.d_ff": (144, 960, 2344, 2984, 3072),
        },
        recipe={
            **HYBRID_RECIPE,
            "model.pattern": HYBRID[SIZES.index("small")].replace("A", ""),
            "model.d_ff": 2344,
        },
        published=_ABLATION_PUBLISHED,
    ),
    System(
        name="hybrid-attention-only",
        summary="ablation: attention in place of every Mamba",
        tokenizer="remi",
        sizes={
            "model.pattern": tuple(pattern.replace("A", "").replace("M", "A") for pattern in HYBRID),
            "model.d_ff": (256, 1232, 2976, 3760, 3984),
        },
        recipe={
            **HYBRID_RECIPE,
            "model.pattern": HYBRID[SIZES.index("small")].replace("A", "").replace("M", "A"),
            "model.d_ff": 2976,
        },
        published=_ABLATION_PUBLISHED,
    ),
    System(
        name="hybrid-no-bias",
        summary="ablation: attention without a relative bias",
        tokenizer="remi",
        changes={"model.attn_bias": "none"},
        recipe=HYBRID_RECIPE,
        published=_ABLATION_PUBLISHED,
    ),
    System(
        name="hybrid-alibi",
        summary="ablation: attention with fixed ALiBi slopes",
        tokenizer="remi",
        changes={"model.attn_bias": "alibi"},
        recipe=HYBRID_RECIPE,
        published=_ABLATION_PUBLISHED,
    ),
    System(
        name="hybrid-unscaled",
        summary="ablation: no logit scaling, no label smoothing: the published collapse",
        tokenizer="remi",
        changes={"model.logit_scaling": False, "train.label_smoothing": 0.0},
        recipe=HYBRID_RECIPE,
        published=_ABLATION_PUBLISHED,
    ),
    # ------------------------------------------------------------------ ours: one step per event
    System(
        name="notes-hybrid",
        summary="the hybrid, one step per note",
        tokenizer="notes",
        changes=_EVENTS,
        sizes={
            "model.pattern": (None, "MF MFA MF", None, None, None),
            "model.d_ff": (80, 992, 1384, 2036, 2080),
            **_NOTES_SIZES,
        },
        sampling=_EVENT_SAMPLING,
        published=_NOTES_PUBLISHED,
    ),
    System(
        name="notes-mamba",
        summary="Mamba alone, one step per note",
        tokenizer="notes",
        changes=_EVENTS,
        sizes={"model.pattern": ("M" * 4, "M" * 8, "M" * 12, "M" * 20, "M" * 25), **_NOTES_SIZES},
        sampling=_EVENT_SAMPLING,
        published=_NOTES_PUBLISHED,
    ),
    System(
        name="notes-llama",
        summary="LLaMA-style Transformer, one step per note",
        tokenizer="notes",
        changes={**_EVENTS, "model.family": "llama"},
        sizes={
            "model.n_layers": (2, 6, 6, 9, 11),
            "model.d_ff": (80, 336, 1572, 2160, 2648),
            **_NOTES_SIZES,
        },
        sampling=_EVENT_SAMPLING,
        published=_NOTES_PUBLISHED,
    ),
)

SYSTEMS: Mapping[str, System] = MappingProxyType({row.name: row for row in TABLE})


def system(name: str) -> System:
    """The row of that name or alias; ConfigError names the nearest one."""
    for row in SYSTEMS.values():
        if name == row.name or name in row.aliases:
            return row
    raise ConfigError(
        f"no system is called {name!r}: {nearest(name, [*SYSTEMS, *(alias for row in SYSTEMS.values() for alias in row.aliases)])}"
    )


def build(name: str, preset_name: str = "tiny", overrides: Mapping[str, object] | None = None) -> dict:
    """Configs {"model", "data", "train"} of a system at a preset's size; `overrides` such as {"train.steps": "500"} win."""
    row = system(name)
    base = preset("small" if preset_name == PUBLISHED else preset_name)
    configs = override(base, {"data.tokenizer": row.tokenizer, "data.corpus": row.corpus, **row.changes})
    configs = override(configs, row.recipe if preset_name == PUBLISHED else row.at(preset_name))
    return override(configs, overrides or {})


def sampling(name: str, **options: object) -> GenerationConfig:
    """How a system is sampled; `options` take precedence. How its source samples, if that differs, is in `System.published`."""
    return GenerationConfig(**system(name).sampling).changed(**options)


def build_model(configs: Mapping) -> LanguageModel:
    """A fresh nn.Module for these configs, drawn from torch's global random numbers."""
    from .models import build as build_family

    return build_family(configs["model"])


def build_tokenizer(configs: Mapping) -> Tokenizer:
    """An untrained tokenizer of the configs' variant."""
    from .tokenizers import make_tokenizer

    return make_tokenizer(configs["data"].tokenizer)


@cache
def parameter_count(name: str, preset_name: str) -> int:
    """Parameters of a system at a size, counted on torch's meta device: no memory is taken."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in build_model(build(name, preset_name)).parameters())


def rows(preset_name: str = "tiny") -> list[dict]:
    """The table of `ittybitty systems`: system, what it is, tokenizer and what that keeps, model, parameters."""
    table = []
    for row in SYSTEMS.values():
        configs = build(row.name, preset_name)
        table.append(
            {
                "system": row.name,
                "summary": row.summary,
                "tokenizer": row.tokenizer,
                "keeps": list(build_tokenizer(configs).keeps),
                "model": configs["model"].shape,
                "pattern": configs["model"].pattern if configs["model"].family == "stack" else "",
                "preset": preset_name,
                "parameters": parameter_count(row.name, preset_name),
                "published_parameters": row.published.get("parameters"),
                "published": dict(row.published),
            }
        )
    return table
