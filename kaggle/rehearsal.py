"""Rehearse two Kaggle sessions on this machine, in a temporary root; the first session is killed.

    make kaggle-rehearsal          # or: python kaggle/rehearsal.py

What is played: an image that has torch and Jupyter but lacks what Kaggle's lacks; /kaggle/input in its old and its new
layout, read only; /kaggle/working limited in size; no network; Kaggle's environment variables; the bundle, a wheel in the
place of mamba-ssm's among it, installed by the notebooks' own first cell from disk alone; a kill in the middle of writing a
checkpoint; a disk that is full at one checkpoint. What runs are the prepared notebooks, with fewer steps of a smaller model
on a handful of made-up pieces: training twice, evaluation of what was trained, and the quickstart with its exported weights.

Each notebook runs in mount and network namespaces of its own [1], where the system lets us make them: then the limits are
the kernel's. Else Python's own calls play them. The one step that needs a network is the first, fetching wheels; those for
the image's Python are fetched too, to see that each is there.

[1] unshare(1), namespaces(7).  Left out, since only Kaggle has it: its real image and GPUs, its scheduler, and how fast its
disks are.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path

import bundle

from ittybitty import checkpoint, paths
from ittybitty.errors import ConfigError
from ittybitty.midi import write_midi
from ittybitty.notes import Performance
from ittybitty.train.log import read_log

OWNER, MIDI = "rehearsal", "kritanjalijain/maestropianomidi"
# What the image is known to lack, or may lack: these come out of the bundle.
LACKS = frozenset(
    "ittybitty miditok symusic muspy music21 mido pretty_midi miditoolkit pypianoroll ncps vector-quantize-pytorch nbval pytest-xdist".split()
)
DISK = 24_000_000  # bytes that working may hold
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
WHEELS = bundle.ROOT / "build" / "rehearsal"  # kept from one rehearsal to the next
STEPS, EVERY = 60, 10
CHANGES = {
    "model.pattern": "MF MFA",
    "model.d_model": 48,
    "model.d_ff": 96,
    "model.n_heads": 2,
    "model.vocab_size": 512,
    "data.context": 128,
    "train.steps": STEPS,
    "train.batch_size": 8,
    "train.warmup": 5,
    "train.learning_rate": 3e-3,
    "train.checkpoint_every": EVERY,
    "train.validate_every": 30,
    "train.validation_windows": 8,
}

# A network with nothing but the loopback, /kaggle/input read only, /kaggle/working a disk of its own, whose files are kept.
NAMESPACES = """
root=$1; size=$2; shift 2
ip link set lo up
mkdir -p "$root/kept"; mount --bind "$root/working" "$root/kept"
mount -t tmpfs -o size=$size working "$root/working"; cp -a "$root/kept/." "$root/working"
mount --bind "$root/input" "$root/input"; mount -o remount,bind,ro "$root/input"
cd "$root/working"
code=0; "$@" || code=$?
find "$root/kept" -mindepth 1 -delete; cp -a "$root/working/." "$root/kept"
exit $code
"""
UNSHARE = ["unshare", "--map-root-user", "--mount", "--net", "sh", "-ec"]

# Loaded by every Python of the image at its start. A checkpoint is three files, each synchronised when it is written.
FAULTS = """
import errno, os, signal, socket
from pathlib import Path

working = Path(os.environ.get("ITTYBITTY_KAGGLE_ROOT", "/nowhere"), "working")
kill, full, limit = (int(os.environ.get(f"REHEARSAL_{name}", 0)) for name in ("KILL", "FULL", "DISK"))
connect, fsync, seen = socket.socket.connect, os.fsync, 0


