"""Exports a run folder for a model hub: small float16 shards, configuration, tokenizer, and a model card with measured figures.

    export("runs/first", "hub/itty-bitty", results)      # ittybitty.load("hub/itty-bitty") plays it

The folder is written beside its target, read back and compared, and then renamed. Shards follow Hugging
Face's naming [1], each at most 15 MB, so that every hub and version control takes them.

[1] huggingface_hub, split_torch_state_dict_into_shards.  Left out: uploading, which is the hub's own command.
"""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from . import REPOSITORY, TAG, checkpoint
from .errors import CheckpointError, OutputError
from .jsonable import dumps
from .paths import atomic_folder

SHARD_BYTES = 15_000_000
CITED = {  # a corpus on model hubs, and in prose; any other is named by its own name
    "maestro": ("maestro-v3.0.0", "MAESTRO v3 (Hawthorne et al. 2019)"),
    "asap": ("asap-dataset", "ASAP (Foscarin et al. 2020)"),
}
LICENCES = {  # on model hubs, and in prose
    "CC BY-NC-SA 4.0": (
        "cc-by-nc-sa-4.0",
        "share them with attribution, not for commercial ends, under the same licence",
    ),
}
NOT_MEASURED = "not measured"
EXPORTED = "exported_weights_hash"  # of the float16 weights beside a record of the run's own
FILES = re.compile(
    r"config\.json|tokenizer\.json|README\.md|results\.json|log\.jsonl|model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
)
CARD_NEEDS = (  # numbers of a record that the card shows
    "bits_per_note",
    "pieces",
    "notes",
    "tokens_per_note",
    "onset_error_ms",
    "duration_error_ms",
    "velocity_error",
    "notes_lost",
)

CARD = """\
---
license: {licence}
library_name: ittybitty
pipeline_tag: other
tags: [music, piano, midi, symbolic-music, mamba]
{datasets}---

# Itty Bitty, {name}

A short piano seed goes in, a longer piece comes out.

    pip install git+https://github.com/{repository}@{tag}
    ittybitty continue seed.mid -o longer.mid --model {name}

| | |
|---|---|
| system | {system}, `{shape}` |
| parameters | {parameters:,} |
| tokenizer | {variant}, {vocab} tokens, hash {hash}; keeps {keeps} |
| context | {context:,} tokens |
| bits per note | {bits} |
| measured on | {measured_on} |
| tokens per note | {tokens_per_note} |
| round trip of the encoding | {round_trip} |

Bits per note: all the bits spent on held-out performances, end tokens included, divided by their notes, in windows of
1,024 steps moved by 512 (a step reads one token, or one event). It may be compared between systems only where their encodings keep the same.

## Data and licence

{data}

## Limits

It continues solo piano in the manner of its training data; it knows no metre, no title and no composer. What it writes may
resemble what it was trained on.
"""


def export(
    run_dir: str | Path, out: str | Path, results: Mapping | str | Path | None = None, trained_on: str | None = None
) -> dict:
    """Write `out` and return {"out", "files": {name: bytes}, "parameters", "largest_error"}.

    `results` are those of evaluation.evaluate, or the path of their JSON; without them the card takes the run folder's
    results.json, and says "not measured" where there is none. `trained_on` is the card's text on the training data, instead
    of the corpora that the run records; licences are those of the record alone. An `out` that an earlier export wrote is
    replaced; any other folder with something in it is refused (OutputError), and so are results of other weights
    (CheckpointError).
    """
    found = checkpoint.load(run_dir)
    out = Path(out).expanduser()
    _check_place(out, found.path)
    measured = _results(results, found)
    with atomic_folder(out, replace=True) as writing:
        largest = _fill(writing, found, measured, out.resolve().name, trained_on)
    files = {p.name: p.stat().st_size for p in sorted(out.iterdir())}
    return {"out": str(out), "files": files, "parameters": _parameters(found.model), "largest_error": largest}


