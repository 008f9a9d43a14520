"""The embedded corpus: works in the public domain, read from the installed package music21, so no network is needed.

The scores stay in music21's package [1]. This module names them, gives each a tempo and a split, reads them with music21's own
functions (muspy 0.5's readers do not work with music21 10), and `performer` turns them into performances. Splits are by work:
the movements of a quartet, or a set of polonaises, are in one split, and no chorale tune is in two splits.

Reading takes about half a minute, once: the notes are kept in the cache, under a name that depends on this module and on
music21's version. If the cache cannot be written, every process reads the scores again.

Left out: repeats, ornaments and grace notes; scores of living or recent composers; works of more voices than two hands
can suggest.

[1] Cuthbert & Ariza 2010, music21: a toolkit for computer-aided musicology. ISMIR; its corpus/license.txt says what the
encodings permit.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import paths
from ..errors import CorpusError, OutputError
from ..notes import HIGHEST_PITCH, LOWEST_PITCH, NOTE, PEDAL, Performance
from . import performer
from .performer import SCORE_NOTE, Score
from .pieces import Corpus, Piece

PARTS = ("notes", "pedals", "beats")  # of a Performance, as the cache keeps them
NAME, LICENCE = "embedded", "works in the public domain; encodings as music21's corpus states"


class Movement(NamedTuple):
    """One piece of the corpus: its name in music21's package, and its tempo in quarter notes per minute."""

    score: str
    tempo: float


class Work(NamedTuple):
    """A work, whose movements are all in one split."""

    composer: str
    title: str
    split: str
    movements: tuple[Movement, ...]


def _quartet(folder: str, *tempos: float, first: int = 1, suffix: str = "") -> tuple[Movement, ...]:
    return tuple(Movement(f"{folder}/movement{i}{suffix}", tempo) for i, tempo in enumerate(tempos, first) if tempo)


def _chorales(split: str, *numbers: str) -> tuple[Work, ...]:
    return tuple(
        Work("Johann Sebastian Bach", f"Chorale BWV {n}", split, (Movement(f"bach/bwv{n}", 66),)) for n in numbers
    )


# Tempos are ours: most files carry a program's default.
WORKS: tuple[Work, ...] = (
    Work("Johann Sebastian Bach", "Prelude and Fugue BWV 846", "train", (Movement("bach/bwv846", 66),)),
    Work("Wolfgang Amadeus Mozart", "String Quartet K. 155", "train", _quartet("mozart/k155", 132, 63, 138)),
    Work("Wolfgang Amadeus Mozart", "String Quartet K. 156", "train", _quartet("mozart/k156", 100, 48, 112, 48)),
    Work("Wolfgang Amadeus Mozart", "String Quartet K. 458", "train", _quartet("mozart/k458", 112, 48, first=2)),
    Work("Wolfgang Amadeus Mozart", "Sonata K. 545", "train", (Movement("mozart/k545/movement1_exposition", 132),)),
    Work("Joseph Haydn", "String Quartet op. 74 no. 1", "train", _quartet("haydn/opus74no1", 138, 54, 138, 132)),
    Work(
        "Ludwig van Beethoven",
        "String Quartet op. 18 no. 1",
        "train",
        _quartet("beethoven/opus18no1", 69, 280, first=2, suffix=".krn"),
    ),
    Work("Ludwig van Beethoven", "String Quartet op. 59 no. 2", "train", _quartet("beethoven/opus59no2", 54, first=2)),
    Work(
        "Robert Schumann",
        "String Quartet op. 41 no. 1",
        "train",
        _quartet("schumann_robert/opus41no1", 200, 0, 54, first=2),
    ),
    Work("Robert Schumann", "Dichterliebe op. 48 no. 2", "train", (Movement("schumann_robert/opus48no2", 48),)),
    Work(
        "Clara Schumann",
        "Polonaises op. 1",
        "train",
        tuple(Movement(f"schumann_clara/polonaise_op1n{i}", 92) for i in (1, 2, 3, 4)),
    ),
    Work("Clara Schumann", "Piano Trio op. 17", "train", (Movement("schumann_clara/opus17/movement3", 56),)),
    Work("Scott Joplin", "Maple Leaf Rag", "train", (Movement("joplin/maple_leaf_rag", 88),)),
    Work("Arcangelo Corelli", "Trio Sonata op. 3 no. 1", "train", (Movement("corelli/opus3no1/1grave", 56),)),
    Work("Claudio Monteverdi", "Madrigals, book 3, no. 1", "train", (Movement("monteverdi/madrigal.3.1", 110),)),
    Work("Giuseppe Verdi", "La donna è mobile", "train", (Movement("verdi/laDonnaEMobile", 69),)),
    Work("Liliʻuokalani", "Aloha ʻOe", "train", (Movement("liliuokalani/aloha_oe", 76),)),
    Work("Wolfgang Amadeus Mozart", "String Quartet K. 80", "validation", _quartet("mozart/k80", 54, 126, 112, 150)),
    Work("Carl Philipp Emanuel Bach", "Sonata H. 186", "validation", (Movement("cpebach/h186", 96),)),
    Work("Joseph Haydn", "String Quartet op. 1 no. 1", "test", _quartet("haydn/opus1no1", 165, 108, 52, 112, 138)),
    Work("Frédéric Chopin", "Mazurka op. 6 no. 2", "test", (Movement("chopin/mazurka06-2", 150),)),
    Work("Franz Schubert", "Der Lindenbaum", "test", (Movement("schubert/Lindenbaum", 60),)),
    *_chorales(
        "train", *"1.6 3.6 4.8 5.7 6.6 7.7 9.7 10.7 11.6 13.6 14.5 17.7 20.7 26.6 40.6 60.5 64.2 78.7 94.8".split()
    ),
    *_chorales("train", *"140.7 227.1 244.15 245.3 253 267 269 328 371".split()),
    *_chorales("validation", "2.6", "80.8", "272", "281"),
    *_chorales("test", "16.6", "65.2", "334", "366"),
)


