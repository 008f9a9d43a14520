"""`make reproduce`: run all numbered notebooks in order, at their small size, with papermill [1].

Executed copies are written to build/notebooks/, the seconds that each took in build/notebooks/seconds.json; the committed
notebooks are not touched. [1] https://papermill.readthedocs.io

Left out: full-size parameters, which kaggle/ injects for GPUs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import ConfigError, IttyBittyError
from .jsonable import dumps
from .paths import DATA_VARIABLE, atomic_path, repository_root

MUSIC = (".mid", ".wav", ".png")
QUIET = [
    "--IPKernelApp.log_level=CRITICAL"
]  # else kernels warn of connections over loopback, and of a Ctrl-C that a notebook sends on purpose


class NotebookError(IttyBittyError):
    """A notebook failed."""


def notebooks(root: Path, only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks in order; with `only`, those whose name contains one of the words."""
    every = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    found = [path for path in every if not only or any(word in path.stem for word in only)]
    if not found:
        raise ConfigError(
            f"no notebook is called {' or '.join(only) or '[0-9][0-9]_*'}: there is {', '.join(p.stem for p in every) or 'none'}"
        )
    return found


def reproduce(only: Sequence[str] = (), say: Callable[[str], None] = print) -> tuple[dict, str]:
    """Run the notebooks, with one line for each. Returns seconds and output files, and a summary as text."""
    root = repository_root()
    if root is None:
        raise ConfigError("the notebooks are not here: run this inside a clone of the repository")
    build = root / "build" / "notebooks"
    build.mkdir(parents=True, exist_ok=True)
    os.environ[DATA_VARIABLE] = "embedded"  # the same music on every machine
    paths, seconds, started = notebooks(root, only), {}, time.time()
    width = max(len(path.stem) for path in paths)
    for path in paths:
        seconds[path.stem] = _run(path, build / path.name)
        say(f"{path.stem:<{width}}  {seconds[path.stem]:6.1f} s")
    with atomic_path(build / "seconds.json") as place:
        place.write_text(dumps(seconds, indent=1) + "\n")
    made = _music(root / "build", started)
    lines = [
        f"{len(seconds)} notebooks in {sum(seconds.values()):.0f} s; executed copies in {build.relative_to(root)}/"
    ]
    lines += [f"continuation: {', '.join(str(path.relative_to(root)) for path in made)}"] if made else []
    return {"seconds": seconds, "copies": build, "continuation": made}, "\n".join(lines)


def _run(path: Path, copy: Path) -> float:
    """Run one notebook and return the seconds it took."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    begun = time.perf_counter()
    try:
        papermill.execute_notebook(
            path, copy, kernel_name="python3", cwd=path.parent, progress_bar=False, extra_arguments=QUIET
        )
    except PapermillExecutionError as error:
        raise NotebookError(
            f"{path.stem}: cell {error.exec_count} failed with {error.ename}: {error.evalue}; the copy up to there is {copy}"
        ) from None
    return time.perf_counter() - begun


def _music(build: Path, since: float) -> list[Path]:
    """Files called continuation.* below build/ that this run wrote: MIDI, WAV, PNG."""
    fresh = [
        path for path in build.rglob("continuation.*") if path.suffix in MUSIC and path.stat().st_mtime >= since - 1
    ]
    return sorted(fresh, key=lambda path: (MUSIC.index(path.suffix), path))
