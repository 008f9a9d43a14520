"""Reads a recipe: one YAML file with an experiment's question, its rows, and the amount of data.

    question: What does attention add to Mamba, and where?
    kind: compare                # a key of SETTINGS below
    preset: tiny                 # for every row that does not name another
    passes: 0.1                  # of the training split; or steps: 400
    split: validation
    pieces: 40                   # evaluated, evenly spaced; 0 means all
    rows:
      hybrid: {}
      hybrid-no-attention: {}
      hybrid-1: {system: hybrid, set: {train.seed: 1}}

All settings but `question`, `kind` and `rows` are optional or belong to one kind. A result stores the hash of its row's
settings, so that a changed row is run again and an unchanged one is not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import checkpoint, evaluation, paths
from ..config import nearest
from ..errors import CheckpointError, ConfigError, OutputError

COMMON = {"question", "kind", "rows"}
_TRAINED = {"system": str, "preset": str, "set": dict}
_SCORED = {"split": str, "pieces": int}  # what a model is evaluated on: a change does not need a new training
_MEASURE = {
    "as": str,
    "context": int,
}  # how it is evaluated: as "performance", or bits per note, in windows of so many tokens or events
_PLAYED = {"model": str, "run": str, "seed": int, "sampling": dict, **_SCORED}
SETTINGS: dict[str, dict[str, Any]] = {  # kind of experiment -> its settings and their types
    "compare": {"passes": float, "steps": int, "training_pieces": int, "from": str, **_MEASURE, **_TRAINED, **_SCORED},
    "leak": {"protocol": str, "steps": int, "training_pieces": int, "held_out_pieces": int, **_TRAINED, **_SCORED},
    "overfit": {"task": str, "steps": int, "tokens": int, "prompt": int, **_TRAINED},
    "position": {"model": str, "run": str, "length": int, **_SCORED},
    "music": {"seconds": float, **_PLAYED},
    "endurance": {"tokens": int, **_PLAYED},
    "ears": {
        "opening": float,
        "seconds": float,
        "long": int,
        "notes": int,
        "window": int,
        "whole_files": int,
        **_PLAYED,
    },
    "two-sample": {"opening": float, "seconds": float, **_PLAYED},
    "drift": {"opening": float, "notes": int, "window": int, **_SCORED},
    "memorisation": {"seconds": float, **_PLAYED},
    "complexity": {"turns": int},
    "performance-tokens": {"split": str},
    "factors": {  # the plan; its rows are made by factors.py
        "budget": str,
        "amounts": list,
        "rates": list,
        "seeds": int,
        "seeded": list,
        "seconds": float,
        "optimizers": dict,
        "encodings": dict,
        "preset": str,
        "set": dict,
        **_SCORED,
    },
    "vocabulary": {"training_pieces": list, "largest": int, "pieces": int, "system": str, "preset": str},
}
RECIPE = "recipe"  # file in a run folder: hash of the recipe that trained it


@dataclass(frozen=True)
class Row:
    """One line of an experiment's table."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # the recipe's, with the row's own on top


