"""The page beside Python: the same encoding, the same logits in 8 bits, the same music; and what the command line says."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ittybitty import cli, systems
from ittybitty.config import GenerationConfig
from ittybitty.errors import CheckpointError, ConfigError, OutputError
from ittybitty.generation import continuation, make_prompt
from ittybitty.midi import midi_bytes, read_midi_bytes
from ittybitty.models.mamba import Mamba
from ittybitty.models.quantize import quantized
from ittybitty.notes import Performance
from ittybitty.page import opening, page, script, seeds
from ittybitty.page.bundle import bundle
from ittybitty.page.document import document, model_name, tokenizer_tables
from ittybitty.page.inline import PUBLISHED, show
from ittybitty.page.weights import pack
from ittybitty.piano import Piano
from ittybitty.seeds import ending
from ittybitty.tokenizers import make_tokenizer
from ittybitty.tokenizers.events.grid import KEYS
from ittybitty.widget import seeds as own
from performances import random_performance

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]
NODE = shutil.which("node")
ENCODINGS = ("notes", "notes-fine")
MODELS = {
    "hybrid": ("notes-hybrid", {}),
    "mamba": ("notes-mamba", {}),
    "alibi": ("notes-hybrid", {"model.attn_bias": "alibi"}),
}
GREEDY, FREE = dict(temperature=1.0, top_k=1), dict(temperature=1.1, top_k=40, top_p=0.97)
BY_PART = dict(FREE, time_temperature=0.8, time_top_p=0.9, expression_temperature=1.3, expression_top_p=0.99)
HELD = dict(FREE, hold=30.0)  # so firmly that it changes what is drawn
NAMES = {  # of GenerationConfig -> of the page
    "temperature": "temperature",
    "top_k": "topK",
    "top_p": "topP",
    "time_temperature": "timeTemperature",
    "time_top_p": "timeTopP",
    "expression_temperature": "expressionTemperature",
    "expression_top_p": "expressionTopP",
    "hold": "hold",
}

TAKES = {  # of each model: music to go on from, seed number, how to draw, notes
    "hybrid": (
        (5, 1, GREEDY, 256),
        (6, 2, GREEDY, 256),
        (7, 3, GREEDY, 256),
        (8, 4, FREE, 64),
        (9, 2**31 + 5, FREE, 64),
        (8, 4, BY_PART, 64),
        (8, 4, HELD, 64),
    ),
    "mamba": ((5, 1, GREEDY, 256), (8, 4, FREE, 32)),
    "alibi": ((6, 2, FREE, 32),),
}


def random_piano(row: str = "notes-hybrid", changes: dict | None = None, preset: str = "nano") -> Piano:
    """A model that was not trained, with every weight drawn so that its choices are neither all alike nor near ties."""
    torch.manual_seed(5)
    configs = systems.override(systems.build(row, preset), changes or {})
    model = systems.build_model(configs).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and not name.endswith("A_log"):
                parameter.add_(0.12 * torch.randn_like(parameter))
    return Piano(model, systems.build_tokenizer(configs), configs["data"], "random", None, systems.sampling(row))


def rows(music: Performance) -> dict:
    return {"notes": music.notes.tolist(), "pedals": music.pedals.tolist()}


def with_pedal(seed: int, notes: int = 60) -> Performance:
    """Random notes with presses of all lengths, some shorter than the grid, and a long silence in the middle."""
    music = random_performance(seed, notes=notes)
    chance = np.random.default_rng(seed)
    edges = np.sort(chance.uniform(0, music.end, 40))
    edges[20:22] = edges[20] + np.array([0, 0.01])
    late = music.notes.copy()
    late["onset"][notes // 2 :] += 9.37
    pedals = [(a, max(b - a, 0.004)) for a, b in zip(edges[0::2], edges[1::2])]
    return Performance.of(late.tolist(), pedals)


def slowing(slow: int) -> Performance:
    """Even notes, `slow` of them slower and slower, and a last chord that the pedal holds for six seconds."""
    gaps = [0.25] * 60 + [0.5 + 0.1 * i for i in range(slow)]
    onsets = np.concatenate([[0.0], np.cumsum(gaps)])
    notes = [(float(onset), 0.2, 60 + i % 12, 70) for i, onset in enumerate(onsets)]
    return Performance.of([*notes, (float(onsets[-1]), 0.2, 48, 70)], [(float(onsets[-1]), 6.0)])


def encoded(name: str) -> dict:
    tokenizer = make_tokenizer(name)
    grammar, pieces = tokenizer.grammar(), []
    for music in (random_performance(1), with_pedal(2), with_pedal(3, 200)):
        ids = tokenizer.encode(music).tolist()
        states = [grammar.start(ids[:i]) for i in range(len(ids))]
        config = systems.build("notes-hybrid", "nano")["data"]
        prompts = []
        for seconds, tokens in ((3600.0, 16384), (5.0, 16384), (60.0, 90), (0.5, 8)):
            prompt = make_prompt(music, tokenizer, type(config)(prompt_seconds=seconds, prompt_tokens=tokens))
            prompts.append(
                {
                    "promptSeconds": seconds,
                    "promptTokens": tokens,
                    "ids": prompt.ids.tolist(),
                    "start": prompt.start,
                    "join": prompt.join,
                }
            )
        pieces.append(
            {
                "music": rows(music),
                "ids": ids,
                "decoded": rows(tokenizer.decode(ids)),
                "prompts": prompts,
                "allowed": [np.flatnonzero(grammar.mask(state)).tolist() for state in states],
            }
        )
    return {
        "name": name,
        "tables": tokenizer_tables(tokenizer),
        "pieces": pieces,
        "slow": slow(tokenizer),
        "drone": drone(tokenizer),
    }


def slow(tokenizer) -> dict:
    """As much silence as the grammar allows: the longest times, and a movement of the pedal wherever one may be."""
    grammar, (time, what, *_) = tokenizer.grammar(), tokenizer.first_ids
    state, ids, allowed = grammar.start(), [], []
    for _ in range(200):
        allowed.append(np.flatnonzero(grammar.mask(state)).tolist())
        pedal = [id for id in allowed[-1] if what + KEYS <= id < tokenizer.first_ids[2]]
        times = [id for id in allowed[-1] if time <= id < what]
        ids.append((pedal or times or allowed[-1])[-1])
        state = grammar.advance(state, ids[-1])
    return {"ids": ids, "allowed": allowed}


def drone(tokenizer) -> dict:
    """One key whenever it is allowed, and another one with it."""
    grammar, (time, what, duration, velocity) = tokenizer.grammar(), tokenizer.first_ids
    state, ids, allowed = grammar.start(), [], []
    for turn in range(300):
        wanted = [1] if not turn else [time + turn % 2 * 30, what + 40, what + 41 + turn % 9, duration, velocity, 1]
        while True:
            allowed.append(np.flatnonzero(grammar.mask(state)).tolist())
            ids.append(next((id for id in wanted if id in allowed[-1]), allowed[-1][0]))
            state = grammar.advance(state, ids[-1])
            if grammar.complete(state):
                break
    return {"ids": ids, "allowed": allowed}


def played(name: str, row: str, changes: dict) -> dict:
    piano = random_piano(row, changes)
    index, data = pack(piano.model)
    ids = piano.tokenizer.encode(with_pedal(4), eos=False)[:161].astype(np.int64)
    with torch.no_grad():
        logits = quantized(piano.model)(torch.from_numpy(ids[None]))[0]
    made = []
    for seed, number, how, notes in TAKES[name]:
        music = with_pedal(seed, 40)
        config = GenerationConfig(max_new_tokens=4096, notes=notes, seed=number, precision="int8", **how)
        result = continuation(piano.model, piano.tokenizer, music, piano.data, config)
        options = {
            "notes": notes,
            "seed": number,
            **({"temperature": 0} if how is GREEDY else {NAMES[name]: value for name, value in how.items()}),
            "promptSeconds": piano.data.prompt_seconds,
            "promptTokens": piano.data.prompt_tokens,
        }
        made.append(
            {
                "seed": rows(music),
                "options": options,
                "ids": result.ids,
                "fresh": rows(result.new),
                "joined": rows(result.joined),
            }
        )
    return {
        "name": name,
        "document": document(piano, index),
        "weights": base64.b64encode(data).decode(),
        "ids": ids.tolist(),
        "logits": [[x if math.isfinite(x) else None for x in row] for row in logits.tolist()],
        "continuations": made,
    }


def shipped() -> dict:
    """The model that ships, in 8 bits: 256 greedy notes after each of three seeds, and how near a tie each choice was."""
    piano = Piano.load()
    index, data = pack(piano.model)
    told, takes = document(piano, index), []
    music = [own.piece(title) for title in own.titles()[:2]] + [with_pedal(5, 40)]
    for seed in music:
        config = GenerationConfig(max_new_tokens=4096, notes=256, seed=1, precision="int8", **GREEDY)
        ids = make_prompt(seed, piano.tokenizer, piano.data).ids.tolist()
        new = list(continuation(piano.model, piano.tokenizer, seed, piano.data, config).ids)
        takes.append({"music": rows(seed), "prompt": ids, "ids": new, "leads": leads(piano, ids, new)})
    return {"document": told, "weights": base64.b64encode(data).decode(), "takes": takes}


def leads(piano: Piano, prompt: list[int], new: list[int]) -> list[float]:
    """By how much the likeliest id leads the second one, at each new id; 100 where there is no other."""
    grammar = piano.tokenizer.grammar()
    with torch.no_grad():
        logits = quantized(piano.model)(torch.tensor([prompt + new]))[0, len(prompt) - 1 :].numpy()
    rules, found = grammar.start(prompt), []
    for id, row in zip(new, logits):
        mask = np.array(grammar.mask(rules))
        mask[piano.tokenizer.eos_id] = False
        best = np.sort(row[mask])[-2:]
        found.append(float(best[1] - best[0]) if len(best) == 2 else 100.0)
        rules = grammar.advance(rules, id)
    return found


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory) -> Path:
    """What Python says, for node to compare."""
    uniform = []
    for seed in (0, 1, 77, 2**32 - 1):
        chance = torch.Generator().manual_seed(seed)
        uniform.append(
            {"seed": seed, "numbers": [float(torch.rand(1, generator=chance, dtype=torch.float64)) for _ in range(700)]}
        )
    files = [random_performance(21), with_pedal(22)]
    told = {
        "files": [
            {"bytes": list(midi_bytes(music)), "music": rows(read_midi_bytes(midi_bytes(music), "file"))}
            for music in files
        ],
        "erf": [(x, math.erf(x)) for x in np.linspace(-5, 5, 201).tolist()],
        "uniform": uniform,
        "encodings": [encoded(name) for name in ENCODINGS],
        "models": [played(name, *row) for name, row in MODELS.items()],
        "shipped": shipped(),
        "endings": [
            {"music": rows(music), "begins": ending(music)}
            for music in (random_performance(1), with_pedal(2), *map(slowing, (0, 3, 6)))
        ],
    }
    place = tmp_path_factory.mktemp("page") / "fixtures.json"
    place.write_text(json.dumps(told), encoding="utf-8")
    return place


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="no node here: install Node.js 20 or newer to test the page's script")
@pytest.mark.parametrize("file", sorted(TESTS.glob("*.test.js")), ids=lambda path: path.name)
def test_script_agrees_with_python(file, fixtures):
    run = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", str(file)],
        capture_output=True, text=True, timeout=1200, env={**os.environ, "PAGE_FIXTURES": str(fixtures)},
    )  # fmt: skip  # arguments in one line
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "# fail 0" in run.stdout and "# pass 0" not in run.stdout


# ---------------------------------------------------------------------- the file


@pytest.mark.slow
def test_page_holds_everything_and_asks_for_nothing(tmp_path):
    piano = random_piano()
    size = page.write_page(tmp_path / "piano.html", piano)
    text = (tmp_path / "piano.html").read_text(encoding="utf-8")
    assert size == (tmp_path / "piano.html").stat().st_size <= page.LIMIT
    assert "<!-- " not in text and "http" not in text.replace("http-equiv", "")
    told = json.loads(text.split('id="document">', 1)[1].split("</script>", 1)[0])
    assert told["name"] == "random" and len(told["seeds"]) > 4 and all(seed["licence"] for seed in told["seeds"])
    assert told["tokenizer"]["vocab_size"] == told["model"]["vocab_size"] == piano.tokenizer.vocab_size


def test_page_of_a_run_folder_names_the_model_and_no_path(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("ittybitty.page.document._trained_on", lambda piano: [])
    monkeypatch.setattr(seeds, "as_json", list)
    text = page.page_html(dataclasses.replace(random_piano(), name=str(folder), path=folder))
    assert "<title>Itty Bitty: mine</title>" in text and '"name":"mine"' in text
    assert str(tmp_path) not in text
    monkeypatch.chdir(folder)
    assert model_name(dataclasses.replace(random_piano(), name=".", path=Path("."))) == "mine"


def test_page_draws_as_the_command_line_does():
    """One default for both: what the model's system says, with parts of an event that are drawn in ways of their own."""
    usual = GenerationConfig(**BY_PART)
    found = document(dataclasses.replace(random_piano(), sampling=usual), {})["sampling"]
    assert found == {there: getattr(usual, here) for here, there in NAMES.items()}
    shipped = Piano.load()
    found = document(shipped, {})["sampling"]
    assert found == {there: getattr(shipped.sampling, here) for here, there in NAMES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("served", [True, False], ids=["on Jupyter's server", "without a server"])
def test_a_notebook_shows_the_page_and_stays_small(served, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("ITTYBITTY_KAGGLE_ROOT", str(tmp_path / "no-kaggle"))
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if served:
        monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/00_quickstart.ipynb")
    shown = show(tmp_path / "piano page.html", random_piano())
    assert (tmp_path / "piano page.html").stat().st_size > 100_000
    frame, line = shown._repr_html_().split("</iframe>")
    assert ('src="../piano%20page.html"' if served else f'src="{PUBLISHED}"') in frame
    assert 'href="../piano%20page.html"' in line and f'href="{PUBLISHED}"' in line
    assert len(frame + line) < 2000 and str(tmp_path) not in frame + line + repr(shown)


@pytest.mark.parametrize("name", ["00_quickstart", "playground"])
def test_a_committed_notebook_shows_the_published_page(name):
    """Where no kernel runs, a reader has only the output that is committed."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = [
        "".join(output.get("data", {}).get("text/html", "")) for cell in cells for output in cell.get("outputs", [])
    ]
    assert len([text for text in shown if f'<iframe src="{PUBLISHED}"' in text]) == 1


@pytest.mark.skipif(NODE is None, reason="no node here: install Node.js 20 or newer to test the page's script")
@pytest.mark.parametrize("preset", ["nano", "tiny"])
def test_a_block_of_the_script_gives_what_python_gives(preset):
    torch.manual_seed(3)
    block, x = (
        Mamba(systems.build("notes-mamba", preset)["model"]),
        torch.randn(20, systems.build("notes-mamba", preset)["model"].d_model),
    )
    rounded = script.in_8_bits(block)
    with torch.no_grad():
        state = rounded.init_state(1)
        expected = torch.stack([rounded.step(step[None], state)[0] for step in x])
    torch.testing.assert_close(script.mamba_steps(block, x), expected, atol=1e-5, rtol=1e-4)


def test_lines_of_python_and_script_can_be_read_side_by_side(monkeypatch):
    assert "torch.exp(delta" in script.lines(Mamba.step, "decay =") and "\n" not in script.lines(Mamba.step, "decay =")
    assert "Math.exp(dt * A[at])" in script.lines("mamba.js", "const h =")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert script.mamba_steps(Mamba(systems.build("notes-mamba", "nano")["model"]), torch.zeros(1, 48)) is None


def test_the_published_page_is_the_one_of_the_repository():
    first_cell = (ROOT / "kaggle" / "first_cell.py").read_text(encoding="utf-8")  # where the package is installed from
    owner, name = re.search(r"git\+https://github\.com/([\w-]+)/([\w-]+)@", first_cell).groups()
    assert f"https://{owner}.github.io/{name}/" == PUBLISHED
    assert "actions/deploy-pages" in (ROOT / ".github" / "workflows" / "pages.yml").read_text()


def test_levels_are_those_of_the_decoder():
    model = random_piano().model
    index, data = pack(model)
    rounded = quantized(model).state_dict()
    for name, tensor in rounded.items():
        entry, size = index[name], tensor.numel()
        if "scale" in entry:
            scale = np.frombuffer(data, "<f4", len(tensor), entry["scale"])
            levels = np.frombuffer(data, "i1", size, entry["at"]).reshape(tensor.shape)
            found = torch.from_numpy(levels.astype(np.float32) * scale[:, None])
        else:
            found = torch.from_numpy(np.frombuffer(data, "<f4", size, entry["at"]).reshape(tensor.shape).copy())
        assert torch.equal(found, tensor), name


@pytest.mark.slow
def test_seeds_carry_the_notes_of_their_pieces():
    found = {seed["title"]: seed for seed in seeds.as_json()}
    assert set(seeds.WORKS) < set(found)
    for seed in found.values():
        onsets = [note[0] for note in seed["notes"]]
        assert len(onsets) > 20 and onsets == sorted(onsets) and onsets[-1] < 60
        assert all(21 <= pitch <= 108 and 1 <= velocity <= 127 for _, _, pitch, velocity in seed["notes"])


@pytest.mark.parametrize("row", ["mamba", pytest.param("notes-llama", marks=pytest.mark.slow)])
def test_a_model_of_another_kind_is_refused_in_one_line(row, tmp_path):
    configs = systems.build(row, "nano")
    tokenizer = make_tokenizer("notes") if row.startswith("notes") else None
    piano = Piano(systems.build_model(configs), tokenizer, configs["data"], "other", None)
    with pytest.raises(CheckpointError, match=r"other: .*the page plays") as found:
        page.page_html(piano)
    assert "\n" not in str(found.value)


@pytest.mark.slow
def test_a_model_too_large_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(page, "LIMIT", 100_000)
    with pytest.raises(OutputError, match=r"would have \d\.\d MB, and the limit is 0 MB"):
        page.page_html(random_piano())


def test_the_command_line_refuses_in_one_line_and_leaves_nothing(tmp_path, capsys):
    assert cli.main(["page", "-o", str(tmp_path / "piano.html"), "--model", "no-such-model"]) == 2
    assert cli.main(["page", "-o", str(tmp_path / "piano.txt")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "no-such-model" in lines[0] and "piano.txt" in lines[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_line_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Piano, "load", classmethod(lambda cls, name: random_piano()))
    assert cli.main(["page", "-o", str(tmp_path / "piano.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == (tmp_path / "piano.html").stat().st_size


@pytest.mark.parametrize("missing", ["Playwright", "Chromium"])
def test_the_benchmark_says_in_one_line_what_is_missing(missing, tmp_path, monkeypatch, capsys):
    if missing == "Playwright":
        monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    else:
        pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install .[browser]")
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    assert cli.main(["bench", "page", "--turns", "1"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert missing in line and "install" in line


# ---------------------------------------------------------------------- one script of many modules


@pytest.mark.skipif(sys.platform == "win32", reason="the playground is ended by SIGINT")
def test_a_playground_that_does_not_start_is_told_in_one_line(monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho first line\necho no such kernel\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ConfigError, match=r"^the playground does not start: no such kernel$"), opening._server():
        pass


def test_bundle_keeps_order_and_names(tmp_path):
    (tmp_path / "b.js").write_text(
        "export const two = 2;\nfunction hidden() {}\nexport function twice(x) {\n  return two * x;\n}\n"
    )
    (tmp_path / "a.js").write_text('import { twice as double, two } from "./b.js";\nglobalThis.found = double(two);\n')
    script = bundle(tmp_path / "a.js")
    assert script.index('modules["b.js"]') < script.index('modules["a.js"]') and "import" not in script
    if NODE:
        run = subprocess.run([NODE, "-e", script + "console.log(found)"], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "4"


@pytest.mark.parametrize(
    "text",
    [
        "export default 3;\n",
        'import * as b from "./b.js";\n',
        'const b = await import("./b.js");\n',
        'import "./b.js";\n',
    ],
)
def test_bundle_refuses_what_it_does_not_understand(text, tmp_path):
    (tmp_path / "a.js").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.js: .* is not understood"):
        bundle(tmp_path / "a.js")
