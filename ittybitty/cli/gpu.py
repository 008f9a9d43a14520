"""`ittybitty gpu`: prepare a training here, run it on a GPU machine within a budget, install the result here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from .parser import Result, Verbs, add_data, add_verb, changes, table, whole


def add_verbs(verbs: Verbs) -> None:
    """Adds `gpu` and its actions."""
    parser = verbs.add_parser(
        "gpu",
        help="train on a GPU that is available for a few minutes: pack, run, install",
        description="Pack tokens on this machine, train on the GPU machine, and install the result on this machine.",
        epilog="example:\n  ittybitty gpu pack --data ~/music --out tokens.pack\n"
        "  ittybitty gpu run tokens.pack --out visit --plan",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    _add_pack(actions)
    _add_run(actions)
    _add_install(actions)
    _add_release(actions)


def _add_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--row", action="append", metavar="ROW", help="a row of `ittybitty systems` (hybrid and notes-hybrid)"
    )
    parser.add_argument("--preset", default="small", metavar="NAME", help="size of the models (%(default)s)")


def _add_pack(actions: Verbs) -> None:
    parser = add_verb(
        actions,
        "pack",
        pack,
        "pack the tokens of a corpus for transport: all of MAESTRO in two encodings takes less than 30 MB",
        "ittybitty gpu pack --data ~/music --out tokens.pack",
    )
    add_data(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the packed tokens")
    _add_rows(parser)


def _add_run(actions: Verbs) -> None:
    parser = add_verb(
        actions,
        "run",
        run,
        "check and time every implementation of the scan, train, and save the result, each step in its own process, within a time budget",
        "ittybitty gpu run tokens.pack --out visit --plan",
        "ittybitty gpu run tokens.pack --out visit --seconds 540",
        "ittybitty gpu run tokens.pack --out again --seconds 540 --from visit",
        "ittybitty gpu run tokens.pack --out try --preset nano --seconds 120 --cpu",
    )
    parser.add_argument("tokens", metavar="PACK", help="the folder that `ittybitty gpu pack` wrote")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the result")
    parser.add_argument(
        "--seconds",
        type=float,
        default=540.0,
        metavar="S",
        help="seconds that all steps may take together (%(default)g)",
    )
    parser.add_argument("--plan", action="store_true", help="run nothing; print the steps and the figures expected")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="DIR",
        help="start from the weights of an earlier `ittybitty gpu run`, or of a run folder",
    )
    parser.add_argument("--work", metavar="DIR", help="folder for checkpoints and logs (default: next to --out)")
    parser.add_argument("--cpu", action="store_true", help="rehearse without a GPU")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting of all rows")
    _add_rows(parser)


def _add_install(actions: Verbs) -> None:
    parser = add_verb(
        actions,
        "install",
        install,
        "join the files of a run, evaluate the models on a CPU, write their cards, and install them in the package",
        "ittybitty gpu install visit --data ~/music",
        "ittybitty gpu install visit --data ~/music --limit 8 --into models",
    )
    parser.add_argument("place", metavar="DIR", help="the --out of `ittybitty gpu run`")
    add_data(parser)
    parser.add_argument("--split", default="validation", help="pieces to evaluate on (%(default)s)")
    parser.add_argument("--limit", type=whole(1), metavar="N", help="evaluate on only N of these pieces")
    parser.add_argument("--into", metavar="DIR", help="folder to install in (default: the models of the package)")
    parser.add_argument("--runs", metavar="DIR", help="folder for the run folders (default: runs/ in DIR)")
    parser.add_argument("--only", metavar="ROW", help="install only this row")


def _add_release(actions: Verbs) -> None:
    parser = add_verb(
        actions,
        "release",
        release,
        "write a model as files for a server, from which `ittybitty fetch NAME` downloads it",
        "ittybitty gpu release small-hybrid --out build/release --name small",
    )
    parser.add_argument("model", metavar="NAME|DIR", help="an installed model, or the folder of `ittybitty export`")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--name", required=True, metavar="NAME", help="name of the release, such as small")


def _say() -> Callable[[str], None]:
    return lambda line: print(line, file=sys.stderr, flush=True)


def pack(options: argparse.Namespace) -> Result:
    """Pack the tokens of a corpus."""
    from .. import pipeline, systems
    from ..gpu import plan, tokens

    stores = {}
    for row in options.row or plan.ROWS:
        name = plan.tokenizer_of(row)
        if name not in stores:
            stores[name] = pipeline.tokenize(systems.build(row, options.preset), options.data)
    result = tokens.pack(stores, options.out)
    held = ", ".join(f"{name} ({len(store.ids):,} ids)" for name, store in stores.items())
    return result, f"{result['bytes'] / 1e6:.1f} MB in {result['out']}: {held}"


def run(options: argparse.Namespace) -> Result:
    """Train on packed tokens and write the result; with --plan, only list what would be done."""
    from ..gpu import plan, run

    rows = tuple(options.row or plan.ROWS)
    settings = changes(options.set)
    if options.plan:
        return _plan(options, rows, settings)
    result = run.run(
        options.tokens, options.out, options.seconds, options.preset, rows, options.start, settings, options.work,
        options.cpu, _say(),
    )  # fmt: skip  # options in the order of the command line
    shown = [
        {"step": s["step"], "ok": s["ok"], "seconds": s["seconds"], "why": s.get("why", "")} for s in result["steps"]
    ]
    size = sum(result["files"].values())
    text = [table(shown, {"step": "step", "ok": "ok", "seconds": "seconds", "why": ""})]
    text += [f"{row}: {', '.join(f'{k} {v}' for k, v in found.items())}" for row, found in result["rows"].items()]
    return result, "\n".join([*text, f"{len(result['files'])} files, {size / 1e6:.1f} MB, in {result['out']}/home"])


def _plan(options: argparse.Namespace, rows: tuple[str, ...], settings: dict) -> Result:
    from ..gpu import forecast

    result = forecast.foreseen(
        options.tokens,
        options.seconds,
        rows,
        options.preset,
        bool(options.start),
        settings,
        options.work or options.out,
    )
    return result, forecast.report(result)


def install(options: argparse.Namespace) -> Result:
    """Install the models of a result of `ittybitty gpu run`."""
    from ..gpu.install import install as put

    made = put(
        options.place, options.data, options.split, options.limit, options.into, options.runs, options.only, _say()
    )
    shown = [{**one, "mb": one["bytes"] / 1e6} for one in made]
    return made, table(shown, {"row": "row", "bits_per_note": "bits a note", "mb": "MB", "out": "model"})


def release(options: argparse.Namespace) -> Result:
    """Write a model as files for a server."""
    from ..fetch import release as lay_out

    made = lay_out(options.model, options.out, options.name)
    return made, f"{made['out']}: {len(made['files'])} files, {made['bytes'] / 1e6:.1f} MB, and {made['name']}.json"
