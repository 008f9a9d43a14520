"""The seeds that come with the page, as lists of notes: beginnings of works of the embedded corpus, and the playground's own pieces.

The works are in the public domain; the page names the licence of each seed beside its title.
"""

from __future__ import annotations

import functools

import numpy as np

from ..corpora import embedded
from ..notes import Performance, between
from ..widget import seeds as own

SECONDS = 16.0  # of a work's beginning
WORKS = {  # title -> the movement's name in the embedded corpus
    "Bach, Prelude in C (BWV 846)": "bach/bwv846",
    "Mozart, Sonata in C (K. 545)": "mozart/k545/movement1_exposition",
    "Chopin, Mazurka op. 6 no. 2": "chopin/mazurka06-2",
    "Joplin, Maple Leaf Rag": "joplin/maple_leaf_rag",
}
OWN_LICENCE = "written for Itty Bitty, free of any condition"


def as_json() -> list[dict]:
    """{"title", "licence", "notes": [[onset s, duration s, pitch, velocity]], "pedals": [[onset s, duration s]]} of each seed."""
    works = [(title, embedded.LICENCE, _beginning(name)) for title, name in WORKS.items()]
    pieces = [(title, OWN_LICENCE, own.piece(title)) for title in own.titles()]
    return [
        {"title": title, "licence": licence, "notes": _rows(music.notes), "pedals": _rows(music.pedals)}
        for title, licence, music in (*works, *pieces)
    ]


@functools.cache
def _beginning(name: str) -> Performance:
    return between(embedded.performance(name), 0.0, SECONDS)


def _rows(array: np.ndarray) -> list[list]:
    """Rows of a record array, times rounded to a millisecond."""
    return [[round(value, 3) if isinstance(value, float) else value for value in row] for row in array.tolist()]
