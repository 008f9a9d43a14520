"""The playground without a browser: seeds, models, takes, the next token's chances, pictures, and the page's own state."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from ittybitty import cli, paths
from ittybitty.config import GenerationConfig, preset
from ittybitty.errors import CheckpointError, ConfigError, MidiError
from ittybitty.midi import midi_bytes, read_midi_bytes
from ittybitty.models import PianoHybridModel
from ittybitty.notes import NOTE, Performance
from ittybitty.piano import Piano
from ittybitty.seeds import ending as find_ending
from ittybitty.tokenizers import VARIANTS, PianoTokenizer, make_tokenizer
from ittybitty.widget import background, kept, models, next_token, opening, pictures, roll, seeds, serve
from ittybitty.widget.next_token import NextToken
from ittybitty.widget.takes import Job, Request, keep

pytest.importorskip("ipywidgets")
from ittybitty.widget import Playground
from ittybitty.widget.page import SETTLED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def piano():
    """An untrained model: what is asked of the page does not depend on what it plays."""
    tokenizer = PianoTokenizer().train([seeds.piece(title) for title in seeds.titles()], 400)
    torch.manual_seed(0)
    model = PianoHybridModel(replace(preset("nano")["model"], vocab_size=tokenizer.vocab_size)).eval()
    return Piano(model, tokenizer, preset("nano")["data"], "test")


def request(**changes) -> Request:
    usual = {
        "model": "test",
        "place": paths.pretrained_dir(),
        "seed_name": "Rag in F",
        "seed": seeds.piece("Rag in F"),
        "notes": 50,
    }
    return Request(**{**usual, **changes})


# Seeds


@pytest.mark.parametrize("printed", seeds.PIECES, ids=lambda printed: printed.title)
def test_every_bar_adds_up_and_voices_end_together(printed):
    score = seeds.score(printed)  # ValueError for a bar that does not
    lengths = {voice.count("|") for voice in printed.voices}
    assert len(lengths) == 1 and len(score.bars) == lengths.pop() + 1
    assert len(set(np.bincount(score.notes["part"]) > 0)) == 1


@pytest.mark.parametrize("title", seeds.titles())
def test_seeds_are_short_whole_and_always_the_same(title):
    piece = seeds.piece(title)
    assert 8 < piece.end < 32 and len(piece) > 50 and piece.notes["onset"].min() >= 0
    seeds.piece.cache_clear()
    assert seeds.piece(title) == piece


def test_a_bar_that_does_not_add_up_is_named():
    with pytest.raises(ValueError, match="bar 2 of voice 1"):
        seeds.score(seeds.Printed("Wrong", 60, 3, 1, ("C4:3 | C4:2 | C4:3",)))


def test_an_upload_gives_its_last_seconds_from_zero_on(performance):
    long = Performance.of([(i * 0.5, 0.4, 60 + i % 12, 80) for i in range(200)], [(0.0, 500.0)])
    cut = seeds.uploaded(midi_bytes(long), "long.mid")
    assert cut.notes["onset"][0] == 0 and cut.end <= seeds.SEED_SECONDS and len(cut) > 50
    assert np.array_equal(cut.notes["pitch"], long.notes["pitch"][-len(cut) :])
    assert (cut.pedals["onset"] + cut.pedals["duration"]).max() <= cut.end + seeds.LONGEST_NOTE
    whole = seeds.uploaded(midi_bytes(performance), "short.mid")
    assert len(whole) == len(performance)


def test_an_upload_of_too_many_notes_or_one_endless_note_is_held_in_bounds():
    dense = Performance.of((i * 0.001, 0.01, 21 + i % 88, 80) for i in range(5000))
    assert len(seeds.ending(dense)) <= seeds.SEED_NOTES + 1
    endless = Performance.of([(0.0, 1.0, 60, 80), (1.0, 90_000.0, 64, 80)])
    assert seeds.ending(endless).end <= 1 + seeds.LONGEST_NOTE and len(seeds.ending(endless)) == 2


@pytest.mark.parametrize(
    "data, said", [(b"", "empty"), (b"<html>", "not a MIDI file"), (bytes(seeds.LARGEST_UPLOAD + 1), "1 MiB")]
)
def test_a_bad_upload_is_one_clear_line(data, said):
    with pytest.raises(MidiError, match=said) as caught:
        seeds.uploaded(data, "mine.mid")
    assert str(caught.value).startswith("mine.mid: ") and "\n" not in str(caught.value)


# Models


def test_only_models_whose_weights_are_here_are_listed_shipped_ones_first():
    found = models.choices()
    assert found[0].place == paths.pretrained_dir() / "tiny"
    assert all(any(choice.place.rglob("*.safetensors")) for choice in found)
    assert not [choice for choice in found if "no weights" in choice.label]


def test_a_place_without_any_weights_says_what_makes_some(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "pretrained_dir", lambda: tmp_path)
    monkeypatch.setattr(paths, "run_dirs", list)
    with pytest.raises(ConfigError) as caught:
        models.choices()
    command = re.search(r"ittybitty (train \S+ --preset tiny --out \S+)", str(caught.value))[1]
    assert cli.build_parser().parse_args(command.split()).verb == "train"


def test_run_folders_are_found_and_incomplete_ones_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = paths.pretrained_dir() / "tiny-remi"
    shutil.copytree(shipped, tmp_path / "runs" / "mine")
    (tmp_path / "runs" / "half").mkdir()
    shutil.copy(shipped / "config.json", tmp_path / "runs" / "half")
    (tmp_path / "runs" / "odd").mkdir()
    (tmp_path / "runs" / "odd" / "config.json").write_text("[1]")
    labels = [choice.label for choice in models.choices()]
    assert "runs/mine · mamba" in labels and not [label for label in labels if "half" in label or "odd" in label]


def test_loaded_models_are_kept_and_the_oldest_let_go(monkeypatch):
    loaded = []
    monkeypatch.setattr(Piano, "load", classmethod(lambda cls, place: loaded.append(place) or object()))
    shelf = models.Shelf()
    first = shelf.load("a")
    assert shelf.load("a") is first and shelf.load("b") is not first and shelf.load("a") is first
    shelf.load("c")
    shelf.load("b")
    assert loaded == ["a", "b", "c", "b"]


# The next token


def drawing(temperature: float, top_k: int, top_p: float) -> GenerationConfig:
    return GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p)


def offered(*logits: float) -> tuple[NextToken]:
    return (NextToken(np.array(logits, np.float32), tuple(f"t{i}" for i in range(len(logits)))),)


def test_shares_are_those_that_sampling_draws_from(piano):
    from ittybitty import sampling

    (answer,) = next_token.after(piano, seeds.piece("Rag in F"))
    shares = answer.shares(1.3, 12, 0.9)
    chance = torch.Generator().manual_seed(0)
    drawn = sampling.sample(torch.from_numpy(answer.logits).expand(20_000, -1), chance, 1.3, 12, 0.9).numpy()
    assert np.abs(np.bincount(drawn, minlength=len(shares)) / 20_000 - shares).max() < 0.015
    assert not shares[np.isinf(answer.logits)].any() and shares.sum() == pytest.approx(1, abs=1e-5)


def test_the_next_token_is_asked_for_as_generation_asks(piano):
    """With top-k 1 the likeliest allowed token is what is drawn first."""
    from ittybitty.config import GenerationConfig
    from ittybitty.generation import generate_tokens, make_prompt

    for seed in (seeds.piece("Waltz in A minor"), Performance()):
        ids = make_prompt(seed, piano.tokenizer, piano.data).ids
        first = next(generate_tokens(piano.model, piano.tokenizer, ids, GenerationConfig(1, top_k=1)))
        assert next_token.after(piano, seed)[0].likeliest(1) == [first]


def test_the_sentence_says_what_each_slider_did():
    four = offered(2.0, 1.0, 0.0, -1.0, -np.inf)
    assert four[0].allowed == 4 and four[0].likeliest(9) == [0, 1, 2, 3]
    plain = next_token.sentence(four, drawing(1.0, 0, 1.0))
    assert "leaves the likeliest token at 64.4%" in plain and "leaves all 4" in plain and "drawn from 4" in plain
    assert "raises the likeliest token from 64.4% to" in next_token.sentence(four, drawing(0.5, 0, 1.0))
    assert "lowers the likeliest token from 64.4% to" in next_token.sentence(four, drawing(2.0, 0, 1.0))
    assert "top-k 2 leaves 2 of 4" in next_token.sentence(four, drawing(1.0, 2, 1.0))
    assert "no choice left" in next_token.sentence(four, drawing(0.1, 0, 0.5))
    assert all(
        next_token.sentence(four, drawing(t, k, p)).count(". ") == 0
        for t in (0.1, 2.0)
        for k in (0, 3)
        for p in (0.01, 1.0)
    )


def test_a_part_of_an_event_with_settings_of_its_own_is_shown_as_it_is_drawn():
    (plain,) = offered(2.0, 1.0, 0.0, -1.0)
    answer = tuple(replace(plain, title=title, number=number) for number, title in enumerate(next_token.PARTS))
    config = replace(drawing(1.0, 0, 1.0), time_temperature=0.1, expression_top_p=0.5)
    said = next_token.sentence(answer, config)
    assert "Temperature 0.10 raises the likeliest moment from 64.4% to 100.00%" in said
    assert "what from 4 of 4, how long from 1 of 4, how loud from 1 of 4" in said
    assert pictures.chart(answer, config).count(">cut<") == 6


def test_tokens_are_spelt_for_musicians(piano):
    tokenizer = piano.tokenizer
    names = {name: id for id, name in enumerate(tokenizer.vocabulary.names)}
    assert next_token.spelt(tokenizer, names["Pitch_61"]) == "C♯4"
    assert next_token.spelt(tokenizer, names["Duration_1.12.24"]) == "held 0.75 s"
    assert next_token.spelt(tokenizer, names["Bar_None"]) == "bar"
    assert next_token.spelt(tokenizer, tokenizer.bos_id) == "start"
    assert all(next_token.spelt(tokenizer, id) for id in range(tokenizer.vocab_size))


def test_a_model_of_events_answers_attribute_by_attribute_in_a_musicians_words():
    """Of the shipped model: when, what, how long and how loud, each given what is likeliest before it."""
    piano, seed = Piano.load("tiny"), seeds.piece("Rag in F")
    answer = next_token.after(piano, seed)
    assert [part.title for part in answer] == list(next_token.PARTS) and answer[0].given == ""
    when, what, length, loud = ([part.names[id] for id in part.likeliest(200)] for part in answer)
    assert all(re.fullmatch(r"next note (at the same time|\d+\.\d\d s later)", name) for name in when)
    assert all(re.fullmatch(r"[A-G][♯♭]?\d|pedal (up|down)", name) for name in what)
    assert all(re.fullmatch(r"held \d+\.\d\d s", name) for name in length)
    assert all(re.fullmatch(r"(p{1,3}|mp|mf|f{1,3}) \(velocity \d+\)", name) for name in loud)
    assert length[0] not in answer[3].given or answer[3].given.startswith(f"if {when[0]}, ")
    said = next_token.sentence(answer, drawing(0.5, 3, 1.0))
    assert "what from 3 of" in said and said.count(". ") == 0
    drawn = pictures.chart(answer, drawing(1.0, 1, 1.0))
    assert drawn.count("<h3>") == 4 and sound(drawn) and drawn.count(">cut<") == 4 * (pictures.ROWS_OF_A_PART - 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_tokens_of_every_code_can_be_told_apart_or_at_least_named(name):
    tokenizer = make_tokenizer(name)
    names = [next_token.spelt(tokenizer, id) for id in range(tokenizer.vocab_size)]
    assert all(names) and len(set(names)) > 0.9 * len(names)


# Pictures


class Balanced(HTMLParser):
    """Tags that are open and not closed, and everything that would be fetched."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.fetched, self.trouble = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag not in ("br", "img", "input"):
            self.open.append(tag)
        self.fetched += [
            value for name, value in attributes if name in ("src", "href") and not value.startswith(("data:", "#"))
        ]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.trouble.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass


