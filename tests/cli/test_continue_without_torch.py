"""`ittybitty continue` plays without PyTorch where native code can, and plays what it plays with it."""

import subprocess
import sys
from dataclasses import replace

import mido
import pytest

from ittybitty.midi import read_midi, write_midi
from ittybitty.models import native
from ittybitty.notes import TempoMap
from ittybitty.piano import Piano
from performances import random_performance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not native.status()[0], reason=f"no native code here: {native.status()[1]}"),
]
HEAVY = ("torch", "transformers", "matplotlib", "scipy")


@pytest.fixture(scope="module")
def seed(tmp_path_factory):
    place = tmp_path_factory.mktemp("seed") / "seed.mid"
    clock = TempoMap(480, ((0, 618_557),), ((0, 3, 4),))  # 97 quarters a minute, three in a bar
    write_midi(replace(random_performance(4, notes=40, seconds=10), tempo_map=clock), place)
    return place


@pytest.mark.parametrize("model", ["tiny", "tiny-remi"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_command_line_imports_no_pytorch_and_plays_the_same(model, precision, seed, tmp_path):
    out = tmp_path / "out.mid"
    options = ["--seconds", "4", "--seed", "7", "--model", model, "--precision", precision]
    program = (
        "import sys; from ittybitty.cli import main; "
        f"code = main(['continue', {str(seed)!r}, '-o', {str(out)!r}, *{options}]); "
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "0 []", run.stderr
    played = read_midi(out)
    metre = {str(message) for track in mido.MidiFile(out).tracks for message in track if message.is_meta}
    assert any("set_tempo" in one and "tempo=618557" in one for one in metre)
    assert any("time_signature" in one and "numerator=3" in one for one in metre)
    made = Piano.load(model).continue_(
        read_midi(seed), seconds=4, seed=7, precision=precision, ending=True, before_ending=True
    )
    again = tmp_path / "again.mid"
    write_midi(made.joined, again)
    assert len(made.new) > 3 and len(read_midi(again)) == len(played)
    assert (read_midi(again).notes["pitch"] == played.notes["pitch"]).all()


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, seed):
    import shutil

    from ittybitty.checkpoint import find
    from ittybitty.errors import CheckpointError

    run = tmp_path / "run"
    shutil.copytree(find("tiny-remi"), run)
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"d_state": 16', '"d_state": 8'))
    with pytest.raises(CheckpointError, match="has shape .*another model"):
        Piano.for_playing(run)
