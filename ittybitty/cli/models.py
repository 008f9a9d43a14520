"""`ittybitty systems`, `params`, `train` and `export`: list systems, count parameters, train a run, export it."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from .parser import Lines, Result, Verbs, add_data, add_verb, bar, changes, table


def add_verbs(verbs: Verbs) -> None:
    """Adds this module's verbs."""
    _add_train(verbs)
    _add_export(verbs)

    parser = add_verb(
        verbs,
        "systems",
        systems,
        "list the systems: tokenizer, model, parameters, what the encoding keeps",
        "ittybitty systems --preset small",
        "ittybitty systems --smoke --data ~/music",
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="size at which parameters are counted (small; with --smoke nano)"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="take every system through training, resuming, continuing and evaluating, on a few pieces",
    )
    add_data(parser)

    parser = add_verb(
        verbs,
        "params",
        params,
        "count the parameters of a preset or of a published system by part",
        "ittybitty params small",
        "ittybitty params mamba-paper",
    )
    parser.add_argument(
        "preset",
        metavar="PRESET|SYSTEM",
        help="nano, tiny, small, medium or large; or a system, at its published size (for the shipped model `tiny-remi`: tiny --system mamba)",
    )
    parser.add_argument("--system", metavar="NAME", help="a row of `ittybitty systems` (hybrid)")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting, such as model.d_ff=2048")


def _add_train(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "train",
        train,
        "train a system, or resume a run",
        "ittybitty train notes-hybrid --preset tiny --data ~/music --out runs/first",
        "ittybitty train notes-hybrid --preset nano --data embedded --out runs/try --steps 50",
        "ittybitty train --resume --out runs/first --data ~/music",
    )
    parser.add_argument(
        "system",
        metavar="SYSTEM",
        nargs="?",
        help="a row of `ittybitty systems`, such as notes-hybrid, the system of `tiny`, which learns most in the same time (default: hybrid, the published system; with --resume the run's own)",
    )
    parser.add_argument("--preset", metavar="NAME", help="size of the model: nano, tiny, small, medium or large (tiny)")
    add_data(parser, or_else=", or the tokens that `ittybitty tokenize` wrote")
    parser.add_argument("--out", required=True, metavar="RUN_DIR", help="the run folder: weights, configuration, log")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps")
    parser.add_argument("--max-hours", type=float, metavar="H", help="save and end cleanly after H hours")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="random seed of the first weights and of the order of the data"
    )
    parser.add_argument(
        "--resume", action="store_true", help="resume the run in RUN_DIR; start a new one if there is none"
    )
    parser.add_argument(
        "--from", dest="start", metavar="RUN_DIR", help="start from the weights of another run or shipped model"
    )
    parser.add_argument(
        "--parallel",
        choices=("none", "dp", "ddp"),
        help="several GPUs: nn.DataParallel, or one process each under torchrun (default: what the machine offers)",
    )
    parser.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="change a setting, such as train.learning_rate=1e-3"
    )


def _add_export(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "export",
        export,
        "write a run as the files that a model hub expects: float16 shards, configuration, tokenizer, model card",
        "ittybitty export runs/first --out hub/first",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="a run folder, or a model that ships with the package")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make; an earlier export is replaced")
    parser.add_argument(
        "--results",
        metavar="FILE.json",
        help="measured figures for the model card: the file that `ittybitty evaluate --record` wrote",
    )


def train(options: argparse.Namespace) -> Result:
    """Train a system on a corpus or a token folder into a run folder."""
    from .. import pipeline

    summary = pipeline.train(
        options.out,
        options.system,
        options.preset,
        _overrides(options),
        data=options.data,
        resume=options.resume,
        init_from=options.start,
        parallel=options.parallel,
        max_hours=options.max_hours,
    )
    return summary, "\n".join(
        f"{key:<18} {'not measured' if value is None else value}" for key, value in summary.items()
    )


def _overrides(options: argparse.Namespace) -> dict[str, object]:
    given = {"train.steps": options.steps, "train.seed": options.seed}
    return {**changes(options.set), **{key: value for key, value in given.items() if value is not None}}


def export(options: argparse.Namespace) -> Result:
    """Export a run folder to a folder for a model hub."""
    from ..export import export as write

    result = write(options.run_dir, options.out, options.results)
    lines = [f"{name:<40} {size:>12,} bytes" for name, size in result["files"].items()]
    lines += [
        f"{result['parameters']:,} parameters in {result['out']}; rounding to float16 changed none by more than {result['largest_error']:.1e}"
    ]
    return result, "\n".join(lines)


def systems(options: argparse.Namespace) -> Result:
    """List the systems; with --smoke, take each through the pipeline on a few pieces."""
    from ..systems import PUBLISHED, SOURCES, rows

    if options.smoke:
        return _smoke(options)
    if options.data is not None:
        raise ConfigError("--data goes with --smoke: the rows are listed without a corpus")
    result = rows(options.preset or "small")
    shown = [
        {**row, "keeps": " ".join(row["keeps"]), "published": _count(row["published_parameters"])} for row in result
    ]
    columns = {
        "system": "system",
        "tokenizer": "tokenizer",
        "keeps": "the encoding keeps",
        "model": "model",
        "parameters": "parameters",
        "published": PUBLISHED,
        "summary": "what it is",
    }
    sources = "\n".join(f"[{number}] {source}" for number, source in SOURCES.items())
    return result, f"{table(shown, columns)}\n\n{sources}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _smoke(options: argparse.Namespace) -> Result:
    from ..experiments.smoke import smoke
    from ..systems import SYSTEMS

    with bar(len(SYSTEMS), "systems") as tick:
        result = smoke(options.data, options.preset or "nano", progress=tick)
    shown = [
        {**row, "keeps": " ".join(row["keeps"]), "ci95": "{:.2f} to {:.2f}".format(*row["ci95"])} for row in result
    ]
    columns = {
        "row": "row",
        "corpus": "music of",
        "params": "parameters",
        "tokens_per_note": "tokens a note",
        "keeps": "the encoding keeps",
        "bits_per_note": "bits a note",
        "ci95": "95% interval",
        "new_notes": "new notes",
    }
    return Lines(result), table(shown, columns)


def params(options: argparse.Namespace) -> Result:
    """Count parameters by part, without allocating the model."""
    from ..config import SCALE_PRESETS
    from ..systems import PUBLISHED, SYSTEMS, build, build_model

    system, preset = options.system or "hybrid", options.preset
    named = {name for row in SYSTEMS.values() for name in (row.name, *row.aliases)}
    if preset in named and preset not in SCALE_PRESETS and options.system is None:
        system, preset = preset, PUBLISHED
    configs = build(system, preset, changes(options.set))
    import torch

    with torch.device("meta"):
        parts = build_model(configs).parameters_by_part()
    result = {"preset": preset, "system": system, "total": sum(parts.values()), "by_part": parts}
    rows = [{"part": part, "parameters": count} for part, count in parts.items()]
    text = table(
        [*rows, {"part": "total", "parameters": result["total"]}], {"part": "part", "parameters": "parameters"}
    )
    return result, text
