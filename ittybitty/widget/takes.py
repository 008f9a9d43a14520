"""One take: what was asked for, how it is made in a thread of its own, and what is kept of it.

A `Job` belongs to one request and tells its owner what it heard; the owner decides what is shown. It can be stopped at
any moment, and what was played until then is kept. Its errors are those that a user can mend, as one line.
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

NOTES = (50, 2000)  # the lengths that can be asked for
SECONDS = (5, 300)  # s of new music
EVERY = 0.25  # s between two pictures


@dataclass(frozen=True)
class Request:
    """All that decides a take: the same request gives the same music."""

    model: str  # as the page names it
    place: Path  # the weights
    seed_name: str
    seed: Performance = field(repr=False)
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.95
    number: int = 1
    notes: int | None = 200
    seconds: float | None = None

    def __post_init__(self):
        for name, value, (low, high) in (("notes", self.notes, NOTES), ("seconds", self.seconds, SECONDS)):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"length: {value:g} {name} are not to be had; give {low} to {high:,}")
        if (self.notes is None) == (self.seconds is None):
            raise ConfigError("length: give it in notes or in seconds")
        GenerationConfig(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    @property
    def words(self) -> tuple[tuple[str, str], ...]:
        """Settings by name, as a person reads them."""
        length = f"{self.notes:,} notes" if self.notes else f"{self.seconds:g} s"
        return (
            ("", self.model), ("", self.seed_name), ("temperature", f"{self.temperature:.2f}"), ("top-k", f"{self.top_k or 'off'}"),
            ("top-p", f"{self.top_p:.2f}"), ("", length), ("seed number", f"{self.number}"),
        )  # fmt: skip  # pairs side by side


@dataclass(frozen=True)
class Take:
    """Music that was made, with the files to keep."""

    number: int
    request: Request
    new: np.ndarray = field(repr=False)  # NOTE
    joined: Performance = field(repr=False)
    midi: bytes = field(repr=False)
    wav: bytes | None = field(repr=False)
    stopped: bool
    trouble: str  # why there is no sound

    @property
    def title(self) -> str:
        return f"Take {self.number}" + (" (stopped)" if self.stopped else "")


@dataclass(frozen=True)
class Heard:
    """What a job has come to."""

    notes: np.ndarray = field(repr=False)  # NOTE, new ones so far
    share: float  # of the length asked for
    left: float | None  # s until it is done, once that can be told


def leave_a_core() -> None:
    """This thread computes on all cores but one: the browser that shows and plays the music is busy too, and threads that
    wait for each other at every token all wait for the one that has to share its core."""
    import torch

    torch.set_num_threads(_threads())


@functools.cache
def _threads() -> int:
    import torch

    return max(1, torch.get_num_threads() - 1)


class Job:
    """A request being played. `grow` is called from the job's thread several times a second, `end` once, whatever happens."""

    def __init__(
        self,
        request: Request,
        load: Callable[[Path], object],
        grow: Callable[[Job, Heard], None],
        end: Callable[[Job], None],
    ):
        self.request, self.result, self.trouble = request, None, ""  # result: a Continuation
        self._load, self._grow, self._end = load, grow, end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="playground take", daemon=True)

    def start(self) -> Job:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends the music at the next note."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def join(self, seconds: float | None = None) -> None:
        """Waits for the end."""
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
        except Exception as error:  # a thread has nobody to raise to: the page must say so, and be free again
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
            return self.stopped

        drawn = dict(temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p, seed=asked.number)
        return piano.continue_(asked.seed, seconds=asked.seconds, notes=asked.notes, listen=listen, **drawn)


def keep(job: Job, number: int) -> Take | None:
    """What a finished job leaves, sound included; None where it has no new note."""
    made = job.result
    if made is None or not len(made.new):
        return None
    wav, trouble = None, ""
    try:
        wav = audio.render_bytes(made.joined)
    except OutputError as error:
        trouble = str(error)
    stopped = job.stopped and not _whole(job)
    return Take(number, job.request, made.new.notes, made.joined, midi_bytes(made.joined), wav, stopped, trouble)


def _whole(job: Job) -> bool:
    """Whether the music was complete before Stop was pressed."""
    return bool(job.request.notes) and len(job.result.new) >= job.request.notes
