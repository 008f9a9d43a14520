"""`ittybitty doctor` and `ittybitty reproduce`: check the installation, and run all notebooks."""

from __future__ import annotations

import argparse

from .parser import Result, add_verb


def add_verbs(verbs) -> None:
    """Adds this module's verbs."""
    add_verb(
        verbs,
        "doctor",
        doctor,
        "versions, devices, data and weights; what is missing, and how to get it",
        "ittybitty doctor",
    )

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
    """Examine this machine and the installation."""
    from ..doctor import examine, report

    found = examine()
    return found, report(found)


def reproduce(options: argparse.Namespace) -> Result:
    """Run the notebooks; executed copies are written below build/."""
    from ..reproduce import reproduce as run

    return run(options.only or ())
