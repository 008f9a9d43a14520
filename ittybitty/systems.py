"""The rows of the results table: what a name stands for, and how its tokenizer and model are built.

A system is a declaration. Adding a row is adding one entry to SYSTEMS; nothing else in the package asks for a
system's name. At the sizes of SCALE_PRESETS all rows share one recipe and have about the same parameters, so that they can be
compared; the preset "published" is a row's own size and recipe, as far as its source tells, and what the source is
silent about says so here. `published` keeps what the source says of itself, for the table that shows it beside what we measure.

Numbers in brackets are SOURCES.
Left out: what all rows share at a size, which are presets (config.py), and the weights, which are runs (checkpoint.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from .config import SCALE_PRESETS, GenerationConfig, nearest, override, preset
from .errors import ConfigError

PUBLISHED = "published"  # the preset of a row's own size and recipe
SOURCES = {
    1: "Itty Bitty Piano, model card",
    2: "Symbolic music generation using Mamba architecture, 2024",
    3: "Eight models, 34 million parameters: V2-V8",
    4: "backbone_base_kmeans: beat-aligned piano LM",
}


@dataclass(frozen=True)
class System:
    """One row. `changes` are overrides of every preset, `by_preset` of one, `recipe` of "published", as {"model.pattern": value}."""

    name: str
    summary: str
    tokenizer: str  # a name of ittybitty.tokenizers.VARIANTS
    changes: Mapping[str, object] = field(default_factory=dict)
    by_preset: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    sampling: Mapping[str, object] = field(default_factory=dict)  # fields of GenerationConfig, where not its defaults
    published: Mapping[str, object] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    corpus: str = ""  # "asap": of a folder that holds several corpora


def _by_size(setting: str, **values: object) -> dict[str, dict[str, object]]:
    return {size: {f"model.{setting}": value} for size, value in values.items()}


def _by_pattern(change) -> dict[str, dict[str, object]]:
    """`change` of the hybrid's pattern at every size."""
    return _by_size("pattern", **{size: change(configs["model"].pattern) for size, configs in SCALE_PRESETS.items()})


def _both(*tables: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    return {
        size: {key: value for table in tables for key, value in table.get(size, {}).items()} for size in SCALE_PRESETS
    }


# ---------------------------------------------------------------------- recipes as published

_NO_AUGMENTATION = {"data.pitch_shift": 0, "data.velocity_shift": 0, "data.tempo_stretch": 0.0}

# [1]: 6 groups, width 512, 8 heads, 2,000 tokens, context 1,024, smoothing 0.1, cosine after 200 steps of warm-up, batch 64 on
# two T4, about 235 epochs: all of it `small`. Augmentation is not mentioned.
_HYBRID_RECIPE = {"data.tokenizer": "remi-published", **_NO_AUGMENTATION, "train.epochs": 235}

# [2] and the runs behind it. Length of the windows and warm-up are not stated.
_MAMBA_RECIPE = {
    "model.pattern": "MMMMMM", "model.d_model": 2048, "model.d_state": 128, "model.d_conv": 4, "model.expand": 2,
    "model.vocab_size": 20_000, "model.tied_head": False,
    **_NO_AUGMENTATION,
    "train.epochs": 60, "train.patience": 5, "train.batch_size": 1, "train.learning_rate": 1e-4, "train.warmup": 0,
    "train.schedule": "stairs", "train.decay": 0.1, "train.decay_epochs": 3, "train.label_smoothing": 0.0,
    "train.weight_decay": 0.0, "train.beta2": 0.999,  # Adam
}  # fmt: skip

# [3], all rows: two transposed copies of each piece within ±6 semitones, AdamW, clip 1.0, cosine. Weight decay and betas are not
# stated: PyTorch's defaults. Epochs are V8's; of V2-V6 they are not stated.
_EIGHT_MODELS = {
    "data.copies": 2, "data.pitch_shift": 6, "data.velocity_shift": 0, "data.tempo_stretch": 0.0,
    "train.epochs": 100, "train.clip": 1.0, "train.min_learning_rate": 0.0, "train.label_smoothing": 0.0,
    "train.weight_decay": 0.01, "train.beta2": 0.999,
}  # fmt: skip
_LSTM_RECIPE = {
    **_EIGHT_MODELS,
    "data.context": 100, "data.stride": 1,
    "train.batch_size": 256, "train.learning_rate": 4e-3, "train.warmup": 0, "train.patience": 10,
}  # fmt: skip
_LLAMA_RECIPE = {
    **_EIGHT_MODELS,
    "model.d_model": 512, "model.n_layers": 8, "model.n_heads": 8, "model.d_ff": 2048,
    "model.attn_reach": 512,  # "512 max context at inference", of windows of 256
    "data.context": 256, "data.stride": 64,
    "train.batch_size": 128, "train.accumulation": 2,  # 64 x 2
    "train.learning_rate": 3e-4, "train.patience": 15,
}  # fmt: skip
_EIGHT_SAMPLING = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}
_HYBRID_SAMPLING = {"temperature": 0.9, "top_k": 50, "top_p": 0.95}  # of the model card's call