def open() -> Corpus:
    """The corpus; scores are read when the first piece is loaded."""
    pieces = []
    for work in WORKS:
        for number, movement in enumerate(work.movements, 1):
            title = f"{work.title}, {number} of {len(work.movements)}" if len(work.movements) > 1 else work.title
            source = functools.partial(performance, movement.score)
            pieces.append(Piece(movement.score.removesuffix(".krn"), work.composer, title, work.split, None, source))
    return Corpus(NAME, LICENCE, tuple(pieces), _version())


def performance(name: str) -> Performance:
    """One movement as a performance, from the cache if possible."""
    return _performances()[name]


@functools.lru_cache(maxsize=1)
def _performances() -> dict[str, Performance]:
    place = paths.cache_dir() / f"embedded-{_version()}.npz"
    made = _from_cache(place)
    if made is None:
        with _alone(place):  # one process reads the scores, the others wait for it
            made = _from_cache(place)
            if made is None:
                made = _play_all()
                _to_cache(made, place)
    return made


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """A file lock beside `place`; without a lock if it cannot be written."""
    from filelock import FileLock

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.with_name(f".{place.name}.lock"))
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _version() -> str:
    """A hash that changes with this program or music21."""
    code = b"".join(Path(file).read_bytes() for file in (__file__, performer.__file__))
    return hashlib.sha256(code + importlib.metadata.version("music21").encode()).hexdigest()[:12]


def _from_cache(place: Path) -> dict[str, Performance] | None:
    try:
        with np.load(place, allow_pickle=False) as file:
            names = file["names"]
            parts = [np.split(file[part], file[f"{part}_ends"][:-1]) for part in PARTS]
        made = {str(name): Performance(*arrays) for name, *arrays in zip(names, *parts, strict=True)}
    except Exception:  # missing, truncated or of another version: numpy, zipfile and zlib raise different errors
        return None
    fits = all(p.notes.dtype == NOTE and p.pedals.dtype == PEDAL for p in made.values())
    return made if fits and set(made) == {m.score for work in WORKS for m in work.movements} else None


