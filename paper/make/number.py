"""One number of the paper's text, and how a share is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """One macro: its name after \\val, the text it stands for, and the file that text was made from."""

    name: str
    text: str
    source: str


def percent(share: float, places: int = 0) -> str:
    """A share as LaTeX."""
    return f"{100 * share:.{places}f}\\,\\%"
