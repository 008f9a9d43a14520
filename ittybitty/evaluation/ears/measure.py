"""The record of a model, or of the pianists, on held-out pieces: matching, endurance, stuck and silent.

    listen("tiny", data, plan=Plan(pieces=40, whole_files=12))

Seeds are the first seconds of evenly spaced pieces, and all of it is the prompt. The music is drawn as `Piano.continue_` draws it
for anyone; the same `seed` gives the same music. Whole files are continued with the kit's own prompt, for that is
what a user who hands in a whole file gets: the end of a piece is where a model may have nothing more to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import checkpoint, systems
from ...corpora import Corpus
from ...errors import UNREADABLE, ConfigError, CorpusError
from ...notes import Performance, between, shift
from ...piano import Piano
from ..bits import chosen_pieces, evenly_spaced, read_piece, shown
from ..results import data_hash, header
from . import endurance, matching
from .faults import faults

PIANISTS = "pianists"  # the name that stands for what was really played
PROMPT_TOKENS = 16_384  # no opening has more


@dataclass(frozen=True)
class Plan:
    """How much is listened to. `long` or `whole_files` 0 leaves that part out."""

    pieces: int = 40  # openings
    opening: float = 40.0  # s
    seconds: float = 60.0  # s of each continuation
    long: int = 10  # long continuations
    notes: int = 3000  # of each
    window: int = 500  # notes
    whole_files: int = 12

    def __post_init__(self):
        least = {"pieces": 2, "long": 0, "window": 2, "notes": self.window, "whole_files": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"{name} is {getattr(self, name)}: give {value} or more")
        for name in ("opening", "seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: give a number of seconds above 0")


@dataclass(frozen=True)
class Opening:
    """The beginning of a piece, and what the pianist played from its last onset on."""

    name: str
    seed: Performance  # at its own times
    rest: Performance  # the last onset of the seed is second 0

    @property
    def join(self) -> float:
        """Second of the seed's last onset."""
        return float(self.seed.notes["onset"][-1])


def opening_of(name: str, piece: Performance, seconds: float) -> Opening:
    """A piece cut after the last onset of its first `seconds`."""
    first = float(piece.notes["onset"][0])
    seed = between(piece, -math.inf, first + seconds)
    join = float(seed.notes["onset"][-1])
    return Opening(name, seed, shift(between(piece, math.nextafter(join, math.inf), math.inf), -join))


class Pianists:
    """Those who go on as they did."""

    whole_files = False

    def play(
        self, opening: Opening, number: int, seconds: float | None = None, notes: int | None = None
    ) -> Performance:
        """The next `seconds` or `notes` of the piece, from second 0."""
        rest = opening.rest
        return between(rest, 0.0, seconds) if seconds else Performance(rest.notes[:notes])


class Model:
    """A model that goes on from an opening, or from a whole file."""

    whole_files = True

    def __init__(self, found: checkpoint.Loaded, sampling: dict):
        self._sampling = sampling
        self.piano = Piano(
            found.model,
            found.tokenizer,
            found.configs["data"],
            found.path.name,
            found.path,
            systems.sampling(found.system),
        )

    def play(
        self, opening: Opening, number: int, seconds: float | None = None, notes: int | None = None
    ) -> Performance:
        """What it adds to an opening, the last onset of which is second 0."""
        prompt: dict[str, Any] = {"prompt_seconds": opening.seed.end + 1.0, "prompt_tokens": PROMPT_TOKENS}
        made = self.piano.continue_(opening.seed, seconds=seconds, notes=notes, seed=number, **prompt, **self._sampling)
        return shift(made.new, -opening.join)

    def go_on(self, piece: Performance, number: int, seconds: float) -> Performance:
        """What it adds to a whole piece; the last onset that it was given is second 0."""
        made = self.piano.continue_(piece, seconds=seconds, seed=number, **self._sampling)
        return shift(made.new, -float(made.prompt.notes["onset"].max()))


def listen(
    name: str | Path,
    data: str | Path | Corpus | None,
    split: str = "validation",
    plan: Plan = Plan(),
    seed: int = 0,
    progress: bool = True,
    **sampling,
) -> dict:
    """The record of a shipped model or run folder, or of PIANISTS: "matching", "endurance", "openings", "whole_files", "per_piece".

    `sampling` are fields of GenerationConfig. Raises CheckpointError, ConfigError, and CorpusError where too few pieces are
    long enough.
    """
    found = None if name == PIANISTS else checkpoint.load(name)
    corpus, pieces = chosen_pieces(data, split, None, found.configs["data"].corpus if found else "")
    performances = read_performances(pieces, progress)
    began = time.perf_counter()
    player = Pianists() if found is None else Model(found, sampling)
    openings = chosen_openings(performances, plan, corpus.name)
    rows, matched = _openings_continued(player, openings, performances, plan, seed, progress)
    long = _long_continued(player, performances, plan, seed, corpus.name, progress)
    whole = _whole_continued(player, performances, plan, seed, progress)
    head = header(found, corpus, split) if found else {"split": split, "corpus": corpus.name, "model": PIANISTS}
    return {
        "measures": "matching, endurance, stuck and silent",
        "matching": matched,
        "endurance": long,
        "openings": _counted(rows),
        "whole_files": _counted(whole),
        **head,
        "data_hash": data_hash([{"name": one.name, "notes": len(one.seed)} for one in openings]),
        "plan": asdict(plan),
        "seed": seed,
        "sampling": _settings(player.piano.sampling, sampling) if isinstance(player, Model) else None,
        "listening_seconds": time.perf_counter() - began,
        "per_piece": rows,
        "per_whole_file": whole,
    }