def _to_cache(made: dict[str, Performance], place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with paths.atomic_path(place) as temporary:
            arrays: dict[str, Any] = {"names": np.array(list(made))}
            for part in PARTS:
                pieces = [getattr(p, part) for p in made.values()]
                arrays |= {part: np.concatenate(pieces), f"{part}_ends": np.cumsum([len(a) for a in pieces])}
            with temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)
    except (OSError, OutputError):  # without a cache the next process reads the scores again
        pass


def _play_all() -> dict[str, Performance]:
    from tqdm.auto import tqdm

    movements = [movement for work in WORKS for movement in work.movements]
    bar = tqdm(movements, desc="reading music21's scores (once)", unit="piece", disable=None)
    return {m.score: performer.play(read_score(m.score), m.tempo, _chance(m.score)) for m in bar}


def _chance(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def read_score(name: str) -> Score:
    """A score of music21's corpus, reduced to what `performer` needs; CorpusError if the package does not have it."""
    from music21 import converter, corpus

    try:
        found = corpus.getWork(name)
    except corpus.corpora.CorpusException:
        raise CorpusError(f"{name}: music21's package does not carry it; install music21 with its corpus") from None
    parsed = converter.parseFile(found[0] if isinstance(found, list) else found, forceSource=True, storePickle=False)
    parts = [part.flatten() for part in parsed.parts]
    voices = [_part_notes(part) for part in parts]
    order = sorted((i for i in range(len(parts)) if len(voices[i])), key=lambda i: -voices[i]["pitch"].mean())
    for rank, i in enumerate(order):
        voices[i]["part"] = rank
    notes = _without_unisons(np.concatenate([voices[i] for i in order]))
    notes = notes[(notes["pitch"] >= LOWEST_PITCH) & (notes["pitch"] <= HIGHEST_PITCH)]
    bars = np.array([float(measure.offset) for measure in parsed.parts[0].getElementsByClass("Measure")])
    beat = float(parts[0].getElementsByClass("TimeSignature")[0].beatDuration.quarterLength)
    return Score(notes, np.unique(bars), beat, _fermatas(parts[order[0]]))


def _part_notes(part) -> np.ndarray:
    """SCORE_NOTE array of one flat part: chords taken apart, tied notes joined, grace notes and chord symbols left out."""
    dynamics = [(float(mark.offset), mark.volumeScalar) for mark in part.getElementsByClass("Dynamic")]
    rows: list[list] = []
    tied: dict[int, list] = {}  # pitch -> the row a tie continues
    for element in part.notes:
        if element.quarterLength == 0 or "Harmony" in element.classes:
            continue
        onset, length = float(element.offset), float(element.quarterLength)
        level = next((scale for at, scale in reversed(dynamics) if at <= onset), 0.5)
        staccato = any("Staccat" in type(mark).__name__ for mark in element.articulations)
        for note in getattr(element, "notes", (element,)):
            if not hasattr(note, "pitch"):  # unpitched percussion
                continue
            pitch, tie = note.pitch.midi, note.tie.type if note.tie else None
            row = tied.pop(pitch, None)
            if tie in ("continue", "stop") and row is not None and abs(row[0] + row[1] - onset) < 1e-6:
                row[1] += length
            else:
                row = [onset, length, pitch, 0, level, staccato]
                rows.append(row)
            if tie in ("start", "continue"):
                tied[pitch] = row
    return np.array([tuple(row) for row in rows], SCORE_NOTE)


def _without_unisons(notes: np.ndarray) -> np.ndarray:
    """The notes sorted; if several parts strike a key together, one note remains, of the highest part and the longest duration."""
    notes = np.sort(notes, order=("onset", "pitch", "part"))
    first = (np.diff(notes["onset"], prepend=-1.0) > 0) | (np.diff(notes["pitch"], prepend=-1) != 0)
    longest = np.maximum.reduceat(notes["duration"], np.flatnonzero(first))
    notes = notes[first]
    notes["duration"] = longest
    return notes


def _fermatas(part) -> np.ndarray:
    marked = (n for n in part.notes if any(type(mark).__name__ == "Fermata" for mark in n.expressions))
    return np.array([float(n.offset + n.quarterLength) for n in marked])