def sound(html: str) -> bool:
    parsed = Balanced(html)
    return not parsed.open and not parsed.trouble and not parsed.fetched and "http" not in html


def test_a_roll_has_a_stroke_a_note_in_two_colours(performance):
    new = Performance.of((9 + i * 0.1, 0.1, 110 - i, 1 + 6 * i) for i in range(20)).notes
    drawn = roll.roll(performance, new)
    paths_of = {kind: re.findall(rf'class="ib-{kind} ib-v\d" d="([^"]*)"', drawn) for kind in ("seed", "new")}
    assert {kind: "".join(found).count("M") for kind, found in paths_of.items()} == {
        "seed": len(performance),
        "new": 20,
    } and sound(drawn)
    assert "20 new notes" in drawn and len(set(re.findall(r'class="ib-new (ib-v\d)"', drawn))) == roll.LOUDNESSES
    heights = [float(y) for y in re.findall(r"M[\d.]+ (-?[\d.]+)h", drawn)]
    assert min(heights) >= 0 and max(heights) <= int(re.search(r'viewBox="0 0 1000 (\d+)"', drawn)[1])


def test_a_roll_of_nothing_and_of_two_thousand_notes_are_pictures():
    assert sound(roll.roll(Performance(), np.empty(0, NOTE)))
    many = Performance.of((0.1 * i, 0.2, 30 + i % 60, 64) for i in range(2000)).notes
    assert len(roll.roll(Performance(), many)) < 60_000


