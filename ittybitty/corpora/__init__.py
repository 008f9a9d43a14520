"""Corpora: MAESTRO, ASAP, works embedded in the installed package music21, and any folder of MIDI files.

corpus = open_corpus(None)             # MAESTRO where it is found, else the embedded works
for piece in corpus.split("train"):
    performance = piece.load()
"""

from __future__ import annotations

from pathlib import Path

from .. import paths
from ..errors import CorpusError
from . import asap, embedded, folder, maestro
from .pieces import SPLITS, Corpus, Piece, statistics

__all__ = ["SPLITS", "Corpus", "Piece", "asap", "embedded", "folder", "maestro", "open_corpus", "statistics"]


def open_corpus(data: str | Path | Corpus | None = None, prefer: str = "") -> Corpus:
    """Open the corpus that `data` (or else $ITTYBITTY_DATA) names. CorpusError says what was searched.

    - a corpus: itself.
    - "embedded": the works read from music21's package.
    - a folder: MAESTRO if it holds maestro-v3.0.0.csv or maestro-v3.0.0/; else ASAP if it holds ASAP's
      metadata.csv or asap/; else all MIDI files below it.
    - None, and no ITTYBITTY_DATA: MAESTRO on Kaggle's mounts or in the cache, else "embedded".

    `prefer` "asap" uses ASAP if it is there, even if MAESTRO is there, too; "asap+scores" also the engraved scores of
    its training works.
    """
    if isinstance(data, Corpus):
        return data
    if str(data or paths.data_dir() or "") == "embedded":
        return embedded.open()
    place = paths.data_dir(data)
    if prefer in (asap.NAME, asap.WITH_SCORES) and (found := paths.find_asap(place)):
        return asap.open(found, scores=prefer == asap.WITH_SCORES)
    if place is None:
        found = paths.find_maestro()
        return maestro.open(found) if found else embedded.open()
    if not place.is_dir():
        what = "is a file, not a folder" if place.exists() else "no such folder"
        raise CorpusError(
            f"{place}: {what}; give a folder that holds maestro-v3.0.0/, asap/ or MIDI files, or 'embedded'"
        )
    if found := paths.find_maestro(place):
        return maestro.open(found)
    if found := paths.find_asap(place):
        return asap.open(found)
    return folder.open(place)
