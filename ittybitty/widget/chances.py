"""The card that shows what the chosen model would play after the chosen seed, and what the sliders do to it.

The model is asked in a thread, and once more where something else was chosen meanwhile. Until it has answered, the card says
so: the answer of another model or of another seed never stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from ..errors import IttyBittyError
from ..notes import Performance
from . import next_token, pictures
from .models import Choice
from .takes import leave_a_core

Question = tuple[Choice, Performance]


class Chances(widgets.VBox):
    """`load` gives the model of a folder, `drawing` what temperature, top-k and top-p stand at."""

    def __init__(self, load: Callable[[Path], object], drawing: Callable[[], tuple[float, int, float]]):
        self._load, self._drawing = load, drawing
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
        """Asks what `choice` plays after `seed`; returns at once."""
        with self._lock:
            self._wanted = choice, seed
            if self._same(self._answered):
                return
            self._offered = self._answered = None
            self.shown.value = pictures.line(f"Asking {choice.name} …")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="playground next token", daemon=True)
                self._thread.start()

    def _same(self, question: Question | None) -> bool:
        """Whether it is the one that is wanted: a seed of the same name may be another one."""
        return question is not None and question[0] == self._wanted[0] and question[1] is self._wanted[1]

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._same(self._answered):
                    self._thread = None
                    return
                wanted = self._wanted
            offered, trouble = self._asked(*wanted)
            with self._lock:
                self._answered = wanted
                if not self._same(wanted):
                    continue
                self._offered = offered
                if trouble:
                    self.shown.value = pictures.line(trouble, "trouble")
                self.show()

    def _asked(self, choice: Choice, seed: Performance) -> tuple[next_token.Offered | None, str]:
        try:
            leave_a_core()
            return next_token.after(self._load(choice.place), seed), ""
        except Exception as error:  # a thread has nobody to raise to
            return None, str(error) if isinstance(error, IttyBittyError) else f"{type(error).__name__}: {error}"

    def show(self) -> None:
        """Draws the answer as the sliders stand now; nothing before there is one."""
        with self._lock:
            if self._offered is not None:
                now = self._drawing()
                said = pictures.line(next_token.sentence(self._offered, *now))
                self.shown.value = said + pictures.chart(self._offered, *now)