def test_the_pedal_has_a_lane_of_its_own_in_two_colours():
    seed = Performance.of([(0.0, 1.0, 60, 80), (1.0, 1.0, 64, 80)], [(0.0, 0.9), (1.0, 0.5)])
    new = Performance.of([(2.0, 1.0, 60, 80)]).notes
    pedals = Performance.of([], [(0.0, 0.9), (1.0, 0.5), (2.5, 0.5)]).pedals
    drawn = roll.roll(seed, new, pedals)
    lane = drawn[drawn.index('class="ib-pedal"') :]
    found = {kind: re.search(rf'class="ib-{kind}" d="([^"]*)"', lane)[1] for kind in ("seed", "new")}
    assert {kind: path.count("M") for kind, path in found.items()} == {"seed": 2, "new": 1} and sound(drawn)
    assert float(found["new"][1:].split()[0]) == pytest.approx(1000 * 2.5 / 4, abs=0.1)  # a roll has 4 s at least
    assert "pedal pressed 3 times" in drawn and "1 new note," in drawn
    assert roll.roll(seed).count("pedal pressed 2 times") == 1


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(colour: np.ndarray) -> float:
    return float(np.dot([0.2126, 0.7152, 0.0722], [linear(value) for value in colour]))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["seed", "new"])
def test_the_quietest_notes_stand_out_from_the_paper(theme, kind):
    style = opening.text("page.css")

    def colour(name: str) -> np.ndarray:
        pair = re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", style)
        return np.array([int(pair[1 + theme][at : at + 2], 16) for at in (1, 3, 5)]) / 255

    opacity = float(re.search(r"\.ib-v0 \{ stroke-opacity: ([\d.]+)", style)[1])
    paper, shown = colour("paper"), opacity * colour(kind) + (1 - opacity) * colour("paper")
    low, high = sorted([luminance(paper), luminance(shown)])
    assert (high + 0.05) / (low + 0.05) >= 3