def _fill(folder: Path, found: checkpoint.Loaded, measured: Mapping, name: str, trained_on: str | None) -> float:
    """Every file of the export; the largest difference that float16 made."""
    preset = checkpoint.read_config(found.path).get("preset", "")
    checkpoint.write_config(
        folder, found.configs, found.system, preset, found.tokenizer.content_hash, found.metrics, found.trained_on
    )
    found.tokenizer.save(folder / "tokenizer.json")
    if (found.path / "log.jsonl").is_file():
        shutil.copyfile(found.path / "log.jsonl", folder / "log.jsonl")
    _save_shards(found.model, folder)
    again = checkpoint.load(folder).model
    largest = _compare(found.model, again, folder)
    if measured:
        kept = {key: value for key, value in measured.items() if key not in ("per_piece", "skipped")}
        if (rounded := checkpoint.weights_hash(again)) != kept.get("weights_hash"):
            kept[EXPORTED] = rounded  # so that an export can be exported
        (folder / "results.json").write_text(dumps(kept, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(found, measured, name, trained_on), encoding="utf-8")
    return largest


def _save_shards(model: torch.nn.Module, folder: Path) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards

    halves = {k: v.half() if v.is_floating_point() else v for k, v in checkpoint.weights(model).items()}
    for name, tensor in halves.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{name}: holds a number that float16 cannot (above 65504), so it cannot be exported; train with a smaller learning rate"
            )
    split = split_torch_state_dict_into_shards(
        halves, filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD_BYTES
    )
    for file, names in split.filename_to_tensors.items():
        checkpoint.write_tensors({name: halves[name] for name in names}, folder / file, {"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / checkpoint.INDEX).write_text(dumps(index, indent=1) + "\n", encoding="utf-8")


def _compare(model: torch.nn.Module, again: torch.nn.Module, folder: Path) -> float:
    """Read back, every weight must be its own float16."""
    largest = 0.0
    read = again.state_dict()
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor.half().float() if tensor.is_floating_point() else tensor, read[name]):
            raise CheckpointError(f"{folder}: {name} was not read back as it was written; is the disk sound?")
        largest = max(largest, float((tensor - read[name]).abs().max())) if tensor.is_floating_point() else largest
    return largest


def card(found: checkpoint.Loaded, measured: Mapping, name: str, trained_on: str | None = None) -> str:
    """The model card in Markdown; what was not measured says so."""
    model = found.configs["model"]
    bits = where = per_note = round_trip = NOT_MEASURED
    if measured:
        low, high = measured["ci95"]
        bits = f"**{measured['bits_per_note']:.3f}**, 95% between {low:.3f} and {high:.3f}"
        part = "all of it" if measured.get("complete") else "a part of it"
        where = f"{measured['corpus']}, {measured['split']} split, {part}: {measured['pieces']:,} pieces, {measured['notes']:,} notes"
        per_note = f"{measured['tokens_per_note']:.2f}"
        round_trip = (
            f"onsets {measured['onset_error_ms']:.1f} ms off on average, durations {measured['duration_error_ms']:.1f} ms, "
            f"velocities {measured['velocity_error']:.2f}, {measured['notes_lost']:,} notes lost"
        )
    return CARD.format(
        name=name,
        repository=REPOSITORY,
        tag=TAG,
        system=found.system,
        shape=model.shape,
        parameters=_parameters(found.model),
        variant=found.configs["data"].tokenizer,
        vocab=found.tokenizer.vocab_size,
        hash=found.tokenizer.content_hash,
        keeps=", ".join(found.tokenizer.keeps),
        context=found.configs["data"].context,
        bits=bits,
        measured_on=where,
        tokens_per_note=per_note,
        round_trip=round_trip,
        **_data(found.trained_on, trained_on),
    )


def _data(corpora: list[dict] | None, said: str | None) -> dict[str, str]:
    """The card's fields and paragraph on training data and licence."""
    if corpora is None:
        slug, on_hub = "unknown", []
        what = f"Trained on {said}." if said else "The run does not record what it was trained on."
        terms = "The model comes under the licence of its training data, which is not recorded."
    else:
        names = [CITED.get(one["corpus"], (None, one["corpus"])) for one in corpora]
        on_hub, cited = [name for name, _ in names if name], " and ".join(prose for _, prose in names)
        what = f"Trained on {said or cited}."
        licence = " and ".join(dict.fromkeys(one["licence"] for one in corpora))
        slug, duties = LICENCES.get(licence, ("other", ""))
        terms = f"The weights are offered under {licence}, the licence of {cited}: {duties}."
        if not duties:
            terms = f"The model comes under the licence of its training data: {licence}."
    datasets = f"datasets: [{', '.join(on_hub)}]\n" if on_hub else ""
    return {
        "licence": slug,
        "datasets": datasets,
        "data": textwrap.fill(f"{what} {terms}", 120, break_on_hyphens=False),
    }


def _results(results: Mapping | str | Path | None, found: checkpoint.Loaded) -> Mapping:
    """The record that the card shows, of these very weights; {} where there is none."""
    if isinstance(results, Mapping):
        where, read = "the results", results
    else:
        path = Path(results) if results is not None else found.path / "results.json"
        if results is None and not path.is_file():
            return {}
        where, read = str(path), _read_json(path)
    if wrong := _lacking(read) if isinstance(read, Mapping) else "figures":
        raise CheckpointError(
            f"{where}: is not a record of `ittybitty evaluate`, it has no {wrong}; evaluate the run again"
        )
    if checkpoint.weights_hash(found.model) not in (read.get("weights_hash"), read.get(EXPORTED)):
        raise CheckpointError(
            f"{where}: measured other weights than those of {found.path}; evaluate this run, then export it"
        )
    return read


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); evaluate the run again") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: is not JSON; evaluate the run again") from None


def _lacking(record: Mapping) -> str:
    """The first field of the card that a record lacks; "" for a complete record."""
    interval = record.get("ci95")
    interval = interval if isinstance(interval, list | tuple) and len(interval) == 2 else [None]
    good = {key: isinstance(record.get(key), Real) for key in CARD_NEEDS}
    good |= {key: isinstance(record.get(key), str) for key in ("split", "corpus")} | {
        "ci95": all(isinstance(end, Real) for end in interval)
    }
    return next((key for key in good if not good[key]), "")


def _check_place(out: Path, run: Path) -> None:
    if out.resolve() == run.resolve():
        raise OutputError(f"{out}: is the run itself; give another folder")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; give a folder")
    if out.resolve() in run.resolve().parents:
        raise OutputError(f"{out}: holds the run; give another folder")
    if out.is_dir() and any(out.iterdir()):
        strange = [p.name for p in out.iterdir() if not p.is_file() or not FILES.fullmatch(p.name)]
        if strange:
            raise OutputError(f"{out}: holds {strange[0]}, which no export wrote; give a new folder")
        if not (out / "config.json").is_file() or not (out / "README.md").is_file():
            raise OutputError(f"{out}: is not an earlier export; give a new folder")


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