@dataclass(frozen=True)
class Recipe:
    """A named experiment."""

    name: str
    question: str
    kind: str
    rows: tuple[Row, ...]

    def chosen(self, only: Iterable[str] = ()) -> tuple[Row, ...]:
        """The rows with these names, or all rows if no name is given. ConfigError names the nearest name for an unknown one."""
        names = [row.name for row in self.rows]
        for name in only:
            if name not in names:
                raise ConfigError(f"{self.name} has no row {name!r}: {nearest(name, names)}")
        return tuple(row for row in self.rows if not only or row.name in set(only))

    def hash_of(self, row: Row) -> str:
        """Hash of the kind and the settings: all that the row's figures depend on, except the data."""
        return hashlib.sha256(json.dumps([self.kind, dict(row.settings)], sort_keys=True).encode()).hexdigest()[:16]

    def claim(self, row: Row, run_dir: Path) -> None:
        """Mark a run folder as this row's before it is trained. CheckpointError if another recipe started the run.

        Settings of the evaluation are not compared: they may change without a new training.
        """
        trained_by = {key: value for key, value in row.settings.items() if key not in {*_SCORED, *_MEASURE}}
        own = hashlib.sha256(json.dumps([self.kind, trained_by], sort_keys=True).encode()).hexdigest()[:16]
        mark = run_dir / RECIPE
        try:
            if mark.is_file() and mark.read_text(encoding="utf-8").strip() != own:
                raise CheckpointError(
                    f"{run_dir}: was begun under another recipe; give other --runs, or delete that folder to train the row anew"
                )
            run_dir.mkdir(parents=True, exist_ok=True)
            mark.write_text(own + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{run_dir}: cannot be written ({error.strerror}); give other --runs") from None

    def place(self, row: Row, results: Path) -> Path:
        """The results file of a row."""
        return results / f"{self.name}_{row.name}.json"

    def is_recorded(self, row: Row, place: Path) -> bool:
        """True if the file `place` holds this row, measured with the same settings."""
        try:
            return json.loads(place.read_text(encoding="utf-8")).get("recipe_hash") == self.hash_of(row)
        except (OSError, ValueError, AttributeError):
            return False

    def record(self, row: Row, outcome: Mapping, place: Path) -> None:
        """Write the row's figures with question, settings and provenance."""
        head = {"experiment": self.name, "question": self.question, "kind": self.kind, "row": row.name}
        made = {"settings": dict(row.settings), "recipe_hash": self.hash_of(row)}
        place.parent.mkdir(parents=True, exist_ok=True)
        evaluation.record({**head, **outcome, **made}, place)


class Clock:
    """The hours left of a time budget for several trainings; None means no limit."""

    def __init__(self, hours: float | None):
        self._end = None if hours is None else time.monotonic() + 3600 * hours

    @property
    def left(self) -> float | None:
        """Hours, or None for no limit."""
        return None if self._end is None else max(0.0, (self._end - time.monotonic()) / 3600)

    @property
    def over(self) -> bool:
        """True if nothing more should be started: less than a minute is left."""
        return self.left is not None and self.left < 1 / 60


def folder() -> Path:
    """paper/experiments of the clone; ConfigError for a plain install."""
    root = paths.repository_root()
    if root is None:
        raise ConfigError("experiments lie in paper/experiments/ of a clone: run it from one, or name a recipe's file")
    return root / "paper" / "experiments"


def recipes() -> dict[str, Path]:
    """Name -> file of every recipe of the clone."""
    return {path.stem: path for path in sorted(folder().glob("*.yaml"))}


def read_recipe(name: str | Path) -> Recipe:
    """The recipe of that name, or in that file; ConfigError says what is wrong with it."""
    import yaml

    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = recipes()
        if str(name) not in known:
            raise ConfigError(f"no experiment is called {str(name)!r}: {nearest(str(name), known)}")
        path = known[str(name)]
    try:
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a recipe's file or name") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        trouble = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ConfigError(f"{path}: is not YAML ({trouble}); fix it, or use the one of the repository") from None
    return _recipe(path, text)


def _recipe(path: Path, text: object) -> Recipe:
    if isinstance(text, dict) and text.get("kind") == "factors" and "rows" not in text:
        return _factorial(path, text)
    if not isinstance(text, dict) or not text.keys() >= COMMON:
        raise ConfigError(
            f"{path}: lacks {', '.join(sorted(COMMON - set(text if isinstance(text, dict) else ())))}; paper/experiments/attention.yaml of the repository is an example"
        )
    if text["kind"] not in SETTINGS:
        raise ConfigError(f"{path}: kind is {text['kind']!r}: {nearest(str(text['kind']), SETTINGS)}")
    rows, shared = text["rows"], {key: value for key, value in text.items() if key not in COMMON}
    if not isinstance(rows, dict) or not rows or not all(isinstance(own, dict | None) for own in rows.values()):
        raise ConfigError(f"{path}: rows must be a mapping of names to settings, such as `hybrid: {{}}`")
    for name in map(str, rows):
        if not name or name.startswith(".") or "/" in name or "\\" in name:  # it names a folder and a file
            raise ConfigError(f"{path}: the row's name {name!r} may not be empty, begin with a dot or hold a slash")
    for settings in (shared, *(own or {} for own in rows.values())):
        _check_settings(path, text["kind"], settings)
    merged = tuple(Row(str(name), _merged(shared, own or {})) for name, own in rows.items())
    return Recipe(path.stem, str(text["question"]), text["kind"], merged)


def _factorial(path: Path, text: Mapping) -> Recipe:
    """A recipe of kind "factors", which has a plan in place of rows."""
    from .factors import rows

    plan = {key: value for key, value in text.items() if key not in COMMON}
    _check_settings(path, "factors", plan)
    if not isinstance(text.get("question"), str):
        raise ConfigError(f"{path}: lacks question; paper/experiments/factors.yaml of the repository is an example")
    made = tuple(Row(name, settings) for name, settings in rows(path, plan).items())
    return Recipe(path.stem, text["question"], "factors", made)


def _check_settings(path: Path, kind: str, settings: Mapping) -> None:
    """ConfigError for a setting that the kind does not know, or that is not what it should be."""
    for name, value in settings.items():
        if name not in SETTINGS[kind]:
            raise ConfigError(f"{path}: {kind} has no setting {name!r}: {nearest(str(name), SETTINGS[kind])}")
        wanted = SETTINGS[kind][name]
        good = isinstance(value, (int, float) if wanted is float else wanted) and not isinstance(value, bool)
        if not good or (wanted in (int, float) and not 0 <= value < math.inf):
            raise ConfigError(f"{path}: {name} is {value!r}: give {_WANTED[wanted]}")


_WANTED = {
    str: "a name",
    int: "a whole number, 0 or more",
    float: "a number, 0 or more",
    dict: "names and values, such as {train.seed: 1}",
    list: "a list",
}


def _merged(shared: Mapping, own: Mapping) -> dict:
    """The recipe's settings, overridden by the row's. `set`, which is a mapping, is merged key by key."""
    both = {**shared, **own}
    if "set" in shared or "set" in own:
        both["set"] = {**shared.get("set", {}), **own.get("set", {})}
    return both


def setting(row: Row, name: str, default: Any = dataclasses.MISSING) -> Any:
    """A setting of a row, whose type was checked when the recipe was read; ConfigError where it is missing and has no default."""
    if name not in row.settings and default is dataclasses.MISSING:
        raise ConfigError(f"row {row.name!r} of the recipe lacks {name!r}")
    return row.settings.get(name, default)


def trained_before(row: Row, name: str, run_dir: Path) -> Path:
    """The run folder that a setting such as `run: equal_music/mamba` names, or `from: tiny`, a shipped model.

    CheckpointError says how to train a missing one.
    """
    wanted = str(setting(row, name))
    if "/" not in wanted:
        return checkpoint.find(wanted)
    folder = run_dir.parents[1] / wanted
    if not (folder / checkpoint.MODEL).is_file():
        experiment, _, other = wanted.partition("/")
        raise CheckpointError(
            f"{folder}: is not trained yet; run `ittybitty experiment {experiment} --row {other}` first"
        )
    return folder
