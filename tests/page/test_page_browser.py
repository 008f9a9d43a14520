"""The page in a real browser, opened from disk: what is made, heard, played, kept and linked; and how it looks at three widths.

Needs Playwright (`pip install .[browser]`) and a Chromium or Chrome; where there is none the tests say so and are skipped.
The model has random weights that the test draws. Pictures are left in build/page/. How fast the page is, is measured by
`ittybitty bench page`.
"""

from __future__ import annotations

import base64
import concurrent.futures
import dataclasses
import io
import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from test_page import random_piano, slowing

from ittybitty import cli
from ittybitty.config import GenerationConfig
from ittybitty.errors import ConfigError
from ittybitty.generation import continuation
from ittybitty.midi import midi_bytes, read_midi_bytes
from ittybitty.notes import Performance
from ittybitty.page import measure, opening, page, picture
from ittybitty.page.browser import FLAGS, MIDI_DEVICE, PATIENCE, READY, executable
from ittybitty.seeds import ending

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install .[browser]")

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "page"
WIDTHS = (390, 768, 1280)
SEED = Performance.of((0.4 * i, 0.3, 60 + 2 * (i % 5), 70) for i in range(24))


@pytest.fixture(scope="module")
def piano():
    return random_piano(preset="nano")


@pytest.fixture(scope="module")
def place(piano, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "piano.html"
    page.write_page(path, piano)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as driver:
        try:
            found = executable(driver)
        except ConfigError as error:
            pytest.skip(str(error))
        context = driver.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=found,
            args=FLAGS.split(),
            accept_downloads=True,
            timeout=PATIENCE,
        )
        context.set_default_timeout(PATIENCE)
        yield context
        context.close()


@pytest.fixture
def tab(browser, place):
    """The page, opened anew with nothing kept; what goes wrong in it fails the test, and so does any request to a network."""
    tab = browser.new_page()
    tab.set_viewport_size({"width": 1280, "height": 900})
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on(
        "request", lambda asked: None if asked.url.startswith(("file:", "blob:", "data:")) else wrong.append(asked.url)
    )
    tab.add_init_script(MIDI_DEVICE)
    tab.goto(place.as_uri())
    tab.evaluate("localStorage.clear()")
    opened(tab, place.as_uri())
    yield tab
    tab.close()
    assert not wrong


def opened(tab, address: str):
    tab.goto("about:blank")
    tab.goto(address)
    tab.wait_for_selector(READY, state="attached")
    return tab


def idle(tab) -> None:
    tab.wait_for_function("document.getElementById('halt').hidden")


def stored(tab) -> list[dict]:
    return tab.evaluate("JSON.parse(localStorage.getItem('ittybitty random') ?? '[]')")


def make(tab, press: str = "#make", notes: int = 30, listen: bool = False) -> list[dict]:
    """Presses a button that makes takes, and waits for them; the takes that are kept."""
    tab.set_checked("#at-once", listen)
    tab.evaluate(f"notes.value = {notes}; notes.dispatchEvent(new Event('input'))")
    tab.click(press)
    idle(tab)
    return stored(tab)


def position(tab) -> float:
    return float(tab.get_attribute("#roll", "aria-valuenow"))


def as_objects(music: Performance) -> list[dict]:
    return [dict(zip(("onset", "duration", "pitch", "velocity"), note)) for note in music.notes.tolist()]


# ---------------------------------------------------------------------- the music


def test_notes_are_those_of_python_in_8_bits(tab, piano):
    found = tab.evaluate(
        "([notes, how]) => ittybitty.continue(notes, how)", [as_objects(SEED), {"notes": 256, "temperature": 0}]
    )
    how = GenerationConfig(max_new_tokens=4096, notes=256, top_k=1, temperature=1.0, precision="int8", seed=1, hold=1.0)
    made = continuation(piano.model, piano.tokenizer, SEED, piano.data, how).new
    assert np.allclose([[*note.values()] for note in found], made.notes.tolist(), atol=1e-9)


