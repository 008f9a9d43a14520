"""The command line `ittybitty`: one verb for each step of the pipeline. Try `ittybitty --help`.

Exit code 0; 2 with one line on stderr for an error that the user can fix; 130 for Ctrl-C.
A module is imported only by the verb that needs it, so that `ittybitty --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from ..errors import IttyBittyError
from . import beats, bench, data, evaluate, experiments, gpu, machine, models, music
from .parser import Parser, show, stdout_for_the_result

__all__ = ["build_parser", "main"]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
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
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    arguments = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    try:
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
        return _end(str(error), 2)
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "ittybitty"):  # a bug: installing a package would not help
            raise
        package = PACKAGES.get(module, module)
        return _end(f"{package} cannot be imported ({error}); pip install {package}, and run the same command again", 2)
    except MemoryError:
        return _end("not enough memory; ask for less (a smaller model, batch, context or piece)", 2)
    except OSError as error:
        return _end(_operating_system_error(error), 2)


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
