"""Shared by all verbs: declaring a verb, output files, progress bars, and printing results.

A verb is a function of the parsed options that returns (result, text): `result` is what --json prints, `text` what a
person reads. Progress and warnings go to stderr, so that stdout can be piped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ConfigError
from ..jsonable import dumps

Result = tuple[dict | list, str]


class Lines(list):
    """A list that --json prints as one line per item."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line that names the error and --help."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[Parser]  # what `add_subparsers` returns
else:
    Verbs = argparse.Action


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], Result], summary: str, *examples: str
) -> Parser:
    """A verb with its summary, examples and --json; the caller adds its own options."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary.replace("%%", "%"),  # argparse formats help alone
        epilog="\n".join(["example:", *(f"  {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one machine-readable line on stdout")
    parser.set_defaults(run=run, verb_parser=parser)
    return parser


def options_of(arguments: argparse.Namespace) -> dict[str, str]:
    """{name of an option in `arguments`: how it is typed} of the verb that was given, such as {"start": "--from"}."""
    return {
        action.dest: action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
        for action in arguments.verb_parser._actions
    }


def add_data(parser: Parser, or_else: str = "") -> None:
    """Add --data, which every verb that reads a corpus has; `or_else` is added to its help text."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        help=f'folder that holds maestro-v3.0.0/, asap/ or MIDI files{or_else}; "embedded" for the built-in corpus '
        "(default: $ITTYBITTY_DATA, else MAESTRO where it is found, else embedded)",
    )


def add_device(parser: Parser, usual: str) -> None:
    """Add --device, which every verb that runs a model has; `usual` describes the default in the help text."""
    parser.add_argument("--device", metavar="NAME", help=f"auto, cpu, cuda or cuda:N ({usual})")


def whole(least: int) -> Callable[[str], int]:
    """The argparse type of a whole number that is at least `least`."""

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
        if not pair.partition("=")[0] or "=" not in pair:
            raise ConfigError(f"--set {pair}: write it as key=value, such as train.learning_rate=1e-3")
    return dict(pair.split("=", 1) for pair in pairs or ())


@contextlib.contextmanager
def outputs(source: str | None, *targets: str | None) -> Iterator[list[Any]]:
    """Temporary files for the targets (None for a target that is None), all renamed to their targets if the work succeeds.

    OutputError or ConfigError, before any work, if a target cannot be written, is named twice, or is the `source`.
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
    """A progress bar on stderr, as a function that takes the amount done so far; None if stderr is no terminal."""
    if not terminal():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}", leave=False) as line:
        yield lambda done: line.update(done - line.n)


@contextlib.contextmanager
def stdout_for_the_result() -> Iterator[None]:
    """Redirect stdout to stderr, also for compiled libraries: the byte-pair trainer prints blank lines."""
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
    """Print the result as text, or with --json as one line (`Lines`: one line per item)."""
    if arguments.json:
        items = result if isinstance(result, Lines) else [result]
        text = "\n".join(dumps(item) for item in items)
    print(text)


def table(rows: list[dict], columns: dict[str, str]) -> str:
    """Format rows as an aligned table with the headings `columns` (key -> heading); numbers are aligned right."""
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
    """True if stderr is a terminal: only then are progress bars drawn."""
    return sys.stderr.isatty()