# ---------------------------------------------------------------------- the rows
# Sizes whose parameters come nearest to the hybrid's of the same preset; a test holds them within 5% (nano 20%: a nano block
# is a fifth of its model).

_PITCH_VOCABULARY = 1279  # V4's, the largest of the published ones; V5 had 629, and learns as many in its own recipe


def _mamba_only(**blocks: int) -> dict[str, dict[str, object]]:
    return _by_size("pattern", **{size: "M" * count for size, count in blocks.items()})


def _lstm_pitch(
    name: str, summary: str, shape, units: Mapping[str, int], recipe: Mapping, published: Mapping, aliases: tuple
) -> System:
    """A network on pitch strings, `shape` giving the units of its layers."""
    return System(
        name=name,
        summary=summary,
        tokenizer="pitch-string",
        changes={"model.family": "lstm", "model.lstm_input": "float", "model.vocab_size": _PITCH_VOCABULARY},
        by_preset=_both(
            _by_size("lstm_sizes", **{size: shape(n) for size, n in units.items()}), _by_size("vocab_size", nano=512)
        ),
        recipe={**_LSTM_RECIPE, **recipe},
        published={**published, "sampling": _EIGHT_SAMPLING},
        aliases=aliases,
    )


def _llama(
    vocabulary: int, widths: Mapping[str, int], warmup: int, parameters: int, alias: str, **published: object
) -> System:
    """V7 or V8: they differ in tokens, warm-up and training data."""
    return System(
        name=f"llama-{vocabulary}",
        summary=f"LLaMA-style Transformer, {vocabulary:,} tokens [3]",
        tokenizer="remi",
        changes={"model.family": "llama", "model.vocab_size": vocabulary},
        by_preset=_both(_by_size("n_layers", nano=2, tiny=6, small=6, medium=9, large=11), _by_size("d_ff", **widths)),
        recipe={**_LLAMA_RECIPE, "train.warmup": warmup},
        published={
            "parameters": parameters,
            "vocabulary": vocabulary,
            "context": 256,
            "sampling": _EIGHT_SAMPLING,
            **published,
        },
        aliases=(alias,),
    )


def _beats(mode: str, summary: str) -> System:
    """Base or +velocity mode of the beat code: one vocabulary, so the second starts from the weights of the first."""
    return System(
        name=f"beat-{mode}",
        summary=summary,
        tokenizer=f"beat-{mode}",
        corpus="asap+scores",
        changes={"model.family": "llama", "model.vocab_size": 4789, **_NO_AUGMENTATION},
        by_preset=_both(
            _by_size("n_layers", nano=2, tiny=4, small=8, medium=10, large=12),
            _by_size("d_ff", nano=64, tiny=584, small=1200, medium=2080, large=2584),
            _by_size("d_model", nano=16),  # its 4,789 embeddings alone are a nano model
        ),
        recipe=_NO_AUGMENTATION,
        published={
            "parameters": None,
            "vocabulary": 4789,
            "velocity_mae": 0.54,
            "status": "size, context and losses not stated",
        },
        aliases=(f"backbone-{mode}-kmeans",),
    )


