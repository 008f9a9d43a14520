"""`ittybitty bench`: measure speed and memory on this machine, and compare them with other implementations."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from .parser import Result, Verbs, add_data, add_device, add_verb, bar

SUMMARIES = {
    "scan": "time of training a Mamba stack, compared with the same stack without its scan and with transformers",
    "decode": "milliseconds per token of the 25.6M model, compared with the time to read its weights",
    "tokenize": "time to tokenize the MIDI files of a whole corpus",
    "train": "training speed of the hybrid, LLaMA and LSTM in tokens per second",
    "stream": "time of token 100,000 of a piece, compared with that of token 2,000",
    "page": "the HTML file of `ittybitty page` in a browser: its size, notes per second, and how soon it answers",
    "playground": "time from the start of `ittybitty playground` until the page is visible and usable",
}
IN_A_BROWSER = ("page", "playground")


def add_verbs(verbs: Verbs) -> None:
    """Adds `bench` and its kinds."""
    parser = verbs.add_parser(
        "bench",
        help="measure speed and memory, and compare them with other implementations and lower bounds",
        description="Time each implementation in turn, and report medians.",
        epilog="example:\n  ittybitty bench scan\n  ittybitty bench tokenize --data DIR",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", required=True, parser_class=type(parser))
    for kind, summary in SUMMARIES.items():
        one = add_verb(
            kinds, kind, run, summary, f"ittybitty bench {kind}{' --data DIR' if kind == 'tokenize' else ''}"
        )
        one.set_defaults(kind=kind)
        one.add_argument(
            "--turns", type=int, metavar="N", help="number of rounds; each round times every implementation once"
        )
        if kind == "tokenize":
            add_data(one)
        elif kind not in IN_A_BROWSER:
            add_device(one, "cpu; the goals are set for it")
        if kind == "decode":
            one.add_argument(
                "--busy",
                action="store_true",
                help="measure instead the tokens per second of two and four continuations at once",
            )
        if kind == "train":
            one.add_argument("--preset", help="size (small, 25.6M; with --rows tiny)")
            one.add_argument(
                "--rows",
                action="store_true",
                help="measure instead the notes per second of whole training steps, row by row",
            )
            one.add_argument(
                "--precision", choices=("float32", "bfloat16"), default="float32", help="with --rows (float32)"
            )


def run(options: argparse.Namespace) -> Result:
    """Run one benchmark; its figures, and a text that compares them with their marks."""
    from .. import bench
    from ..bench.marks import report
    from ..bench.train import bench_rows

    if options.turns is not None and options.turns < 1:
        raise ConfigError(f"--turns is {options.turns}: give 1 or more")
    given = {} if options.turns is None else {"turns": options.turns}
    if options.kind == "tokenize":
        given["data"] = options.data
    elif getattr(options, "device", None):
        given["device"] = options.device
    if options.kind == "decode" and options.busy:
        if given:
            raise ConfigError(f"--{min(given)} does not go with --busy: leave one of them out")
        given["busy"] = True
    if options.kind == "train":
        if options.rows:
            given |= {"size": options.preset or "tiny", "dtype": options.precision}
            result = bench_rows(**given)
            return result, report("rows", result)
        given["name"] = options.preset or "small"
    if options.kind == "page":
        from ..page.measure import bench_page

        result = bench_page(**given)
    elif options.kind == "playground":
        from ..page.opening import bench_playground

        result = bench_playground(**given)
    elif options.kind == "stream":
        from ..bench.stream import LATE, bench_stream

        with bar(LATE, "tokens") as progress:
            result = bench_stream(**given, progress=progress)
    else:
        result = bench.named(options.kind)(**given)
    return result, report("busy" if given.get("busy") else options.kind, result)