def test_one_note_is_not_called_notes():
    assert [roll.count(number, "note") for number in (0, 1, 2, 2000)] == ["0 notes", "1 note", "2 notes", "2,000 notes"]


def test_the_chart_shows_what_is_cut():
    drawn = pictures.chart(
        (NextToken(np.array([2.0, 1.0, 0.0], np.float32), ("<b>", "two", "three")),), drawing(1.0, 2, 1.0)
    )
    assert drawn.count("<li") == 3 and drawn.count(">cut<") == 1 and "&lt;b&gt;" in drawn and sound(drawn)


def test_the_player_carries_both_files(performance):
    midi = midi_bytes(performance)
    html = pictures.player("my <take>", midi, b"RIFFsound", "")
    assert sound(html) and "my &lt;take&gt;.mid" in html
    assert base64.b64decode(re.search(r"data:audio/midi;base64,([^\"]+)", html)[1]) == midi
    assert base64.b64decode(re.search(r"data:audio/wav;base64,([^\"]+)", html)[1]) == b"RIFFsound"
    silent = pictures.player("take", midi, None, "no sound: <why>")
    assert "<audio" not in silent and "&lt;why&gt;" in silent and sound(silent)


def test_settings_mark_what_differs():
    one, two = request(temperature=0.8).words, request(temperature=1.2).words
    assert pictures.settings(two, one).count("<b>") == 1 and "<b>temperature 1.20</b>" in pictures.settings(two, one)
    assert "<b>" not in pictures.settings(one, one) and "<b>" not in pictures.settings(one)


# Takes


@pytest.mark.parametrize(
    "changes",
    [
        {"notes": 49},
        {"notes": 2001},
        {"notes": None},
        {"seconds": 10.0},
        {"notes": None, "seconds": 1.0},
        {"temperature": 0},
        {"top_p": 0},
        {"start": 0.0},
    ],
)
def test_a_request_that_cannot_be_is_named(changes):
    with pytest.raises(ConfigError):
        request(**changes)


def play(piano, asked: Request, grow=lambda job, heard: None) -> Job:
    ended = threading.Event()
    job = Job(asked, lambda place: piano, grow, lambda job: ended.set()).start()
    assert ended.wait(60)
    return job


def test_a_take_is_what_continue_gives(piano):
    job = play(piano, request(temperature=1.1, number=5))
    take = keep(job, 3)
    made = piano.continue_(seeds.piece("Rag in F"), notes=50, temperature=1.1, top_k=50, top_p=0.95, seed=5)
    assert len(take.new) == 50 and np.array_equal(take.new, made.new.notes) and take.joined == made.joined
    assert (
        len(read_midi_bytes(take.midi, "take")) == len(made.joined)
        and take.wav[:4] == b"RIFF"
        and take.title == "Take 3"
    )


def test_a_length_in_seconds_finds_an_end_as_continue_does_and_only_where_it_is_wanted(piano):
    drawn = dict(temperature=0.8, top_k=50, top_p=0.95, seed=5)
    found = {}
    for ending in (True, False):
        take = keep(play(piano, request(notes=None, seconds=8.0, ending=ending, number=5)), 1)
        made = piano.continue_(seeds.piece("Rag in F"), seconds=8.0, ending=ending, **drawn)
        assert np.array_equal(take.new, made.new.notes)
        found[ending] = made.ids
        assert ("8 s and an end" in dict(take.request.words).values()) == ending
    assert found[True] != found[False]


def test_a_take_grows_while_it_is_played(piano, monkeypatch):
    monkeypatch.setattr("ittybitty.widget.takes.EVERY", 0.0)
    seen = []
    for asked in (request(), request(notes=None, seconds=5.0)):
        seen.clear()
        play(piano, asked, lambda job, heard: seen.append(heard))
        counts, shares = [len(heard.notes) for heard in seen], [heard.share for heard in seen]
        assert (
            len(counts) > 10
            and counts == sorted(counts)
            and shares == sorted(shares)
            and shares[0] >= 0
            and shares[-1] <= 1.05
        )
        assert (seen[-1].left is not None and seen[-1].left >= 0) or shares[-1] > 1


