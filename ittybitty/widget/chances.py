"""The card that shows what the chosen model would play after the chosen seed, and what the sliders do to it.

The model is asked in a thread. If another model or seed is chosen before the answer is there, the model is asked again.
Until the answer is there the card says so: it never shows the answer of another model or of another seed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..config import GenerationConfig
from ..errors import IttyBittyError
from ..notes import Performance
from . import background, next_token, pictures
from .models import Choice
from .takes import leave_a_core

if TYPE_CHECKING:
    from ..piano import Piano

Question = tuple[Choice, Performance]


class Chances(widgets.VBox):
    """The card. `load` gives the `Piano` of a folder, `sampling` the settings at which the sliders stand."""

    def __init__(self, load: Callable[[Path], Piano], sampling: Callable[[], GenerationConfig]):
        self._load, self._sampling = load, sampling
        self._lock = threading.RLock()
        self._offered: next_token.Offered | None = None
        self._wanted: Question | None = None
        self._answered: Question | None = None
        self._thread: threading.Thread | None = None
        self.shown = widgets.HTML(pictures.line("The model is being loaded …"))
        super().__init__([widgets.HTML("<h2>What comes next</h2>"), self.shown])
        self.add_class("ib-card")
        self.add_class("ib-chances")

    @property
    def busy(self) -> bool:
        """Whether a model is being asked."""
        with self._lock:
            return self._thread is not None

    def ask(self, choice: Choice, seed: Performance) -> None:
        """Asks what `choice` plays after `seed`; returns at once, and the card shows the answer when it is there."""
        with self._lock:
            self._wanted = choice, seed
            if self._is_wanted(self._answered):
                return
            self._offered = self._answered = None
            self.shown.value = pictures.line(f"Asking {choice.name} …")
            if self._thread is None:
                self._thread = background.started(self._run, "playground next token", self._forget)

    def _forget(self) -> None:
        """Asks no more models."""
        with self._lock:
            self._wanted = None

    def _is_wanted(self, question: Question | None) -> bool:
        """Whether this question is the latest. Seeds are compared by identity: two uploads may have one name."""
        if question is None or self._wanted is None:
            return False
        return question[0] == self._wanted[0] and question[1] is self._wanted[1]

    def _run(self) -> None:
        while True:
            with self._lock:
                wanted = self._wanted
                if wanted is None or self._is_wanted(self._answered):
                    self._thread = None
                    return
            offered, trouble = self._answer(*wanted)
            with self._lock:
                self._answered = wanted
                if not self._is_wanted(wanted):
                    continue
                self._offered = offered
                if trouble:
                    self.shown.value = pictures.line(trouble, "trouble")
                self.show()

    def _answer(self, choice: Choice, seed: Performance) -> tuple[next_token.Offered | None, str]:
        try:
            leave_a_core()
            return next_token.after(self._load(choice.place), seed), ""
        except Exception as error:  # nothing catches what a thread raises, so the card has to show it
            return None, str(error) if isinstance(error, IttyBittyError) else f"{type(error).__name__}: {error}"

    def show(self) -> None:
        """Draws the answer for where the sliders stand now; does nothing before there is an answer."""
        with self._lock:
            if self._offered is not None:
                now = self._sampling()
                said = pictures.line(next_token.sentence(self._offered, now))
                self.shown.value = said + pictures.chart(self._offered, now)
