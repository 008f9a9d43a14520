"""The playground in a real browser: every control pressed, what is heard and downloaded compared with what is shown.

Needs Playwright (`pip install .[browser]`) and a Chromium or Chrome; where there is none the tests say so and are skipped.
They leave pictures of the page in build/playground/; notebooks/playground.png is a copy of wide-light.png.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import wave
from pathlib import Path

import numpy as np
import pytest

from ittybitty import endings, systems
from ittybitty.midi import read_midi, read_midi_bytes
from ittybitty.notes import Performance
from ittybitty.widget import seeds, serve

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install .[browser]")

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "playground"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync"
RIGHT_EDGE = "Math.max(...[...document.querySelectorAll('.ib, .ib *')].map(e => e.getBoundingClientRect().right))"
CUT_LABELS = """[...document.querySelectorAll('.ib .widget-label, .ib button')]
    .filter(e => e.offsetWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
# How far the line on the roll is from where the sound is, as it moves
FROM_THE_SOUND = """async () => {
    const audio = document.querySelector(".ib-stage audio"), found = [];
    while (found.length < 20) {
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        const head = document.querySelector(".ib-stage .ib-head.ib-on");
        if (!head || audio.paused) return [];
        found.push(Math.abs(parseFloat(head.style.left) / 100 - audio.currentTime / head.dataset.span));
    }
    return found;
}"""
SOON, LATE = 60_000, 240_000  # ms: a machine may be busy
WIDE, NARROW = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium() -> str:
    """A Chromium of the system, else Playwright's own; skips where there is neither."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        with playwright.sync_playwright() as driver:
            found = driver.chromium.executable_path
    if not Path(found).exists():
        pytest.skip("no Chromium or Chrome here: apt-get install chromium, or python -m playwright install chromium")
    return found


@pytest.fixture(scope="module")
def server(chromium, tmp_path_factory):
    """The page as `ittybitty playground` serves it: its address, and the process."""
    port = serve.free_port(serve.LOOPBACK, 8900)
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "ittybitty", "playground", "--no-browser", "--port", str(port)]
    with open(log, "wb") as file:
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, env=one_thread)
    url = f"http://{serve.LOOPBACK}:{port}/"
    try:
        for _ in range(900):
            try:
                urllib.request.urlopen(f"{url}voila/static/voila.js", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
        assert url in log.read_text()
        yield url, server
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="module")
def address(server) -> str:
    return server[0]


@pytest.fixture(scope="module")
def browser(chromium, address, tmp_path_factory):
    with playwright.sync_playwright() as driver:
        folder = tmp_path_factory.mktemp("profile")
        context = driver.chromium.launch_persistent_context(
            folder, executable_path=chromium, args=FLAGS.split(), accept_downloads=True
        )
        context.set_default_timeout(SOON)
        yield context
        context.close()


class Tab:
    """The page in one tab, and what it asked for."""

    def __init__(self, browser, address: str, viewport=WIDE):
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page = browser.new_page()
        self.page.set_viewport_size(viewport)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address, timeout=LATE)
        self.page.wait_for_selector(".ib-chart", timeout=LATE)

    def choose_model(self, name: str) -> None:
        """Chooses a model by its name, and waits until what comes next is its own."""
        models = self.page.get_by_label("Model", exact=True)
        labels = models.locator("option").all_text_contents()
        models.select_option(index=[label.split()[0] for label in labels].index(name))
        parts = 1 if name == "tiny-remi" else 4
        self.page.wait_for_function(
            f"document.querySelectorAll('.ib-chances .ib-chart').length === {parts}", timeout=LATE
        )

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(label=option)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click(timeout=LATE)

    def slide(self, label: str, *keys: str, to: str = "") -> None:
        """Moves a slider by keys of the keyboard, and waits until its number is `to` where that is given."""
        slider = self.page.locator(".widget-hslider", has=self.page.locator(f'.widget-label:text-is("{label}")'))
        slider.locator(".noUi-handle").click()  # waits until it is there to be seen, as focus() does not
        for key in keys:
            self.page.keyboard.press(key)
        self.page.wait_for_timeout(200)  # the browser holds the last value back until the one before is answered
        if to:
            slider.locator(f'.widget-readout:text-is("{to}")').wait_for()

    def upload(self, file: Path) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.page.locator(".ib-upload").click()
        chooser.value.set_files(file)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def wait_for_text(self, selector: str, words: str, timeout: int = SOON) -> None:
        self.page.locator(selector, has_text=words).first.wait_for(timeout=timeout)

    def wait_for_take(self, number: int, words: str = "") -> None:
        """Until the take stands there with its sound."""
        self.wait_for_text(".ib-stage h2", f"Take {number}{words}", LATE)
        self.page.locator(".ib-stage audio").wait_for(timeout=LATE)

    def picture(self) -> bytes:
        """What stands where the roll is: of the page, since the roll itself is drawn anew with every few notes."""
        box = self.page.wait_for_function(
            """() => {
                const field = document.querySelector(".ib-stage .ib-field");
                if (!field) return null;
                const box = field.getBoundingClientRect();
                return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height};
            }"""
        ).json_value()
        return self.page.screenshot(clip=box, full_page=True)

    def strokes(self, kind: str) -> np.ndarray:
        """(n, 2) onset in s and pitch of the notes that the roll on the stage shows, sorted."""
        drawn = self.page.wait_for_function(  # at one moment: the roll is drawn anew with every few notes
            """kind => {
                const field = document.querySelector(".ib-stage .ib-field");
                return field && {
                    span: field.querySelector(".ib-head").dataset.span,
                    key: document.querySelector(".ib-stage .ib-keys b").innerText,
                    octaves: field.querySelector(".ib-octave").getAttribute("d"),
                    paths: [...field.querySelectorAll(`.ib-notes path.ib-${kind}`)].map(path => path.getAttribute("d")),
                };
            }""",
            arg=kind,
        ).json_value()
        span, top = float(drawn["span"]), int(drawn["key"][1:])  # the lowest C, by which rows are counted
        rows = []
        for path in drawn["paths"]:
            rows += [(float(x) / 1000 * span, float(y)) for x, y in re.findall(r"M(-?[\d.]+) (-?[\d.]+)h", path)]
        octaves = [float(y) for y in re.findall(r"M0 (-?[\d.]+)h", drawn["octaves"])]
        return np.array(sorted((x, 12 * (top + 1) + octaves[0] - y) for x, y in rows)).reshape(-1, 2)

    def download(self, kind: str) -> bytes:
        with self.page.expect_download() as waiting:
            self.page.locator(".ib-stage .ib-keep", has_text=kind).click()
        assert waiting.value.suggested_filename.endswith(f".{'mid' if kind == 'MIDI' else 'wav'}")
        return Path(waiting.value.path()).read_bytes()

    @property
    def busy(self) -> bool:
        return self.page.locator(".ib-generate").is_disabled()


@pytest.fixture(scope="module")
def tab(browser, address):
    made = Tab(browser, address)
    yield made
    made.page.close()


def same_notes(shown: np.ndarray, played: Performance) -> bool:
    """Whether the picture holds these notes, up to its resolution."""
    expected = np.array(sorted((float(n.onset), float(n.pitch)) for n in played)).reshape(-1, 2)
    if len(shown) != len(expected):
        return False
    order = [np.lexsort((rows[:, 0], rows[:, 1])) for rows in (shown, expected)]
    shown, expected = shown[order[0]], expected[order[1]]
    return bool(
        (shown[:, 1] == expected[:, 1]).all()
        and np.abs(shown[:, 0] - expected[:, 0]).max() < 0.002 * max(played.end, 4.0)
    )


def test_the_page_asks_nothing_of_other_places(tab, address):
    foreign = [
        url for url in tab.asked if not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))
    ]
    assert len(tab.asked) > 10 and not foreign and not tab.errors
    assert tab.page.title() == "Itty Bitty playground" and tab.text(".ib h1") == "Itty Bitty playground"


def test_no_cell_of_the_notebook_shows_but_the_page(tab):
    assert tab.page.locator(".jp-Cell").count() <= 2 and "Kaggle" not in tab.text("body")


def test_choose_slide_generate_watch_listen_and_keep(tab):
    tab.choose("Seed", "Rag in F")
    tab.wait_for_text(".ib-seed-line", f"{len(seeds.piece('Rag in F'))} notes")
    before = tab.picture()
    assert same_notes(tab.strokes("seed"), seeds.piece("Rag in F"))
    tab.slide("Notes", "Home", *["ArrowRight"] * 3, to="80")
    tab.press("Generate")
    tab.wait_for_take(1)
    assert tab.picture() != before
    tab.wait_for_text(".ib-stage .ib-progress", "80 new notes")

    midi = read_midi_bytes(tab.download("MIDI"), "download")
    assert len(midi) == 80 + len(tab.strokes("seed"))
    assert same_notes(np.concatenate([tab.strokes("seed"), tab.strokes("new")]), midi)
    with wave.open(io.BytesIO(tab.download("WAV"))) as sound:
        assert midi.end <= sound.getnframes() / sound.getframerate() < midi.end + 12
        assert np.abs(np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(int)).max() > 3000

    audio = tab.page.locator(".ib-stage audio")
    audio.focus()
    tab.page.keyboard.press("Space")
    tab.page.wait_for_function("document.querySelector('.ib-stage audio').currentTime > 0.5")
    away = tab.page.evaluate(FROM_THE_SOUND)
    assert len(away) == 20 and max(away) < 0.02  # share of the roll's width, in any of twenty pictures
    audio.evaluate("audio => audio.pause()")


def test_sliders_begin_at_the_settings_of_the_model(tab):
    usual = systems.sampling("notes-hybrid")
    for label, value in (("Temperature", usual.temperature), ("Top-p", usual.top_p)):
        slider = tab.page.locator(".widget-hslider", has=tab.page.locator(f'.widget-label:text-is("{label}")'))
        assert float(slider.locator(".noUi-handle").get_attribute("aria-valuenow")) == pytest.approx(value)
        assert slider.locator(".widget-readout").inner_text() == f"{value:.2f}"


def test_sliders_change_every_part_of_the_next_event_live(tab):
    parts = tab.page.locator(".ib-chances .ib-part")
    titles = [words.split("\n")[0] for words in parts.locator("h3").all_inner_texts()]
    assert [title.split(" if ")[0] for title in titles] == ["When", "What", "How long", "How loud"]
    assert re.match(
        r"next note (at the same time|\d+\.\d\d s later)", parts.nth(0).locator(".ib-name").first.inner_text()
    )
    tab.slide(
        "Top-p", "End", to="1.00"
    )  # where one thing is nearly certain, top-p leaves nothing for a temperature to change
    tab.page.wait_for_function("!document.querySelector('.ib-cut')")
    before = parts.all_inner_texts()
    tab.slide("Temperature", "Home", to="0.10")
    tab.wait_for_text(".ib-chances p", "Temperature 0.10 raises the likeliest moment")
    assert not set(before) & set(parts.all_inner_texts())
    tab.slide("Temperature", "End", to="2.00")
    tab.wait_for_text(".ib-chances p", "Temperature 2.00 lowers the likeliest moment")
    tab.slide("Top-k", "Home", "ArrowRight", to="1")
    tab.wait_for_text(".ib-chances p", "when from 1 of ")
    rows = [part.locator("li").count() for part in parts.all()]
    assert [part.locator(".ib-cut").count() for part in parts.all()] == [count - 1 for count in rows]
    tab.slide("Top-k", "Home", to="0")
    tab.slide("Top-p", "Home", to="0.01")
    tab.wait_for_text(".ib-chances p", "how loud from 1 of ")
    tab.slide("Top-p", "End", to="1.00")
    tab.page.wait_for_function("!document.querySelector('.ib-cut')")


def test_sliders_change_the_next_token_live(tab):
    tab.choose_model("tiny-remi")
    chart = tab.page.locator(".ib-chart").inner_html()
    tab.slide("Temperature", "Home", to="0.10")
    tab.wait_for_text(".ib-chances p", "Temperature 0.10 raises")
    assert tab.page.locator(".ib-chart").inner_html() != chart
    tab.slide("Temperature", "End", to="2.00")
    tab.wait_for_text(".ib-chances p", "Temperature 2.00 lowers")
    tab.slide("Top-k", "Home", "ArrowRight", to="1")
    tab.wait_for_text(".ib-chances p", "no choice left")
    tab.slide("Top-k", "Home", to="0")
    tab.slide("Top-p", "End", to="1.00")
    tab.wait_for_text(".ib-chances p", "top-p leaves all of these")
    tab.page.wait_for_function("!document.querySelector('.ib-cut')")
    tab.slide("Top-p", "Home", to="0.01")
    tab.wait_for_text(".ib-chances p", "top-p 0.01 leaves 1 of these")
    assert tab.page.locator(".ib-cut").count() > 0
    tab.choose_model("tiny")


def test_one_slider_changed_gives_a_take_beside_the_first(tab):
    tab.slide("Temperature", "End", to="2.00")
    tab.slide("Top-k", "Home", "ArrowRight", "ArrowRight", to="2")
    tab.slide("Top-p", "End", to="1.00")
    tab.press("Generate")
    tab.wait_for_take(2)
    assert tab.page.locator(".ib-beside").is_visible() and tab.page.locator(".ib-beside audio").count() == 1
    marked = tab.page.locator(".ib-stage .ib-settings b").all_inner_texts()
    assert {"temperature 2.00", "top-k 2"} <= set(marked) and not [words for words in marked if "Rag" in words]
    tab.page.locator(".ib-beside select").select_option(label="Take 1")


def test_the_roll_grows_and_stop_keeps_what_is_there(tab):
    tab.choose_model("tiny-remi")  # `tiny` writes all 2,000 notes within a second, before anybody could press Stop
    tab.slide("Notes", "End")
    tab.choose("Seed", "Nothing: a piece from silence")
    tab.press("Generate")
    tab.wait_for_text(".ib-stage h2", "Take 3")  # until then the take before stands there
    tab.page.locator(".ib-stage path.ib-new").first.wait_for(timeout=LATE)
    first, count = tab.picture(), len(tab.strokes("new"))
    assert re.search(r"[\d,]+ of 2,000 notes", tab.text(".ib-stage .ib-progress")) and tab.busy
    tab.choose("Seed", "Chorale in G")  # for the next take, not for this one
    counted = "document.querySelector('.ib-stage .ib-roll').ariaLabel.replace(/,/g, '').match(/(\\d+) new/)[1]"
    tab.page.wait_for_function(f"{counted} > {count + 20}", timeout=LATE)
    assert tab.picture() != first
    tab.page.locator(".ib-generate").dispatch_event("click")  # pressed twice: it is disabled, and nothing begins anew
    tab.press("Stop")
    tab.wait_for_take(3, " (stopped)")
    assert not tab.busy and len(tab.strokes("seed")) == 0 and count < len(tab.strokes("new")) < 2000
    assert same_notes(tab.strokes("new"), read_midi_bytes(tab.download("MIDI"), "download"))
    tab.choose_model("tiny")


def test_a_bad_upload_is_said_and_a_good_one_played(tab, midi_file, tmp_path):
    shown, chosen = tab.text(".ib-stage h2"), tab.page.get_by_label("Seed", exact=True).input_value()
    for name, content, said in (
        ("stump.mid", midi_file.read_bytes()[:14], "is cut short"),
        ("song.mid", b"ID3 not midi", "is not a MIDI file"),
        ("huge.mid", bytes(12 * 2**20), "12.0 MiB"),
        ("empty.mid", b"", "is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        tab.upload(tmp_path / name)
        tab.wait_for_text(".ib-upload-line [role=alert]", said, LATE)
        assert name in tab.text(".ib-upload-line [role=alert]")
        button, said = (tab.page.locator(place).bounding_box() for place in (".ib-upload", ".ib-upload-line"))
        assert 0 <= said["y"] - button["y"] - button["height"] < 16  # right below the button
        assert tab.page.get_by_label("Seed", exact=True).input_value() == chosen and tab.text(".ib-stage h2") == shown
    (tmp_path / "truncated.mid").write_bytes(midi_file.read_bytes()[:200])
    tab.upload(tmp_path / "truncated.mid")  # a track that breaks off is played as far as it goes
    tab.wait_for_text(".ib-upload-line", "truncated.mid: is damaged and was repaired")
    assert tab.page.locator(".ib-upload-line [role=alert]").count() == 0
    tab.upload(midi_file)
    seed = read_midi(midi_file)
    tab.wait_for_text(".ib-seed-line", f"{len(seed)} notes")
    tab.page.get_by_role("button", name="seconds", exact=True).click()
    tab.slide("Seconds", "Home", to="5")
    tab.press("Generate")
    earlier = re.search(r"Take (\d+)", shown)
    tab.wait_for_take(int(earlier[1]) + 1 if earlier else 1)
    made = read_midi_bytes(tab.download("MIDI"), "download")
    assert (
        midi_file.name in tab.text(".ib-stage .ib-settings")
        and seed.end
        < made.notes["onset"].max()
        <= seed.notes["onset"].max() + 5.1 + endings.AFTER  # the piece ends near 5 s
    )
    assert np.array_equal(made.notes["pitch"][:20], seeds.ending(seed).notes["pitch"][:20])


def test_only_models_that_can_play_are_listed(tab):
    labels = tab.page.get_by_label("Model", exact=True).locator("option").all_text_contents()
    assert labels and not [label for label in labels if "no weights" in label]


def test_two_tabs_play_at_once_and_neither_hears_the_other(browser, address):
    tabs = [Tab(browser, address) for _ in range(2)]
    for number, each in enumerate(tabs):
        each.choose("Seed", seeds.titles()[2 + number])
        each.slide("Notes", "Home")
        each.page.get_by_label("Seed number", exact=True).fill(str(number + 5))
        each.page.keyboard.press("Tab")
    for each in tabs:
        each.press("Generate")
    for number, each in enumerate(tabs):
        each.wait_for_take(1)
        assert same_notes(each.strokes("seed"), seeds.piece(seeds.titles()[2 + number]))
        words = each.text(".ib-stage .ib-settings")
        assert (
            seeds.titles()[2 + number] in words
            and f"seed number {number + 5}" in words
            and len(each.strokes("new")) == 50
        )
    assert not np.array_equal(tabs[0].strokes("new"), tabs[1].strokes("new"))
    for each in tabs:
        assert not each.errors
        each.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_looks_finished_at_three_widths_and_axe_finds_nothing_serious(browser, address, scheme):
    """Nothing beside the page's edge, nothing on top of another, readable; the pictures are for people to look at."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe-core here: pip install .[browser]"
    )
    tab = Tab(browser, address)
    tab.page.emulate_media(color_scheme=scheme)
    tab.slide("Notes", "Home", *["ArrowRight"] * 7)
    tab.press("Generate")
    tab.wait_for_take(1)
    tab.slide("Temperature", *["PageUp"] * 6)
    tab.press("Generate")
    tab.wait_for_take(2)
    tab.press("Listen to the seed")
    tab.page.locator(".ib-listen-line audio").wait_for(timeout=LATE)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width, height, name in ((1280, 900, "wide"), (820, 1100, "middle"), (390, 844, "narrow")):
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.wait_for_timeout(300)
        assert tab.page.evaluate(RIGHT_EDGE) <= width
        assert tab.page.evaluate(CUT_LABELS) == []
        assert contrast(tab.page, ".ib h1") > 7
        assert (
            min(
                contrast(tab.page, f".ib {text}")
                for text in (".ib-note", ".ib-generate", ".ib-word-new", ".ib-word-seed")
            )
            > 4.5
        )
        found = axe.Axe().run(tab.page).response["violations"]
        serious = {
            rule["id"]: [node["html"][:120] for node in rule["nodes"]]
            for rule in found
            if rule["impact"] in ("serious", "critical")
        }
        assert not serious
        tab.page.screenshot(path=PICTURES / f"{name}-{scheme}.png", full_page=True)
    assert min(tab.page.evaluate(STROKES)) >= 3
    tab.page.close()