def test_one_number_gives_one_piece_and_another_number_another(tab):
    play = "(seed) => ittybitty.continue([{onset: 0, duration: 1, pitch: 60, velocity: 64}], {notes: 20, seed})"
    first, again, other = (tab.evaluate(play, seed) for seed in (7, 7, 8))
    assert first == again != other and len(first) == 20


def test_a_take_is_made_shown_and_heard_from_the_seam_on(tab):
    (take,) = make(tab, notes=40, listen=True)
    new = [note for note in take["music"]["notes"] if note[4]]
    assert len(new) == 40 and take["seam"] <= min(note[0] for note in new)
    tab.wait_for_function(
        f"Number(document.getElementById('roll').getAttribute('aria-valuenow')) > {take['seam']} + 0.2"
    )
    tab.click("#play")
    assert tab.inner_text("#play") == "Play"
    paused = position(tab)
    tab.wait_for_timeout(400)
    assert position(tab) == paused > take["seam"]
    tab.click("#stop")
    assert position(tab) == 0


def test_a_click_or_an_arrow_on_the_roll_seeks(tab):
    make(tab)
    box = tab.locator("#roll").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    middle = position(tab)
    assert middle > 1
    tab.press("#roll", "ArrowRight")
    assert position(tab) == pytest.approx(middle + 1, abs=0.11)
    tab.press("#roll", "Home")
    assert position(tab) == 0
    for shown in ("Pause", "Play"):
        tab.press("#roll", " ")
        tab.wait_for_function("(shown) => document.getElementById('play').textContent === shown", arg=shown)


def test_settings_that_have_no_slider_are_named(browser, piano, tmp_path):
    none = dict.fromkeys(("time_top_p", "expression_temperature"))
    own = dataclasses.replace(piano.sampling, time_temperature=0.85, expression_top_p=0.9, **none)
    page.write_page(tmp_path / "own.html", dataclasses.replace(piano, sampling=own))
    tab = browser.new_page()
    try:
        opened(tab, (tmp_path / "own.html").as_uri())
        assert tab.inner_text("#parts-line") == (
            "Until you change temperature or top-p, the time between notes is drawn with temperature 0.85, "
            "and length and loudness of notes are drawn with top-p 0.90."
        )
    finally:
        tab.close()


def test_sliders_begin_at_the_settings_of_the_model(browser, piano, tmp_path):
    """No step of a slider rounds them: a temperature that differs would hold for every part of a note."""
    for field in ("temperature", "top_p"):
        own = dataclasses.replace(piano.sampling, **{field: 0.97})
        page.write_page(tmp_path / f"{field}.html", dataclasses.replace(piano, sampling=own))
        tab = browser.new_page()
        try:
            opened(tab, (tmp_path / f"{field}.html").as_uri())
            assert tab.input_value({"temperature": "#temperature", "top_p": "#topP"}[field]) == "0.97"
        finally:
            tab.close()


def test_the_pedal_has_the_colour_of_its_notes(tab):
    """The lane of a seed is blue: no pixel of it is nearer to the colour of new notes."""
    tab.emulate_media(color_scheme="light")
    tab.select_option("#seed", index=0)
    colours = """() => {
        const roll = document.getElementById("roll"), sharp = devicePixelRatio;
        const y = Math.round((roll.clientHeight - 18 - 12 + 5) * sharp);
        const { data } = roll.getContext("2d").getImageData(0, y, roll.width, 1);
        let blue = 0, orange = 0;
        for (let i = 0; i < data.length; i += 4) {
            if (data[i + 2] > data[i] + 40) blue++;
            if (data[i] > data[i + 2] + 40) orange++;
        }
        return [blue, orange];
    }"""
    blue, orange = tab.evaluate(colours)
    assert blue > 50 and orange == 0
    make(tab, notes=60)
    tab.evaluate("seed.dispatchEvent(new Event('change'))")  # back to the seed
    assert tab.evaluate(colours) == [blue, orange]


