"""ASAP: performances whose beats and downbeats were annotated against their scores [1].

metadata.csv names, for each performance, its split (by work, agreeing with MAESTRO's where the file is a cut of a
MAESTRO file), its MIDI file and its annotations: lines of time, time, label, where the label before the first comma is
b (beat), db (downbeat) or bR (a beat the annotators placed themselves: rubato, or no note to hear it by). The engraved
scores, one velocity throughout, have their beats in files of the same kind. A piece loads with its beats.

Left out: the time and key signatures behind the comma, and the scores as MusicXML.

[1] Foscarin et al. 2020, ASAP: a dataset of aligned scores and performances for piano transcription. ISMIR.
"""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import paths
from ..errors import CorpusError
from ..notes import Performance
from .pieces import SPLITS, Corpus, Piece

NAME, WITH_SCORES, LICENCE = "asap", "asap+scores", "CC BY-NC-SA 4.0"
COLUMNS = ("split", "maestro_midi_filename", "composer", "title", "midi_performance", "performance_annotations")
SCORE_COLUMNS = ("midi_score", "midi_score_annotations")
LABELS = ("b", "db", "bR")
SLACK = 2.0  # s that beats may lie before the first note or after the last release
TOGETHER = 0.02  # s between a beat and a note struck on it
FEW = 16  # beats; with fewer, the share that coincides with notes is not reliable


@dataclass(frozen=True)
class AsapPiece(Piece):
    """A piece of ASAP: a performance or an engraved score with its beat annotations."""

    annotations: Path | None = None
    maestro: str | None = None  # the file of MAESTRO, relative to its folder, that this one was cut from

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the piece: MIDI and annotations."""
        return (*super().files, *filter(None, [self.annotations]))

    def load(self) -> Performance:
        """Notes, pedal and annotated beats; CorpusError where the annotations are damaged or belong to other music."""
        performance = super().load()
        if self.annotations is None or not self.annotations.exists():
            return performance
        times = beats(self).times
        _check_belongs(times, performance, self.annotations)
        return dataclasses.replace(performance, beats=times)


@dataclass(frozen=True, eq=False)
class Beats:
    """Beats of one performance, in order."""

    times: np.ndarray  # (n,) s
    downbeats: np.ndarray  # (n,) bool, first beat of a bar
    rubato: np.ndarray  # (n,) bool, placed by the annotators


def open(root: str | Path, scores: bool = False) -> Corpus:
    """The corpus in `root` (the folder of metadata.csv, or one that holds asap/); CorpusError if it is not there.

    With `scores`, the engraved scores of the training works are added after the performances, each once. They are used
    for training only, never for evaluation.
    """
    folder = paths.find_asap(root)
    if folder is None:
        raise CorpusError(
            f"{root}: holds no ASAP (metadata.csv with a performance_annotations column); give the folder it lies in"
        )
    with (folder / paths.ASAP_CSV).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = {*COLUMNS, *(SCORE_COLUMNS if scores else ())} - set(reader.fieldnames or ())
        if missing:
            raise CorpusError(
                f"{folder / paths.ASAP_CSV}: has no column {sorted(missing)[0]!r}; get the version with splits"
            )
        rows = list(reader)
    pieces = tuple(_piece(folder, row) for row in rows)
    if scores:
        engraved = {
            row["midi_score"]: row for row in rows if row["split"] == "train" and (folder / row["midi_score"]).is_file()
        }
        pieces += tuple(_score(folder, row) for row in engraved.values())
    if not any(piece.path is not None and piece.path.is_file() for piece in pieces):
        raise CorpusError(
            f"{folder}: none of the {len(pieces)} performances of metadata.csv is there; unpack the whole archive"
        )
    return Corpus(NAME, LICENCE, pieces)


def _piece(folder: Path, row: dict[str, str]) -> AsapPiece:
    if not row["split"]:
        raise CorpusError(
            f"{folder / paths.ASAP_CSV}: {row['midi_performance']!r} has no split; give it one ({', '.join(SPLITS)} are usual)"
        )
    return AsapPiece(
        name=row["midi_performance"].removesuffix(".mid"),
        composer=row["composer"],
        title=row["title"],
        split=row["split"],
        path=folder / row["midi_performance"],
        annotations=folder / row["performance_annotations"],
        maestro=row["maestro_midi_filename"] or None,
    )


def _score(folder: Path, row: dict[str, str]) -> AsapPiece:
    return AsapPiece(
        name=row["midi_score"].removesuffix(".mid"),
        composer=row["composer"],
        title=row["title"],
        split=row["split"],
        path=folder / row["midi_score"],
        annotations=folder / row["midi_score_annotations"],
    )


def beats(piece: AsapPiece) -> Beats:
    """The annotated beats of a piece; CorpusError for a file that is missing, not an annotation file, or out of order."""
    if piece.annotations is None:
        raise CorpusError(f"{piece.name}: has no beat annotations; give a piece of ASAP")
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
            raise CorpusError(
                f"{piece.annotations}: line {number} has label {labels[-1]!r}, none of {', '.join(LABELS)}"
            )
        if len(times) > 1 and not times[-1] > times[-2]:
            trouble = "the same time as" if times[-1] == times[-2] else "an earlier time than"
            raise CorpusError(
                f"{piece.annotations}: line {number} has {trouble} the beat before it ({times[-1]:g} s); sort the lines, one a beat"
            )
    if not times:
        raise CorpusError(f"{piece.annotations}: holds no beats; unpack the whole archive")
    if len(times) == 1:
        raise CorpusError(f"{piece.annotations}: holds one beat only, which is no tempo; two or more are needed")
    kinds = np.array(labels)
    return Beats(np.array(times), kinds == "db", kinds == "bR")


def _check_belongs(times: np.ndarray, performance: Performance, annotations: Path) -> None:
    """CorpusError unless beats and notes span the same time and mostly coincide.

    In ASAP no piece has fewer than 66% of its beats within 20 ms of a note; with another piece's beats three in four
    have fewer than 40%, and most of the others do not span the same time.
    """
    onsets = performance.notes["onset"]
    if not len(onsets):
        return
    inside = (times >= onsets[0] - SLACK) & (times <= performance.end + SLACK)
    covered = (onsets >= times[0] - SLACK) & (onsets <= times[-1] + SLACK)
    apart = np.abs(np.append(onsets, np.inf)[np.searchsorted(onsets, times)] - times)
    apart = np.minimum(apart, np.abs(times - np.append(-np.inf, onsets)[np.searchsorted(onsets, times)]))
    together = (apart <= TOGETHER).mean()
    if inside.mean() < 0.5 or covered.mean() < 0.1 or (len(times) >= FEW and together < 0.4):
        raise CorpusError(
            f"{annotations}: does not match its MIDI file ({inside.mean():.0%} of its {len(times)} beats lie within the music, "
            f"{together:.0%} on a note); give the annotations of this very file"
        )
