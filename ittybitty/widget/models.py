"""What can play: models that ship, run folders that are found, and the rows of the table that nobody has trained here.

Labels are read from config.json, without torch, so that the page is there at once; the weights are loaded when they are
asked for. A row without weights is shown with the command that makes them, and never played.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from .. import paths, systems

MODELS_IN_MEMORY = 2


@dataclass(frozen=True)
class Choice:
    """One line of the list of models."""

    label: str
    place: Path | None = None  # None: no weights
    mend: str = ""  # what makes them

    @property
    def trained(self) -> bool:
        return self.place is not None


def choices() -> list[Choice]:
    """Shipped models, then run folders, then rows without weights."""
    found = [(place.name, place) for place in sorted(paths.pretrained_dir().iterdir()) if _complete(place)]
    found += [
        (f"{place.parent.name}/{place.name}", place)
        for place in (*paths.run_dirs(), *paths.attached_runs())
        if _complete(place)
    ]
    trained, seen, names = [], set(), set()
    for label, place in found:
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        label = label if label not in names else f"{label} in {place.parent.parent.name}"
        names.add(label)
        trained.append((_system(place), Choice(f"{label} · {_system(place)}", place)))
    have = {system for system, _ in trained}
    untrained = [Choice(f"{name} · no weights here", None, _mend(name)) for name in systems.SYSTEMS if name not in have]
    return [choice for _, choice in trained] + untrained


def _mend(name: str) -> str:
    return f"{name} has not been trained here: ittybitty train {name} --preset tiny --out runs/{name}, then reload this page"


def _complete(place: Path) -> bool:
    """Whether a folder says what it is and holds weights; what is damaged in them is said when they are loaded."""
    weights = any(place.glob("model*.safetensors")) or (place / "last" / "model.safetensors").is_file()
    return weights and (place / "tokenizer.json").is_file() and _system(place) != ""


def _system(place: Path) -> str:
    try:
        name = json.loads((place / "config.json").read_text(encoding="utf-8")).get("system", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) else ""


class Shelf:
    """Loaded models, the last few of them; safe to ask from several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._pianos: OrderedDict[Path, object] = OrderedDict()

    def load(self, place: Path):
        """The `Piano` of a run folder; CheckpointError says what is wrong with it."""
        from ..generation import Piano

        with self._lock:
            if place not in self._pianos:
                self._pianos[place] = Piano.load(place)
            self._pianos.move_to_end(place)
            while len(self._pianos) > MODELS_IN_MEMORY:
                self._pianos.popitem(last=False)
            return self._pianos[place]
