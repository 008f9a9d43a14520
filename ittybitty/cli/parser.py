"""What all verbs share: how a verb is declared, and how its result is shown.

A verb is a function of the parsed options that returns (result, text): `result` is what --json prints, `text` what a
person reads. Progress and warnings go to stderr, so that stdout can be piped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..jsonable import jsonable

Result = tuple[dict | list, str]


class Lines(list):
    """A result that --json prints a line an item."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str):
        """Ends with code 2 and one line that names the trouble and where help is."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_verb(verbs, name: str, run: Callable[[argparse.Namespace], Result], summary: str, *examples: str) -> Parser:
    """A verb with its summary, examples and --json; the caller adds its own options."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary.replace("%%", "%"),  # argparse formats help alone
        epilog="\n".join(["example:", *(f"  {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one machine-readable line on stdout")
    parser.set_defaults(run=run)
    return parser


def add_data(parser: Parser, or_else: str = "") -> None:
    """--data, which every verb that reads a corpus takes; `or_else` says what else it may be."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        help=f'folder that holds maestro-v3.0.0/, asap/ or MIDI files{or_else}; "embedded" for the built-in corpus '
        "(default: $ITTYBITTY_DATA, else MAESTRO where it is found, else embedded)",
    )


def add_device(parser: Parser, usual: str) -> None:
    """--device, which every verb that runs a model takes; `usual` says which it is if not given."""
    parser.add_argument("--device", metavar="NAME", help=f"auto, cpu, cuda or cuda:N ({usual})")


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, `least` or more."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} up")
        return value

    return read


def changes(pairs: list[str] | None) -> dict[str, str]:
    """{"train.steps": "500"} from ["train.steps=500"]; ConfigError for a word without a '='."""
    for pair in pairs or ():
        if "=" not in pair:
            raise ConfigError(f"--set {pair}: write it as key=value, such as train.learning_rate=1e-3")
    return dict(pair.split("=", 1) for pair in pairs or ())


@contextlib.contextmanager
def outputs(source: str | None, *targets: str | None) -> Iterator[list[Any]]:
    """A temporary file (Path) for each target and None for each that is None; all renamed onto their places when the work is done, none when it fails.

    OutputError or ConfigError before any work when a place cannot be written, is named twice or is the `source`.
    """
    from ..paths import atomic_path

    taken = {Path(source).resolve(): "the input itself"} if source else {}
    with contextlib.ExitStack() as stack:
        places = []
        for target in targets:
            if target is not None:
                if (place := Path(target).expanduser().resolve()) in taken:
                    raise ConfigError(f"{target}: is {taken[place]}; give another name to write to")
                taken[place] = "named twice"
            places.append(None if target is None else stack.enter_context(atomic_path(target)))
        yield places


@contextlib.contextmanager
def bar(total: int | None, unit: str) -> Iterator[Callable[[int], None] | None]:
    """A progress bar on stderr as a function of what is done so far; None when nobody watches."""
    if not terminal():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}", leave=False) as line:
        yield lambda done: line.update(done - line.n)


@contextlib.contextmanager
def stdout_for_the_result() -> Iterator[None]:
    """Whatever is printed meanwhile goes to stderr, compiled libraries included: the byte-pair trainer prints blank lines."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def show(arguments: argparse.Namespace, result: dict | list, text: str) -> None:
    """Prints the result for a person or, with --json, as one line (`Lines`: each of them)."""
    if arguments.json:
        items = result if isinstance(result, Lines) else [result]
        text = "\n".join(json.dumps(jsonable(item), allow_nan=False) for item in items)
    print(text)


def table(rows: list[dict], columns: dict[str, str]) -> str:
    """Rows as aligned text under the headings of `columns` (key -> heading); numbers are aligned right."""
    cells = [list(columns.values()), *([_cell(row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [all(isinstance(row.get(key), (int, float)) for row in rows) for key in columns]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)).rstrip() for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cell(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def terminal() -> bool:
    """True when a person watches stderr: only then are progress bars drawn."""
    return sys.stderr.isatty()