def _settings(usual, changed: dict) -> dict:
    names = [key for key in asdict(usual) if key.endswith(("temperature", "top_k", "top_p", "hold")) or key in changed]
    return {key: changed.get(key, getattr(usual, key)) for key in names}


def read_performances(pieces: Sequence, progress: bool) -> list[tuple[str, Performance]]:
    """Name and performance of every piece that can be read."""
    read = []
    for piece in shown(pieces, progress, "reading"):
        try:
            read.append((piece.name, read_piece(piece)))
        except UNREADABLE:
            continue
    return read


def chosen_openings(performances: Sequence[tuple[str, Performance]], plan: Plan, corpus: str) -> list[Opening]:
    """Evenly spaced pieces that last as long as an opening and a continuation."""
    least = plan.opening + plan.seconds
    long = [(n, p) for n, p in performances if p.notes["onset"][-1] - p.notes["onset"][0] >= least]
    if len(long) < 2:
        raise CorpusError(
            f"{corpus}: {len(long)} pieces last {least:g} s, and matching needs two; give other data or fewer seconds"
        )
    return [opening_of(n, p, plan.opening) for n, p in evenly_spaced(long, plan.pieces)]


def _openings_continued(
    player, openings, performances, plan: Plan, seed: int, progress: bool
) -> tuple[list[dict], dict]:
    """A row a continuation, and how well they match; the features' spread is that of all pieces that are long enough."""
    played = [
        player.play(one, 1000 * seed + i, seconds=plan.seconds)
        for i, one in enumerate(shown(openings, progress, "continuing"))
    ]
    people = [opening_of(name, piece, plan.opening) for name, piece in performances]
    spread = [matching.features(one.seed, plan.opening) for one in people]
    spread += [matching.features(between(one.rest, 0.0, plan.seconds), plan.seconds) for one in people]
    apart = matching.distances(
        np.array([matching.features(one, plan.seconds) for one in played]),
        np.array([matching.features(one.seed, plan.opening) for one in openings]),
        matching.scale_of(np.array(spread)),
    )
    found = matching.ranks(apart).tolist()
    rows = [
        {"name": one.name, "notes": len(new), "rank": rank, **faults(one.seed, new, plan.seconds)}
        for one, new, rank in zip(openings, played, found)
    ]
    return rows, matching.matching(apart)


def _long_continued(player, performances, plan: Plan, seed: int, corpus: str, progress: bool) -> dict | None:
    """Windows of long continuations against those of all pianists; pieces that are as long themselves, evenly spaced."""
    if not plan.long:
        return None
    openings = [opening_of(name, piece, plan.opening) for name, piece in performances]
    long = [one for one in openings if len(one.rest) >= plan.notes]
    if not long:
        raise CorpusError(f"{corpus}: no piece has {plan.notes:,} notes after its opening; ask for fewer notes")
    within = endurance.ranges(
        [one for _, piece in performances for one in endurance.values_by_window(piece, plan.window)]
    )
    chosen = evenly_spaced(long, plan.long)
    found = [
        endurance.values_by_window(player.play(one, 1000 * seed + i, notes=plan.notes), plan.window)
        for i, one in enumerate(shown(chosen, progress, "going on"))
    ]
    rows = [{"name": one.name, "windows": windows} for one, windows in zip(chosen, found)]
    return {**endurance.outside(found, within, plan.notes // plan.window), "per_piece": rows}


def _whole_continued(player, performances, plan: Plan, seed: int, progress: bool) -> list[dict]:
    """A row a whole file that is continued; none for pianists, who have stopped."""
    if not (player.whole_files and plan.whole_files):
        return []
    rows = []
    for i, (name, piece) in enumerate(shown(evenly_spaced(performances, plan.whole_files), progress, "whole files")):
        new = player.go_on(piece, 1000 * seed + i, plan.seconds)
        rows.append({"name": name, "notes": len(new), **faults(piece, new, plan.seconds)})
    return rows


def _counted(rows: Sequence[dict]) -> dict | None:
    """How many of the continuations have each fault; None for none."""
    if not rows:
        return None
    return {
        "continuations": len(rows),
        "stuck": sum(row["stuck"] for row in rows),
        "silent": sum(row["silent"] for row in rows),
        "without_notes": sum(not row["notes"] for row in rows),
    }
