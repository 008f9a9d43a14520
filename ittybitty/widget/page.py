"""The page of the playground: controls on the left; on the right the latest take, an earlier take, and what would come next.

It is built of ipywidgets [1], so that JupyterLab, Kaggle and Voilà show the same. All pictures are HTML (pictures.py,
roll.py), and what happens in the browser alone is page.js. Each page has its own models, takes and thread; in Voilà each tab
has its own kernel too.

The page is drawn before torch is imported, which takes seconds. The model is loaded when the browser reports that the page is
drawn, or after a few seconds without such a report.

Two threads change the page's state, the kernel's and that of the current take, and only while they hold the lock. Reports
of a job that is no longer the current one are ignored.

[1] https://ipywidgets.readthedocs.io.  Left out: everything that can be tested without a page (takes, seeds, models, next_token).
"""

from __future__ import annotations

import threading
import warnings

import ipywidgets as widgets

from .. import audio
from .. import seeds as beginnings
from ..errors import IttyBittyError, OutputError
from ..notes import Performance
from . import browser, kept, models, opening, pictures, seeds
from .chances import Chances
from .controls import Controls
from .roll import count, roll
from .takes import Heard, Job, Request, Take, keep

TAKES_KEPT = 12  # takes
SETTLED = 0.3  # s from pressing Generate to reading the controls
UNSEEN = 5.0  # s after which the model is loaded even if no browser has said that it shows the page
LONGEST_NAME = 60  # characters of a file's name that are shown
FROM_SILENCE = "Nothing: a piece from silence"


