"""The models that can be chosen: shipped ones and run folders, each listed only if its weights are there.

Labels are read from config.json, without torch, so that the page appears quickly; weights are loaded when they are first
needed.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import paths, systems
from ..config import GenerationConfig
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..piano import Piano

MODELS_IN_MEMORY = 2


@dataclass(frozen=True)
class Choice:
    """One entry of the list of models."""

    label: str
    place: Path  # the weights
    system: str = ""

    @property
    def name(self) -> str:
        """The label without the system."""
        return self.label.split(" · ")[0]

    @property
    def sampling(self) -> GenerationConfig:
        """How the model is sampled unless told otherwise."""
        return systems.sampling(self.system) if self.system in systems.SYSTEMS else GenerationConfig()


def choices() -> list[Choice]:
    """Shipped models, then run folders; ConfigError if there is none."""
    found = [(place.name, place) for place in sorted(paths.pretrained_dir().iterdir()) if _complete(place)]
    found += [
        (f"{place.parent.name}/{place.name}", place)
        for place in (*paths.run_dirs(), *paths.attached_runs())
        if _complete(place)
    ]
    listed, seen, names = [], set(), set()
    for label, place in found:
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        label = label if label not in names else f"{label} in {place.parent.parent.name}"
        names.add(label)
        system = _system(place)
        listed.append(Choice(f"{label} · {system}", place, system))
    if not listed:
        raise ConfigError(
            "no model has weights here: train one with ittybitty train hybrid --preset tiny --out runs/mine"
        )
    return listed


def _complete(place: Path) -> bool:
    """Whether a folder has a readable config and weights; damaged weights are reported when they are loaded."""
    weights = any(place.glob("model*.safetensors")) or (place / "last" / "model.safetensors").is_file()
    return weights and (place / "tokenizer.json").is_file() and _system(place) != ""


def _system(place: Path) -> str:
    try:
        name = json.loads((place / "config.json").read_text(encoding="utf-8")).get("system", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) else ""


class Shelf:
    """The models that were loaded last; several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pianos: OrderedDict[Path, Piano] = OrderedDict()

    def load(self, place: Path) -> Piano:
        """The `Piano` of a run folder; CheckpointError says what is wrong with it."""
        from ..piano import Piano

        with self._lock:
            if place not in self._pianos:
                self._pianos[place] = Piano.load(place)
            self._pianos.move_to_end(place)
            while len(self._pianos) > MODELS_IN_MEMORY:
                self._pianos.popitem(last=False)
            return self._pianos[place]
