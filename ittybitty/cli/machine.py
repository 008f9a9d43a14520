"""`ittybitty doctor`, `fetch` and `reproduce`: check the installation, install a released model, and run all notebooks."""

from __future__ import annotations

import argparse
import sys

from .parser import Result, Verbs, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Adds this module's verbs."""
    add_verb(
        verbs,
        "doctor",
        doctor,
        "report versions, devices, data and weights, what is missing, and how to get it",
        "ittybitty doctor",
    )

    parser = add_verb(
        verbs,
        "fetch",
        fetch,
        "download a released model that is too large for the package, check it and install it",
        "ittybitty fetch small",
        "ittybitty fetch small --mirror file:///media/stick",
    )
    parser.add_argument(
        "name", metavar="NAME", help="name of the model, which `ittybitty continue --model NAME` then finds"
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="where the release is (default: $ITTYBITTY_MIRROR, else the project's release page)",
    )
    parser.add_argument("--into", metavar="DIR", help="folder to install it in (default: the cache)")

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


def fetch(options: argparse.Namespace) -> Result:
    """Install a released model."""
    from ..fetch import fetch as take

    found = take(options.name, options.mirror, options.into, lambda line: print(line, file=sys.stderr))
    was = f"fetched from {found['mirror']}" if found["fetched"] else "there already"
    return found, f"{found['out']}: {found['bytes'] / 1e6:.1f} MB, {was}"


def reproduce(options: argparse.Namespace) -> Result:
    """Run the notebooks; executed copies are written below build/."""
    from ..reproduce import reproduce as run

    return run(options.only or ())