def _ablation(name: str, summary: str, changes: Mapping | None = None, by_preset: Mapping | None = None) -> System:
    """The hybrid but for one thing."""
    pattern = (by_preset or {}).get("small", {})  # "published" is `small`
    return System(
        name=f"hybrid-{name}",
        summary=f"ablation: {summary}",
        tokenizer="remi",
        changes=changes or {},
        by_preset=by_preset or {},
        recipe={**_HYBRID_RECIPE, **pattern},
        published={"parameters": None, "status": "not published"},
    )


_ROWS = (
    System(
        name="hybrid",
        summary="Mamba, feed-forward and sparse attention [1]",
        tokenizer="remi",
        recipe=_HYBRID_RECIPE,
        published={
            "parameters": 25_600_000,
            "vocabulary": 2000,
            "context": 1024,
            "sampling": _HYBRID_SAMPLING,
            "licence": "CC BY 4.0 and MIT (wrong)",
        },
        aliases=("itty-bitty-piano", "ittybitty"),
    ),
    System(
        name="hybrid-cfc",
        summary="CfC in place of feed-forward, announced as the hybrid's successor [1]",
        tokenizer="remi",
        by_preset=(_cfc := _by_pattern(lambda pattern: pattern.replace("F", "C"))),
        recipe={**_HYBRID_RECIPE, **_cfc["small"]},
        published={"parameters": None, "status": "announced, never published"},
        aliases=("cfc",),
    ),
    System(
        name="mamba",
        summary="Mamba alone, as deep as the hybrid's parameters allow [2]",
        tokenizer="remi",
        by_preset=_mamba_only(nano=4, tiny=10, small=15, medium=22, large=27),
        recipe=_MAMBA_RECIPE,
        # its sampler divided by a repetition penalty of 0.9, which rewards repetition; GenerationConfig refuses that
        published={"parameters": 249_000_000, "vocabulary": 20_000, "d_model": 2048, "layers": 6, "d_state": 128},
        aliases=("pure-mamba", "mamba-paper"),
    ),
    System(
        name="ssm",
        summary="Mamba's block without selection: constant Δ, B, C [2]",
        tokenizer="remi",
        by_preset=_by_size("pattern", nano="S" * 4, tiny="S" * 10, small="S" * 15, medium="S" * 23, large="S" * 28),
        recipe={**_MAMBA_RECIPE, "model.pattern": "SSSSSS"},
        published={"parameters": None, "status": "a column of table 1, without a figure"},
        aliases=("plain-ssm",),
    ),
    _lstm_pitch(
        "lstm-pitch",
        "LSTM on pitch strings, ids as numbers [3]",
        lambda n: (n, 2 * n, n),
        dict(nano=42, tiny=250, small=784, medium=1200, large=1592),
        {"model.lstm_sizes": (256, 512, 256)},
        {"parameters": None, "vocabulary": (59, 635, 1279), "context": 100},
        ("V2", "V3", "V4"),
    ),
    _lstm_pitch(
        "lstm-pitch-wide",
        "the same, three wide layers [3]",
        lambda n: (n, n, n),
        dict(nano=56, tiny=348, small=1096, medium=1688, large=2240),
        {"model.lstm_sizes": (512, 512, 512), "model.vocab_size": 629},
        {"parameters": None, "vocabulary": 629, "context": 100},
        ("V5",),
    ),
    System(
        name="lstm-remi",
        summary="LSTM on REMI with chords and rests, no byte pairs [3]",
        tokenizer="remi-rests",
        changes={"model.family": "lstm", "model.lstm_input": "embedding", "model.vocab_size": 288},  # published 362
        by_preset=_both(
            _by_size(
                "lstm_sizes",
                **{size: (n, n, n) for size, n in dict(nano=54, tiny=356, small=1108, medium=1704, large=2248).items()},
            ),
            _by_size("d_embedding", nano=32),
        ),
        recipe={**_LSTM_RECIPE, "model.lstm_sizes": (512, 512, 512), "model.d_embedding": 128},
        published={
            "parameters": None,
            "vocabulary": 362,
            "context": 100,
            "validation_loss": 0.3491,
            "sampling": _EIGHT_SAMPLING,
        },
        aliases=("V6",),
    ),
    _llama(
        512,
        dict(nano=176, tiny=544, small=2064, medium=2560, large=3040),
        2000,
        33_825_280,
        "V7",
        validation_loss=0.0952,
    ),
    _llama(
        1024,
        dict(nano=80, tiny=512, small=2032, medium=2544, large=3024),
        4000,
        34_087_424,
        "V8",
        validation_loss=0.9201,
    ),
    _beats("base", "LLaMA-style Transformer on patterns of keys within beats [4]"),
    _beats("velocity", "the same with a velocity code for each pattern; starts from beat-base [4]"),
    _ablation(
        "no-attention",
        "no attention, its parameters given to the feed-forward",
        by_preset=_both(
            _by_pattern(lambda pattern: pattern.replace("A", "")),
            _by_size("d_ff", nano=144, tiny=960, small=2344, medium=2984, large=3072),
        ),
    ),
    _ablation(
        "attention-only",
        "attention in place of every Mamba",
        by_preset=_both(
            _by_pattern(lambda pattern: pattern.replace("A", "").replace("M", "A")),
            _by_size("d_ff", nano=256, tiny=1232, small=2976, medium=3760, large=3984),
        ),
    ),
    _ablation("no-bias", "attention without a relative bias", {"model.attn_bias": "none"}),
    _ablation("alibi", "attention with fixed ALiBi slopes", {"model.attn_bias": "alibi"}),
    _ablation(
        "unscaled",
        "no logit scaling, no label smoothing: the published collapse",
        {"model.logit_scaling": False, "train.label_smoothing": 0.0},
    ),
)