def test_stop_keeps_what_was_played(piano, monkeypatch):
    monkeypatch.setattr("ittybitty.widget.takes.EVERY", 0.0)
    job = play(piano, request(notes=2000), lambda job, heard: len(heard.notes) >= 20 and job.stop())
    take = keep(job, 1)
    assert 20 <= len(take.new) < 200 and take.stopped and take.title == "Take 1 (stopped)"


@pytest.mark.parametrize("asked", [request(), request(notes=None, seconds=5.0)])
def test_a_complete_take_stays_complete_when_stop_is_pressed_while_its_sound_is_made(piano, asked):
    job = play(piano, asked)
    job.stop()
    take = keep(job, 1)
    assert not take.stopped and take.title == "Take 1"


def test_a_take_comes_back_from_text_as_it_was(piano):
    for number, asked in enumerate(
        (
            request(temperature=1.1, number=5),
            request(seed_name="Nothing", seed=Performance()),
            request(notes=None, seconds=5.0, start=3.0, ending=True),
        )
    ):
        take = keep(play(piano, asked), number + 1)
        (back,) = kept.read(f"[{kept.written(take)}]", [models.Choice("test · hybrid", asked.place, "hybrid")])
        assert (back.title, back.request.words, back.midi) == (take.title, take.request.words, take.midi)
        assert back.request.place == asked.place and len(back.request.seed) == len(asked.seed)
        assert np.array_equal(back.new["pitch"], take.new["pitch"]) and back.wav[:4] == b"RIFF"
        assert np.abs(back.new["onset"] - take.new["onset"]).max() < 0.002


@pytest.mark.parametrize("change", ["", "{", "1", "[1]", "[{}]", '[{"take": 1}]', "[" * 10_000, None])
def test_what_is_no_take_is_passed_over(piano, change):
    take = keep(play(piano, request()), 1)
    good = json.loads(kept.written(take))
    if change is not None:
        assert kept.read(change, []) == []
        return
    for name, bad in (("take", "1"), ("stopped", 1), ("joined", "??"), ("new", "AAAA"), ("notes", 7), ("temperature", None),
                      ("model", 5), ("seed_name", None), ("number", "x")):  # fmt: skip  # one field and its bad value a pair
        assert kept.read(json.dumps([{**good, name: bad}]), []) == [], name
    assert [take.number for take in kept.read(json.dumps([{**good, "take": 2}, good]), [])] == [1, 2]


@pytest.mark.parametrize(
    "error, said",
    [
        (CheckpointError("runs/x: damaged; get it again"), "runs/x: damaged"),
        (RuntimeError("odd"), "RuntimeError: odd"),
        (MemoryError(), "not enough"),
    ],
)
def test_trouble_in_the_thread_is_one_line_and_always_ends(error, said):
    def load(place):
        raise error

    ended = threading.Event()
    job = Job(request(), load, lambda job, heard: None, lambda job: ended.set()).start()
    assert ended.wait(10) and said in job.trouble and keep(job, 1) is None


# The page


def plain_page() -> Playground:
    """A page with 50 notes a take, sampled as GenerationConfig says, from the seed number 1."""
    made, usual = Playground(), GenerationConfig()
    controls = made.controls
    controls.notes.value, controls.number.value = 50, 1  # a number that is typed stays
    controls.temperature.value, controls.top_k.value, controls.top_p.value = usual.temperature, usual.top_k, usual.top_p
    return made


@pytest.fixture
def page(piano, monkeypatch):
    monkeypatch.setattr(models.Shelf, "load", lambda self, place: piano)
    made = plain_page()
    made.begin()
    yield made
    made.stop()
    made.wait(30)


def sliders(page) -> tuple[float, int, float]:
    sampling = page.controls.sampling
    return sampling.temperature, sampling.top_k, sampling.top_p


def settled(page) -> None:
    end = time.monotonic() + 30
    while (page.busy or page.chances.busy) and time.monotonic() < end:
        time.sleep(0.01)
    assert not page.busy and not page.chances.busy


def test_the_page_begins_with_a_seed_and_its_chances(page):
    settled(page)
    assert (
        "ib-seed" in page._roll.value and "ib-new" not in page._roll.value and "Temperature" in page.chances.shown.value
    )
    assert page.controls.stop.disabled and not page.controls.generate.disabled and page.takes == ()


def test_generate_twice_makes_one_take_and_stop_ends_it(page, piano, monkeypatch):
    hold = threading.Event()
    monkeypatch.setattr(models.Shelf, "load", lambda self, place: hold.wait(20) and piano)
    page.generate()
    page.generate()
    assert page.busy and page.controls.generate.disabled and not page.controls.stop.disabled
    page.stop()
    hold.set()
    settled(page)
    assert (
        page.takes == ()
        and "Stopped before the first note" in page.controls.trouble.value
        and not page.controls.generate.disabled
    )
    page.generate()
    settled(page)
    assert len(page.takes) == 1 and "<audio" in page._player.value and page.controls.trouble.value == ""


