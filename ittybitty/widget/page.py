"""The page: controls on the left; on the right a take as it grows, an earlier one beside it, and what would come next.

All of it is ipywidgets [1], so that JupyterLab, Kaggle and Voilà show the same thing; all pictures are HTML (pictures.py,
roll.py), and what a browser does by itself is page.js. Each page has its own models, takes and thread; in Voilà each tab has its
own kernel too.

The page is drawn without torch. The model is loaded when the browser says that it has drawn it, or after a few seconds where
no browser says so.

State is changed by two threads, the kernel's and that of the take which is being played, and only under the lock. A take
that is not the current one any more has nothing to say.

[1] https://ipywidgets.readthedocs.io.  Left out: everything that can be tried without a page (takes, seeds, models, next_token).
"""

from __future__ import annotations

import threading
import warnings

import ipywidgets as widgets

from .. import audio
from ..errors import IttyBittyError, OutputError
from ..notes import Performance
from . import browser, kept, models, opening, pictures, seeds
from .chances import Chances
from .controls import Controls
from .roll import count, roll
from .takes import Heard, Job, Request, Take, keep

TAKES_SHOWN = 12  # takes
SETTLED = 0.3  # s from a press to reading the controls
UNSEEN = 5.0  # s after which the model is loaded although no browser has said that it shows the page
LONGEST_NAME = 60  # characters of a file's name
FROM_SILENCE = "Nothing: a piece from silence"