# WCAG's contrast of each kind of note, the quietest too, and what is behind it
STROKES = """() => {
    const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0.05);
    const numbers = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const field = document.querySelector(".ib-stage .ib-field"), behind = numbers(getComputedStyle(field).backgroundColor);
    return ["seed", "new"].flatMap((kind) => ["v0", "v1", "v2", "v3"].map((loudness) => {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("class", `ib-${kind} ib-${loudness}`);
        field.querySelector(".ib-notes").append(path);
        const style = getComputedStyle(path), share = Number(style.strokeOpacity);
        const seen = numbers(style.stroke).map((v, i) => share * v + (1 - share) * behind[i]);
        path.remove();
        const [a, b] = [light(seen), light(behind)];
        return Math.max(a, b) / Math.min(a, b);
    }));
}"""


def contrast(page, selector: str) -> float:
    """WCAG 2.1's contrast ratio of a text and what is behind it."""
    colours = page.locator(selector).first.evaluate(
        """element => {
            let behind = element;
            while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        }"""
    )
    light = []
    for colour in colours:
        channels = np.array([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(light) / min(light)


def test_a_screen_reader_is_told_what_is_what(tab):
    unnamed = tab.page.evaluate(
        "[...document.querySelectorAll('.ib select, .ib input:not([type=file]), .ib audio, .ib [role=slider]')].filter(e => e.offsetWidth)"
        ".filter(e => !(e.labels && e.labels.length) && !e.ariaLabel && !e.title).map(e => e.outerHTML.slice(0, 80))"
    )
    assert not unnamed and tab.page.locator("[role=img][aria-label]").count() >= 1
    for name, keys, number, words in (
        ("Top-p", ["End", *["ArrowLeft"] * 5], "0.95", "0.95"),
        ("Temperature", ["Home", *["PageUp"] * 14], "0.8", "0.80"),
        ("Notes", ["Home", "ArrowRight"], "60", "60 notes"),
    ):
        tab.page.get_by_role("button", name="notes", exact=True).click()
        tab.slide(name, *keys, to=words.split()[0])
        said = f'[role=slider][aria-label="{name}"][aria-valuenow="{number}"][aria-valuetext="{words}"]'
        tab.page.locator(said).wait_for()  # the script that writes them runs after the slider has moved
    assert tab.page.get_by_role("button", name="notes", exact=True).get_attribute("aria-pressed") == "true"


def test_a_decimal_comma_is_understood(tab):
    readout = tab.page.get_by_role("textbox", name="Temperature, typed")
    readout.click()
    tab.page.keyboard.press("Control+A")
    tab.page.keyboard.type("1,2")
    tab.page.keyboard.press("Enter")
    tab.wait_for_text(".ib-chances p", "Temperature 1.20")


def focused(tab) -> str:
    return tab.page.evaluate("document.activeElement.className + ' ' + document.activeElement.tagName")


def walk_to(tab, name: str, forward: bool = True) -> None:
    """Tab by Tab to a control; each stop on the way must be seen to have the focus."""
    for _ in range(60):
        tab.page.keyboard.press("Tab" if forward else "Shift+Tab")
        seen = tab.page.evaluate(
            """() => { const e = document.activeElement, style = getComputedStyle(e);
            const host = e.type === "checkbox" || e.tagName === "AUDIO" || e === document.body;
            return [host || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2), e.className + " " + e.tagName]; }"""
        )
        assert seen[0], f"no focus to be seen on {seen[1]}"
        if name in focused(tab):
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


def test_the_whole_page_works_by_keyboard_alone(browser, address):
    tab = Tab(browser, address)
    keys = tab.page.keyboard
    tab.page.locator("body").focus()
    walk_to(tab, "SELECT")  # the model
    walk_to(tab, "SELECT")
    keys.press("ArrowDown")
    tab.wait_for_text(".ib-stage", seeds.titles()[1])
    walk_to(tab, "ib-upload")
    walk_to(tab, "ib-listen")
    keys.press("Enter")
    tab.page.wait_for_function("document.activeElement.tagName === 'AUDIO'", timeout=LATE)
    for _ in range(5):  # temperature, top-k and top-p have a number to type into each
        walk_to(tab, "noUi-handle") if _ < 3 else walk_to(tab, "BUTTON")
    walk_to(tab, "noUi-handle")
    keys.press("Home")
    walk_to(tab, "INPUT")
    walk_to(tab, "ib-generate")
    keys.press("Enter")
    tab.page.wait_for_function("document.activeElement.classList.contains('ib-stop')", timeout=LATE)
    tab.wait_for_take(1)
    tab.page.wait_for_function("document.activeElement.classList.contains('ib-generate')", timeout=LATE)
    walk_to(tab, "AUDIO")
    walk_to(tab, "ib-from")
    keys.press("Enter")
    tab.page.wait_for_function("document.querySelector('.ib-stage audio').currentTime > 0.5")
    walk_to(tab, "ib-keep A")
    walk_to(tab, "ib-wav A")
    assert not tab.errors
    tab.page.close()


def test_one_player_sounds_at_a_time_and_starts_at_the_seam(browser, address):
    tab = Tab(browser, address)
    tab.slide("Notes", "Home")
    numbers = []
    for number in (1, 2):
        tab.press("Generate")
        tab.wait_for_take(number)
        numbers.append(re.search(r"seed number (\d+)", tab.text(".ib-stage .ib-settings"))[1])
    assert numbers[0] != numbers[1]  # drawn anew each time, and shown
    tab.choose("Seed", "Chorale in G")  # after takes too a seed is drawn, and can be heard
    tab.wait_for_text(".ib-seed-line", f"{len(seeds.piece('Chorale in G'))} notes")
    assert tab.page.locator(".ib-seed-roll path.ib-seed").count() > 0
    tab.press("Listen to the seed")
    tab.page.wait_for_function("document.querySelector('.ib-listen-line audio')?.paused === false", timeout=LATE)
    tab.page.locator(".ib-stage .ib-from").click()
    tab.page.wait_for_function("[...document.querySelectorAll('audio')].filter(a => !a.paused).length === 1")
    at, seam = tab.page.evaluate(
        """() => { const card = document.querySelector(".ib-stage"), head = card.querySelector(".ib-head");
        return [card.querySelector("audio").currentTime, parseFloat(card.querySelector(".ib-seam").style.left) / 100 * head.dataset.span]; }"""
    )
    assert seam - 2.5 < at < seam + 5 and seam > 10
    tab.page.locator(".ib-beside audio").evaluate("audio => audio.play()")
    tab.page.wait_for_function("document.querySelector('.ib-stage audio').paused")
    tab.page.reload()  # the takes of this tab outlive it
    tab.page.locator(".ib-chart").first.wait_for(timeout=LATE)
    tab.wait_for_take(2)
    titles = tab.page.locator(".ib-beside option").all_text_contents()
    assert [title.replace("\xa0", " ") for title in titles] == ["Take 1"]
    assert f"seed number {numbers[1]}" in tab.text(".ib-stage .ib-settings") and len(tab.strokes("new")) == 50
    tab.page.close()


def test_on_a_phone_the_player_is_in_sight_when_the_take_is_there(browser, address):
    tab = Tab(browser, address, NARROW)
    tab.slide("Notes", "Home")
    tab.press("Generate")
    tab.wait_for_take(1)
    tab.page.wait_for_timeout(1000)
    box = tab.page.locator(".ib-stage audio").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= NARROW["height"]
    tab.page.close()


def test_the_page_is_the_first_thing_seen_and_no_spinner(browser, address):
    page = browser.new_page()
    page.set_viewport_size(WIDE)
    page.goto(address, wait_until="commit", timeout=LATE)
    page.locator("#first-sight .ib-field path.ib-seed").first.wait_for(timeout=LATE)
    assert page.locator(".ib-generate").count() == 0 and "Executing" not in page.inner_text("body")
    page.locator(".ib-generate").wait_for(timeout=LATE)
    assert page.locator("#first-sight").count() == 0 and not page.locator(".ib-generate").is_disabled()
    page.close()


def test_uploads_of_any_size_leave_the_page_alive(tab, midi_file):
    enormous = midi_file.with_name("enormous.mid")
    enormous.write_bytes(midi_file.read_bytes() + bytes(40 * 2**20))
    tab.upload(enormous)
    tab.wait_for_text(".ib-upload-line [role=alert]", "MiB", LATE)
    tab.choose("Seed", seeds.titles()[4])
    tab.page.wait_for_function("!document.querySelector('.ib-upload-line [role=alert]')")
    assert not tab.busy and not tab.errors


def test_a_page_whose_server_is_gone_says_so(browser, server):
    """The last of all: it ends the server."""
    tab = Tab(browser, server[0])
    server[1].kill()
    server[1].wait(20)
    tab.press("Generate")
    tab.wait_for_text(".ib-gone-line", "server is gone")
    assert tab.busy  # nothing to press
    tab.page.close()