def test_a_press_reads_what_the_controls_say_a_moment_later_and_a_second_press_starts_nothing(page):
    settled(page)
    page.controls.generate.click()
    page.controls.notes.value = 60  # the browser's last word, which the press overtook
    page.controls.generate.click()
    end = time.monotonic() + 60
    while not page.takes and time.monotonic() < end:
        time.sleep(0.01)
    settled(page)
    page.controls.generate.disabled = True
    page.controls.generate.click()  # came too late: the button was grey already
    time.sleep(2 * SETTLED)
    assert not page.busy and [take.request.notes for take in page.takes] == [60]


def test_two_takes_stand_side_by_side_and_the_difference_is_marked(page):
    usual = page.controls.temperature.value
    page.generate()
    settled(page)
    assert page._beside.layout.display == "none"
    page.controls.temperature.value = 1.5
    page.generate()
    settled(page)
    first, second = page.takes
    assert page._beside.layout.display == "" and page._other.value == first.number
    assert "<b>temperature 1.50</b>" in page._title.value and not np.array_equal(first.new, second.new)
    assert [title for title, _ in page._other.options] == ["Take 1"]
    page.controls.temperature.value = usual
    page.generate()
    settled(page)
    assert np.array_equal(page.takes[-1].new, first.new) and page._other.value == second.number
    page._other.value = first.number
    assert "<b>" not in page._title.value and page._other_roll.value == page._roll.value


def test_what_is_chosen_while_a_take_is_played_is_for_the_next_one(page, piano, monkeypatch):
    hold = threading.Event()
    monkeypatch.setattr(models.Shelf, "load", lambda self, place: hold.wait(20) and piano)
    page.generate()
    page.controls.seed.value = "Chorale in G"
    page.controls.temperature.value = 2.0
    hold.set()
    settled(page)
    (take,) = page.takes
    assert take.request.seed_name != "Chorale in G" and take.request.temperature < 2.0
    assert take.joined.notes["pitch"][:3].tolist() == take.request.seed.notes["pitch"][:3].tolist()


def test_each_take_has_a_seed_number_of_its_own_unless_one_was_typed(page):
    numbers = iter([111, 222, 333])
    page.controls.fresh.value = True
    page._job = None
    import ittybitty.widget.controls as controls

    drawn, controls.secrets.randbelow = controls.secrets.randbelow, lambda limit: next(numbers)
    try:
        for number in (111, 222):
            page.generate()
            assert page.controls.number.value == number and page.controls.fresh.value
            settled(page)
    finally:
        controls.secrets.randbelow = drawn
    first, second = page.takes
    assert not np.array_equal(first.new, second.new) and "seed number 222" in page._title.value
    page.controls.number.value = 111
    assert not page.controls.fresh.value
    page.generate()
    settled(page)
    assert np.array_equal(page.takes[-1].new, first.new)


def test_a_new_seed_is_drawn_and_can_be_heard_after_the_first_take_too(page):
    page.generate()
    settled(page)
    before = page.controls.seed_roll.value
    page.controls.seed.value = "Chorale in G"
    assert (
        page.controls.seed_roll.value != before
        and f"{len(seeds.piece('Chorale in G'))} notes" in page.controls.seed_roll.value
    )
    page.controls.listen.click()
    assert "<audio" in page.controls.listen_line.value and "autoplay" in page.controls.listen_line.value
    page.controls.seed.value = "Rag in F"
    assert page.controls.listen_line.value == "" and page.controls.listen.layout.display == ""


def test_new_music_begins_where_the_slider_stands(page):
    settled(page)
    whole = page.seed
    page.controls.start.value = 5.0
    asked = page.request()
    assert 0 < len(asked.seed) == (whole.notes["onset"] < 5.0).sum() < len(whole) and asked.start == 5.0
    assert f"{len(asked.seed)} notes" in page.controls.seed_line.value
    page.generate()
    settled(page)
    (take,) = page.takes
    assert take.new["onset"].min() >= asked.seed.notes["onset"].max() and "from 5.0 s on" in page._title.value
    assert page.chances._answered[1] is page.seed  # what comes next is what comes next there
    page.controls.start.value = page.controls.start.max
    assert page.request().start is None and len(page.seed) == len(whole)
    page.controls.start.value = 5.0
    page.controls.seed.value = "Rag in F"
    assert page.request().start is None and page.seed is seeds.piece("Rag in F")
    page.controls.seed.value = "Nothing: a piece from silence"
    assert page.controls.start.layout.display == "none" and page.request().start is None


