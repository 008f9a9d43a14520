"""The command line `ittybitty`: one verb for each step of the pipeline. Try `ittybitty --help`.

Exit code 0; 2 with one line on stderr for an error that the user can fix; 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
A module is imported only by the verb that needs it, so that `ittybitty --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .. import __version__
from ..errors import ConfigError, IttyBittyError
from . import beats, bench, data, evaluate, experiments, gpu, machine, models, music
from .parser import Parser, options_of, show, stdout_for_the_result

__all__ = ["build_parser", "main"]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NO_MEMORY = "not enough memory; ask for less (a smaller model, batch, context or piece)"
FILES = (".mid", ".midi", ".wav", ".png", ".json", ".yaml", ".html")
PACKAGES = {"sklearn": "scikit-learn", "yaml": "pyyaml"}  # module -> package, where the names differ


def build_parser() -> Parser:
    """The parser of `ittybitty` with all its verbs."""
    parser = Parser(
        prog="ittybitty",
        description="Continue piano music with small neural networks; train and measure such models.",
        epilog="ittybitty VERB --help shows the options of a verb and an example.",
    )
    parser.add_argument("--version", action="version", version=f"ittybitty {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for group in (music, data, models, evaluate, beats, experiments, bench, gpu, machine):
        group.add_verbs(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; the exit code is returned (argparse itself ends the process on --help and on wrong options)."""
    _open_streams()
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        hint = "; write ./ before the name of a file that begins with -" if unknown[0].endswith(FILES) else ""
        arguments.verb_parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        return _run(arguments)


def _open_streams() -> None:
    """Give a process that was started with stdout or stderr closed (`>&-`) /dev/null in their place."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "w"))


class _Ended(SystemExit):
    """A signal that ends the process; raised so that temporary files are removed. A worker process ends by it in silence."""


@contextmanager
def _signals_as_exceptions() -> Iterator[list[int]]:
    """Raise `_Ended` at SIGTERM and SIGHUP; yields a list that then holds the signal's number.

    A training has handlers of its own meanwhile, and an ignored signal stays ignored.
    """
    before: dict[int, Any] = {}
    received: list[int] = []

    def end(number: int, frame: object) -> None:
        if not received:  # a second signal does not disturb the removal of files
            received.append(number)
            raise _Ended(128 + number)

    if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: argparse.Namespace) -> int:
    with _signals_as_exceptions() as received:
        try:
            return _answered(arguments)
        except BaseException:  # C code that is being imported turns the exception into one of its own
            if not received:
                raise
            return _end("stopped", 128 + received[0])


def _answered(arguments: argparse.Namespace) -> int:
    """Run the verb and print its result; the exit code."""
    try:
        for name, typed in options_of(arguments).items():
            if getattr(arguments, name, None) == "":
                raise ConfigError(f"{typed} is empty: give a value, or leave it out")
        with stdout_for_the_result():
            result, text = arguments.run(arguments)
        show(arguments, result, text)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return _end("stopped", 130)
    except BrokenPipeError:  # `ittybitty … | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except IttyBittyError as error:
        return _end(_as_typed(str(error), arguments), 2)
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "ittybitty"):  # a bug: installing a package would not help
            raise
        package = PACKAGES.get(module, module)
        return _end(f"{package} cannot be imported ({error}); pip install {package}, and run the same command again", 2)
    except MemoryError:
        return _end(NO_MEMORY, 2)
    except RuntimeError as error:  # PyTorch has no class of its own for it on a CPU
        if "can't allocate memory" not in str(error):
            raise
        return _end(NO_MEMORY, 2)
    except OSError as error:
        return _end(_operating_system_error(error), 2)


def _as_typed(message: str, arguments: argparse.Namespace) -> str:
    """A message that begins with the name of a setting, which the command line's user knows as an option."""
    first = re.match(r"(\w+)(?= is )", message)
    typed = options_of(arguments).get(first[1], "") if first else ""
    return typed + message[first.end() :] if first and typed.startswith("--") else message


def _operating_system_error(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in DISK_FULL:
        return f"{place}the disk is full; free some space and run the same command again"
    return f"{place}{error.strerror or error}; check that the path exists and that you may use it"


def _warn(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning as one line, without the file and the source line that raised it."""
    print("ittybitty:", " ".join(str(message).split()), file=sys.stderr)


def _end(message: str, code: int) -> int:
    print("ittybitty:", " ".join(message.split()), file=sys.stderr)
    return code