def test_files_hold_what_is_shown(tab):
    (take,) = make(tab)
    with tab.expect_download() as midi:
        tab.click("#save-midi")
    notes = read_midi_bytes(Path(midi.value.path()).read_bytes(), "take").notes
    shown = sorted((note[0], note[2], note[3]) for note in take["music"]["notes"])
    kept = {(pitch, velocity) for _, _, pitch, velocity in notes.tolist()}
    assert len(notes) == len(shown) and kept == {(pitch, velocity) for _, pitch, velocity in shown}
    assert np.allclose(notes["onset"], [onset for onset, *_ in shown], atol=2e-3)
    with tab.expect_download() as sound:
        tab.click("#save-wav")
    with wave.open(io.BytesIO(Path(sound.value.path()).read_bytes())) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 44100, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    assert 0.05 < np.abs(samples).max() < 1 and np.sqrt(np.mean(samples**2)) > 0.005


def test_four_takes_one_is_kept_and_survives_a_reload(tab, place):
    tab.fill("#number", "1")
    takes = make(tab, "#make-four", notes=20)
    assert len(takes) == 4 and len({str(take["music"]) for take in takes}) == 4
    assert [take["settings"]["seed"] for take in takes] == [1, 2, 3, 4]
    tab.locator("#takes li").nth(2).get_by_role("button", name="Keep only this").click()
    opened(tab, place.as_uri())
    assert tab.locator("#takes li h3").all_inner_texts() == [takes[2]["title"]] and len(stored(tab)) == 1
    tab.locator("#takes li").get_by_role("button", name="Go on from here").click()
    assert tab.inner_text("#seed option:checked") == takes[2]["title"]
    longer = make(tab, notes=20)[0]
    assert len(longer["music"]["notes"]) == len(takes[2]["music"]["notes"]) + 20


def test_each_take_has_a_new_seed_number_unless_one_was_typed(tab):
    numbers = {make(tab, notes=10)[0]["settings"]["seed"] for _ in range(3)}
    assert len(numbers) > 1
    tab.fill("#number", "5")
    assert not tab.is_checked("#fresh")
    first, second = make(tab, notes=10)[0], make(tab, notes=10)[0]
    assert first["id"] != second["id"] and first["music"] == second["music"] and first["settings"]["seed"] == 5


def test_a_take_that_was_removed_comes_back(tab):
    takes = make(tab, "#make-four", notes=10)
    titles = [take["title"] for take in takes]
    shown = tab.locator("#takes li h3")
    tab.locator("#takes li").nth(1).get_by_role("button", name="Remove").click()
    assert shown.all_inner_texts() == titles[:1] + titles[2:]
    tab.click("#undo")
    assert shown.all_inner_texts() == titles == [take["title"] for take in stored(tab)]
    tab.locator("#takes li").nth(2).get_by_role("button", name="Keep only this").click()
    assert shown.all_inner_texts() == titles[2:3]
    tab.click("#undo")
    assert shown.all_inner_texts() == titles and tab.is_hidden("#undo")


def test_the_oldest_take_makes_room_and_can_be_brought_back(tab):
    for _ in range(3):
        make(tab, "#make-four", notes=10)
    assert len(stored(tab)) == 12 and tab.is_hidden("#undo")
    assert len(make(tab, notes=10)) == 12 and tab.inner_text("#undo") == "Bring back Take 1"
    tab.click("#undo")
    assert len(stored(tab)) == 13


def test_halt_keeps_what_is_there(tab):
    tab.set_checked("#at-once", False)
    tab.evaluate("notes.value = 1000; notes.dispatchEvent(new Event('input'))")
    tab.click("#make")
    tab.wait_for_function("document.querySelector('#takes p')?.textContent.match(/[1-9]\\d* new notes so far/)")
    tab.click("#halt")
    idle(tab)
    (take,) = stored(tab)
    assert take["stopped"] and 0 < sum(note[4] for note in take["music"]["notes"]) < 1000


