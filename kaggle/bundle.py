"""What Kaggle is given: the offline bundle, the weights and the prepared notebooks, each a folder of build/kaggle/.

    python kaggle/bundle.py --owner YOU                       # package/, train/, evaluate/, quickstart/
    python kaggle/bundle.py --owner YOU --continue            # train/ goes on from its former version's output
    python kaggle/bundle.py --owner YOU --weights RUN_DIR     # and weights/
    python kaggle/bundle.py --owner YOU --mamba mamba_ssm-….whl   # with its CUDA kernels, which you bring

A notebook is copied from notebooks/ with the folder's parameters.yaml injected by papermill [1]; metadata is copied with
your name in it. package/ holds the wheels of constraints.txt that Kaggle's image may lack, for its Python, and our own.
Pip takes from it only what is missing, so a wheel too many does no harm and torch stays the image's.

[1] https://papermill.readthedocs.io.  Left out: uploading, which is the official client's (kaggle/README.md).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ittybitty.errors import ConfigError, IttyBittyError

KAGGLE = Path(__file__).resolve().parent
ROOT = KAGGLE.parent
OUT = ROOT / "build" / "kaggle"
KERNELS = ("train", "evaluate", "quickstart")
OWNER = "OWNER"  # stands for your name in the metadata
IMAGE_PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
# Large, and surely in an image that holds torch, transformers and Jupyter. Names as in constraints.txt, lower case.
IN_IMAGE = frozenset(
    "torch triton numpy scipy numba llvmlite sympy networkx transformers tokenizers hf-xet safetensors huggingface_hub matplotlib pillow "
    "fonttools kiwisolver contourpy jupyterlab jupyter_server jupyterlab_server jupyter-lsp debugpy ipython ipykernel setuptools".split()
)
# The browser that tests the playground, and the tools of development: no notebook needs them.
NOT_THERE = frozenset(
    "playwright greenlet axe-playwright-python ruff mypy mypy_extensions ast-serialize librt pathspec pre-commit cfgv distlib identify nodeenv "
    "python-discovery virtualenv".split()
)
LICENCES = {"CC BY-NC-SA 4.0": "CC-BY-NC-SA-4.0"}  # of a corpus -> as Kaggle writes it
OURS = ("ittybitty", "pyproject.toml", "README.md", "LICENSE", "requirements.txt")  # what our own wheel is made of


def pins(text: str) -> list[str]:
    """The lines name==version of constraints.txt that go into the bundle."""
    lines = [line.strip() for line in text.splitlines()]
    every = [line for line in lines if line and not line.startswith("#")]
    return [line for line in every if line.split("==")[0].lower() not in IN_IMAGE | NOT_THERE]


def metadata(source: Path, owner: str) -> dict:
    """A metadata file with the owner's name in its place."""
    return json.loads(source.read_text(encoding="utf-8").replace(f"{OWNER}/", f"{owner}/"))


def package(out: Path, owner: str, python: str = IMAGE_PYTHON, mamba: Path | None = None) -> None:
    """Wheels for `python` on Linux, our own among them, and no others; a wheel that is there already is not fetched again.

    ConfigError when a wheel cannot be had, or when `mamba` is not one of mamba-ssm for that Python.
    """
    if mamba is not None:
        check_mamba(mamba, python)
    out.mkdir(parents=True, exist_ok=True)
    every = {_key(pin.replace("==", "-")): pin for pin in pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))}
    for wheel in out.glob("*.whl"):  # of other versions, or of another call
        if _key(wheel.name) not in every:
            wheel.unlink()
    for wheel in out.parent.glob("*/*-none-any.whl"):  # what a bundle for another Python has for every Python
        if _key(wheel.name) in every and not (out / wheel.name).exists():
            shutil.copy(wheel, out)
    missing = [pin for key, pin in every.items() if key not in {_key(wheel.name) for wheel in out.glob("*.whl")}]
    target = ["--python-version", python, "--implementation", "cp", *(f"--platform={name}" for name in PLATFORMS)]
    with tempfile.TemporaryDirectory() as scratch:
        if missing:
            _pip("download", "--no-deps", "--only-binary=:all:", *target, "-d", out, *missing)
        source = Path(scratch) / "source"  # a clean copy: setuptools leaves a build/lib behind
        source.mkdir()
        for name in OURS:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source)
        _pip("wheel", "--no-deps", "--no-build-isolation", "-w", out, source)
    if mamba is not None:
        shutil.copy(mamba, out)
    _write(out / "dataset-metadata.json", metadata(KAGGLE / "package" / "dataset-metadata.json", owner))