class Playground(widgets.VBox):
    """The whole page. `model` is the name or folder of the one to begin with; the first of the list otherwise."""

    def __init__(self, model: str = "tiny", **options):
        self._lock = threading.RLock()
        self._shelf = models.Shelf()
        self._seeds: dict[str, Performance] = {title: seeds.piece(title) for title in seeds.titles()}
        self._seeds[FROM_SILENCE] = Performance()
        self._takes: list[Take] = []
        self._made = 0  # takes so far, those that were let go too
        self._job: Job | None = None
        self._begun = False
        self.controls = Controls(models.choices(), list(self._seeds), model)
        self._choice = self.controls.choice
        self.chances = Chances(lambda place: self._shelf.load(place), lambda: self.controls.drawing)
        self._browser = browser.Link(self.begin, self._restore)
        self._build_cards()
        self._listen_to_controls()
        body = widgets.Box([self.controls, self._music])
        body.add_class("ib-body")
        super().__init__([browser.head(), body, self._browser], **options)
        self.add_class("ib")
        self._show_seed()
        self._idle()
        unseen = threading.Timer(UNSEEN, self.begin)
        unseen.daemon = True
        unseen.start()

    def __repr__(self) -> str:
        return f"Playground({self.controls.choice.label!r}, {count(len(self._takes), 'take')})"

    # ------------------------------------------------------------------ what there is to see

    def _build_cards(self) -> None:
        self._title, self._roll, self._progress, self._player, self._let_go = (widgets.HTML() for _ in range(5))
        self._stage = widgets.VBox([self._title, self._roll, self._progress, self._player, self._let_go])
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
        self._music = widgets.VBox([cards, self.chances])
        self._music.add_class("ib-music")

    def _listen_to_controls(self) -> None:
        controls = self.controls
        controls.generate.on_click(lambda _: self._generate_soon())
        controls.stop.on_click(lambda _: self.stop())
        controls.listen.on_click(lambda _: self._hear_seed())
        controls.model.observe(lambda _: self._chosen(), "value")
        controls.seed.observe(lambda _: self._chosen(), "value")
        controls.upload.observe(self._uploaded, "value")
        for control in (controls.temperature, controls.top_k, controls.top_p):
            control.observe(lambda _: self.chances.show(), "value")

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

    @property
    def seed(self) -> Performance:
        """The chosen seed."""
        return self._seeds[self.controls.seed.value]

    def request(self) -> Request:
        """What the controls stand at; ConfigError for what cannot be."""
        return self.controls.request(self.seed)

    def begin(self) -> None:
        """Loads the model and asks it what comes next, in a thread; a second call does nothing."""
        with self._lock:
            if not self._begun:
                self._begun = True
                self.chances.ask(self.controls.choice, self.seed)

    def _chosen(self) -> None:
        with self._lock:
            controls, before = self.controls, self._choice
            self._choice = controls.choice
            if before != controls.choice:
                controls.follow(before)
            controls.say("")
            controls.upload_line.value = ""
            self._show_seed()
            self._idle()
            self._begun = True
            self.chances.ask(controls.choice, self.seed)

    def _uploaded(self, change) -> None:
        if not change["new"]:
            return
        file, controls = change["new"][0], self.controls
        controls.upload.value = ()  # its content is not kept twice, and the same file can be given again
        name = _short(str(file["name"]))
        with self._lock:
            try:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    performance = seeds.uploaded(bytes(file["content"]), name)
            except IttyBittyError as error:
                controls.upload_line.value = pictures.line(str(error), "trouble")
                return
            self._seeds[name] = performance
            controls.seed.options = list(self._seeds)
            controls.seed.value = name
            self._chosen()
            controls.upload_line.value = pictures.line(" ".join(str(warning.message) for warning in said))

    def _show_seed(self) -> None:
        controls, seed = self.controls, self.seed
        text = f"{count(len(seed), 'note')}, {seed.end:.0f} s; the model is given its end"
        controls.seed_line.value = pictures.line(text if len(seed) else "the model begins by itself")
        controls.seed_roll.value = roll(seed) if len(seed) else ""
        controls.listen.layout.display = "" if len(seed) else "none"
        controls.listen_line.value = ""
        if not self._takes and self._job is None:
            self._title.value = opening.words(controls.seed.value)
            self._roll.value = opening.picture(seed)

    def _hear_seed(self) -> None:
        """Puts the seed's sound in the place of the button, and plays it."""
        with self._lock:
            seed, name = self.seed, self.controls.seed.value
            try:
                heard = pictures.sound(audio.render_bytes(seed), f"Listen to the seed {name}", plays=True)
            except OutputError as error:
                heard = pictures.line(str(error), "trouble")
            self.controls.listen.layout.display = "none"
            self.controls.listen_line.value = heard

    def _idle(self) -> None:
        """What can be pressed now."""
        self.controls.generate.disabled = self._job is not None
        self.controls.stop.disabled = self._job is None

    # ------------------------------------------------------------------ a take

    def _generate_soon(self) -> None:
        """A press of the button. A browser sends it at once, but a slider's last value only when the one before has been
        answered: what the page shows must have come before it is read."""
        if self.controls.generate.disabled:  # a second press, on its way before the button went grey
            return
        self.controls.generate.disabled = True
        threading.Timer(SETTLED, self.generate).start()

    def generate(self) -> None:
        """Plays what the controls stand at, with a new seed number where one is wanted; nothing while a take is being played."""
        with self._lock:
            if self._job is not None:
                return
            try:
                self.controls.draw()
                request = self.request()
            except IttyBittyError as error:
                self.controls.say(str(error))
                self._idle()
                return
            self.controls.say("")
            self._job = Job(request, lambda place: self._shelf.load(place), self._heard, self._ended)
            self._idle()
            if self._takes:
                self._offer_other(self._takes[-1])
            self._title.value = f"<h2>Take {self._made + 1}</h2>{self._words(request)}"
            self._roll.value = roll(request.seed)
            self._player.value = self._let_go.value = ""
            first_time = "the very first time its fast code is compiled, in about a minute"
            self._progress.value = pictures.progress(0, f"loading {request.model}; {first_time}")
            self._job.start()

    def stop(self) -> None:
        """Ends the take that is being played; what it has played is kept."""
        with self._lock:
            if self._job is not None:
                self._job.stop()
                self.controls.stop.disabled = True

    def wait(self, seconds: float | None = None) -> None:
        """Until the take that is being played has ended."""
        if (job := self._job) is not None:
            job.join(seconds)

    def _heard(self, job: Job, heard: Heard) -> None:
        with self._lock:
            if self._job is not job:
                return
            asked = job.request
            notes = count(len(heard.notes), "note")
            of = (
                f"{len(heard.notes):,} of {asked.notes:,} notes"
                if asked.notes
                else f"{notes}, {heard.share * asked.seconds:.0f} of {asked.seconds:g} s"
            )
            left = "" if heard.left is None else f" · about {max(1, round(heard.left))} s left"
            self._roll.value = roll(asked.seed, heard.notes)
            self._progress.value = pictures.progress(heard.share, of + left)

    def _ended(self, job: Job) -> None:
        take, trouble = None, job.trouble
        try:
            if job.result is not None:
                self.controls.stop.disabled = True  # the music is complete: there is nothing left to stop
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
                self._add([take])
                self._browser.keep(kept.written(take), TAKES_SHOWN)
            self.controls.say(trouble)
            self._show_take()
            self._idle()

    def _add(self, takes: list[Take]) -> None:
        """Takes to keep; the page says which one is let go for them."""
        every = [*self._takes, *takes]
        self._takes, gone = every[-TAKES_SHOWN:], every[:-TAKES_SHOWN]
        said = f"{' and '.join(take.title for take in gone)} was let go: the page keeps {TAKES_SHOWN} takes. Download what you want to keep."
        self._let_go.value = pictures.line(said) if gone else ""

    def _restore(self, text: str) -> None:
        """Takes that the browser kept while the page was reloaded."""
        with self._lock:
            if self._takes or self._job is not None or not (takes := kept.read(text, self.controls.choices)):
                return
            self._made = takes[-1].number
            self._add(takes)
            self._show_take()

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
        self._roll.value = _whole(take)
        self._progress.value, self._player.value = _length_and_sound(take)

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
        self._other_roll.value = _whole(take)
        self._other_progress.value, self._other_player.value = _length_and_sound(take)
        if self._job is None and len(self._takes) > 1:
            self._title.value = f"<h2>{self._takes[-1].title}</h2>{self._words(self._takes[-1].request)}"

    def _words(self, request: Request) -> str:
        beside = self._other_take()
        other = beside.request.words if beside is not None and beside.request is not request else ()
        return pictures.settings(request.words, other)


def _whole(take: Take) -> str:
    return roll(take.request.seed, take.new, take.joined.pedals)


def _length_and_sound(take: Take) -> tuple[str, str]:
    length = pictures.progress(1, f"{count(len(take.new), 'new note')}, {take.joined.end:.0f} s with the seed")
    seam = take.seam if len(take.request.seed) else None
    return length, pictures.player(f"itty-bitty-take-{take.number}", take.midi, take.wav, take.trouble, seam)


def _short(name: str) -> str:
    """A file's name without its middle where it is long: how it begins says most, how it ends says what it is."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 12]} … {name[-9:]}"