def test_a_link_makes_the_same_take(tab, place):
    tab.select_option("#seed", label="Chorale in G")
    tab.fill("#number", "77")
    tab.evaluate("temperature.value = 0.8; temperature.dispatchEvent(new Event('input'))")
    begin_at(tab, "9.5")
    (first,) = make(tab)
    assert max(note[0] for note in first["music"]["notes"] if not note[4]) < 9.5
    asked: list[str] = []
    tab.on("dialog", lambda dialog: (asked.append(dialog.default_value), dialog.accept()))
    tab.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed')) }")
    tab.click("#copy-link")
    tab.wait_for_timeout(300)
    tab.evaluate("localStorage.clear()")
    opened(tab, asked[0])
    (second,) = make(tab)
    assert second["music"] == first["music"] and second["settings"] == first["settings"]


# ---------------------------------------------------------------------- files that are not good


def test_bad_files_are_refused_in_one_line(tab, tmp_path):
    drums = bytes.fromhex("4d546864000000060000000101e04d54726b0000000c009924646089240000ff2f00")
    bad = {
        "text.mid": (b"this is no MIDI file", "text.mid is not a MIDI file"),
        "empty.mid": (b"", "is not a MIDI file"),
        "drums.mid": (drums, "holds only a drum track"),
        "large.mid": (bytes(20 * 2**20), "has 20.0 MiB"),
    }
    for name, (data, words) in bad.items():
        (tmp_path / name).write_bytes(data)
        tab.set_input_files("#file", tmp_path / name)
        tab.wait_for_function("(words) => trouble.textContent.includes(words)", arg=words)
        assert "\n" not in tab.inner_text("#trouble").strip()
    (tmp_path / "good.mid").write_bytes(midi_bytes(SEED))
    tab.set_input_files("#file", tmp_path / "good.mid")
    tab.wait_for_function("document.getElementById('seed-line').textContent.startsWith('24 notes')")
    assert tab.inner_text("#seed option:checked") == "good.mid" and tab.inner_text("#trouble") == ""


DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)), carried = new DataTransfer();
    if (name) carried.items.add(new File([bytes], name, { type: "audio/midi" }));
    const event = (kind) => new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true });
    const taken = !document.getElementById("roll").dispatchEvent(event("dragover"));
    const seen = document.body.classList.contains("drop");
    document.getElementById("roll").dispatchEvent(event("drop"));
    return [taken, seen, document.body.classList.contains("drop")];
}"""


def test_a_file_that_is_dropped_anywhere_becomes_the_beginning(tab):
    data = base64.b64encode(midi_bytes(SEED)).decode()
    assert tab.evaluate(DROP, ["dropped.mid", data]) == [True, True, False]
    tab.wait_for_function("document.getElementById('status').textContent.startsWith('dropped.mid is the beginning')")
    assert tab.inner_text("#seed option:checked") == "dropped.mid"
    tab.evaluate(DROP, ["", ""])  # a text, or a link
    tab.evaluate(DROP, ["words.txt", base64.b64encode(b"words").decode()])
    tab.wait_for_function("trouble.textContent.includes('words.txt is not a MIDI file')")
    assert tab.inner_text("#seed option:checked") == "dropped.mid"


def test_of_a_long_file_the_page_says_what_it_takes(tab, tmp_path):
    long = Performance.of((0.25 * i, 0.2, 60 + i % 7, 70) for i in range(400))
    (tmp_path / "long.mid").write_bytes(midi_bytes(long))
    tab.set_input_files("#file", tmp_path / "long.mid")
    tab.wait_for_function("document.getElementById('seed-line').textContent.includes('The last 28 s of your own file')")


def test_a_beginning_of_which_the_model_reads_a_part_says_so(browser, piano, tmp_path):
    page.write_page(
        tmp_path / "short.html",
        dataclasses.replace(piano, data=dataclasses.replace(piano.data, prompt_tokens=64, prompt_seconds=3600.0)),
    )
    (tmp_path / "seed.mid").write_bytes(midi_bytes(SEED))
    tab = browser.new_page()
    try:
        opened(tab, (tmp_path / "short.html").as_uri())
        tab.set_input_files("#file", tmp_path / "seed.mid")
        tab.wait_for_function("document.getElementById('seed-line').textContent.includes('The model reads the last')")
        read = int(re.search(r"reads the last (\d+) notes", tab.inner_text("#seed-line"))[1])
        assert 0 < read < len(SEED)
        tab.select_option("#seed", index=len(tab.query_selector_all("#seed option")) - 1)  # from silence
        assert "reads the last" not in tab.inner_text("#seed-line")
    finally:
        tab.close()


def test_a_usual_beginning_is_read_whole(tab):
    tab.select_option("#seed", label="Chorale in G")
    make(tab, notes=10)
    tab.evaluate("seed.dispatchEvent(new Event('change'))")
    assert "reads the last" not in tab.inner_text("#seed-line")


# ---------------------------------------------------------------------- playing


def test_what_is_played_on_screen_and_computer_becomes_the_seed(tab):
    tab.check("input[value=record]")
    tab.locator("#keys").scroll_into_view_if_needed()
    box = tab.locator("#keys [data-pitch='60']").bounding_box()
    tab.mouse.move(box["x"] + 5, box["y"] + box["height"] - 8)
    tab.mouse.down()
    tab.mouse.up()
    for letter in "sd":
        tab.keyboard.press(letter)
    tab.focus("#keys [data-pitch='48']")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press(" ")
    tab.click("#take-seed")
    assert tab.inner_text("#seed option:checked") == "What you played"
    (take,) = make(tab, notes=10)
    assert [note[2] for note in take["music"]["notes"] if not note[4]] == [60, 62, 64, 49]


def test_the_computers_keys_are_known_by_their_place(tab):
    """On a French keyboard the key that plays C has the letter Q."""
    tab.check("input[value=record]")
    for kind in ("keydown", "keyup"):
        tab.evaluate(
            "(kind) => document.body.dispatchEvent(new KeyboardEvent(kind, { key: 'q', code: 'KeyA', bubbles: true }))",
            kind,
        )
    tab.click("#take-seed")
    tab.wait_for_function("JSON.parse(localStorage.getItem('ittybitty random beginning'))?.music.notes[0][2] === 60")


def test_typing_a_number_plays_nothing(tab):
    tab.check("input[value=record]")
    tab.focus("#number")
    tab.keyboard.press("a")
    assert tab.is_disabled("#take-seed")


def test_a_beginning_that_was_played_survives_a_reload(tab, place):
    tab.check("input[value=record]")
    for letter in "sdf":
        tab.keyboard.press(letter)
    tab.click("#take-seed")
    opened(tab, place.as_uri())
    assert tab.inner_text("#seed option:checked") == "What you played"
    assert tab.inner_text("#seed-line").startswith("3 notes")
    tab.select_option("#seed", label="Chorale in G")
    opened(tab, place.as_uri())
    assert tab.inner_text("#seed option:checked") != "What you played"


def test_what_was_played_can_be_heard_and_saved(tab):
    tab.check("input[value=record]")
    for letter in "sdf":
        tab.keyboard.press(letter)
    assert tab.inner_text("#roll-title") == "What you played"
    with tab.expect_download() as midi:
        tab.click("#save-midi")
    assert read_midi_bytes(Path(midi.value.path()).read_bytes(), "played").notes["pitch"].tolist() == [62, 64, 65]
    tab.click("#play")
    assert tab.inner_text("#play") == "Pause"


def test_call_and_response_over_midi(tab):
    tab.click("#midi")
    tab.wait_for_function("document.getElementById('midi-line').textContent.includes('Mock keyboard')")
    tab.select_option("#midi-out", label="Mock piano")
    tab.evaluate("pause.value = 0.8; pause.dispatchEvent(new Event('input'))")
    tab.check("input[value=duet]")
    tab.evaluate(
        """async () => {
            for (const pitch of [60, 64, 67, 72, 67, 64]) {
                midi(0x90, pitch, 80);
                await new Promise((resolve) => setTimeout(resolve, 150));
                midi(0x80, pitch, 0);
            }
            window.released = performance.now();
            sent.length = 0;
        }"""
    )
    tab.wait_for_function("sent.some(({ data }) => data[0] === 0x90)")
    assert tab.evaluate("sent.find(({ data }) => data[0] === 0x90).at - released") >= 800  # ms: the pause
    tab.wait_for_function("document.getElementById('duet-line').textContent.includes('model plays')")
    tab.wait_for_function("Number(document.getElementById('keys').dataset.latency) > 0")
    tab.evaluate("midi(0x90, 60, 90)")  # taking over: the answer ends, also what was sent for later
    assert tab.evaluate("Math.max(...sent.map(({ at }) => at ?? 0)) - performance.now()") < 300
    tab.wait_for_timeout(100)
    count = tab.evaluate("sent.filter(({ data }) => data[0] === 0x90).length")
    tab.wait_for_timeout(700)
    assert tab.evaluate("sent.filter(({ data }) => data[0] === 0x90).length") == count


def test_an_answer_does_not_wait_for_takes_that_are_generated(tab):
    """A continuation that never ends occupies the model; the answer comes all the same."""
    tab.evaluate("void ittybitty.continue([{onset: 0, duration: 1, pitch: 60, velocity: 64}], {notes: 1e9})")
    for letter in "sdf":
        tab.keyboard.press(letter)
    tab.wait_for_function("Number(document.getElementById('keys').dataset.latency) > 0")


def test_a_file_that_ends_in_an_ending_is_continued_from_before_it(tab, tmp_path):
    piece = slowing(5)
    (tmp_path / "whole.mid").write_bytes(midi_bytes(piece))
    tab.set_input_files("#file", tmp_path / "whole.mid")
    tab.wait_for_function("document.getElementById('status').textContent.includes('sound like the end of a piece')")
    (take,) = make(tab, notes=10)
    old = [note for note in take["music"]["notes"] if not note[4]]
    assert 0 < len(old) < len(piece) and max(note[0] for note in old) < ending(piece)
    begin_at(tab, "begin.max")
    (take, _) = make(tab, notes=10)
    assert len([note for note in take["music"]["notes"] if not note[4]]) == len(piece)


def begin_at(tab, value: str) -> None:
    tab.evaluate(f"begin.value = {value}; for (const kind of ['input', 'change']) begin.dispatchEvent(new Event(kind))")


def test_new_music_begins_where_the_slider_stands(tab):
    tab.select_option("#seed", label="Chorale in G")
    whole = tab.inner_text("#seed-line")
    assert tab.inner_text("#begin-value") == "its end"
    begin_at(tab, "5")
    assert tab.inner_text("#begin-value") == "5.0 s" and tab.inner_text("#seed-line") != whole
    (take,) = make(tab, notes=10)
    old = [note[0] for note in take["music"]["notes"] if not note[4]]
    assert old and max(old) < 5 and take["seam"] == max(old) and take["settings"]["from"] == 5
    tab.select_option("#seed", label="Rag in F")
    assert tab.inner_text("#begin-value") == "its end"
    tab.select_option("#seed", label="Nothing: a piece from silence")
    assert tab.is_hidden("#begin-row")


def test_a_refused_or_a_missing_keyboard_is_told(tab):
    tab.evaluate("void (navigator.requestMIDIAccess = () => Promise.reject(new Error('NotAllowed')))")
    tab.click("#midi")
    tab.wait_for_function("trouble.textContent.includes('did not allow MIDI')")
    tab.evaluate("void (navigator.requestMIDIAccess = async () => ({ inputs: new Map(), outputs: new Map() }))")
    tab.click("#midi")
    tab.wait_for_function("document.getElementById('midi-line').textContent.includes('No MIDI keyboard')")


def test_a_browser_without_midi_says_so(tab):
    tab.evaluate("navigator.requestMIDIAccess = undefined")
    tab.click("#midi")
    tab.wait_for_function("trouble.textContent.includes('no Web MIDI')")


def test_only_one_thing_sounds(tab):
    make(tab)
    tab.click("#play")
    tab.wait_for_function("document.getElementById('play').textContent === 'Pause'")
    tab.keyboard.down("d")
    tab.wait_for_timeout(1000)
    tab.keyboard.up("d")
    assert tab.inner_text("#play") == "Play"
    tab.wait_for_function("document.getElementById('duet-line').textContent.includes('model plays')")
    tab.click("#play")  # the answer ends
    length = "document.getElementById('time').textContent.split(' of ')[1]"
    before = tab.evaluate(length)
    assert tab.inner_text("#play") == "Pause"
    tab.wait_for_timeout(500)
    assert tab.evaluate(length) == before


def test_a_browser_that_gives_no_sound_says_what_to_do(tab, place):
    tab.add_init_script("AudioContext.prototype.resume = () => new Promise(() => {})")
    tab.add_init_script("Object.defineProperty(AudioContext.prototype, 'state', { get: () => 'suspended' })")
    opened(tab, place.as_uri())
    tab.click("#play")
    tab.wait_for_function("trouble.textContent === 'The browser gives no sound yet: press Play once more.'")
    assert tab.inner_text("#play") == "Play"
    assert len(make(tab, notes=10)) == 1  # music is made all the same


def test_a_tab_in_the_background_generates_and_plays_to_the_end(tab, place):
    """A browser draws no frame of such a tab."""
    tab.add_init_script("Object.defineProperty(document, 'hidden', { get: () => true })")
    tab.add_init_script("window.requestAnimationFrame = () => 1")
    opened(tab, place.as_uri())
    tab.check("input[value=record]")
    for letter in "sdf":
        tab.keyboard.press(letter)
    tab.click("#play")
    assert tab.inner_text("#play") == "Pause"
    tab.wait_for_function("document.getElementById('play').textContent === 'Play'", polling=100)  # in ms, not in frames
    assert position(tab) == 0
    tab.set_checked("#at-once", False)
    tab.evaluate("notes.value = 10; make.click()")
    tab.wait_for_function("document.querySelector('#takes p')?.textContent.includes('10 new notes')", polling=100)
    assert tab.evaluate("document.getElementById('halt').hidden") and len(stored(tab)) == 1


def test_a_browser_that_keeps_nothing_says_so_and_plays(tab, place):
    tab.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get: () => { throw new DOMException('no', 'SecurityError'); } })"
    )
    opened(tab, place.as_uri())
    tab.set_checked("#at-once", False)
    tab.click("#make")
    idle(tab)
    assert "keeps no takes" in tab.inner_text("#status") and tab.locator("#takes li").count() == 1


def test_the_theme_is_remembered(tab, place):
    tab.emulate_media(color_scheme="light")
    theme = "document.documentElement.dataset.theme"
    assert tab.evaluate(theme) == "light"
    tab.click("#theme")
    opened(tab, place.as_uri())
    assert tab.evaluate(theme) == "dark"


def test_on_a_phone_the_player_stays_in_sight_and_settings_are_folded(tab, place):
    tab.set_viewport_size({"width": 390, "height": 844})
    opened(tab, place.as_uri())
    assert tab.get_attribute("#settings", "open") is None
    tab.set_checked("#at-once", False)
    tab.click("#make")
    idle(tab)
    for button in ("#play", "#stop"):
        box = tab.locator(button).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 844
    roll = tab.locator("#roll").bounding_box()
    assert 0 <= roll["y"] < 200  # the page has moved to the music
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert tab.locator("#play").bounding_box()["y"] < 844


# ---------------------------------------------------------------------- how it looks


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_cut_off_at_three_widths(tab, theme):
    PICTURES.mkdir(parents=True, exist_ok=True)
    tab.emulate_media(color_scheme=theme)
    make(tab, "#make-four", notes=40)
    tab.click("#stop")
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        tab.wait_for_timeout(300)
        tab.screenshot(path=PICTURES / f"{width}-{theme}.png", full_page=True)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        cut = "[...document.querySelectorAll('button')].filter((e) => e.offsetWidth && e.scrollWidth > e.clientWidth + 1).length"
        assert tab.evaluate(cut) == 0


def test_the_column_of_settings_is_never_cut(tab):
    for height in (1300, 900, 600):
        tab.set_viewport_size({"width": 1280, "height": height})
        tab.wait_for_timeout(200)
        column = "document.getElementById('controls')"
        assert tab.evaluate(f"{column}.scrollHeight - {column}.clientHeight") <= 0
        tab.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
        tab.wait_for_timeout(200)
        last = tab.locator("#usual").bounding_box()
        assert last["y"] >= 0 and last["y"] + last["height"] <= height


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(tab, place, theme, width):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe-core here: pip install .[browser]"
    )
    tab.emulate_media(color_scheme=theme)
    tab.set_viewport_size({"width": width, "height": 900})
    opened(tab, place.as_uri())
    make(tab)
    tab.locator("#takes li").get_by_role("button", name="Remove").click()
    make(tab)
    tab.evaluate("settings.open = true; trouble.textContent = 'A line about something that went wrong.'")
    found = axe.Axe().run(tab).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert not serious


def test_everything_can_be_done_by_keyboard_alone(tab):
    tab.set_checked("#at-once", False)
    tab.focus("#seed")
    reached = set()
    for _ in range(40):
        reached.add(
            tab.evaluate(
                "document.activeElement.id || document.activeElement.dataset.pitch || document.activeElement.name"
            )
        )
        tab.keyboard.press("Tab")
    assert {
        "hear-seed",
        "choose-file",
        "temperature",
        "number",
        "make",
        "make-four",
        "roll",
        "play",
        "copy-link",
        "mode",
        "48",
        "midi",
    } <= reached
    tab.focus("#make")
    tab.keyboard.press("Enter")
    idle(tab)
    assert len(stored(tab)) == 1


# ---------------------------------------------------------------------- what is measured and drawn


def in_a_thread(act):
    """Playwright allows one driver a thread, and the tests' own runs in this one."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


