"""The page's style sheet and script, and the messages between kernel and browser that are not those of a control.

The script (page.js) is part of the page as text, and the load event of the style element runs it. Where scripts are
forbidden, the page works without what page.js adds.

    browser -> kernel    a ping every few seconds, the first as soon as the page is drawn; takes kept over a reload
    kernel -> browser    an answer to each ping, without which the page says that its server is gone; each new take, to keep
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from .opening import HEADING, text

START = "new Function(this.nextElementSibling.textContent).call(this)"


def head() -> widgets.HTML:
    """Style sheet, script and heading."""
    script = text("page.js").replace("</", "<\\/")
    shown = f'<style onload="{START}">{text("page.css")}</style><script type="text/plain">{script}</script>{HEADING}'
    made = widgets.HTML(shown)
    made.add_class("ib-head-line")
    return made


class Link(widgets.VBox):
    """Hidden widgets that page.js reads and clicks.

    `here` is called at each ping, `back` with the takes that the browser kept, as JSON.
    """

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
        """Gives the browser a take (JSON) to keep; it keeps the latest `most`."""
        self._kept.value = (
            f'<script type="application/json" data-most="{most}">{take.replace("<", chr(92) + "u003c")}</script>'
        )
