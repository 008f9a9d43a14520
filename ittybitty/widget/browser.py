"""What the page and the browser tell each other beyond the controls, and the style and script that the page brings along.

The script is not fetched: it lies in the page as text, and the style sheet starts it when it is there. Where scripts are
forbidden, what it adds is missing (page.js says what that is) and the rest works.

    browser -> kernel    "I am here" every few seconds, the first time when the page is drawn; takes that a reload left behind
    kernel -> browser    an answer to each, so that a page whose server is gone can say so; each new take, to keep
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from .opening import HEADING, text

START = "new Function(this.nextElementSibling.textContent).call(this)"


def head() -> widgets.HTML:
    """Style, script and heading."""
    script = text("page.js").replace("</", "<\\/")
    shown = f'<style onload="{START}">{text("page.css")}</style><script type="text/plain">{script}</script>{HEADING}'
    made = widgets.HTML(shown)
    made.add_class("ib-head-line")
    return made


class Link(widgets.VBox):
    """Hidden widgets that page.js reads and presses. `here` is called when a browser says so, `back` with the takes it kept."""

    def __init__(self, here: Callable[[], None], back: Callable[[str], None]):
        self._answers = 0
        self._ping, self._answer = widgets.Button(description="ping"), widgets.HTML()
        self._kept, self._back = widgets.HTML(), widgets.Textarea()
        for widget, name in (
            (self._ping, "ping"),
            (self._answer, "answer"),
            (self._kept, "kept"),
            (self._back, "back"),
        ):
            widget.add_class(f"ib-{name}")
        super().__init__([self._ping, self._answer, self._kept, self._back])
        self.add_class("ib-link")
        self._ping.on_click(lambda _: self._answered(here))
        self._back.observe(lambda change: back(change["new"]), "value")

    def _answered(self, here: Callable[[], None]) -> None:
        self._answers += 1
        self._answer.value = str(self._answers)
        here()

    def keep(self, take: str, most: int) -> None:
        """Gives the browser a take (JSON) to keep, with the latest `most` of them."""
        self._kept.value = (
            f'<script type="application/json" data-most="{most}">{take.replace("<", chr(92) + "u003c")}</script>'
        )
