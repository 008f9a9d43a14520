"""The command line: one line and code 2 for every error that the user can fix, no half-written files, one JSON line last."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ittybitty import cli
from ittybitty.cli import parser
from ittybitty.errors import ConfigError, OutputError
from ittybitty.notes import Performance

pytestmark = pytest.mark.slow

VERBS = tuple(next(action for action in cli.build_parser()._actions if action.dest == "verb").choices)


def some_music(seed: int, bars: int = 12) -> Performance:
    """A broken chord that wanders, with pedal: enough notes for a tokenizer to learn from."""
    random = np.random.default_rng(seed)
    notes, pedals = [], []
    for bar in range(bars):
        root = int(random.integers(40, 60))
        for place, step in enumerate((0, 4, 7, 12, 16, 12, 7, 4)):
            notes.append((bar * 2 + place * 0.25, 0.3, root + step, int(random.integers(40, 100))))
        pedals.append((bar * 2.0, 1.8))
    return Performance.of(notes, pedals)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """corpus/ of MIDI files, seed.mid, and run/: a nano model with fresh weights, as `ittybitty train` leaves it."""
    import torch

    from ittybitty import checkpoint, systems
    from ittybitty.midi import write_midi

    root = tmp_path_factory.mktemp("cli")
    (root / "corpus").mkdir()
    music = [some_music(seed) for seed in range(10)]
    for i, performance in enumerate(music):
        write_midi(performance, root / "corpus" / f"{i}.mid")
    write_midi(some_music(99, bars=4), root / "seed.mid")
    configs = systems.build("hybrid", "nano")
    tokenizer = systems.build_tokenizer(configs).train(music, configs["model"].vocab_size)
    torch.manual_seed(0)
    (root / "run").mkdir()
    tokenizer.save(root / "run" / "tokenizer.json")
    configs = systems.build("hybrid", "nano", {"model.vocab_size": tokenizer.vocab_size})
    checkpoint.save_model(root / "run", systems.build_model(configs))
    checkpoint.write_config(root / "run", configs, "hybrid", "nano", tokenizer.content_hash, {})
    return root


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Each test stands in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)


def run(capsys, *words) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command line in this process."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as end:  # argparse
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *words) -> str:
    """The one line with which a command line is refused."""
    code, out, err = run(capsys, *words)
    assert code == 2 and not out
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("ittybitty"), err
    assert "Traceback" not in err
    return lines[0]


# Help


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_that_the_parser_accepts(verb, capsys):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0 and "example:" in out and "%%" not in out
    examples = [
        line.strip() for line in out.partition("example:")[2].splitlines() if line.strip().startswith("ittybitty ")
    ]
    assert examples
    for example in examples:
        assert cli.build_parser().parse_args(example.split()[1:]).verb == verb


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("train", "or the tokens that `ittybitty tokenize` wrote"),
        ("train", "start a new one if there is none"),
        ("evaluate", "seconds that are continued"),
        ("evaluate", "with a 95% interval"),
    ],
)
def test_every_verb_has_help(verb, words, capsys):
    assert words in " ".join(run(capsys, verb, "--help")[1].split())


def test_the_module_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "ittybitty", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("ittybitty ")


# Exit codes


def test_wrong_options_are_one_line(capsys):
    assert "required" in refused(capsys, "continue")
    assert "--help" in refused(capsys, "continue", "a.mid", "-o", "b.mid", "--tokens", "many")
    refused(capsys, "nonsense")


def test_an_empty_name_of_a_seed_is_no_piece_from_nothing(tmp_path, capsys):
    assert "SEED.mid is empty" in refused(capsys, "continue", "", "-o", "out.mid")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), (">&- 2>&-", 0)])
def test_a_closed_stream_is_no_error(closed, code):
    command = f"{sys.executable} -m ittybitty params nano --json {closed}"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (code, "")


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_command_and_leaves_no_hidden_file(name, code, folder, tmp_path):
    words = ["continue", folder / "seed.mid", "-o", "out.mid", "--model", folder / "run", "--tokens", "10000000"]
    command = [sys.executable, "-m", "ittybitty", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not os.listdir(tmp_path) and process.poll() is None:  # its temporary file
            time.sleep(0.02)
        process.send_signal(getattr(signal, name))
        said = process.stderr.read()
    assert (process.returncode, said) == (code, "ittybitty: stopped\n") and not os.listdir(tmp_path)


def test_ctrl_c_ends_with_130(capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ittybitty.cli.machine.doctor", interrupted)
    code, out, err = run(capsys, "doctor")
    assert (code, out) == (130, "") and err.strip() == "ittybitty: stopped"


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.mid"), "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "Permission denied"),
        (MemoryError(), "memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
            "not enough memory",
        ),
        (OutputError("two\nlines"), "two lines"),
        (ModuleNotFoundError("No module named 'mido'", name="mido"), "pip install mido,"),
        (ModuleNotFoundError("No module named 'sklearn.cluster'", name="sklearn.cluster"), "pip install scikit-learn,"),
    ],
)
def test_errors_of_the_machine_are_one_line(trouble, word, capsys, monkeypatch):
    def fails(options):
        raise trouble

    monkeypatch.setattr("ittybitty.cli.machine.doctor", fails)
    assert word in refused(capsys, "doctor")


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError(), ImportError("cannot import name 'x'", name="ittybitty.notes")], ids=repr
)
def test_a_bug_is_not_hidden(bug, monkeypatch):
    def fails(options):
        raise bug

    monkeypatch.setattr("ittybitty.cli.machine.doctor", fails)
    with pytest.raises(type(bug)):
        cli.main(["doctor"])


# Shared pieces


def test_stdout_holds_the_result_and_nothing_that_a_library_prints():
    program = (
        "import os\nfrom ittybitty import cli\nfrom ittybitty.cli import machine\n"
        "def chatty(options):\n    print('python'); os.write(1, b'compiled'); return {'a': 1}, 'text'\n"
        "machine.doctor = chatty\nraise SystemExit(cli.main(['doctor', '--json']))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout == '{"a": 1}\n'
    assert "python" in shown.stderr and "compiled" in shown.stderr


def test_json_is_one_line_that_parses_whatever_is_in_it(capsys):
    options = cli.build_parser().parse_args(["doctor", "--json"])
    value = {"path": Path("a"), "nan": float("nan"), "array": np.arange(2), "number": np.float32(1), "pair": (1, None)}
    parser.show(options, value, "text")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"path": "a", "nan": None, "array": [0, 1], "number": 1.0, "pair": [1, None]}


def test_a_table_says_not_measured_where_nothing_was():
    text = parser.table([{"a": "x", "b": 1200}, {"a": None, "b": 3}], {"a": "name", "b": "count"})
    assert text.splitlines()[2:] == ["x             1,200", "not measured      3"]


def test_outputs_appear_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "a.mid", tmp_path / "b.wav"
    first.write_text("before")
    with pytest.raises(RuntimeError), parser.outputs(None, str(first), str(second)) as (a, b):
        a.write_text("after")
        raise RuntimeError
    assert first.read_text() == "before" and os.listdir(tmp_path) == ["a.mid"]
    with parser.outputs(None, str(first), None, str(second)) as (a, none, b):
        a.write_text("after"), b.write_text("sound")
        assert none is None
    assert first.read_text() == "after" and second.read_text() == "sound"


def test_a_seed_is_never_overwritten_and_no_output_is_written_twice(tmp_path):
    for names, why in ((("seed.mid", "seed.mid"), "is the input itself"), (("seed.mid", "a", "./a"), "is named twice")):
        with pytest.raises(ConfigError, match=why), parser.outputs(*names):
            pytest.fail("work began")


def test_a_setting_without_a_value_is_refused(capsys):
    assert "key=value" in refused(capsys, "params", "nano", "--set", "model.d_ff")
    assert "model.d_ff" in refused(capsys, "params", "nano", "--set", "model.dff=3")


# Verbs


def test_params_counts_small_within_one_percent_of_the_published_model(capsys):
    code, out, _ = run(capsys, "params", "small", "--json")
    counts = json.loads(out)
    assert code == 0 and set(counts) >= {"preset", "total", "by_part"}
    assert sum(counts["by_part"].values()) == counts["total"]
    assert abs(counts["total"] / 25.6e6 - 1) < 0.01
    assert "did you mean 'small'" in refused(capsys, "params", "smal")


def test_systems_lists_what_each_encoding_keeps(capsys):
    code, out, _ = run(capsys, "systems", "--preset", "nano", "--json")
    rows = json.loads(out)
    assert code == 0 and "hybrid" in {row["system"] for row in rows}
    assert all(row["parameters"] > 0 and "pitch" in row["keeps"] for row in rows)


def test_systems_says_what_its_numbers_in_brackets_are(capsys):
    _, out, _ = run(capsys, "systems", "--preset", "nano")
    table, _, sources = out.partition("\n\n")
    assert set(re.findall(r"\[\d\]", table)) == {line[:3] for line in sources.splitlines()} != set()
    assert "--data goes with --smoke" in refused(capsys, "systems", "--data", "embedded")


@pytest.mark.parametrize("turns", [0, -1])
def test_a_benchmark_without_a_turn_is_refused(turns, capsys):
    assert f"--turns is {turns}: give 1 or more" in refused(capsys, "bench", "scan", "--turns", turns)


def test_doctor_says_what_runs_and_what_is_missing(capsys):
    code, out, _ = run(capsys, "doctor", "--json")
    found = json.loads(out)
    assert code == 0 and found["scan"]["chosen"]["cpu"] in {row["path"] for row in found["scan"]["paths"]}
    assert all(row["hint"] for row in found["missing"])
    assert "MAESTRO" in str(found["missing"]) and "data fetch" in str(found["missing"])
    code, out, _ = run(capsys, "doctor")
    assert code == 0 and "scan" in out and "versions" in out


def test_doctor_misses_every_package_that_this_machine_needs(capsys, monkeypatch):
    from importlib import metadata

    asked = [
        "torch>=2.6",
        "nowhere-a>=1,<2",
        "nowhere-b; python_version < '3'",
        "nowhere-c; extra == 'bench'",
        "nowhere-d; python_version > '3'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: asked)
    missing = {
        row["what"]: row["hint"] for row in json.loads(run(capsys, "doctor", "--json")[1])["missing"] if row["needed"]
    }
    assert missing == {"nowhere-a": 'pip install "nowhere-a<2,>=1"', "nowhere-d": 'pip install "nowhere-d"'}
    assert "Something that is needed is missing" in run(capsys, "doctor")[1]


def test_doctor_reads_the_clones_own_list_where_nothing_is_installed(monkeypatch):
    from importlib import metadata

    from ittybitty import doctor

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    needed = doctor.needed()
    assert (
        needed["symusic"] == "symusic==0.5.9"
        and {"torch", "music21"} < needed.keys()
        and not {"kaggle", "pytest", "mamba-ssm"} & needed.keys()
    )


def test_continue_writes_midi_wav_and_picture_and_reports(folder, tmp_path, capsys):
    from ittybitty.midi import read_midi

    command = ["continue", folder / "seed.mid", "-o", "out.mid", "--model", folder / "run", "--tokens", 40, "--seed", 3]
    code, out, err = run(capsys, *command, "--wav", "out.wav", "--plot", "out.png", "--json")
    assert code == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report["tokens"] <= 40 and report["seed"] == 3 and report["seed_notes"] == 32
    assert report["tokens_per_second"] > 0 and report["seconds"] > 0
    assert len(read_midi(tmp_path / "out.mid")) == report["seed_notes"] + report["new_notes"]
    assert (tmp_path / "out.wav").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "out.png").read_bytes()[1:4] == b"PNG"
    first = (tmp_path / "out.mid").read_bytes()
    code, out, _ = run(capsys, *command)
    assert code == 0 and "--seed 3" in out and (tmp_path / "out.mid").read_bytes() == first


def test_continue_begins_where_it_is_asked_to_or_from_nothing(folder, tmp_path, capsys):
    from ittybitty.midi import read_midi

    command = ["continue", "-o", "out.mid", "--model", folder / "run", "--tokens", 40, "--seed", 3, "--json"]
    code, out, err = run(capsys, *command, folder / "seed.mid", "--from", 2.5)
    report = json.loads(out.splitlines()[-1])
    assert code == 0 and 0 < report["seed_notes"] < 32, err
    assert "cannot begin at 500 s" in refused(capsys, *command, folder / "seed.mid", "--from", 500)
    assert "no seed" in refused(capsys, *command, "--from", 5)
    code, out, err = run(capsys, *command, "--plot", "new.png")
    report = json.loads(out.splitlines()[-1])
    assert code == 0 and report["seed_notes"] == 0 < report["new_notes"] == len(read_midi(tmp_path / "out.mid")), err


def test_continue_warns_of_an_ending_and_continues_before_it(folder, tmp_path, capsys):
    from ittybitty.midi import write_midi
    from ittybitty.notes import Performance

    steady = [(0.25 * i, 0.24, 60 + i % 12, 70) for i in range(80)]
    write_midi(
        Performance.of([*steady, (20.0, 0.5, 64, 60), (20.7, 0.9, 62, 60), (21.7, 5, 48, 60)]), tmp_path / "whole.mid"
    )
    command = ["continue", tmp_path / "whole.mid", "-o", "out.mid", "--model", folder / "run", "--tokens", 40, "--json"]
    code, out, err = run(capsys, *command)
    assert code == 0 and err.count("sound like the end of a piece") == 1 and json.loads(out)["seed_notes"] < 83
    code, out, err = run(capsys, *command, "--keep-ending")
    assert code == 0 and "ending" not in err and json.loads(out)["seed_notes"] == 83


def test_a_bare_command_shows_its_help(capsys):
    assert cli.main([]) == 0
    assert "usage: ittybitty" in capsys.readouterr().out


def test_tokenize_keeps_to_the_corpus_and_continues(folder, tmp_path, capsys):
    command = [
        "tokenize",
        "--preset",
        "nano",
        "--data",
        folder / "corpus",
        "--out",
        tmp_path / "tokens",
        "--workers",
        1,
        "--json",
    ]
    code, out, err = run(capsys, *command)
    assert code == 0, err
    report = json.loads(out)
    assert report["pieces"] == 10 and report["notes"] == 960 and report["tokens_per_note"] > 0
    assert run(capsys, *command)[0] == 0
    assert "--workers" in refused(capsys, *command[:-2], 0)


def test_a_run_can_be_trained_evaluated_and_resumed(folder, tmp_path, capsys):
    train = ["train", "hybrid", "--preset", "nano", "--data", folder / "corpus", "--out", tmp_path / "run", "--json"]
    train += ["--set", "data.context=64", "--set", "train.batch_size=2"]
    code, out, err = run(capsys, *train, "--steps", 3)
    assert code == 0, err
    json.loads(out.splitlines()[-1])
    assert (tmp_path / "run" / "config.json").is_file()
    refused(capsys, *train, "--steps", 3)  # a run that stands is not overwritten
    code, out, err = run(
        capsys, "train", "--resume", "--steps", 5, "--data", folder / "corpus", "--out", tmp_path / "run"
    )
    assert code == 0, err
    evaluate = [
        "evaluate",
        tmp_path / "run",
        "--data",
        folder / "corpus",
        "--split",
        "validation",
        "--limit",
        1,
        "--json",
    ]
    code, out, err = run(capsys, *evaluate, "--record", "figures.json")
    assert code == 0, err
    assert "commit" in (tmp_path / "figures.json").read_text()
    result = json.loads(out.splitlines()[-1])
    assert {"bits_per_note", "ci95", "tokens_per_note", "pieces", "split", "keeps", "onset_error_ms"} <= result.keys()
    assert result["split"] == "validation" and result["pieces"] == 1 and result["ci95"][0] <= result["bits_per_note"]


@pytest.mark.parametrize(
    "words, key",
    [
        (["RUN", "--by-position", "--length", 150], "bins"),
        (["RUN", "--music", "--seconds", 4, "--seed", 1], "mgeval"),
        (["RUN", "--memorisation", "--seconds", 4, "--pieces", 2], "longest"),
        (["ngram", "--tokenizer", "RUN", "--order", 2], "bits_per_note_by_order"),
        (["xz", "--tokenizer", "RUN", "--limit", 2], "bits_per_note"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) and value[0] == "RUN" else None,
)
def test_every_measure_is_shown_and_recorded(folder, tmp_path, capsys, words, key):
    words = [folder / "run" if word == "RUN" else word for word in words]
    command = ["evaluate", *words, "--data", folder / "corpus", "--split", "train"]
    code, out, err = run(capsys, *command, "--record", "figures.json")
    assert code == 0, err
    assert len(out.splitlines()) >= 2
    recorded = json.loads((tmp_path / "figures.json").read_text())
    assert key in recorded and "commit" in recorded["provenance"] and recorded["split"] == "train"
    again = json.loads(run(capsys, *command, "--json")[1])
    timed = {"draw_seconds", "model_seconds", "notes_per_second", "provenance", "per_piece", "per_trial"}
    assert {k: v for k, v in again.items() if k not in timed} == {k: v for k, v in recorded.items() if k not in timed}


def test_a_measure_refuses_options_that_it_cannot_use(folder, capsys):
    on = ["--data", folder / "corpus", "--split", "train"]
    assert "--by-position" in refused(capsys, "evaluate", folder / "run", "--length", 300, *on)
    assert "baseline" in refused(capsys, "evaluate", "ngram", "--music", *on)
    assert "of its own" in refused(capsys, "evaluate", folder / "run", "--order", 3, *on)
    assert "longest has" in refused(capsys, "evaluate", folder / "run", "--by-position", *on)
    assert "shorter than a prompt" in refused(capsys, "evaluate", folder / "run", "--music", "--seconds", 60, *on)


def test_export_is_a_model_that_plays(folder, tmp_path, capsys):
    code, out, err = run(capsys, "export", folder / "run", "--out", "hub/first", "--json")
    assert code == 0 and "README.md" in json.loads(out)["files"], err
    assert run(capsys, "continue", folder / "seed.mid", "-o", "out.mid", "--model", "hub/first", "--tokens", 8)[0] == 0
    assert "no such run" in refused(capsys, "export", "nowhere", "--out", "hub2") and not (tmp_path / "hub2").exists()


# Bad input: a clear line each, code 2, nothing half-written


def bad_seeds(folder: Path) -> dict[str, bytes]:
    good = (folder / "seed.mid").read_bytes()

    def header(kind: int, tracks: int, division: int) -> bytes:
        return b"MThd" + (6).to_bytes(4, "big") + b"".join(n.to_bytes(2, "big") for n in (kind, tracks, division))

    def track(events: bytes) -> bytes:
        return b"MTrk" + (len(events)).to_bytes(4, "big") + events

    end = b"\x00\xff\x2f\x00"
    note = b"\x00\x90\x3c\x40\x60\x80\x3c\x40"
    return {
        "empty.mid": b"",
        "truncated.mid": good[: len(good) // 2],
        "text.mid": b"this is not music\n" * 20,
        "no-notes.mid": header(0, 1, 480) + track(end),
        "drums.mid": header(0, 1, 480) + track(b"\x00\x99\x24\x40\x60\x89\x24\x40" + end),
        "type-2.mid": header(2, 2, 480) + track(note + end) + track(note + end),
    }


@pytest.mark.parametrize("name", ["empty.mid", "text.mid", "no-notes.mid", "drums.mid", "type-2.mid"])
def test_a_bad_seed_is_refused_and_what_stood_before_stays(name, folder, tmp_path, capsys):
    (tmp_path / name).write_bytes(bad_seeds(folder)[name])
    (tmp_path / "out.mid").write_text("before")
    line = refused(
        capsys, "continue", name, "-o", "out.mid", "--model", folder / "run", "--tokens", 8, "--wav", "out.wav"
    )
    assert name in line
    assert (tmp_path / "out.mid").read_text() == "before"
    assert set(os.listdir(tmp_path)) == {name, "out.mid"}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "nan"], "temperature"),
        (["--temperature", "1e-300"], "--temperature is 1e-300: give 0.000001 to 10"),
        (["--top-p", "0"], "--top-p is 0"),
        (["--top-p", "1.5"], "--top-p is 1.5"),
        (["--time-top-p", "2"], "--time-top-p is 2"),
        (["--top-k", "-3"], "--top-k is -3"),
        (["--repetition-penalty", "1e300"], "--repetition-penalty is 1e+300"),
        (["--from", "-1"], "--from is -1.0: give a second above 0"),
        (["--tokens", "-5"], "tokens"),
        (["--tokens", "99999999999"], "--tokens is 99999999999: give 1 to 1,000,000,000"),
        (["--seconds", "inf"], "--seconds is inf"),
        (["--wav", ""], "--wav is empty: give a value, or leave it out"),
        (["--volume", "3"], "unrecognized arguments: --volume 3; see ittybitty continue --help"),
        (["-dash.mid"], "write ./ before the name of a file that begins with -"),
        (["--tokens", "0"], "--tokens is 0"),
        (["--seconds", "0"], "seconds"),
        (["--seconds", "nan"], "seconds"),
        (["--prompt-seconds", "-1"], "prompt"),
        (["--prompt-tokens", "0"], "prompt"),
        (["--tokens", "5", "--seconds", "5"], "not allowed"),
        (["--plot", "out.docx"], "out.docx"),
        (["--model", "tinny"], "tinny"),
        (["--model", "."], "run folder"),
        (["--wav", "no/such/folder/out.wav"], "no/such/folder"),
        (["--wav", "out.mp3"], "out.mp3: the name after --wav must end in .wav"),
        (["-o", "out.xyz"], "out.xyz: the name after --out must end in .mid or .midi"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_nonsense_is_refused_before_any_work(options, word, folder, tmp_path, capsys):
    line = refused(capsys, "continue", folder / "seed.mid", "-o", "out.mid", *options)
    assert word in line
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "tiny", "--music", "--seed", "-1"), "'-1' is no whole number from 0 up"),
        (("evaluate", "ngram", "--order", "0"), "'0' is no whole number from 1 up"),
        (("train", "mamba", "--seed", "-1", "--out", "run"), "train.seed is -1"),
    ],
)
def test_a_number_out_of_range_is_one_line(words, said, folder, tmp_path, capsys):
    assert said in refused(capsys, *words, "--data", folder / "corpus")
    assert not os.listdir(tmp_path)


def test_a_warning_is_a_line_for_people(folder, tmp_path, capsys):
    import pretty_midi

    song = pretty_midi.PrettyMIDI(str(folder / "seed.mid"))
    song.instruments[0].notes.append(pretty_midi.Note(64, 12, 0.2, 0.4))  # below A0
    song.write(str(tmp_path / "seed.mid"))
    code, _, err = run(
        capsys, "continue", "seed.mid", "-o", "out.mid", "--model", folder / "run", "--tokens", 40, "--seed", 0
    )
    said = [line for line in err.splitlines() if "off the piano" in line]
    assert (
        code == 0 and said and all(line.startswith("ittybitty: seed.mid: 1 of ") for line in said) and ".py" not in err
    )


def test_a_continuation_without_a_note_names_no_hidden_file(folder, tmp_path, capsys):
    command = [
        "continue",
        folder / "seed.mid",
        "-o",
        "out.mid",
        "--model",
        folder / "run",
        "--tokens",
        1,
        "--seed",
        0,
        "--only-new",
    ]
    line = refused(capsys, *command)
    assert "holds no note yet" in line and ".mid" not in line and not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--notes 7", {"notes": 7}),
        ("--precision int8", {"precision": "int8"}),
        ("--repetition-penalty 1.3", {"repetition_penalty": 1.3}),
        ("--stop-at-end", {"stop_at_end": True}),
        ("--prompt-seconds 3 --prompt-tokens 9", {"prompt_seconds": 3.0, "prompt_tokens": 9}),
    ],
)
def test_an_option_reaches_the_music(words, wanted, folder, monkeypatch, capsys):
    asked = {}

    def seen(self, seed_file, **given):
        asked.update(given)
        raise ConfigError("seen")

    monkeypatch.setattr("ittybitty.piano.Piano.continue_", seen)
    assert "seen" in refused(
        capsys, "continue", folder / "seed.mid", "-o", "out.mid", "--model", folder / "run", *words.split()
    )
    assert wanted.items() <= asked.items()


def test_options_of_train_reach_the_pipeline(monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr("ittybitty.pipeline.train", lambda *given, **options: asked.update(options) or {"steps": 1})
    assert (
        run(capsys, *"train mamba --out r --data d --from tiny --parallel dp --max-hours 2 --resume --seed 3".split())[
            0
        ]
        == 0
    )
    assert (asked["init_from"], asked["parallel"], asked["max_hours"], asked["resume"], asked["data"]) == (
        "tiny",
        "dp",
        2,
        True,
        "d",
    )


def test_an_experiment_is_recorded_once(folder, tmp_path, capsys):
    small = {"data.context": 32, "train.batch_size": 4, "train.validate_every": 4, "train.warmup": 1}
    recipe = {
        "question": "?",
        "kind": "compare",
        "preset": "nano",
        "steps": 2,
        "pieces": 1,
        "set": small,
        "rows": {"mamba": {}, "hybrid": {}},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(recipe))
    places = ["--data", folder / "corpus", "--runs", tmp_path / "runs", "--results", tmp_path / "results", "--json"]
    for more, state in (
        ([], "recorded"),
        ([], "recorded before"),
        (["--again", "--max-hours", "1e-9"], "not run: no time left"),
    ):
        out = run(capsys, "experiment", tmp_path / "mine.yaml", "--row", "mamba", *places, *more)[1]
        assert [row["state"] for row in json.loads(out)] == [state]


def test_reproduce_runs_what_is_named_and_prints_the_path_of_the_music(tmp_path, monkeypatch, capsys):
    import papermill

    from ittybitty import reproduce

    (tmp_path / "notebooks").mkdir()
    for name in ("00_quickstart", "01_maestro", "12_figures"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("{}")
    ran = []

    def execute(path, *given, **options):
        ran.append(path.stem)
        (tmp_path / "build" / path.stem).mkdir()
        (tmp_path / "build" / path.stem / "continuation.mid").write_bytes(b"music")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setattr(reproduce, "repository_root", lambda: tmp_path)
    monkeypatch.setenv("ITTYBITTY_DATA", "of the user")  # undone afterwards
    code, out, _ = run(capsys, "reproduce", "--only", "quick")
    assert (
        code == 0
        and ran == ["00_quickstart"]
        and out.splitlines()[-1] == "continuation: build/00_quickstart/continuation.mid"
    )
    assert "12_figures" in refused(capsys, "reproduce", "--only", "nothing")


def test_a_reader_that_has_read_enough_is_no_error():
    command = f"{sys.executable} -m ittybitty systems --preset nano | true"
    shown = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("out", ["missing/out.mid", ".", "SEED"])
def test_an_output_that_cannot_be_written_is_refused(out, folder, tmp_path, capsys):
    seed = tmp_path / "seed.mid"
    seed.write_bytes((folder / "seed.mid").read_bytes())
    refused(capsys, "continue", seed, "-o", seed if out == "SEED" else out, "--model", folder / "run", "--tokens", 8)
    assert seed.read_bytes() == (folder / "seed.mid").read_bytes()
    refused(capsys, "continue", tmp_path, "-o", "out.mid")  # a folder as seed
    refused(capsys, "continue", "nowhere.mid", "-o", "out.mid")
    os.mkfifo(tmp_path / "pipe.mid")
    assert "pipe.mid: is not a regular file" in refused(capsys, "continue", "pipe.mid", "-o", "out.mid")
    assert "seed.mid is a file, not a folder" in refused(capsys, "continue", seed, "-o", f"{seed}/out.mid")


def damage(run: Path, how: str) -> None:
    if how == "no weights":
        (run / "model.safetensors").unlink()
    elif how == "half the weights":
        whole = (run / "model.safetensors").read_bytes()
        (run / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    elif how == "a pickle for weights":
        (run / "model.safetensors").write_bytes(b"\x80\x04\x95cos\nsystem\n(S'touch pwned'\ntR.")
    elif how == "config is no JSON":
        (run / "config.json").write_text("{")
    elif how == "config is nested too deeply":
        (run / "config.json").write_text("[" * 100_000)
    elif how == "config without a format":
        (run / "config.json").write_text("{}")
    elif how == "weights that are no numbers":
        import torch
        from safetensors.torch import load_file, save_file

        state = load_file(run / "model.safetensors")
        next(iter(state.values())).view(-1)[0] = torch.nan
        save_file(state, run / "model.safetensors")
    elif how == "config of another shape":
        config = json.loads((run / "config.json").read_text())
        config["model"]["d_model"] = 64
        (run / "config.json").write_text(json.dumps(config))
    elif how == "tokenizer of another model":
        from ittybitty.tokenizers import PianoTokenizer

        PianoTokenizer().save(run / "tokenizer.json")
    elif how == "no tokenizer":
        (run / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("no weights", "holds no weights"),
        ("half the weights", "is damaged or not safetensors"),
        ("a pickle for weights", "is damaged or not safetensors"),
        ("config is no JSON", "is damaged (not JSON)"),
        ("config is nested too deeply", "is damaged (not JSON)"),
        ("config without a format", "lacks 'format'"),
        ("weights that are no numbers", "holds values that are not numbers"),
        ("config of another shape", "of another model"),
        ("tokenizer of another model", "were trained with tokenizer"),
        ("no tokenizer", "tokenizer cannot be read"),
    ],
)
def test_a_damaged_run_is_refused(how, word, folder, tmp_path, capsys):
    import shutil

    shutil.copytree(folder / "run", tmp_path / "run")
    damage(tmp_path / "run", how)
    line = refused(capsys, "continue", folder / "seed.mid", "-o", "out.mid", "--model", tmp_path / "run", "--tokens", 8)
    assert word in line and not (tmp_path / "out.mid").exists() and not (tmp_path / "pwned").exists()


def test_token_files_with_ids_of_no_token_are_refused(folder, tmp_path, capsys):
    assert run(capsys, "tokenize", "--system", "notes-hybrid", "--data", folder / "corpus", "--out", "tokens")[0] == 0
    ids = np.memmap(tmp_path / "tokens" / "ids.u16", "<u2", "r+")
    ids[-2] = 65_535
    ids.flush()
    line = refused(capsys, "train", "notes-hybrid", "--preset", "nano", "--data", "tokens", "--out", "made")
    assert "tokens holds damaged token files (an id is above" in line and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 3000, "is not YAML (nested too deeply)"),
        ("{question: q, kind: compare, rows: {../up: {}}}", "the row's name '../up' may not"),
        ("{question: q, kind: compare, passes: .nan, rows: {a: {system: hybrid}}}", "passes is nan"),
        ("{kind: compare}", "lacks question, rows; paper/experiments/attention.yaml"),
    ],
)
def test_a_bad_recipe_is_refused_before_any_work(text, said, folder, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    assert said in refused(capsys, "experiment", "mine.yaml", "--data", folder / "corpus", "--results", "results")
    assert os.listdir(tmp_path) == ["mine.yaml"]


def test_where_an_experiment_writes_is_checked_before_it_trains(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    words = ("experiment", "attention", "--data", "embedded", "--row", "hybrid-alibi")
    assert "taken: is a file; give --results a folder" in refused(capsys, *words, "--results", "taken")
    assert "taken: is a file; give --runs a folder" in refused(capsys, *words, "--results", "new", "--runs", "taken")
    assert "--max-hours is nan" in refused(capsys, *words, "--results", "new", "--max-hours", "nan")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_corpus_that_is_not_there_is_refused(tmp_path, capsys):
    (tmp_path / "void").mkdir()
    for data in ("nowhere", "void"):
        for verb in (
            ["tokenize", "--out", "tokens"],
            ["train", "hybrid", "--out", "run"],
            ["evaluate", "tiny"],
            ["data", "stats"],
        ):
            assert "ittybitty: " in refused(capsys, *verb, "--data", data)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
    refused(capsys, "train", "hybird", "--out", "run")
    refused(capsys, "train", "hybrid", "--preset", "giant", "--out", "run")
    refused(capsys, "train", "hybrid", "--steps", "-1", "--data", "embedded", "--out", "run")


def test_params_of_a_system_are_those_of_its_published_size(capsys):
    counted = {
        name: json.loads(run(capsys, "params", name, "--json")[1])["total"] for name in ("mamba-paper", "V7", "V8")
    }
    assert (counted["V7"], counted["V8"]) == (33_825_280, 34_087_424) and abs(counted["mamba-paper"] / 249e6 - 1) < 0.01
    assert json.loads(run(capsys, "params", "tiny", "--system", "mamba", "--json")[1])["system"] == "mamba"


def test_the_smoke_test_is_one_line_a_system(capsys, monkeypatch, folder):
    from ittybitty import systems
    from ittybitty.experiments import smoke

    monkeypatch.setattr(smoke, "STEPS", 2)
    monkeypatch.setattr(
        systems, "SYSTEMS", {name: systems.SYSTEMS[name] for name in ("lstm-pitch", "llama-512", "beat-base")}
    )
    code, out, _ = run(capsys, "systems", "--smoke", "--data", str(folder / "corpus"), "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["row"] for row in rows] == ["lstm-pitch", "llama-512", "beat-base"]
    assert not list(folder.glob("corpus-*")) and not list(folder.glob(".corpus-*")), "written beside the user's folder"
    assert all(
        set(row) >= {"row", "params", "tokens_per_note", "keeps", "bits_per_note", "ci95", "new_notes"} for row in rows
    )
    for row in rows:
        assert row["ci95"][0] <= row["bits_per_note"] <= row["ci95"][1] and row["params"] > 0 and row["new_notes"] > 0
    assert rows[0]["keeps"] == ["pitch"] and "tempo" in rows[2]["keeps"]
    assert (
        rows[0]["corpus"] == rows[1]["corpus"] != rows[2]["corpus"] == "embedded"
    )  # the folder has no annotated beats
    code, out, _ = run(capsys, "systems", "--smoke", "--data", str(folder / "corpus"))
    assert code == 0 and "embedded" in out and "bits a note" in out