def test_the_benchmark_measures_size_speed_and_latency(browser, piano, monkeypatch, capsys):
    monkeypatch.setattr(measure, "write_page", lambda path, model: page.write_page(path, piano))
    monkeypatch.setattr(measure, "TONES", 0)
    assert in_a_thread(lambda: cli.main(["bench", "page", "--turns", "1", "--json"])) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["bytes"] == 1e6 * told["megabytes"] > 100_000
    assert told["notes_per_core_s"] > 0 and told["notes_per_s"] > 0 and told["latency_ms"] > 0


def test_the_benchmark_of_the_playground_measures_each_phase_from_the_start_of_its_command(browser, capsys):
    assert in_a_thread(lambda: cli.main(["bench", "playground", "--turns", "1", "--json"])) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    phases = [told[name] for name in opening.PHASES]
    assert phases[0] > 0 and phases == sorted(phases) and told["turns"] == 1


def test_the_picture_of_the_readme_can_be_drawn_again(browser, piano, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "write_page", lambda path, model: page.write_page(path, piano))
    size = in_a_thread(lambda: picture.draw(tmp_path / "page.png"))
    data = (tmp_path / "page.png").read_bytes()
    assert size == len(data) <= picture.LARGEST and data.startswith(b"\x89PNG")
    drawn = ROOT / "notebooks" / "page.png"
    assert drawn.stat().st_size <= picture.LARGEST and "notebooks/page.png" in (ROOT / "README.md").read_text()
