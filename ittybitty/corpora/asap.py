"""ASAP: performances whose beats and downbeats were annotated against their scores [1].

metadata.csv names, for each performance, its split (by work, agreeing with MAESTRO's where the file is a cut of a
MAESTRO file), its MIDI file and its annotations: lines of time, time, label, where the label before the first comma is
b (beat), db (downbeat) or bR (a beat the annotators placed themselves: rubato, or no note to hear it by).

Left out: the engraved scores and the time and key signatures behind the comma.

[1] Foscarin et al. 2020, ASAP: a dataset of aligned scores and performances for piano transcription. ISMIR.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import paths
from ..errors import CorpusError
from .pieces import SPLITS, Corpus, Piece

LICENCE = "CC BY-NC-SA 4.0"
COLUMNS = ("split", "maestro_midi_filename", "composer", "title", "midi_performance", "performance_annotations")
LABELS = ("b", "db", "bR")


@dataclass(frozen=True)
class AsapPiece(Piece):
    """A performance with its beat annotations."""

    annotations: Path | None = None
    maestro: str | None = None  # the file of MAESTRO, relative to its folder, that this one was cut from


@dataclass(frozen=True, eq=False)
class Beats:
    """Beats of one performance, in order."""

    times: np.ndarray  # (n,) s
    downbeats: np.ndarray  # (n,) bool, first beat of a bar
    rubato: np.ndarray  # (n,) bool, placed by the annotators


def open(root: str | Path) -> Corpus:
    """The corpus below `root` (the folder of metadata.csv, or one that holds asap/); CorpusError when it is not there."""
    folder = paths.find_asap(root)
    if folder is None:
        raise CorpusError(f"{root}: holds no ASAP (metadata.csv with a performance_annotations column); give the folder it lies in")
    with (folder / paths.ASAP_CSV).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise CorpusError(f"{folder / paths.ASAP_CSV}: has no column {sorted(missing)[0]!r}; get the version with splits")
        pieces = tuple(_piece(folder, row) for row in reader)
    if not any(piece.path.is_file() for piece in pieces):
        raise CorpusError(f"{folder}: none of the {len(pieces)} performances of metadata.csv is there; unpack the whole archive")
    return Corpus("asap", LICENCE, pieces)


def _piece(folder: Path, row: dict[str, str]) -> AsapPiece:
    if row["split"] not in SPLITS:
        raise CorpusError(f"{folder / paths.ASAP_CSV}: split {row['split']!r} of {row['midi_performance']!r} is none of {', '.join(SPLITS)}")
    return AsapPiece(
        name=row["midi_performance"].removesuffix(".mid"),
        composer=row["composer"],
        title=row["title"],
        split=row["split"],
        path=folder / row["midi_performance"],
        annotations=folder / row["performance_annotations"],
        maestro=row["maestro_midi_filename"] or None,
    )


def beats(piece: AsapPiece) -> Beats:
    """The annotated beats of a piece; CorpusError for a file that is missing or not an annotation file."""
    try:
        lines = piece.annotations.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{piece.annotations}: cannot be read ({error}); unpack the whole archive") from None
    times, labels = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            time, _, label = line.split("\t")
            times.append(float(time))
            labels.append(label.split(",")[0].strip())
        except ValueError:
            raise CorpusError(f"{piece.annotations}: line {number} is not time, time, label: {line[:40]!r}") from None
        if labels[-1] not in LABELS:
            raise CorpusError(f"{piece.annotations}: line {number} has label {labels[-1]!r}, none of {', '.join(LABELS)}")
    if not times:
        raise CorpusError(f"{piece.annotations}: holds no beats; unpack the whole archive")
    order = np.argsort(times, kind="stable")
    label = np.array(labels)[order]
    return Beats(np.array(times)[order], label == "db", label == "bR")
