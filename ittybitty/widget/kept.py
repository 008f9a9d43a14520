"""Writes takes as text and reads them, so that the browser can keep them while the page is reloaded.

A take is written as its request and three MIDI files: the seed, the new notes, and the file that is downloaded. The text
comes back from a browser, so nothing in it is trusted: whatever is not a take is left out.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from ..errors import IttyBittyError
from ..midi import midi_bytes, read_midi_bytes
from ..notes import Performance
from .models import Choice
from .takes import Request, Take

SETTINGS = (
    "model",
    "seed_name",
    "temperature",
    "top_k",
    "top_p",
    "hold",
    "number",
    "notes",
    "seconds",
    "start",
    "ending",
)
MOST = 10**6  # takes: a larger number cannot come from a page
LARGEST = 2**24  # characters: a longer text is not read


def written(take: Take) -> str:
    """A take as one line of JSON."""
    settings = {name: getattr(take.request, name) for name in SETTINGS}
    music = {"seed": take.request.seed, "new": Performance(take.new)}
    files = {name: _text(midi_bytes(part)) if len(part) else "" for name, part in music.items()}
    document = {"take": take.number, "stopped": take.stopped, **settings, **files, "joined": _text(take.midi)}
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def read(text: str, choices: list[Choice]) -> list[Take]:
    """Takes from a JSON list of texts of `written`, sorted by number; an empty list for a text that is no such list."""
    try:
        documents = json.loads(text) if len(text) <= LARGEST else []
    except (ValueError, RecursionError):
        return []
    if not isinstance(documents, list):
        return []
    takes = [_take(document, choices) for document in documents if isinstance(document, dict)]
    by_number = {take.number: take for take in takes if take is not None}
    return [by_number[number] for number in sorted(by_number)]


def _take(document: dict, choices: list[Choice]) -> Take | None:
    try:
        number, stopped = document["take"], document["stopped"]
        settings = {name: document[name] for name in SETTINGS if name != "hold"}
        settings["hold"] = float(document.get("hold", 0.0))  # takes from before it was there had none
        model, named = settings["model"], settings["seed_name"]
        if not (type(number) is type(settings["number"]) is int and type(stopped) is bool and 0 < number < MOST):
            return None
        if not (isinstance(model, str) and isinstance(named, str) and type(settings["ending"]) is bool):
            return None
        place = next((choice.place for choice in choices if choice.name == model), Path(model))
        request = Request(place=place, seed=_music(document["seed"]), **settings)
        midi = base64.b64decode(document["joined"], validate=True)
        new = _music(document["new"]).notes
        return Take(number, request, new, read_midi_bytes(midi, "take"), midi, stopped) if len(new) else None
    except (IttyBittyError, KeyError, TypeError, ValueError):
        return None


def _music(text: str) -> Performance:
    return read_midi_bytes(base64.b64decode(text, validate=True), "take") if text else Performance()
