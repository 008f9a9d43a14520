"""The left side of the page: model, seed, upload, where the new music begins, sliders, seed number and the two buttons.

The controls know their own values; what happens when one of them is changed is decided by the page (page.py). Names for
screen readers, and what the keyboard does beyond the browser's own keys, are added by page.js.
"""

from __future__ import annotations

import math
import secrets

import ipywidgets as widgets

from .. import seeds as beginnings
from ..config import GenerationConfig
from ..notes import Performance
from . import pictures
from .models import Choice
from .takes import NOTES, SECONDS, Request

FULL = {
    "width": "100%",
    "margin": "0",
}  # a dict, not a Layout: each control gets a Layout of its own, to be hidden alone
DESCRIBED = {"description_width": "104px"}
MIDI_FILES = ".mid,.midi,.kar,.rmi"
BEGIN_STEP = 0.1  # s between two places at which new music may begin
DRAWN = 10_000  # random seed numbers are below this; any other number can be typed
SAMPLING = ("temperature", "top_k", "top_p", "hold")  # the sliders that are fields of GenerationConfig


class Controls(widgets.VBox):
    """All controls of one page. `model` is the name or folder of the model to begin with; the default is the first one."""

    def __init__(self, choices: list[Choice], seeds: list[str], model: str):
        self.choices = choices
        self._drawing_number = False
        self._ending: float | None = None  # s at which the ending of the seed begins
        self._build_model(model)
        self._build_seed(seeds)
        self._build_sampling(self.choice.sampling)
        self._build_length()
        self._build_seed_number()
        self._build_buttons()
        super().__init__([*self._rows_of_the_seed(), *self._rows_of_the_take(), self.trouble])
        self.add_class("ib-controls")
        for name in ("generate", "stop", "upload", "upload_line", "listen", "listen_line", "seed_line", "seed_roll"):
            getattr(self, name).add_class(f"ib-{name.replace('_', '-')}")

    # ------------------------------------------------------------------ the controls, from top to bottom

    def _build_model(self, model: str) -> None:
        labels = [(choice.label, index) for index, choice in enumerate(self.choices)]
        named = (i for i, choice in enumerate(self.choices) if model in (choice.place.name, str(choice.place)))
        self.model = widgets.Dropdown(options=labels, value=next(named, 0), description="Model", **_look())

    def _build_seed(self, seeds: list[str]) -> None:
        self.seed = widgets.Dropdown(options=seeds, description="Seed", **_look())
        self.upload = widgets.FileUpload(
            accept=MIDI_FILES, multiple=False, description="Your own MIDI file", icon="", layout=FULL
        )
        self.upload_line, self.seed_line, self.seed_roll, self.listen_line = (widgets.HTML() for _ in range(4))
        self.listen = widgets.Button(description="Listen to the seed", tooltip="plays the seed without a continuation")
        hint = "second of the seed at which the new music begins; all the way to the right it takes the whole seed"
        self.start = _slider(widgets.FloatSlider, "Begin at", 1.0, (0.0, 1.0), BEGIN_STEP, hint, ".1f")
        self.start_line = widgets.HTML()

    def _build_sampling(self, usual: GenerationConfig) -> None:
        self.temperature = _slider(
            widgets.FloatSlider,
            "Temperature",
            usual.temperature,
            (0.1, 2.0),
            0.01,
            "lower is more predictable, higher is more varied",
            ".2f",
        )
        self.top_k = _slider(
            widgets.IntSlider,
            "Top-k",
            usual.top_k,
            (0, 500),
            1,
            "draws from the k likeliest values only; 0 for all",
            "d",
        )
        hint = "draws from the likeliest values that together have this probability; 1 for all"
        self.top_p = _slider(widgets.FloatSlider, "Top-p", usual.top_p, (0.01, 1.0), 0.01, hint, ".2f")
        hint = "how firmly pace, register and loudness stay near those of the seed; 0 for not at all"
        self.hold = _slider(widgets.FloatSlider, "Hold to seed", usual.hold, (0.0, 4.0), 0.1, hint, ".1f")
        self._show_hold()

    def _build_length(self) -> None:
        self.unit = widgets.ToggleButtons(options=["notes", "seconds"], description="Length in", **_look())
        self.notes = _slider(widgets.IntSlider, "Notes", 200, NOTES, 10, "new notes", "d")
        self.seconds = _slider(widgets.IntSlider, "Seconds", 30, SECONDS, 5, "seconds of new music", "d")
        hint = "looks for a good end within some seconds of the length; clear it to cut the music off there"
        self.closes = widgets.Checkbox(value=True, description="end the piece there", tooltip=hint, indent=False)
        self.closes.add_class("ib-closes")
        self.unit.observe(lambda _: self._show_length(), "value")
        self._show_length()

    def _build_seed_number(self) -> None:
        self.number = widgets.BoundedIntText(
            value=secrets.randbelow(DRAWN), min=0, max=2**31 - 1, description="Seed number", tooltip="same number, same music", **_look()
        )  # fmt: skip  # settings side by side
        hint = "draws a seed number for each take; clear it to hear the same music again"
        self.fresh = widgets.Checkbox(value=True, description="new each time", tooltip=hint, indent=False)
        self.number.observe(lambda _: self._number_changed(), "value")

    def _build_buttons(self) -> None:
        self.generate = widgets.Button(description="Generate", button_style="primary", tooltip="continue the seed")
        self.stop = widgets.Button(description="Stop", tooltip="end the take and keep what has been played")
        self.trouble = widgets.HTML()

    def _rows_of_the_seed(self) -> list[widgets.Widget]:
        """Model and seed; the seed's picture and sound are in a box that page.js treats as it treats a take."""
        preview = widgets.VBox([self.seed_line, self.seed_roll, self.listen, self.listen_line])
        preview.add_class("ib-preview")
        return [self.model, self.seed, self.upload, self.upload_line, preview, self.start, self.start_line]

    def _rows_of_the_take(self) -> list[widgets.Widget]:
        number = _row(self.number, self.fresh)
        number.add_class("ib-number")
        sliders = [
            self.temperature,
            self.top_k,
            self.top_p,
            self.hold,
            self.unit,
            self.notes,
            self.seconds,
            self.closes,
        ]
        return [*sliders, number, _row(self.generate, self.stop)]

    # ------------------------------------------------------------------ what happens among the controls

    def _number_changed(self) -> None:
        """A number that a person typed stays for the next take too."""
        if not self._drawing_number:
            self.fresh.value = False

    def draw_number(self) -> None:
        """Sets a new random seed number, unless the same one is wanted for each take."""
        if not self.fresh.value:
            return
        self._drawing_number = True
        try:
            self.number.value = secrets.randbelow(DRAWN)
        finally:
            self._drawing_number = False

    def follow(self, before: Choice) -> None:
        """Moves sliders that stand at the usual value of the former model to the usual value of the chosen one."""
        for name in SAMPLING:
            slider = getattr(self, name)
            if slider.value == getattr(before.sampling, name):
                slider.value = getattr(self.choice.sampling, name)
        self._show_hold()

    def _show_hold(self) -> None:
        """Models of tokens cannot be held: their systems have none set."""
        self.hold.layout.display = "" if self.choice.sampling.hold else "none"

    def show_beginning(self, seed: Performance) -> None:
        """Offers the places at which new music can begin in a newly chosen seed: before its ending if it has one, else its end."""
        first = float(seed.notes["onset"].min()) if len(seed) else 0.0
        low, high = _up(first + BEGIN_STEP), _up(seed.end)
        self._ending = beginnings.ending(seed)
        self.start.layout.display = "" if low < high else "none"
        if low >= high:
            low, high = 0.0, 1.0  # not shown
        with self.start.hold_trait_notifications():
            self.start.min, self.start.max = low, high
            self.start.value = high if self._ending is None else round(self._ending, 1)
        said = ""
        if self._ending is not None:
            said = (
                f"The seed’s last chords, from {self._ending:.1f} s on, sound like the end of a piece, so the new music begins before them. "
                "Move “Begin at” to the right to begin after them."
            )
        self.start_line.value = pictures.line(said)

    def _show_length(self) -> None:
        for control, unit in ((self.notes, "notes"), (self.seconds, "seconds"), (self.closes, "seconds")):
            control.layout.display = "" if self.unit.value == unit else "none"

    # ------------------------------------------------------------------ their values

    @property
    def choice(self) -> Choice:
        """The chosen model."""
        return self.choices[self.model.value]

    @property
    def begins(self) -> float | None:
        """Second of the chosen seed at which the new music begins; None for its end."""
        if self.start.layout.display == "none" or self.start.value > self.start.max - BEGIN_STEP / 2:
            return None
        if self._ending is not None and abs(self.start.value - self._ending) <= BEGIN_STEP / 2 + 1e-6:
            return self._ending  # exactly, so that no note before it is lost by rounding
        return self.start.value

    @property
    def sampling(self) -> GenerationConfig:
        """The chosen model's own settings, with temperature, top-k, top-p and hold as the sliders stand."""
        return self.choice.sampling.changed(**self._drawn)

    @property
    def _drawn(self) -> dict:
        """Values of the sliders of SAMPLING that the chosen model has."""
        return {name: getattr(self, name).value for name in SAMPLING if name != "hold" or self.choice.sampling.hold}

    def request(self, seed: Performance) -> Request:
        """The request for a take after `seed`, which is cut where new music begins; ConfigError for values that do not go together."""
        in_notes = self.unit.value == "notes"
        return Request(
            model=self.choice.name,
            place=self.choice.place,
            seed_name=self.seed.value,
            seed=seed,
            number=self.number.value,
            notes=self.notes.value if in_notes else None,
            seconds=None if in_notes else float(self.seconds.value),
            start=self.begins,
            ending=self.closes.value and not in_notes,
            **self._drawn,
        )

    def say(self, trouble: str) -> None:
        """Shows one line below the buttons, or nothing for an empty text."""
        self.trouble.value = pictures.line(trouble, "trouble")


def _slider(kind: type, name: str, value: float, bounds: tuple[float, float], step: float, hint: str, shown: str):
    low, high = bounds
    return kind(
        description=name, value=value, min=low, max=high, step=step, tooltip=hint, readout_format=shown, **_look()
    )


def _up(second: float) -> float:
    """The next place of the slider."""
    return round(math.ceil(second / BEGIN_STEP - 1e-6) * BEGIN_STEP, 1)


def _look() -> dict:
    return {"style": dict(DESCRIBED), "layout": dict(FULL)}


def _row(*controls: widgets.Widget) -> widgets.Widget:
    row = widgets.Box(controls)
    row.add_class("ib-row")
    return row
