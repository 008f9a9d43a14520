"""Reads and checks recorded results, and compares them on the same pieces.

    results = read_results("paper/results")
    rows_of(results, "all_rows")                                       # those that were not run are None
    paired(results["all_rows_mamba"], results["all_rows_hybrid"])      # bits a note that mamba needs more, with interval

Left out: what is written of them, numbers_tex.py and tables_tex.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ittybitty import metrics
from ittybitty.config import from_json
from ittybitty.errors import ResultError
from ittybitty.experiments import read_recipe
from ittybitty.paths import pretrained_dir
from ittybitty.train.log import read_log

PROTOCOLS = ("windows", "pieces", "official")  # of experiments/leak.py
BEATS = ("beats_base", "beats_remi")
MODEL, HYBRID = (
    "tiny-remi",
    "tiny-hybrid",
)  # Mamba alone, which ships, and the hybrid that it is measured against, which does not
NOTES = "tiny"  # the model that plays: one step per note
STAGES = "tiny-stage-"  # runs that its training went on from, under results/runs, numbered in order
WHOLE = {  # name in macros -> result after a whole pass
    "Mamba": f"evaluate_{MODEL}",
    "Hybrid": f"evaluate_{HYBRID}",
    "Llama": "equal_music_llama-1024",
}
NEEDED = (
    "maestro",
    "tokenizer_settings",
    "complexity_mixers",
    *WHOLE.values(),
    *(f"leak_{protocol}" for protocol in PROTOCOLS),
    "baseline_xz",
    "baseline_ngram",
    *(f"all_rows_{row}" for row in ("hybrid", "mamba", "ssm", "llama-512", "llama-1024", "hybrid-cfc", "lstm-remi")),
    *(f"attention_hybrid-{row}" for row in ("no-attention", "attention-only", "no-bias", "alibi")),
    *(f"collapse_{row}" for row in ("neither", "no-scaling", "no-smoothing")),
    "seeds_mamba-1",
    "seeds_hybrid-1",
    "seeds_llama-512-1",
    *(f"vocabulary_size_bpe-{size}" for size in (0, 512, 1024, 5000)),
    "amount_of_data_V7-96",
    "amount_of_data_V8-96",
    "pitch_vocabulary_maestro",
    *(f"position_{name}" for name in (NOTES, MODEL)),
    f"memorisation_{MODEL}",
    *(f"two_sample_{name}" for name in (NOTES, f"{NOTES}-not-held", MODEL)),
    "drift_pianists",
    "performance_from-tiny",
    *(f"{kind}_{MODEL}{drawn}" for kind in ("endurance", "music") for drawn in ("", "-untruncated", "-wider")),
    *BEATS,
    "overfit_synthetic",
    "overfit_piece",
    "performance_tokens_validation",
    "performance_tokens_test",
    "performance_notes-hybrid",
    f"evaluate_{NOTES}",
    f"ears_{NOTES}",
    *(f"test_{name}" for name in (NOTES, MODEL)),
    "notes_notes-hybrid",
    "notes_notes-mamba",
    "notes_notes-mamba-short",
    "notes_notes-hybrid-short",
)
PUBLISHED = "published.yaml"
PUBLISHED_FIELDS = {"model", "cite", "nats_per_token", "maestro", "split", "window", "verified", "source"}
MIXERS = {  # of bench.complexity: name in macros, row of the table, time and memory as theory has them
    "attention": ("Attention", "Attention, dense", "L^2", "L^2"),
    "fused": ("Fused", "Attention, fused", "L^2", "L"),
    "lstm": ("Lstm", "RNN (LSTM)", "L", "L"),
    "ssm": ("Ssm", "SSM, by FFT", r"L \log L", "L"),
    "mamba": ("Mamba", "Selective SSM", "L", "L"),
}


def read_results(folder: str | Path) -> dict[str, dict]:
    """Every results file by its stem; under "trained" configuration and log of NOTES, MODEL and HYBRID, by name, with "ends",
    the last record of each stage of the training of NOTES; under
    "recipes" those of the folder `experiments` beside, under "published" the rows of published.yaml.

    ResultError when one that the paper needs is missing, damaged or without provenance.
    """
    found: dict[str, Any] = {path.stem: _read(path) for path in sorted(Path(folder).glob("[!.]*.json"))}
    if missing := [name for name in NEEDED if name not in found]:
        raise ResultError(
            f"{folder}: lacks {missing[0]}.json, which the paper needs; record it first (see paper/LOG.md)"
        )
    homes = {NOTES: pretrained_dir() / NOTES, MODEL: pretrained_dir() / MODEL, HYBRID: Path(folder) / "runs" / HYBRID}
    found["trained"] = {
        name: {"config": from_json(_read(home / "config.json", provenance=False)), "log": read_log(home / "log.jsonl")}
        for name, home in homes.items()
    }
    before = [read_log(home / "log.jsonl") for home in sorted((Path(folder) / "runs").glob(f"{STAGES}*"))]
    found["trained"][NOTES]["ends"] = [log[-1] for log in (*before, found["trained"][NOTES]["log"])]
    found["published"] = read_published(Path(folder).parent)
    found["recipes"] = {path.stem: read_recipe(path) for path in sorted(Path(folder).parent.glob("experiments/*.yaml"))}
    return found


def read_published(folder: str | Path) -> list[dict]:
    """The rows of published.yaml in `folder`; ResultError for a row that does not say everything."""
    import yaml

    place = Path(folder) / PUBLISHED
    try:
        rows = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ResultError(f"{place}: cannot be read ({error}); restore it") from None
    for row in rows:
        if missing := PUBLISHED_FIELDS - row.keys():
            raise ResultError(f"{place}: {row.get('model', 'a row')} lacks {', '.join(sorted(missing))}")
    return rows


def _read(path: Path, provenance: bool = True) -> dict:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read ({error}); record it again") from None
    if provenance and not {"date", "commit", "device", "torch"} <= result.get("provenance", {}).keys():
        raise ResultError(
            f"{path}: does not say when, where and with what it was made; record it with ittybitty.evaluation.record"
        )
    return result


def settings(result: Mapping, variant: str) -> dict:
    """The row of tokenizer_settings.json that is that variant of the tokenizer."""
    return next(row for row in result["rows"] if row["settings"].endswith(f"({variant})"))


def overtakes(lengths: list[int], first: list[float], second: list[float]) -> str:
    """The shortest measured length from which `first` stays below `second`, as text."""
    ahead = [i for i in range(len(lengths)) if all(a < b for a, b in zip(first[i:], second[i:]))]
    return f"{lengths[ahead[0]]:,}" if ahead else "no length measured"


def uniform_bits(result: Mapping, vocabulary: int) -> float:
    """Bits per note of a model that gives every token the same probability."""
    return result["tokens_per_note"] * math.log2(vocabulary)


def music_read(results: Mapping) -> tuple[float, float]:
    """Passes over the training split and minutes that the training of NOTES took, all its stages together."""
    ends = results["trained"][NOTES]["ends"]
    return sum(end["epoch"] for end in ends), sum(end["seconds"] for end in ends) / 60


def extremes(result: Mapping) -> tuple[float, float]:
    """Bits per note of the easiest and of the hardest piece."""
    values = [row["bits"] / row["notes"] for row in result["per_piece"]]
    return min(values), max(values)


def rows_of(results: Mapping, experiment: str) -> dict[str, dict | None]:
    """{row: its record, or None if it was not run}, in the order of the recipe."""
    return {row.name: results.get(f"{experiment}_{row.name}") for row in results["recipes"][experiment].rows}


def common_pieces(results: Mapping, experiment: str = "all_rows") -> frozenset[str]:
    """The held-out pieces that all rows of an experiment were evaluated on; ResultError if rows differ in them."""
    sets = {
        frozenset(piece["name"] for piece in row["per_piece"]) for row in rows_of(results, experiment).values() if row
    }
    if len(sets) != 1:
        raise ResultError(
            f"{experiment}: {'no row is recorded' if not sets else 'rows were scored on different pieces'}; run `ittybitty experiment {experiment}`"
        )
    return sets.pop()


def on_pieces(result: Mapping, names: Collection[str]) -> tuple[float, float, float]:
    """Bits per note on just these pieces, and the bounds of its 95% interval over them."""
    rows = [row for row in result["per_piece"] if row["name"] in names]
    bits, notes = [row["bits"] for row in rows], [row["notes"] for row in rows]
    return (sum(bits) / sum(notes), *metrics.bootstrap_interval(bits, notes))


def paired(result: Mapping, base: Mapping) -> tuple[float, float, float]:
    """Bits per note that `result` needs more than `base` on the pieces that both have, and the bounds of its 95% interval.

    Piece by piece: what makes a piece hard for both is no part of the interval. ResultError where they share no piece.
    """
    theirs = {row["name"]: row for row in base["per_piece"]}
    both = [
        (row["bits"] - theirs[row["name"]]["bits"], row["notes"])
        for row in result["per_piece"]
        if row["name"] in theirs
    ]
    if not both:
        raise ResultError("two results share no piece: evaluate them on the same split")
    more, notes = zip(*both)
    return (sum(more) / sum(notes), *metrics.bootstrap_interval(more, notes))


def beats(result: Mapping, base: Mapping) -> bool:
    """Does `result` need fewer bits than `base`, the whole interval of the difference below zero?"""
    return paired(result, base)[2] < 0