class Playground(widgets.VBox):
    """The whole page. `model` is the name or folder of the model to begin with; the default is the first of the list."""

    def __init__(self, model: str = "tiny", **options):
        self._lock = threading.RLock()
        self._shelf = models.Shelf()
        self._seeds: dict[str, Performance] = {title: seeds.piece(title) for title in seeds.titles()}
        self._seeds[FROM_SILENCE] = Performance()
        self._takes: list[Take] = []
        self._made = 0  # number of the latest take; takes that were removed count too
        self._job: Job | None = None
        self._begun = False
        self.controls = Controls(models.choices(), list(self._seeds), model)
        self._choice = self.controls.choice
        self._whole = self._cut = Performance()  # the chosen seed, and what of it is continued
        self._cut_at: float | None = None
        self._take_seed()
        self.chances = Chances(lambda place: self._shelf.load(place), lambda: self.controls.sampling)
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

    # ------------------------------------------------------------------ the cards

    def _build_cards(self) -> None:
        self._title, self._roll, self._progress, self._player, self._removed = (widgets.HTML() for _ in range(5))
        self._stage = widgets.VBox([self._title, self._roll, self._progress, self._player, self._removed])
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
        controls.start.observe(lambda _: self._begin_elsewhere(), "value")
        for control in (controls.temperature, controls.top_k, controls.top_p):
            control.observe(lambda _: self.chances.show(), "value")

    # ------------------------------------------------------------------ model and seed

    @property
    def takes(self) -> tuple[Take, ...]:
        """The takes that are kept, the latest last."""
        return tuple(self._takes)

    @property
    def busy(self) -> bool:
        """Whether a take is being generated, or is not shown completely yet."""
        with self._lock:
            return self._job is not None

    @property
    def seed(self) -> Performance:
        """The chosen seed, up to where the new music begins; the same object until another place or seed is chosen."""
        if self._cut_at != self.controls.begins:
            self._cut_at = self.controls.begins
            self._cut = beginnings.chosen(self._whole, self._cut_at)
        return self._cut

    def _take_seed(self) -> None:
        """Takes over the seed of the list, if it is another one."""
        chosen = self._seeds[self.controls.seed.value]
        if chosen is not self._whole:
            self._whole = self._cut = chosen
            self._cut_at = None
            self.controls.show_beginning(chosen)

    def _begin_elsewhere(self) -> None:
        with self._lock:
            if self._seeds[self.controls.seed.value] is self._whole:  # else another seed is about to be taken over
                self._show_seed()
                self._begun = True
                self.chances.ask(self.controls.choice, self.seed)

    def request(self) -> Request:
        """The take that the controls ask for; ConfigError for one that cannot be."""
        return self.controls.request(self.seed)

    def begin(self) -> None:
        """Loads the model and asks it what comes next, in a thread; does nothing at a second call."""
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
            self._take_seed()
            self._show_seed()
            self._idle()
            self._begun = True
            self.chances.ask(controls.choice, self.seed)

    def _uploaded(self, change) -> None:
        if not change["new"]:
            return
        file, controls = change["new"][0], self.controls
        controls.upload.value = ()  # so that its content is not kept twice, and the same file can be chosen again
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
        text = f"{count(len(seed), 'note')}, {seed.end:.0f} s; the model continues it"
        controls.seed_line.value = pictures.line(text if len(seed) else "the model begins a piece of its own")
        controls.seed_roll.value = roll(seed) if len(seed) else ""
        controls.listen.layout.display = "" if len(seed) else "none"
        controls.listen_line.value = ""
        if not self._takes and self._job is None:
            self._title.value = opening.words(controls.seed.value)
            self._roll.value = opening.picture(seed)

    def _hear_seed(self) -> None:
        """Replaces the button by a player of the seed, which starts by itself."""
        with self._lock:
            seed, name = self.seed, self.controls.seed.value
            try:
                heard = pictures.sound(audio.render_bytes(seed), f"Listen to the seed {name}", plays=True)
            except OutputError as error:
                heard = pictures.line(str(error), "trouble")
            self.controls.listen.layout.display = "none"
            self.controls.listen_line.value = heard

    def _idle(self) -> None:
        """Enables the buttons that can be pressed now."""
        self.controls.generate.disabled = self._job is not None
        self.controls.stop.disabled = self._job is None

    # ------------------------------------------------------------------ a take

    def _generate_soon(self) -> None:
        """Generates shortly after the button was pressed.

        A browser sends the press at once, but a slider's last value only when the value before it has been answered. The take
        must be the one that the page shows, so the controls are read when that value has arrived.
        """
        if self.controls.generate.disabled:  # a second press, sent before the button was disabled
            return
        self.controls.generate.disabled = True
        threading.Timer(SETTLED, self.generate).start()

    def generate(self) -> None:
        """Starts the take that the controls ask for, with a new seed number unless a fixed one is wanted.

        Does nothing while another take is being generated.
        """
        with self._lock:
            if self._job is not None:
                return
            try:
                self.controls.draw_number()
                request = self.request()
            except IttyBittyError as error:
                self.controls.say(str(error))
                self._idle()
                return
            self.controls.say("")
            self._job = Job(request, lambda place: self._shelf.load(place), self._heard, self._ended)
            self._idle()
            self._show_beginning(request)
            self._job.start()

    def _show_beginning(self, request: Request) -> None:
        """Shows a take that has no note yet, beside the latest one."""
        if self._takes:
            self._offer_other(self._takes[-1])
        self._title.value = f"<h2>Take {self._made + 1}</h2>{self._words(request)}"
        self._roll.value = roll(request.seed)
        self._player.value = self._removed.value = ""
        first_time = "the very first time, its fast code is compiled too, which takes about a minute"
        self._progress.value = pictures.progress(0, f"loading {request.model}; {first_time}")

    def stop(self) -> None:
        """Ends the current take; the notes that it has are kept."""
        with self._lock:
            if self._job is not None:
                self._job.stop()
                self.controls.stop.disabled = True

    def wait(self, seconds: float | None = None) -> None:
        """Waits until the current take has ended, or for at most so many seconds."""
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
                if asked.seconds is None
                else f"{notes}, {heard.share * asked.seconds:.0f} of {asked.seconds:g} s"
            )
            left = "" if heard.left is None else f" · about {max(1, round(heard.left))} s left"
            self._roll.value = roll(asked.seed, heard.notes)
            self._progress.value = pictures.progress(heard.share, of + left)

    def _ended(self, job: Job) -> None:
        take, trouble = None, job.trouble
        try:
            if job.result is not None:
                self.controls.stop.disabled = True  # the music is complete, so nothing is left to stop
                self._progress.value = pictures.progress(1, "making the sound")
                take = keep(job, self._made + 1)
            if take is None and not trouble:
                trouble = (
                    "Stopped before the first note."
                    if job.stopped
                    else "The model played no note; try another seed number."
                )
        except Exception as error:  # nothing catches what this thread raises, and the page must be usable again
            trouble = f"{type(error).__name__}: {error}"
        with self._lock:
            self._job = None
            if take is not None:
                self._made += 1
                self._add([take])
                self._browser.keep(kept.written(take), TAKES_KEPT)
            self.controls.say(trouble)
            self._show_take()
            self._idle()

    def _add(self, takes: list[Take]) -> None:
        """Keeps these takes too, and says which earlier ones are removed for them."""
        every = [*self._takes, *takes]
        self._takes, removed = every[-TAKES_KEPT:], every[:-TAKES_KEPT]
        titles, were = " and ".join(take.title for take in removed), "was" if len(removed) == 1 else "were"
        said = f"{titles} {were} removed: the page keeps {TAKES_KEPT} takes. Download what you want to keep."
        self._removed.value = pictures.line(said) if removed else ""

    def _restore(self, text: str) -> None:
        """Takes over the takes that the browser kept while the page was reloaded (JSON)."""
        with self._lock:
            if self._takes or self._job is not None or not (takes := kept.read(text, self.controls.choices)):
                return
            self._made = takes[-1].number
            self._add(takes)
            self._show_take()

    def _show_take(self) -> None:
        """Shows the latest take, or the seed if there is none."""
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
        """Lists the earlier takes, and shows `chosen` beside the latest; while a take is generated, all others are earlier."""
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
    """A long file name without its middle: its beginning tells most, and its end is the ending."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 12]} … {name[-9:]}"