def test_a_seed_that_ends_in_an_ending_is_continued_from_before_it_unless_told_otherwise(page):
    onsets = np.cumsum([0.25] * 60 + [0.6, 0.8, 1.0]).tolist()
    notes = [(onset, 0.2, 60 + i % 12, 70) for i, onset in enumerate(onsets)]
    upload(page, "whole.mid", midi_bytes(Performance.of([*notes, (onsets[-1], 6.0, 48, 70)])))
    begins = find_ending(page._whole)
    assert begins is not None and page.controls.begins == begins  # exactly: no note before it is lost
    assert len(page.seed) == (page._whole.notes["onset"] < begins).sum() < len(page._whole)
    assert f"last chords, from {begins:.1f} s on" in page.controls.start_line.value
    page.controls.start.value = page.controls.start.max
    assert len(page.request().seed) == len(page._whole)
    page.controls.seed.value = "Rag in F"
    assert page.controls.start_line.value == ""


def test_an_end_is_offered_where_the_length_is_in_seconds(page):
    assert page.controls.closes.layout.display == "none" and not page.request().ending
    page.controls.unit.value = "seconds"
    assert page.controls.closes.layout.display == "" and page.request().ending
    page.controls.closes.value = False
    assert not page.request().ending


def test_the_answer_of_another_model_or_seed_never_stays(page, piano, monkeypatch):
    settled(page)
    assert "ib-chart" in page.chances.shown.value
    hold = threading.Event()

    def refuse(self, place):
        hold.wait(20)
        raise CheckpointError("runs/x: damaged; train it again")

    monkeypatch.setattr(models.Shelf, "load", refuse)
    page.controls.model.value = 1
    assert "ib-chart" not in page.chances.shown.value and "Asking tiny-remi" in page.chances.shown.value
    hold.set()
    settled(page)
    page.controls.temperature.value = 1.7
    assert "runs/x: damaged" in page.chances.shown.value and "ib-chart" not in page.chances.shown.value


def test_sliders_follow_the_model_unless_they_were_moved(piano, monkeypatch):
    monkeypatch.setattr(models.Shelf, "load", lambda self, place: piano)
    usual = models.systems.sampling
    careful = GenerationConfig(temperature=0.5, top_k=7, top_p=0.5)
    monkeypatch.setattr(models.systems, "sampling", lambda name: careful if name == "mamba" else usual(name))
    page = Playground()
    started = page.controls.choice.sampling
    assert sliders(page) == (started.temperature, started.top_k, started.top_p)
    page.controls.top_k.value = 33
    page.controls.model.value = next(i for i, choice in enumerate(page.controls.choices) if choice.system == "mamba")
    assert sliders(page) == (0.5, 33, 0.5)


def test_a_reloaded_page_has_its_takes_again(page, piano, monkeypatch):
    monkeypatch.setattr(models.Shelf, "load", lambda self, place: piano)
    said = []
    monkeypatch.setattr(page._browser, "keep", lambda take, most: said.append(take))
    for _ in range(2):
        page.generate()
        settled(page)
    again = Playground()
    again._browser._back.value = f"[{','.join(said)}]"
    assert [take.title for take in again.takes] == ["Take 1", "Take 2"] and "Take 2" in again._title.value
    assert again.takes[1].midi == page.takes[1].midi and again._other.value == 1 and "<audio" in again._player.value
    again._browser._back.value = "[]"
    assert len(again.takes) == 2