def no_network(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
        raise OSError(errno.ENETUNREACH, "no network in this rehearsal")
    return connect(self, address)


def small_disk(file):
    global seen
    path = Path(os.readlink(f"/proc/self/fd/{file}"))
    if path.parent.name == "last.writing" and working in path.parents:
        seen += 1
        if seen == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        used = sum(p.stat().st_size for p in working.rglob("*") if p.is_file())
        if seen == full or (limit and used > limit):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
    fsync(file)


socket.socket.connect, os.fsync = no_network, small_disk
"""


def main() -> None:
    """Plays the two sessions; ends with an AssertionError where one does not go as it should."""
    if sys.platform != "linux":
        sys.exit("the rehearsal needs Linux, as Kaggle is")
    began = time.monotonic()
    fetch_for_the_image(began)
    with tempfile.TemporaryDirectory(prefix="kaggle-", dir=in_memory()) as scratch:
        root = Path(scratch)
        first, second = root / "first", root / "second"
        wheels = WHEELS / f"package-{HERE}"
        bundle.package(wheels, OWNER, HERE, stand_in(root))
        say(began, f"bundle for Python {HERE}: {len(list(wheels.glob('*.whl')))} wheels")
        begin_session(first, wheels, f"datasets/{OWNER}/itty-bitty-package", f"datasets/{MIDI}")
        limits = (
            "the kernel holds them"
            if namespaces(first)
            else "no namespaces here, so file modes and Python's own calls hold them"
        )
        say(began, f"no network, {DISK / 1e6:.0f} MB of disk, inputs read only: {limits}")
        reached = killed_session(first, began)
        say(began, f"session 1: killed while it wrote a checkpoint; step {reached} is safe")
        begin_session(second, wheels, "itty-bitty-package", MIDI.split("/")[1])
        attach(first / "working", second / "input" / "itty-bitty-train")
        resumed_session(second, reached)
        say(began, f"session 2: went on from step {reached} to {STEPS}, past a full disk")
        evaluate_and_play(second, root / "weights")
        say(began, "the evaluation of that run, and the quickstart with its exported weights, ran")
    say(began, "the rehearsal went well")


def fetch_for_the_image(began: float) -> None:
    """See that every wheel of the bundle is there for Kaggle's Python; without a network, say that it was not seen."""
    if HERE == bundle.IMAGE_PYTHON:
        return
    wheels = WHEELS / f"package-{bundle.IMAGE_PYTHON}"
    try:
        bundle.package(wheels, OWNER)
        say(
            began,
            f"bundle for Kaggle's Python {bundle.IMAGE_PYTHON} on Linux: all {len(list(wheels.glob('*.whl')))} wheels are there",
        )
    except ConfigError as error:
        say(began, f"skipped: wheels for Kaggle's Python {bundle.IMAGE_PYTHON} ({error})")


def say(began: float, line: str) -> None:
    """A line with the seconds since the beginning."""
    print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)


# ---------------------------------------------------------------- a stand-in for Kaggle


def image(folder: Path) -> None:
    """A Python that has this one's packages but for LACKS, as links on a path that is not its own: pip cannot change them."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    own = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    brought = folder.with_name("brought")
    brought.mkdir()
    for distribution in metadata.distributions():
        if distribution.metadata["Name"].lower() in LACKS:
            continue
        for top in {file.parts[0] for file in distribution.files or () if file.suffix != ".pth"} - {
            "..",
            "__pycache__",
        }:
            if not (brought / top).exists():
                (brought / top).symlink_to(distribution.locate_file(top))
    (own / "rehearsal_faults.py").write_text(FAULTS, encoding="utf-8")
    (own / "rehearsal.pth").write_text(f"{brought}\nimport rehearsal_faults\n", encoding="utf-8")
    kernel = folder / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    start = [str(folder / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": start, "display_name": "Python 3", "language": "python"}), encoding="utf-8")


def in_memory() -> Path | None:
    """Where files are quick to make and to remove, if there is room: an image holds thousands."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4e9 else None


