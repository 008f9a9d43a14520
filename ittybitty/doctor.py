"""`ittybitty doctor`: reports versions, devices, data and weights that are found, what is missing, and how to get it.

It changes, downloads and trains nothing, except that the C++ scan may be compiled into the cache.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path

from . import paths
from .errors import ConfigError

SHOWN = (
    "torch",
    "numpy",
    "miditok",
    "symusic",
    "muspy",
    "music21",
    "pretty_midi",
    "safetensors",
    "transformers",
    "papermill",
    "jupyterlab",
)
OPTIONAL = ("mamba-ssm", "triton", "mambapy")
LATEX = ("latexmk", "tectonic", "pdflatex")
GIB = 2**30


def examine() -> dict:
    """{"versions", "machine", "devices", "scan", "convolution", "data", "weights", "tools", "missing"}; plain values, paths as text."""
    names = dict.fromkeys((*SHOWN, *needed(), *OPTIONAL))
    found = {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in names}},
        "machine": _machine(),
        "devices": _devices(),
        "scan": _scan(),
        "convolution": _convolution(),
        "data": {
            "named": os.environ.get(paths.DATA_VARIABLE),
            "maestro": _text(paths.find_maestro()),
            "asap": _text(paths.find_asap()),
        },
        "weights": {
            "shipped": sorted(path.parent.name for path in paths.pretrained_dir().glob("*/config.json")),
            "runs": [str(path) for path in paths.run_dirs()],
        },
        "tools": {
            "latex": next(filter(shutil.which, LATEX), None),
            "soundfont": _text(_soundfont()),
            "cache": str(paths.cache_dir()),
        },
    }
    return {**found, "missing": _missing(found)}


def needed() -> dict[str, str]:
    """Package name -> requirement for pip, for every package that ittybitty needs on this machine (without extras)."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("ittybitty") or []
    except metadata.PackageNotFoundError:  # run from a clone that was not installed
        root = paths.repository_root()
        lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines() if root else []
    asked = [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]
    return {
        one.name: f"{one.name}{one.specifier}"
        for one in asked
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _machine() -> dict:
    import psutil

    here = next(folder for folder in (paths.cache_dir(), *paths.cache_dir().parents) if folder.is_dir())
    return {
        "system": platform.platform(terse=True),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": psutil.virtual_memory().total / GIB,
        "free_disk_gib": shutil.disk_usage(here).free / GIB,
        "kaggle": paths.on_kaggle(),
    }


def _devices() -> list[dict]:
    """The CPU and every CUDA device, with memory and support of bfloat16."""
    import torch

    rows: list[dict] = [
        {"device": "cpu", "name": f"{torch.get_num_threads()} threads", "memory_gib": None, "bfloat16": None}
    ]
    for i in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(i)
        # from sm_80 on; older GPUs emulate bfloat16, and float16 with a gradient scaler is faster there
        rows.append(
            {
                "device": f"cuda:{i}",
                "name": card.name,
                "memory_gib": card.total_memory / GIB,
                "bfloat16": card.major >= 8,
            }
        )
    return rows


def _scan() -> dict:
    """Which implementation of the selective scan each kind of device uses, and why the others can or cannot run."""
    from .models import scan

    kinds = {row["device"].split(":")[0] for row in _devices()}
    return {"chosen": {kind: _path_on(kind, scan.chosen) for kind in sorted(kinds)}, "paths": scan.describe()}


def _convolution() -> dict:
    """Which path the convolution of the Mamba block takes on each kind of device."""
    from .models import conv

    kinds = {row["device"].split(":")[0] for row in _devices()}
    return {"chosen": {kind: _path_on(kind, conv.chosen) for kind in sorted(kinds)}}


def _path_on(kind: str, chosen: Callable[[str], str]) -> str:
    """The path used on this kind of device, or the reason why the forced path cannot run there."""
    try:
        return chosen(kind)
    except ConfigError as error:
        return f"none: {error}"


def _soundfont() -> Path | None:
    spec = util.find_spec("pretty_midi")
    path = Path(spec.origin).with_name("TimGM6mb.sf2") if spec and spec.origin else None
    return path if path and path.is_file() else None


def _missing(found: dict) -> list[dict]:
    """What is missing: {"what", "needed", "hint"}, where `needed` is False if everything else works without it."""
    rows = [
        {"what": name, "needed": True, "hint": f'pip install "{wanted}"'}
        for name, wanted in needed().items()
        if found["versions"][name] is None
    ]
    if not found["weights"]["shipped"]:
        rows.append(
            {
                "what": "shipped weights",
                "needed": True,
                "hint": "install the package whole, or train: ittybitty train --help",
            }
        )
    if found["data"]["maestro"] is None:
        hint = f"ittybitty data fetch, or set {paths.DATA_VARIABLE}; the embedded corpus works without"
        rows.append({"what": "MAESTRO v3.0.0", "needed": False, "hint": hint})
    if any(row["device"].startswith("cuda") for row in found["devices"]) and found["versions"]["mamba-ssm"] is None:
        rows.append(
            {
                "what": "mamba-ssm",
                "needed": False,
                "hint": "pip install .[mamba]; the scan in plain PyTorch works without",
            }
        )
    for row in found["scan"]["paths"]:
        if row["path"] == "native" and not row["available"]:
            rows.append(
                {"what": "C++ scan", "needed": False, "hint": f"{row['why']}; the scan in plain PyTorch works without"}
            )
    if found["tools"]["latex"] is None:
        rows.append(
            {"what": "LaTeX", "needed": False, "hint": "make paper says how to get it; everything else works without"}
        )
    return rows


def report(found: dict) -> str:
    """The result of `examine()` as text."""
    machine, data, weights = found["machine"], found["data"], found["weights"]
    have = [f"{name} {version}" for name in ("python", *SHOWN, *OPTIONAL) if (version := found["versions"][name])]
    lines = ["versions   " + ", ".join(have[:6]), "           " + ", ".join(have[6:])]
    lines += [
        f"machine    {machine['system']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB of memory, "
        f"{machine['free_disk_gib']:.0f} GiB of disk free{', on Kaggle' if machine['kaggle'] else ''}"
    ]
    lines += [f"device     {row['device']}: {row['name']}{_card(row)}" for row in found["devices"]]
    for kind, path in found["scan"]["chosen"].items():
        lines.append(f"scan       on {kind}: {path}")
    lines += [
        f"           {row['path']:<10} {'yes' if row['available'] else 'no ':<3}  {row['why']}"
        for row in found["scan"]["paths"]
    ]
    lines += [f"conv       on {kind}: {path}" for kind, path in found["convolution"]["chosen"].items()]
    lines += [f"data       {name}: {data[name] or 'not found'}" for name in ("maestro", "asap")]
    lines += [f"weights    shipped: {', '.join(weights['shipped']) or 'none'}"]
    lines += [f"           run: {run}" for run in weights["runs"]]
    lines += [f"sound      {found['tools']['soundfont'] or 'not found'}", f"cache      {found['tools']['cache']}"]
    lines += [
        f"{'MISSING' if row['needed'] else 'optional':<10} {row['what']}: {row['hint']}" for row in found["missing"]
    ]
    ready = not any(row["needed"] for row in found["missing"])
    return "\n".join(
        [*lines, "", "All that is needed is here." if ready else "Something that is needed is missing: see above."]
    )


def _card(row: dict) -> str:
    if row["memory_gib"] is None:
        return ""
    return (
        f", {row['memory_gib']:.0f} GiB, train in {'bfloat16' if row['bfloat16'] else 'float16 with a gradient scaler'}"
    )