def check_mamba(wheel: Path, python: str = IMAGE_PYTHON) -> None:
    """ConfigError unless the file is there and is named as a wheel of mamba-ssm for `python` on Linux."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if not wheel.is_file():
        raise ConfigError(f"{wheel}: no such file; give the wheel of mamba-ssm that you have")
    try:
        name, _, _, tags = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename as error:
        raise ConfigError(
            f"{wheel}: is not named as a wheel ({error}); keep the name that it was published under"
        ) from None
    ours = "cp" + "".join(python.split(".")[:2])
    if name != "mamba-ssm" or not any(tag.interpreter == ours and "linux" in tag.platform for tag in tags):
        raise ConfigError(
            f"{wheel}: is not mamba-ssm for Python {python} on Linux; its name must begin with mamba_ssm and hold {ours} and linux"
        )


def kernel(name: str, out: Path, owner: str, changes: dict | None = None, go_on: bool = False) -> Path:
    """A folder for `kaggle kernels push`; the path of its notebook. `changes` go over parameters.yaml.

    With `go_on`, the kernel's own former output is attached, where training finds its checkpoint.
    """
    import papermill
    import yaml

    head = metadata(KAGGLE / name / "kernel-metadata.json", owner)
    if go_on:
        head["kernel_sources"] = sorted({*head["kernel_sources"], head["id"]})
    parameters = yaml.safe_load((KAGGLE / name / "parameters.yaml").read_text(encoding="utf-8")) | (changes or {})
    out.mkdir(parents=True, exist_ok=True)
    notebook = out / head["code_file"]
    papermill.execute_notebook(
        ROOT / "notebooks" / notebook.name, notebook, parameters, prepare_only=True, progress_bar=False
    )
    _write(out / "kernel-metadata.json", head)
    return notebook


def weights(run: Path, out: Path, owner: str) -> None:
    """An export of a run folder as a data set, under the licence of what the run records as learnt from."""
    from ittybitty import checkpoint
    from ittybitty.export import export

    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    export(checkpoint.find(run), out)
    head = metadata(KAGGLE / "weights" / "dataset-metadata.json", owner)
    licences = {one["licence"] for one in checkpoint.read_config(out).get("trained_on") or ()}
    head["licenses"] = [{"name": LICENCES.get(licences.pop(), "other") if len(licences) == 1 else "other"}]
    head["description"] = (
        (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2].strip()
    )  # without its YAML
    _write(out / "dataset-metadata.json", head)


def _key(name: str) -> tuple[str, str]:
    """Project and version of a wheel's name, or of name-version, whatever stands for a space in the project's name."""
    project, _, version = name.rpartition("-") if not name.endswith(".whl") else name.partition("-")
    return re.sub(r"[-_.]+", "_", project).lower(), version.split("-")[0]


def _pip(verb: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", verb, "--quiet", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        errors = (
            [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            or done.stderr.splitlines()
            or ["no reason given"]
        )
        raise ConfigError(
            f"pip {verb} could not make the bundle: {errors[-1].removeprefix('ERROR: ')[:300]}; is the package index reachable?"
        )


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the options; one line and exit code 2 where something does not fit."""
    parser = argparse.ArgumentParser(description="Builds what Kaggle is given, below build/kaggle/.")
    parser.add_argument("--owner", required=True, help="your name on Kaggle, as in kaggle.com/NAME")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="attach the training notebook's former output to it"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="RUN_DIR",
        help="a trained run, or the name of a model that is installed or fetched, for the data set of weights",
    )
    parser.add_argument(
        "--mamba", type=Path, metavar="WHEEL", help="a wheel of mamba-ssm that fits the image's Python and torch"
    )
    parser.add_argument("--python", default=IMAGE_PYTHON, help="the image's Python (%(default)s)")
    parser.add_argument("--notebooks-only", action="store_true", help="leave the wheels as they are")
    options = parser.parse_args()
    try:
        build(options)
    except IttyBittyError as error:
        print(f"bundle.py: {error}", file=sys.stderr)
        sys.exit(2)


def build(options: argparse.Namespace) -> None:
    """The folders that the options ask for; says what they weigh."""
    if not options.notebooks_only:
        package(OUT / "package", options.owner, options.python, options.mamba)
    for name in KERNELS:
        kernel(name, OUT / name, options.owner, go_on=options.go_on and name == "train")
    if options.weights:
        weights(options.weights, OUT / "weights", options.owner)
    for folder in sorted(path for path in OUT.iterdir() if path.is_dir()):
        files = [path for path in folder.rglob("*") if path.is_file()]
        print(
            f"{folder.relative_to(ROOT)}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