def stand_in(folder: Path) -> Path:
    """A wheel that is called as mamba-ssm's are and holds nothing: what it would hold is of no use without CUDA."""
    tag = f"cp{HERE.replace('.', '')}"
    path = folder / f"mamba_ssm-0.0.0+rehearsal-{tag}-{tag}-linux_{platform.machine()}.whl"
    about = "mamba_ssm-0.0.0+rehearsal.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("mamba_ssm/__init__.py", "")
        wheel.writestr(
            f"{about}/METADATA",
            "Metadata-Version: 2.1\nName: mamba-ssm\nVersion: 0.0.0+rehearsal\nRequires-Dist: causal-conv1d\n",
        )
        wheel.writestr(
            f"{about}/WHEEL",
            f"Wheel-Version: 1.0\nGenerator: rehearsal\nRoot-Is-Purelib: false\nTag: {path.stem.split('-', 2)[2]}\n",
        )
        wheel.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in [*wheel.namelist(), f"{about}/RECORD"]))
    return path


def begin_session(root: Path, wheels: Path, package: str, midi: str) -> None:
    """A fresh image, an empty working folder, and inputs at these mounts."""
    (root / "working").mkdir(parents=True)
    image(root / "image")
    attach(wheels, root / "input" / package)
    maestro = root / "maestro"
    make_maestro(maestro / "maestro-v3.0.0")
    attach(maestro, root / "input" / midi)
    compiled = paths.cache_dir() / "native"
    if compiled.is_dir():  # compiling takes a minute, and is not what is rehearsed
        shutil.copytree(compiled, root / "home" / ".cache" / "ittybitty" / "native")


