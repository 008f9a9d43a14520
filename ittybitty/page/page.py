"""Writes the page as one HTML file that holds weights, tables, seeds, style and script, so that it works from disk and from any server."""

from __future__ import annotations

import base64
import html
import json
from importlib import resources
from pathlib import Path

from ..errors import OutputError
from ..paths import atomic_path
from ..piano import Piano
from . import seeds
from .bundle import bundle
from .document import document, playable
from .weights import pack

LIMIT = 8_000_000  # bytes of a page: what a phone loads in a few seconds


def page_html(model: str | Path | Piano = "tiny") -> str:
    """The page of a shipped model, a run folder or a loaded `Piano`, as text.

    CheckpointError where the model is not one that the page can play, OutputError where the page would pass LIMIT.
    """
    piano = model if isinstance(model, Piano) else Piano.load(model)
    index, data = pack(playable(piano)[0])
    told = {**document(piano, index), "seeds": seeds.as_json()}
    parts = {
        "TITLE": html.escape(f"Itty Bitty: {told['name']}"),
        "STYLE": _read("page.css"),
        "DOCUMENT": json.dumps(told, separators=(",", ":")).replace("<", "\\u003c"),
        "WEIGHTS": base64.b64encode(data).decode(),
        "WORKER": _script("worker.js"),
        "SCRIPT": _script("app.js"),
    }
    text = _read("index.html")
    for name, value in parts.items():
        text = text.replace(f"<!-- {name} -->", value, 1)
    size = len(text.encode())
    if size > LIMIT:
        raise OutputError(
            f"{piano.name}: its page would have {size / 1e6:.1f} MB, and the limit is {LIMIT / 1e6:.0f} MB "
            f"({len(data) / 1e6:.1f} MB of weights); take a smaller model"
        )
    return text


def write_page(path: str | Path, model: str | Path | Piano = "tiny") -> int:
    """Writes the page, atomically, and returns its size in bytes. The path is checked before the work begins."""
    with atomic_path(path) as temporary:
        text = page_html(model).encode()
        temporary.write_bytes(text)
    return len(text)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script(entry: str) -> str:
    """The bundle of a module; the end of a script element must not stand in it."""
    with resources.as_file(resources.files(__package__).joinpath("js")) as folder:
        return bundle(folder / entry).replace("</script", "<\\/script")
