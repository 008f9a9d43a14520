"""What the page shows while its kernel starts: style, heading and the picture of the first seed, without widgets.

The server sends it at once (serve.py). The page (page.py) begins with the same picture, so that nothing jumps.
"""

from __future__ import annotations

from importlib import resources

from ..notes import Performance
from . import pictures, seeds
from .roll import roll

INTRODUCTION = (
    "Choose a seed, move a slider, press Generate: a small model continues the seed. Watch, listen, and save what you like. "
    '<span class="ib-word-seed">Blue</span> is the seed, <span class="ib-word-new">orange</span> is new.'
)
HEADING = f"<h1>Itty Bitty playground</h1><p>{INTRODUCTION}</p>"
ROOM = 1.6  # length of the first picture, in lengths of the seed: the empty part is where new music will be
WAITING = "Getting the controls ready …"


def text(name: str) -> str:
    """Content of page.css or page.js."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def words(seed_name: str) -> str:
    """Title and hint of the card that will show the first take, as HTML."""
    hint = f"{seed_name}: press Generate, and new music grows to the right of it"
    return f"<h2>Your first take</h2>{pictures.line(hint)}"


def picture(seed: Performance) -> str:
    """Piano roll of the seed, with room for new music to its right."""
    return roll(seed, end=ROOM * seed.end)


def first_sight() -> str:
    """The page while its kernel starts, as HTML."""
    title = seeds.titles()[0]
    return (
        f'<style>{text("page.css")}</style><div class="ib"><div class="ib-head-line">{HEADING}</div>'
        f'<div class="ib-body"><div class="ib-controls"><p class="ib-note" role="status">{WAITING}</p></div>'
        f'<div class="ib-music"><div class="ib-cards"><div class="ib-card ib-take">{words(title)}'
        f"{picture(seeds.piece(title))}</div></div></div></div></div>"
    )