def test_the_page_is_there_before_torch_and_loads_its_model_when_a_browser_says_so():
    program = (
        "import sys, time; from ittybitty.widget import Playground, page; page.UNSEEN = 600; made = Playground()\n"
        "assert 'torch' not in sys.modules and 'ib-seed' in made._roll.value and not made.controls.generate.disabled\n"
        "made._browser._ping.click(); end = time.monotonic() + 120\n"
        "while 'ib-chart' not in made.chances.shown.value and time.monotonic() < end: time.sleep(0.05)\n"
        "assert 'torch' in sys.modules and made._browser._answer.value == '1', made.chances.shown.value"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def upload(page, name: str, content: bytes) -> None:
    page._uploaded({"new": ({"name": name, "content": memoryview(content), "size": len(content)},)})


def test_an_upload_becomes_the_seed_and_a_bad_one_changes_nothing(page, performance):
    upload(page, "mine.mid", midi_bytes(performance))
    assert page.controls.seed.value == "mine.mid" and len(page.request().seed) == len(performance)
    assert page.controls.upload_line.value == ""
    upload(page, "<script>.mid", b"nonsense")
    assert (
        page.controls.seed.value == "mine.mid"
        and "&lt;script&gt;.mid: is not a MIDI file" in page.controls.upload_line.value
    )
    low = Performance.of([(0.0, 1.0, 12, 80), (1.0, 1.0, 60, 80)])
    upload(page, "low.mid", midi_bytes(low))
    assert page.controls.seed.value == "low.mid" and "lie off the piano" in page.controls.upload_line.value


def test_two_uploads_of_one_name_are_two_seeds_of_which_the_last_is_played(page, performance):
    upload(page, "mine.mid", midi_bytes(performance))
    upload(page, "mine.mid", midi_bytes(Performance.of([(0.0, 1.0, 60, 80), (1.0, 1.0, 62, 80)])))
    settled(page)
    assert len(page.request().seed) == 2 and "2 notes" in page._roll.value


def test_the_front_of_a_long_file_name_is_kept(page, performance):
    upload(page, f"Sonata no. 14, first movement {'very ' * 20}long.mid", midi_bytes(performance))
    shown = page.controls.seed.value
    assert shown.startswith("Sonata no. 14, first movement") and shown.endswith("long.mid") and len(shown) <= 60


def test_a_damaged_model_leaves_the_last_take_where_it_was(page, monkeypatch):
    page.generate()
    settled(page)
    shown = page._roll.value

    def refuse(self, place):
        raise CheckpointError("runs/x: damaged; train it again")

    monkeypatch.setattr(models.Shelf, "load", refuse)
    page.generate()
    settled(page)
    assert (
        len(page.takes) == 1
        and page._roll.value == shown
        and "runs/x: damaged" in page.controls.trouble.value
        and not page.controls.generate.disabled
    )


def test_only_so_many_takes_are_kept(page, monkeypatch):
    monkeypatch.setattr("ittybitty.widget.page.TAKES_KEPT", 2)
    for number in range(4):
        page.controls.number.value = number
        page.generate()
        settled(page)
    assert [take.number for take in page.takes] == [3, 4] and page._other.value == 3
    assert "Take 2 was removed: the page keeps 2 takes" in page._removed.value


def test_two_pages_do_not_share_anything(piano, monkeypatch):
    monkeypatch.setattr(models.Shelf, "load", lambda self, place: piano)
    one, two = plain_page(), plain_page()
    for made, number in ((one, 1), (two, 2)):
        made.controls.notes.value, made.controls.number.value = 50, number
        made.generate()
    settled(one)
    settled(two)
    request = one.takes[0].request  # what a page draws with unless told otherwise
    drawn = {name: getattr(request, name) for name in ("temperature", "top_k", "top_p")}
    alone = [
        piano.continue_(seeds.piece(seeds.titles()[0]), notes=50, seed=number, **drawn).new.notes for number in (1, 2)
    ]
    assert np.array_equal(one.takes[0].new, alone[0]) and np.array_equal(two.takes[0].new, alone[1])


# Serving


def test_the_page_is_served_on_loopback_unless_told_otherwise():
    chosen = cli.build_parser().parse_args(["playground"])
    assert chosen.host == "127.0.0.1" == serve.LOOPBACK
    assert serve.settings(chosen.host, 1234, False)["Voila"]["ip"] == "127.0.0.1"


def test_a_place_that_cannot_be_listened_on_ends_with_code_2_and_one_line(capsys):
    assert cli.main(["playground", "--no-browser", "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert "port 0" in said and said.count("\n") == 1


def test_a_taken_port_is_passed_over_and_a_wrong_one_named():
    import socket

    with socket.socket() as taken:
        taken.bind((serve.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert serve.free_port(serve.LOOPBACK, port) > port
    for host, port in ((serve.LOOPBACK, 0), (serve.LOOPBACK, 70_000), ("192.0.2.1", 8866)):
        with pytest.raises(ConfigError):
            serve.free_port(host, port)


def test_the_page_leaves_out_what_is_for_the_notebook_only():
    import nbformat

    notebook = nbformat.read(serve.notebook(), as_version=4)
    left = serve.page_cells(None, notebook, "").cells
    assert [cell for cell in left if "Playground(" in cell.source] and not [
        cell for cell in left if "kaggle.com" in cell.source or "ittybitty.page" in cell.source
    ]
    assert all(cell.cell_type == "code" for cell in left)


def test_the_widget_in_the_committed_notebook_has_its_state():
    import nbformat

    notebook = nbformat.read(serve.notebook(), as_version=4)
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    views = [one[kind]["model_id"] for one in data for kind in one if kind.endswith("widget-view+json")]
    assert len(views) == 1 and views[0] in state


def test_the_first_sight_is_the_page_and_not_a_spinner():
    shown = opening.first_sight()
    assert "<h1>Itty Bitty playground</h1>" in shown and 'class="ib-seed' in shown and 'role="status"' in shown
    assert shown == serve.settings("127.0.0.1", 1234, False)["VoilaConfiguration"]["resources"]["first_sight"]


def test_the_template_names_no_other_place():
    for file in (*serve.SHARE.rglob("*"), serve.SHARE.with_name("page.css")):
        if file.is_file():
            assert "//" not in file.read_text(encoding="utf-8").replace("*//", "")


def test_a_process_ends_cleanly_while_a_take_is_made():
    """A thread inside PyTorch at the end of the interpreter aborted the process."""
    script = """
        import threading, time
        from ittybitty.widget import background
        stop, inside = threading.Event(), threading.Event()
        def take():
            import torch
            while not stop.is_set():
                torch.randn(64, 64) @ torch.randn(64, 64)
                inside.set()
            time.sleep(0.2)
            print("ended")
        background.started(take, "take", stop.set)
        assert inside.wait(60)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_thread_that_has_ended_is_forgotten():
    background.started(lambda: None, "take").join(10)
    assert background._running == {}
