"""The left side of the page: model, seed, upload, sliders, seed number and the two buttons.

A control knows what it stands at; what is done when it is moved is the page's (page.py). Names that a screen reader says,
and what the keyboard does beyond the browser's own, are page.js.
"""

from __future__ import annotations

import secrets

import ipywidgets as widgets

from ..notes import Performance
from . import pictures
from .models import Choice
from .takes import NOTES, SECONDS, Request

FULL = {"width": "100%", "margin": "0"}  # not one Layout: each control is hidden alone
DESCRIBED = {"description_width": "104px"}
MIDI_FILES = ".mid,.midi,.kar,.rmi"
DRAWN = 10_000  # seed numbers that are drawn lie below; any other can be typed


class Controls(widgets.VBox):
    """All controls of one page. `model` is the name or folder of the one to begin with; the first of the list otherwise."""

    def __init__(self, choices: list[Choice], seeds: list[str], model: str):
        self.choices = choices
        labels = [(choice.label, index) for index, choice in enumerate(choices)]
        first = next((i for i, choice in enumerate(choices) if model in (choice.place.name, str(choice.place))), 0)
        self.model = widgets.Dropdown(options=labels, value=first, description="Model", **_look())
        self.seed = widgets.Dropdown(options=seeds, description="Seed", **_look())
        self.upload = widgets.FileUpload(
            accept=MIDI_FILES, multiple=False, description="Your own MIDI file", icon="", layout=FULL
        )
        self.upload_line, self.seed_line, self.listen_line, self.trouble = (widgets.HTML() for _ in range(4))
        self.seed_roll = widgets.HTML()
        self.listen = widgets.Button(description="Listen to the seed", tooltip="its sound is made when you ask for it")
        self._sliders(choices[first])
        self._seed_number()
        self.generate = widgets.Button(description="Generate", button_style="primary", tooltip="play on from the seed")
        self.stop = widgets.Button(description="Stop", tooltip="keep what is there")
        buttons = _row(self.generate, self.stop)
        super().__init__([self.model, *self._of_the_seed(), *self._of_the_drawing(), buttons, self.trouble])
        self.add_class("ib-controls")
        for name in ("generate", "stop", "upload", "listen", "seed_line", "upload_line", "seed_roll"):
            getattr(self, name).add_class(f"ib-{name.replace('_', '-')}")
        self.unit.observe(lambda _: self._show_length(), "value")
        self._show_length()

    def _of_the_seed(self) -> list[widgets.Widget]:
        """The seed with its picture and sound, in a box that page.js takes for a take."""
        shown = widgets.VBox([self.seed_line, self.seed_roll, self.listen, self.listen_line])
        shown.add_class("ib-preview")
        return [self.seed, self.upload, self.upload_line, shown]

    def _of_the_drawing(self) -> list[widgets.Widget]:
        return [self.temperature, self.top_k, self.top_p, self.unit, self.notes, self.seconds, self._number_row]

    def _sliders(self, choice: Choice) -> None:
        def slider(kind, name, value, low, high, step, hint, **more):
            bounds = dict(value=value, min=low, max=high, step=step)
            return kind(description=name, tooltip=hint, **bounds, **_look(), **more)

        real, whole, usual = widgets.FloatSlider, widgets.IntSlider, choice.sampling
        two = {"readout_format": ".2f"}
        hint = "low is careful, high is daring"
        self.temperature = slider(real, "Temperature", usual.temperature, 0.1, 2.0, 0.05, hint, **two)
        self.top_k = slider(whole, "Top-k", usual.top_k, 0, 500, 1, "only the k likeliest; 0 for all")
        hint = "only the likeliest that hold this share together"
        self.top_p = slider(real, "Top-p", usual.top_p, 0.01, 1.0, 0.01, hint, **two)
        self.unit = widgets.ToggleButtons(options=["notes", "seconds"], description="Length in", **_look())
        self.notes = slider(whole, "Notes", 200, *NOTES, 10, "new notes")
        self.seconds = slider(whole, "Seconds", 30, *SECONDS, 5, "seconds of new music")

    def _seed_number(self) -> None:
        self.number = widgets.BoundedIntText(
            value=secrets.randbelow(DRAWN), min=0, max=2**31 - 1, description="Seed number", tooltip="same number, same music", **_look()
        )  # fmt: skip
        hint = "draws a seed number for each take; untick it to hear the same music again"
        self.fresh = widgets.Checkbox(value=True, description="new each time", tooltip=hint, indent=False)
        self._drawing = False
        self.number.observe(self._typed, "value")
        self._number_row = _row(self.number, self.fresh)
        self._number_row.add_class("ib-number")

    def _typed(self, change) -> None:
        """A number that a person chose is the one they want."""
        if not self._drawing:
            self.fresh.value = False

    def draw(self) -> None:
        """A new seed number, where one is wanted for each take."""
        if not self.fresh.value:
            return
        self._drawing = True
        try:
            self.number.value = secrets.randbelow(DRAWN)
        finally:
            self._drawing = False

    def follow(self, before: Choice) -> None:
        """Sliders that stand where the former model's system has them go to where the chosen model's has them."""
        for name in ("temperature", "top_k", "top_p"):
            slider = getattr(self, name)
            if slider.value == getattr(before.sampling, name):
                slider.value = getattr(self.choice.sampling, name)

    def _show_length(self) -> None:
        for control, unit in ((self.notes, "notes"), (self.seconds, "seconds")):
            control.layout.display = "" if self.unit.value == unit else "none"

    @property
    def choice(self) -> Choice:
        """The chosen model."""
        return self.choices[self.model.value]

    @property
    def drawing(self) -> tuple[float, int, float]:
        """Temperature, top-k and top-p."""
        return self.temperature.value, self.top_k.value, self.top_p.value

    def request(self, seed: Performance) -> Request:
        """What the controls stand at; ConfigError for what cannot be."""
        in_notes = self.unit.value == "notes"
        temperature, top_k, top_p = self.drawing
        return Request(
            model=self.choice.name,
            place=self.choice.place,
            seed_name=self.seed.value,
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            number=self.number.value,
            notes=self.notes.value if in_notes else None,
            seconds=None if in_notes else float(self.seconds.value),
        )

    def say(self, text: str, kind: str = "trouble") -> None:
        """A line below the buttons."""
        self.trouble.value = pictures.line(text, kind)


def _look() -> dict:
    return {"layout": {**FULL}, "style": {**DESCRIBED}}


def _row(*controls: widgets.Widget) -> widgets.Box:
    row = widgets.Box(controls)
    row.add_class("ib-row")
    return row