def attach(folder: Path, mount: Path) -> None:
    """A read-only copy, as Kaggle mounts a data set or a former output."""
    shutil.copytree(folder, mount, copy_function=shutil.copyfile)
    for path in (mount, *mount.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def make_maestro(folder: Path) -> None:
    """Eighteen pieces of a minute in MAESTRO's layout."""
    dice = random.Random(0)
    rows = ["canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"]
    for i, split in enumerate(["train"] * 10 + ["validation"] * 6 + ["test"] * 2):
        chords = [dice.choice([0, 5, 7, 9]) for _ in range(60)]
        notes = [(0.25 * n, 0.22, 48 + i % 5 + chords[n // 4] + [0, 7, 12, 16][n % 4], 50 + n % 23) for n in range(240)]
        file = f"2004/piece-{i:02d}.midi"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_midi(Performance.of(notes, [(2.0 * n + 0.1, 1.8) for n in range(30)]), folder / file)
        rows.append(f"Nobody,Piece {i},{split},2004,{file},{file},60.0")
    (folder / "maestro-v3.0.0.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def environment(root: Path, **faults: int) -> dict[str, str]:
    """Kaggle's, with what goes wrong in this session."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "OMP_NUM_THREADS")}
    kaggle = {
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_URL_BASE": "https://www.kaggle.com",
        "KAGGLE_CONTAINER_NAME": "rehearsal",
    }
    return {
        **kept,
        **kaggle,
        "ITTYBITTY_KAGGLE_ROOT": str(root),
        "HOME": str(root / "home"),
        "MPLBACKEND": "agg",
        "PYTHONWARNINGS": "ignore",
        "REHEARSAL_DISK": str(DISK),
        **{f"REHEARSAL_{name.upper()}": str(value) for name, value in faults.items()},
    }


def namespaces(root: Path) -> bool:
    """Whether this system lets us have the namespaces of NAMESPACES."""
    try:
        return (
            subprocess.run([*UNSHARE, NAMESPACES, "sh", root, str(DISK), "true"], capture_output=True).returncode == 0
        )
    except OSError:
        return False


def run(root: Path, name: str, changes: dict, **faults: int) -> tuple[int, str]:
    """Run a prepared notebook as Kaggle does; papermill's exit code, and all that the cells printed."""
    notebook = bundle.kernel(name, root / "kernels" / name, OWNER, changes)
    done = root / "working" / "__notebook__.ipynb"
    command = [
        root / "image" / "bin" / "python",
        "-m",
        "papermill",
        "-k",
        "python3",
        "--no-progress-bar",
        notebook,
        done,
    ]
    if namespaces(root):
        command = [*UNSHARE, NAMESPACES, "sh", root, DISK, *command]
    ended = subprocess.run(
        list(map(str, command)), cwd=root / "working", env=environment(root, **faults), capture_output=True, text=True
    )
    cells = json.loads(done.read_text(encoding="utf-8"))["cells"] if done.is_file() else []
    printed = "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))
    return ended.returncode, printed + ended.stderr


# ---------------------------------------------------------------- the two sessions


def train(root: Path, **faults: int) -> tuple[int, str]:
    """The training notebook, smaller."""
    return run(
        root,
        "train",
        {"OUT": str(root / "working" / "small"), "PRESET": "tiny", "EPOCHS": None, "CHANGES": CHANGES},
        **faults,
    )


def killed_session(root: Path, began: float) -> int:
    """Session 1, killed at the eighth file of its checkpoints: in the middle of the third. The step that is safe."""
    code, said = train(root, kill=8)
    assert code != 0, "the kernel was to be killed:\n" + said[-2000:]
    assert "offline, from the attached bundle" in said, said[-2000:]
    cells = json.loads((root / "working" / "__notebook__.ipynb").read_text(encoding="utf-8"))["cells"]
    cell = next(cell for cell in cells if "offline, from" in str(cell.get("outputs")))
    installed = {path.name for path in (root / "image").glob("lib/*/site-packages/*")}
    assert {"ittybitty", "miditok", "mamba_ssm"} <= installed and "torch" not in installed, installed
    say(
        began,
        f"its first cell installed the bundle, and left torch alone, in {cell['metadata']['papermill']['duration']:.0f} s",
    )
    last = checkpoint.newest(root / "working" / "small" / "run")
    assert last is not None and last.step in (2 * EVERY, 3 * EVERY), last
    return last.step


def resumed_session(root: Path, reached: int) -> None:
    """Session 2 goes on from the attached output; its second checkpoint finds the disk full."""
    code, said = train(root, full=5)
    assert code == 0, said[-3000:]
    for words in ("taken over from", f"goes on from step {reached} of {STEPS}", "no checkpoint could be written"):
        assert words in said, f"the notebook does not say {words!r}:\n{said[-3000:]}"
    run_dir = root / "working" / "small" / "run"
    assert checkpoint.newest(run_dir).step == STEPS
    steps = [record["step"] for record in read_log(run_dir / "log.jsonl") if "loss" in record]
    assert steps == sorted(set(steps)) and steps[0] <= reached and steps[-1] == STEPS, steps
    assert not [path for path in run_dir.iterdir() if path.name.startswith("last.")]


def evaluate_and_play(root: Path, weights: Path) -> None:
    """Evaluation of what was trained, attached as another notebook's output; the quickstart with it as a data set of weights."""
    run_dir = root / "working" / "small" / "run"
    bundle.weights(run_dir, weights, OWNER)
    shutil.rmtree(root / "input" / "itty-bitty-train")
    attach(run_dir.parent, root / "input" / "notebooks" / OWNER / "itty-bitty-train" / "small")
    attach(weights, root / "input" / "datasets" / OWNER / "itty-bitty-weights")
    code, said = run(root, "evaluate", {"LIMIT": 2, "LENGTH": 256, "SECONDS": 20.0})  # pieces of a minute
    assert code == 0, said[-3000:]
    out = root / "working" / "quickstart"
    code, said = run(root, "quickstart", {"OUT": str(out), "DATA": None, "MODEL": "itty-bitty-weights", "TOKENS": 128})
    assert code == 0, said[-3000:]
    assert (out / "continuation.mid").stat().st_size > 0


if __name__ == "__main__":
    main()
