"""Fixtures that several test files share. Nothing here needs a network, a GPU or files outside the test's own folders.

A test that takes more than about a second of one idle core is marked `slow` (the test, one of its parameters, or with
`pytestmark` a whole file), so that `make test-fast`, which leaves these out, takes less than half a minute on two cores.
`make test-fast` ends with the slowest tests that it ran: mark what stands there without reason. `make test` runs all.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from ittybitty import paths
from ittybitty.midi import write_midi
from ittybitty.notes import Performance, shift, transpose

SLOW_FILE = re.compile(r"^pytestmark = (\[[^\]]*)?pytest\.mark\.slow\b", re.MULTILINE)
_made_here: list[str] = []  # the cache that this process made, to be removed by it


def pytest_configure(config) -> None:
    """No ITTYBITTY_* of the user's, no Kaggle, a cache of the session's own: before any test file is read, once for all workers.

    The embedded corpus is read from music21's scores, and the native code compiled, once a session, or copied from the user's
    cache, where both lie under names made of the code that they come from.
    """
    if hasattr(config, "workerinput"):  # of pytest-xdist: it has the environment of the process that started it
        return
    own = paths.cache_dir()
    for name in [name for name in os.environ if name.startswith(("ITTYBITTY_", "KAGGLE_"))]:
        del os.environ[name]
    cache = Path(tempfile.mkdtemp(prefix="ittybitty-tests-"))
    _made_here.append(str(cache))
    for file in own.glob("embedded-*.npz"):
        shutil.copy(file, cache)
    if (own / "native").is_dir():
        shutil.copytree(own / "native", cache / "native")
    os.environ[paths.CACHE_VARIABLE] = str(cache)
    os.environ[paths.KAGGLE_VARIABLE] = str(cache / "no-kaggle")


def pytest_ignore_collect(collection_path: Path, config) -> bool | None:
    """`make test-fast` does not import files of which every test is slow: that alone would take a fifth of its time."""
    is_test_file = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    if config.option.markexpr == "not slow" and is_test_file and is_slow(collection_path):
        return True
    return None  # whatever pytest says without this function


def is_slow(file: Path) -> bool:
    """Whether a test file marks all its tests as slow."""
    return bool(SLOW_FILE.search(file.read_text(encoding="utf-8")))


def pytest_unconfigure(config) -> None:
    """The session's cache goes with it."""
    for folder in _made_here:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def performance() -> Performance:
    """Eight seconds of melody over broken chords, every attribute varied, with pedal."""
    melody = [
        (0.5 * i + 0.01 * (i % 3), 0.4 + 0.02 * (i % 5), 72 + [0, 2, 4, 5, 7, 9, 11, 12][i % 8], 70 + 3 * (i % 7))
        for i in range(16)
    ]
    chords = [(0.25 * i, 0.22, 48 + [0, 7, 12, 16][i % 4] + [0, 5, 7, 0][i // 8], 50 + i % 11) for i in range(32)]
    return Performance.of(melody + chords, [(2.0 * i + 0.1, 1.8) for i in range(4)])


@pytest.fixture
def midi_file(tmp_path, performance) -> Path:
    """`performance` as a file."""
    path = tmp_path / "seed.mid"
    write_midi(performance, path)
    return path


@pytest.fixture
def maestro_folder(tmp_path, performance) -> Path:
    """A folder in MAESTRO's layout: maestro-v3.0.0/ with the CSV and 3 + 1 + 2 short pieces."""
    return make_maestro(tmp_path / "data", performance) / "maestro-v3.0.0"


def make_maestro(root: Path, performance: Performance) -> Path:
    """Writes root/maestro-v3.0.0 and returns root."""
    folder = root / "maestro-v3.0.0"
    rows = []
    for i, split in enumerate(["train", "train", "train", "validation", "test", "test"]):
        name = f"200{4 + i % 2}/MIDI-Unprocessed_{i:02d}.midi"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_midi(shift(transpose(performance, i - 3), 0.1 * i), folder / name)
        rows.append(
            ["Franz Schubert", f"Piece, No. {i}", split, 2004, name, name.replace(".midi", ".wav"), performance.end]
        )
    with (folder / paths.MAESTRO_CSV).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow("canonical_composer canonical_title split year midi_filename audio_filename duration".split())
        table.writerows(rows)
    return root


@pytest.fixture(scope="session")
def embedded():
    """The embedded corpus, read once a session."""
    from ittybitty.corpora import open_corpus

    return open_corpus("embedded")