# ---------------------------------------------------------------------- notes as steps
# Our own: one step of the backbone per event (tokenizers/events), Muon and AdamW. Recipe chosen by measured runs (paper/LOG.md).

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
_EVENT_SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


def _notes(backbone: str, summary: str, by_preset: Mapping, changes: Mapping | None = None) -> System:
    """A row on events."""
    return System(
        name=f"notes-{backbone}",
        summary=summary,
        tokenizer="notes",
        changes={**_EVENTS, **(changes or {})},
        by_preset=_both(
            by_preset,
            {"nano": {"model.d_model": 32, "data.context": 256, "data.prompt_tokens": 1024, "train.batch_size": 8}},
        ),
        sampling=_EVENT_SAMPLING,
        published={"parameters": None, "status": "our own"},
    )


_ROWS += (
    _notes(
        "hybrid",
        "the hybrid, one step per note",
        _both(
            _by_size("pattern", tiny="MF MFA MF"),
            _by_size("d_ff", nano=80, tiny=992, small=1384, medium=2036, large=2080),
        ),
    ),
    _notes("mamba", "Mamba alone, one step per note", _mamba_only(nano=4, tiny=8, small=12, medium=20, large=25)),
    _notes(
        "llama",
        "LLaMA-style Transformer, one step per note",
        _both(
            _by_size("n_layers", nano=2, tiny=6, small=6, medium=9, large=11),
            _by_size("d_ff", nano=80, tiny=336, small=1572, medium=2160, large=2648),
        ),
        {"model.family": "llama"},
    ),
)

SYSTEMS: Mapping[str, System] = MappingProxyType({row.name: row for row in _ROWS})


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
    configs = override(configs, row.recipe if preset_name == PUBLISHED else row.by_preset.get(preset_name, {}))
    return override(configs, overrides or {})


def sampling(name: str, **options: object) -> GenerationConfig:
    """How a system is sampled unless told otherwise; `options` win. As published, where that differs, is in `System.published`."""
    return GenerationConfig(**{**system(name).sampling, **options})


def build_model(configs: Mapping):
    """A fresh nn.Module for these configs, drawn from torch's global random numbers."""
    from .models import build as build_family

    return build_family(configs["model"])


def build_tokenizer(configs: Mapping):
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
