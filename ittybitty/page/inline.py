"""Shows the page inside a notebook.

A notebook file must stay small, so the page (several megabytes) is never stored in it: the cell writes the page to disk, and
its output holds a frame that loads it and a line of links. What a reader sees then depends on where the notebook is read:

    JupyterLab, Notebook    the frame shows the file that was written; the server must be allowed to read its folder, as it
                            is after `make lab`
    run without a server    (papermill, Kaggle, Colab, an editor): the frame shows the published page, so that the output
                            also plays where no kernel runs, such as on nbviewer; this needs a network
    GitHub's own viewer     shows no frames: the link to the published page is what is left
"""

from __future__ import annotations

import html
import os
from pathlib import Path
from urllib.parse import quote

from ..paths import on_kaggle
from ..piano import Piano
from .page import write_page

PUBLISHED = "https://ittybitty-piano.github.io/ittybitty/"  # where .github/workflows/pages.yml puts the page of `tiny`
HEIGHT = 760  # pixels


class Inline:
    """A page on disk as a notebook shows it. `path` is the file, `address` what the frame loads."""

    def __init__(self, path: Path, served: bool, height: int = HEIGHT):
        self.path, self.height = path, height
        self.relative = quote(Path(os.path.relpath(path)).as_posix())  # relative to the notebook's folder
        self.address = self.relative if served else PUBLISHED

    def _repr_html_(self) -> str:
        file = html.escape(os.path.relpath(self.path))
        return (
            f'<iframe src="{self.address}" width="100%" height="{self.height}" loading="lazy" allow="midi; autoplay; screen-wake-lock" '
            'title="Itty Bitty: a piano that continues what you play" style="border: 0"></iframe>'
            f'<p>No page above? Open <a href="{self.relative}" target="_blank"><code>{file}</code></a> in a browser, '
            f'or <a href="{PUBLISHED}" target="_blank">the published page</a>, which needs no kernel.</p>'
        )

    def __repr__(self) -> str:
        return f"{os.path.relpath(self.path)}: open it in a browser; the published page is {PUBLISHED}"


def show(path: str | Path, model: str | Path | Piano = "tiny", height: int = HEIGHT) -> Inline:
    """Writes the page to `path` and returns what a notebook shows of it; `height` in pixels.

    Errors are those of `write_page`. The module's text says what each kind of notebook viewer shows.
    """
    write_page(path, model)
    served = bool(os.environ.get("JPY_SESSION_NAME")) and not on_kaggle()  # set by Jupyter's server for its notebooks
    return Inline(Path(path).resolve(), served, height)
