"""The rows of the results table: what a name stands for, and how its tokenizer and model are built.

A system is a declaration. Adding a row is adding one entry to SYSTEMS; nothing else in the package asks for a
system's name. `published` keeps what the source says of itself, for the table that shows it beside what we measure.

[1] Itty Bitty Piano, model card.  [2] Symbolic music generation using Mamba architecture, 2024.
Left out: the recipes' numbers, which are presets (config.py), and the weights, which are runs (checkpoint.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from .config import nearest, override, preset
from .errors import ConfigError


@dataclass(frozen=True)
class System:
    """One row: `changes` are overrides of every preset, `by_preset` of one preset, both as {"model.pattern": value}."""

    name: str
    summary: str
    tokenizer: str  # a name of ittybitty.tokenizers.VARIANTS
    changes: Mapping[str, object] = field(default_factory=dict)
    by_preset: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    published: Mapping[str, object] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


def _mamba_only(**blocks: int) -> dict[str, dict[str, object]]:
    return {size: {"model.pattern": "M" * count} for size, count in blocks.items()}


_ROWS = (
    System(
        name="hybrid",
        summary="Mamba, feed-forward and sparse attention [1]",
        tokenizer="remi",
        published={"parameters": 25_600_000, "vocabulary": 2000, "context": 1024, "licence": "CC BY 4.0 and MIT (wrong)"},
        aliases=("itty-bitty-piano", "ittybitty"),
    ),
    System(
        name="mamba",
        summary="Mamba alone, as deep as the hybrid's parameters allow [2]",
        tokenizer="remi",
        # depths whose parameters come nearest to the hybrid's of the same preset; a test holds them within 5%
        by_preset=_mamba_only(nano=4, tiny=10, small=15, medium=22, large=27),
        published={"parameters": 249_000_000, "vocabulary": 20_000, "d_model": 2048, "layers": 6, "d_state": 128},
        aliases=("pure-mamba",),
    ),
)

SYSTEMS: Mapping[str, System] = MappingProxyType({row.name: row for row in _ROWS})


def system(name: str) -> System:
    """The row of that name or alias; ConfigError names the nearest one."""
    for row in SYSTEMS.values():
        if name == row.name or name in row.aliases:
            return row
    raise ConfigError(f"no system is called {name!r}: {nearest(name, SYSTEMS)}")


def build(name: str, preset_name: str = "tiny", overrides: Mapping[str, object] | None = None) -> dict:
    """Configs {"model", "data", "train"} of a system at a preset's size; `overrides` such as {"train.steps": "500"} win."""
    row = system(name)
    configs = override(preset(preset_name), {"data.tokenizer": row.tokenizer, **row.changes})
    configs = override(configs, row.by_preset.get(preset_name, {}))
    return override(configs, overrides or {})


def build_model(configs: Mapping):
    """A fresh nn.Module for these configs, drawn from torch's global random numbers."""
    from .models import PianoHybridModel

    return PianoHybridModel(configs["model"])


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
                "pattern": configs["model"].pattern,
                "preset": preset_name,
                "parameters": parameter_count(row.name, preset_name),
                "published": dict(row.published),
            }
        )
    return table
