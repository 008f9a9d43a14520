"""A take is one continuation: its request, its generation in a thread, and the files that are kept of it.

A `Job` generates the music of one request and reports the notes as they come; its owner decides what is shown. It can be
stopped at any time, and the notes that were generated until then are kept. An error becomes one line of text.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import audio
from ..config import GenerationConfig
from ..errors import ConfigError, IttyBittyError, OutputError
from ..midi import midi_bytes
from ..notes import NOTE, Note, Performance
from . import background

NOTES = (50, 2000)  # the least and the most new notes that can be asked for
SECONDS = (5, 300)  # s of new music
EVERY = 0.25  # s between two reports of a job


@dataclass(frozen=True)
class Request:
    """Everything that determines a take: the same request gives the same music."""

    model: str  # its name in the list of models
    place: Path  # the folder with its weights
    seed_name: str
    seed: Performance = field(repr=False)
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.95
    hold: float = 0.0
    number: int = 1
    notes: int | None = 200
    seconds: float | None = None
    start: float | None = None  # s at which the whole seed was cut for `seed`; None where it was not
    ending: bool = False  # close the piece near `seconds`

    def __post_init__(self):
        for name, value, (low, high) in (("notes", self.notes, NOTES), ("seconds", self.seconds, SECONDS)):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"length: {value:g} {name} is out of range; give {low} to {high:,}")
        if (self.notes is None) == (self.seconds is None):
            raise ConfigError("length: give it in notes or in seconds")
        GenerationConfig(**self.drawn, start=self.start)

    @property
    def drawn(self) -> dict:
        """How ids are drawn, as fields of GenerationConfig."""
        return {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "hold")}

    @property
    def words(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a setting's name and its value, as a person reads them; the name is empty where the value says enough."""
        length = (
            f"{self.notes:,} notes"
            if self.notes
            else f"{self.seconds:g} s {'and an end' if self.ending else 'cut off'}"
        )
        held = (("hold", f"{self.hold:.1f}"),) if self.hold else ()
        begin = () if self.start is None else (("from", f"{self.start:.1f} s on"),)
        return (
            ("", self.model), ("", self.seed_name), *begin, ("temperature", f"{self.temperature:.2f}"), ("top-k", f"{self.top_k or 'off'}"),
            ("top-p", f"{self.top_p:.2f}"), *held, ("", length), ("seed number", f"{self.number}"),
        )  # fmt: skip  # pairs side by side


@dataclass(frozen=True)
class Take:
    """A finished take, with the files that can be downloaded."""

    number: int
    request: Request
    new: np.ndarray = field(repr=False)  # NOTE
    joined: Performance = field(repr=False)
    midi: bytes = field(repr=False)
    stopped: bool

    @property
    def title(self) -> str:
        return f"Take {self.number}" + (" (stopped)" if self.stopped else "")

    @functools.cached_property
    def _sound(self) -> tuple[bytes | None, str]:
        try:
            return audio.render_bytes(self.joined), ""
        except OutputError as error:
            return None, str(error)

    @property
    def wav(self) -> bytes | None:
        """The sound as a WAV file, rendered at first use (about a second for a minute of music); None if that fails."""
        return self._sound[0]

    @property
    def trouble(self) -> str:
        """Why there is no sound; empty if there is."""
        return self._sound[1]

    @property
    def seam(self) -> float:
        """Second at which the first new note begins."""
        return float(self.new["onset"].min())


@dataclass(frozen=True)
class Heard:
    """The report of a job while it runs: the notes so far and the time left."""

    notes: np.ndarray = field(repr=False)  # NOTE; all new notes so far
    share: float  # how much of the requested length is done
    left: float | None  # estimated s until it is done; None at first


def leave_a_core() -> None:
    """Lets this thread compute on all cores but one, which is left to the browser that shows and plays the music.

    The threads of one model wait for each other at every token, so all would wait for the one that shares its core.
    """
    import torch

    torch.set_num_threads(_threads())


@functools.cache
def _threads() -> int:
    import torch

    return max(1, torch.get_num_threads() - 1)


class Job:
    """Generates a request's music in a thread, which calls `grow` several times a second, and `end` once, whatever happens."""

    def __init__(
        self,
        request: Request,
        load: Callable[[Path], object],
        grow: Callable[[Job, Heard], None],
        end: Callable[[Job], None],
    ):
        self.request, self.result, self.trouble = request, None, ""  # result: a Continuation
        self._load, self._grow, self._end = load, grow, end
        self.cut = False  # whether a stop request ended the music before it was complete
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Job:
        self._thread = background.started(self._run, "playground take", self.stop)
        return self

    def stop(self) -> None:
        """Ends the music at the next token. A take whose notes are complete, and whose sound is being made, stays complete."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def join(self, seconds: float | None = None) -> None:
        """Waits until the thread has ended, or for at most so many seconds."""
        if self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            leave_a_core()
            piano = self._load(self.request.place)
            if not self.stopped:
                self.result = self._play(piano)
        except IttyBittyError as error:
            self.trouble = str(error)
        except MemoryError:
            self.trouble = "not enough memory for this model; choose a smaller one"
        except Exception as error:  # nothing catches what a thread raises, so the page has to show it
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            self._end(self)

    def _play(self, piano):
        asked, notes, shown = self.request, [], 0.0
        start = float(asked.seed.notes["onset"][-1]) if len(asked.seed) else 0.0
        began = time.monotonic()

        def listen(heard: list[Note]) -> bool:
            nonlocal shown
            notes.extend(heard)
            now = time.monotonic()
            if heard and now - shown >= EVERY:
                shown = now
                share = len(notes) / asked.notes if asked.notes else (notes[-1].onset - start) / asked.seconds
                left = (now - began) * (1 - share) / share if share > 0.02 else None
                self._grow(self, Heard(np.array([tuple(n) for n in notes], NOTE), share, left))
            self.cut = self.stopped and not (asked.notes and len(notes) >= asked.notes)
            return self.stopped

        length = dict(seconds=asked.seconds, notes=asked.notes, ending=asked.ending)
        drawn = asked.drawn if piano.sampling.hold else {**asked.drawn, "hold": 0.0}  # the model may have been replaced
        return piano.continue_(asked.seed, listen=listen, seed=asked.number, **length, **drawn)


def keep(job: Job, number: int) -> Take | None:
    """The take of a finished job, sound included; None if it has no new note."""
    made = job.result
    if made is None or not len(made.new):
        return None
    take = Take(number, job.request, made.new.notes, made.joined, midi_bytes(made.joined), job.cut)
    _ = take.wav  # rendered here, in the thread of the job, and not when the page shows it
    return take
