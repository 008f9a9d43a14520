"""The page: controls on the left; on the right a take as it grows, an earlier one beside it, and the next token's chances.

All of it is ipywidgets [1], so that JupyterLab, Kaggle and Voilà show the same thing, and all pictures are HTML (pictures.py).
Each page has its own models, takes and thread; in Voilà each tab has its own kernel too.

State is changed by two threads, the kernel's and that of the take which is being played, and only under the lock. A take
that is not the current one any more has nothing to say.

[1] https://ipywidgets.readthedocs.io.  Left out: everything that can be tried without a page (takes, seeds, models, next_token).
"""

from __future__ import annotations

import secrets
import threading
import warnings
from importlib import resources

import ipywidgets as widgets
import numpy as np

from ..errors import ConfigError, IttyBittyError
from ..notes import NOTE, Performance
from . import models, next_token, pictures, seeds
from .takes import NOTES, SECONDS, Heard, Job, Request, Take, keep, leave_a_core

TAKES_SHOWN = 6
SETTLED = 0.3  # s from a press to reading the controls
FROM_SILENCE = "Nothing: a piece from silence"
NONE = np.empty(0, NOTE)


class Playground(widgets.VBox):
    """The whole page. `model` is the name or folder of the one to begin with; the first of the list otherwise."""

    def __init__(self, model: str = "tiny", **options):
        self._lock = threading.RLock()
        self._shelf, self._models = models.Shelf(), models.choices()
        self._seeds: dict[str, Performance] = {title: seeds.piece(title) for title in seeds.titles()} | {
            FROM_SILENCE: Performance()
        }
        self._takes: list[Take] = []
        self._made = 0  # takes so far, those that were let go too
        self._job: Job | None = None
        self._offered: next_token.NextToken | None = None
        self._looking: threading.Thread | None = None  # the thread that asks for the next token
        self._seen: tuple | None = None  # model and seed that it answered for
        style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
        self._build_controls(model)
        self._build_cards()
        head = widgets.HTML(
            f"<style>{style}</style><h1>Itty Bitty playground</h1>"
            "<p>Choose a seed, move a slider, press Generate: a small model goes on playing, and you watch, listen and keep it. "
            '<span class="ib-word-seed">Blue</span> is the seed, <span class="ib-word-new">orange</span> is new.</p>'
        )
        head.add_class("ib-head-line")
        body = widgets.Box([self._controls, self._music])
        body.add_class("ib-body")
        super().__init__([head, body], **options)
        self.add_class("ib")
        self._show_seed()
        self._idle()
        self._look()

    def __repr__(self) -> str:
        return f"Playground({self._model.label!r}, {len(self._takes)} takes)"

    # ------------------------------------------------------------------ what there is to see

    def _build_controls(self, model: str) -> None:
        full, described = (
            {"width": "100%", "margin": "0"},
            {"description_width": "104px"},
        )  # not one Layout: each is hidden alone
        labels = [(choice.label, index) for index, choice in enumerate(self._models)]
        first = next((i for i, c in enumerate(self._models) if c.trained and model in (c.place.name, str(c.place))), 0)
        self._model = widgets.Dropdown(options=labels, value=first, description="Model", layout=full, style=described)
        self._model_line = widgets.HTML()
        self._seed = widgets.Dropdown(options=list(self._seeds), description="Seed", layout=full, style=described)
        kinds = ".mid,.midi,.kar,.rmi"
        self._upload = widgets.FileUpload(
            accept=kinds, multiple=False, description="Your own MIDI file", icon="", layout=full
        )
        self._seed_line = widgets.HTML()

        def slider(kind, name, value, low, high, step, hint, **more):
            return kind(
                value=value,
                min=low,
                max=high,
                step=step,
                description=name,
                tooltip=hint,
                layout=full,
                style=described,
                **more,
            )

        real, whole = widgets.FloatSlider, widgets.IntSlider
        self._temperature = slider(
            real, "Temperature", 0.8, 0.1, 2.0, 0.05, "low is careful, high is daring", readout_format=".2f"
        )
        self._top_k = slider(whole, "Top-k", 50, 0, 500, 1, "only the k likeliest tokens; 0 for all")
        self._top_p = slider(
            real, "Top-p", 0.95, 0.01, 1.0, 0.01, "only the likeliest tokens that hold this share", readout_format=".2f"
        )
        self._unit = widgets.ToggleButtons(
            options=["notes", "seconds"], description="Length in", style={**described}, layout=full
        )
        self._notes = slider(whole, "Notes", 200, *NOTES, 10, "new notes")
        self._seconds = slider(whole, "Seconds", 30, *SECONDS, 5, "seconds of new music")
        self._number = widgets.BoundedIntText(
            value=1,
            min=0,
            max=2**31 - 1,
            description="Seed number",
            tooltip="same number, same music",
            style=described,
            layout=full,
        )
        self._another = widgets.Button(description="Another", tooltip="draw a seed number")
        number = widgets.Box([self._number, self._another])
        number.add_class("ib-row")
        number.add_class("ib-number")
        self._generate = widgets.Button(description="Generate", button_style="primary", tooltip="play on from the seed")
        self._stop = widgets.Button(description="Stop", tooltip="keep what is there")
        buttons = widgets.Box([self._generate, self._stop])
        buttons.add_class("ib-row")
        self._trouble = widgets.HTML()
        seed = [self._seed, self._upload, self._seed_line]
        drawing = [self._temperature, self._top_k, self._top_p, self._unit, self._notes, self._seconds, number]
        self._controls = widgets.VBox([self._model, self._model_line, *seed, *drawing, buttons, self._trouble])
        self._controls.add_class("ib-controls")
        for control, name in (
            (self._generate, "generate"),
            (self._stop, "stop"),
            (self._upload, "upload"),
            (self._seed_line, "seed-line"),
        ):
            control.add_class(f"ib-{name}")
        self._generate.on_click(lambda _: self._generate_soon())
        self._stop.on_click(lambda _: self.stop())
        self._another.on_click(lambda _: setattr(self._number, "value", secrets.randbelow(10_000)))
        self._model.observe(lambda _: self._chosen(), "value")
        self._seed.observe(lambda _: self._chosen(), "value")
        self._upload.observe(self._uploaded, "value")
        self._unit.observe(lambda _: self._show_length(), "value")
        for control in (self._temperature, self._top_k, self._top_p):
            control.observe(lambda _: self._show_chances(), "value")
        self._show_length()

    def _build_cards(self) -> None:
        self._title, self._roll, self._progress, self._player = (widgets.HTML() for _ in range(4))
        self._stage = widgets.VBox([self._title, self._roll, self._progress, self._player])
        self._other = widgets.Dropdown(options=[], description="Beside it", style={"description_width": "64px"})
        self._other_title, self._other_roll, self._other_progress, self._other_player = (
            widgets.HTML() for _ in range(4)
        )
        self._beside = widgets.VBox(
            [self._other, self._other_title, self._other_roll, self._other_progress, self._other_player]
        )
        self._beside.layout.display = "none"
        self._other.observe(lambda _: self._show_other(), "value")
        cards = widgets.Box([self._stage, self._beside])
        cards.add_class("ib-cards")
        for card, name in ((self._stage, "ib-stage"), (self._beside, "ib-beside")):
            card.add_class("ib-take")
            card.add_class("ib-card")
            card.add_class(name)
        self._chances = widgets.HTML(pictures.line("Asking the model …"))
        chances = widgets.VBox([widgets.HTML("<h2>The next token</h2>"), self._chances])
        chances.add_class("ib-card")
        chances.add_class("ib-chances")
        self._music = widgets.VBox([cards, chances])
        self._music.add_class("ib-music")

    # ------------------------------------------------------------------ what is chosen

    @property
    def takes(self) -> tuple[Take, ...]:
        """What was made and is still kept, the latest last."""
        return tuple(self._takes)

    @property
    def busy(self) -> bool:
        """Whether a take is being played, or not yet wholly shown."""
        with self._lock:
            return self._job is not None

    def request(self) -> Request:
        """What the controls stand at; ConfigError for what cannot be, or for a model without weights."""
        choice = self._models[self._model.value]
        if not choice.trained:
            raise ConfigError(choice.mend)
        in_notes = self._unit.value == "notes"
        return Request(
            model=choice.label.split(" · ")[0],
            place=choice.place,
            seed_name=self._seed.value,
            seed=self._seeds[self._seed.value],
            temperature=self._temperature.value,
            top_k=self._top_k.value,
            top_p=self._top_p.value,
            number=self._number.value,
            notes=self._notes.value if in_notes else None,
            seconds=None if in_notes else float(self._seconds.value),
        )

    def _chosen(self) -> None:
        with self._lock:
            self._say("")
            self._show_seed()
            self._idle()
            self._look()

    def _uploaded(self, change) -> None:
        if not change["new"]:
            return
        file = change["new"][0]
        self._upload.value = ()  # its content is not kept twice, and the same file can be given again
        name = str(file["name"])[-60:]
        with self._lock:
            try:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    performance = seeds.uploaded(bytes(file["content"]), name)
            except IttyBittyError as error:
                self._say(str(error))
                return
            self._seeds[name] = performance
            self._seed.options = list(self._seeds)
            self._seed.value = name
            self._chosen()
            self._say(" ".join(str(warning.message) for warning in said), "note")

    def _show_length(self) -> None:
        for control, unit in ((self._notes, "notes"), (self._seconds, "seconds")):
            control.layout.display = "" if self._unit.value == unit else "none"

    def _show_seed(self) -> None:
        choice, seed = self._models[self._model.value], self._seeds[self._seed.value]
        self._model_line.value = "" if choice.trained else pictures.line(choice.mend, "trouble")
        text = (
            f"{len(seed):,} notes, {seed.end:.0f} s; the model is given its end"
            if len(seed)
            else "the model begins by itself"
        )
        self._seed_line.value = pictures.line(text)
        if not self._takes and self._job is None:
            self._title.value = f"<h2>Seed</h2>{pictures.line(self._seed.value)}"
            self._roll.value = pictures.roll(seed, NONE)

    def _say(self, text: str, kind: str = "trouble") -> None:
        self._trouble.value = pictures.line(text, kind)

    def _idle(self) -> None:
        """What can be pressed now."""
        self._generate.disabled = self._job is not None or not self._models[self._model.value].trained
        self._stop.disabled = self._job is None

    # ------------------------------------------------------------------ a take

    def _generate_soon(self) -> None:
        """A press of the button. A browser sends it at once, but a slider's last value only when the one before has been
        answered: what the page shows must have come before it is read."""
        if self._generate.disabled:  # a second press, on its way before the button went grey
            return
        self._generate.disabled = True
        threading.Timer(SETTLED, self.generate).start()

    def generate(self) -> None:
        """Plays what the controls stand at; nothing while a take is being played."""
        with self._lock:
            if self._job is not None:
                return
            try:
                request = self.request()
            except IttyBittyError as error:
                self._say(str(error))
                self._idle()
                return
            self._say("")
            self._job = Job(request, self._shelf.load, self._heard, self._ended)
            self._idle()
            if self._takes:
                self._offer_other(self._takes[-1])
            self._title.value = f"<h2>Take {self._made + 1}</h2>{self._words(request)}"
            self._roll.value = pictures.roll(request.seed, NONE)
            self._player.value = ""
            first_time = "the very first time its fast code is compiled, in about a minute"
            self._progress.value = pictures.progress(0, f"loading {request.model}; {first_time}")
            self._job.start()

    def stop(self) -> None:
        """Ends the take that is being played; what it has played is kept."""
        with self._lock:
            if self._job is not None:
                self._job.stop()
                self._stop.disabled = True

    def wait(self, seconds: float | None = None) -> None:
        """Until the take that is being played has ended."""
        if (job := self._job) is not None:
            job.join(seconds)

    def _heard(self, job: Job, heard: Heard) -> None:
        with self._lock:
            if self._job is not job:
                return
            asked = job.request
            count = f"{len(heard.notes):,}"
            of = (
                f"{count} of {asked.notes:,} notes"
                if asked.notes
                else f"{count} notes, {heard.share * asked.seconds:.0f} of {asked.seconds:g} s"
            )
            left = "" if heard.left is None else f" · about {max(1, round(heard.left))} s left"
            self._roll.value = pictures.roll(asked.seed, heard.notes)
            self._progress.value = pictures.progress(heard.share, of + left)

    def _ended(self, job: Job) -> None:
        take, trouble = None, job.trouble
        try:
            if job.result is not None:
                self._progress.value = pictures.progress(1, "making the sound")
                take = keep(job, self._made + 1)
            if take is None and not trouble:
                trouble = (
                    "Stopped before the first note."
                    if job.stopped
                    else "The model played no note; try another seed number."
                )
        except Exception as error:  # as in Job: the page must be free again
            trouble = f"{type(error).__name__}: {error}"
        with self._lock:
            self._job = None
            if take is not None:
                self._made += 1
                self._takes = [*self._takes, take][-TAKES_SHOWN:]
            self._say(trouble)
            self._show_take()
            self._idle()

    def _show_take(self) -> None:
        """The latest take, or the seed before there is one."""
        if not self._takes:
            self._progress.value = self._player.value = ""
            self._show_seed()
            return
        take = self._takes[-1]
        if len(self._takes) > 1:
            beside = self._other_take()
            self._offer_other(beside if beside in self._takes[:-1] else self._takes[-2])
        self._title.value = f"<h2>{take.title}</h2>{self._words(take.request)}"
        self._roll.value = pictures.roll(take.request.seed, take.new)
        self._progress.value, self._player.value = self._length_and_sound(take)

    def _offer_other(self, chosen: Take) -> None:
        """Earlier takes to put beside the one on the stage; while one is played all of them are earlier."""
        earlier = self._takes if self._job is not None else self._takes[:-1]
        if [number for _, number in self._other.options] != [take.number for take in earlier]:
            self._other.options = [(take.title, take.number) for take in earlier]
        self._other.value = chosen.number
        self._beside.layout.display = ""
        self._show_other()

    def _other_take(self) -> Take | None:
        return next((take for take in self._takes if take.number == self._other.value), None)

    def _show_other(self) -> None:
        take = self._other_take()
        if take is None:
            return
        self._other_title.value = self._words(take.request)
        self._other_roll.value = pictures.roll(take.request.seed, take.new)
        self._other_progress.value, self._other_player.value = self._length_and_sound(take)
        if self._job is None and len(self._takes) > 1:
            self._title.value = f"<h2>{self._takes[-1].title}</h2>{self._words(self._takes[-1].request)}"

    def _length_and_sound(self, take: Take) -> tuple[str, str]:
        length = pictures.progress(1, f"{len(take.new):,} new notes, {take.joined.end:.0f} s with the seed")
        return length, pictures.player(f"itty-bitty-take-{take.number}", take.midi, take.wav, take.trouble)

    def _words(self, request: Request) -> str:
        beside = self._other_take()
        other = beside.request.words if beside is not None and beside.request is not request else ()
        return pictures.settings(request.words, other)

    # ------------------------------------------------------------------ the next token

    def _look(self) -> None:
        """Asks the chosen model what follows the chosen seed, in a thread; what is chosen meanwhile is asked next."""
        with self._lock:
            if self._looking is None and self._wanted() is not None:
                self._looking = threading.Thread(
                    target=self._look_until_current, name="playground next token", daemon=True
                )
                self._looking.start()

    def _wanted(self) -> tuple | None:
        choice = self._models[self._model.value]
        return (choice.place, self._seed.value, id(self._seeds[self._seed.value])) if choice.trained else None

    def _look_until_current(self) -> None:
        leave_a_core()
        while True:
            with self._lock:
                wanted = self._wanted()
                if wanted is None or wanted == self._seen:
                    self._looking = None
                    return
                seed = self._seeds[wanted[1]]
            trouble = ""
            try:
                offered = next_token.after(self._shelf.load(wanted[0]), seed)
            except Exception as error:  # a thread has nobody to raise to
                offered, trouble = (
                    None,
                    str(error) if isinstance(error, IttyBittyError) else f"{type(error).__name__}: {error}",
                )
            with self._lock:
                self._seen, self._offered = wanted, offered
                if trouble:
                    self._chances.value = pictures.line(trouble, "trouble")
                self._show_chances()

    def _show_chances(self) -> None:
        with self._lock:
            if self._offered is not None:
                now = self._temperature.value, self._top_k.value, self._top_p.value
                said = pictures.line(next_token.sentence(self._offered, *now))
                self._chances.value = said + pictures.chart(self._offered, *now)
