"""The part of the page that needs neither a kernel nor widgets: style, heading, and the seed where the first take will stand.

The server shows it at once (serve.py); the page, when it is there, begins with the same (page.py).
"""

from __future__ import annotations

from importlib import resources

from ..notes import Performance
from . import pictures, seeds
from .roll import roll

INTRODUCTION = (
    "Choose a seed, move a slider, press Generate: a small model goes on playing, and you watch, listen and keep it. "
    '<span class="ib-word-seed">Blue</span> is the seed, <span class="ib-word-new">orange</span> is new.'
)
HEADING = f"<h1>Itty Bitty playground</h1><p>{INTRODUCTION}</p>"
ROOM = 1.6  # of the seed's length that the first picture has, so that one sees where new music will stand
WAITING = "Getting the controls ready …"


def text(name: str) -> str:
    """page.css or page.js."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def words(seed_name: str) -> str:
    """Title of the place where the first take will stand."""
    hint = f"{seed_name}: press Generate, and new music grows to the right of it"
    return f"<h2>Your first take</h2>{pictures.line(hint)}"


def picture(seed: Performance) -> str:
    """The seed with room for what comes."""
    return roll(seed, end=ROOM * seed.end)


def first_sight() -> str:
    """What is there to see while a kernel starts."""
    title = seeds.titles()[0]
    return (
        f'<style>{text("page.css")}</style><div class="ib"><div class="ib-head-line">{HEADING}</div>'
        f'<div class="ib-body"><div class="ib-controls"><p class="ib-note" role="status">{WAITING}</p></div>'
        f'<div class="ib-music"><div class="ib-cards"><div class="ib-card ib-take">{words(title)}'
        f"{picture(seeds.piece(title))}</div></div></div></div></div>"
    )
