"""`ittybitty doctor` and `ittybitty reproduce`: is everything here, and does everything run?"""

from __future__ import annotations

import argparse

from .parser import Result, add_verb


def add_verbs(verbs) -> None:
    """Adds this module's verbs."""
    add_verb(verbs, "doctor", doctor, "what is there, what is missing, what will run", "ittybitty doctor")

    parser = add_verb(
        verbs,
        "reproduce",
        reproduce,
        "run the notebooks in order at their small size",
        "ittybitty reproduce",
        "ittybitty reproduce --only 04 --only figures",
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only notebooks whose name contains this; may be repeated"
    )


def doctor(options: argparse.Namespace) -> Result:
    """The machine as the kit sees it."""
    from ..doctor import examine, report

    found = examine()
    return found, report(found)


def reproduce(options: argparse.Namespace) -> Result:
    """Notebooks -> executed copies below build/."""
    from ..reproduce import reproduce as run

    return run(options.only or ())
