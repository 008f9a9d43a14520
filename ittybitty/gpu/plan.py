"""Plans a visit to a GPU: its steps, the share of the time budget of each, and the recipe of each row.

    steps(540, ROWS)                    [Step("unpack", 30), Step("check", 54), Step("race", 54), Step("train hybrid", …), …]
    configs("hybrid", "small", 180)     the row's configs with the recipe for a short run

The learning rate follows the time spent (train.minutes), so a training is complete when its share ends, however fast the card is. The
recipe is the one that short trainings on a CPU chose (Muon, a warm-up, a constant rate, a straight fall at the end), with
batches that fill a card. It has not been tuned on one: `--set` changes any of it.

Left out: the estimated times (floors.py), and the running of the steps (run.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import systems
from ..config import override
from ..errors import ConfigError

ROWS = ("hybrid", "notes-hybrid")  # in this order; what they take of the time for training
SHARES = {"hybrid": 0.5, "notes-hybrid": 0.5}
LIMITS = {"unpack": 40.0, "check": 60.0, "race": 60.0, "home": 15.0}  # s at most
PARTS = {"unpack": 0.15, "check": 0.15, "race": 0.12, "home": 0.08}  # of the budget, where that is less
LEAST_TRAINING = 12.0  # s: less than this sees no checkpoint, since a process needs some of it to start
WARM_UP, WARM_UP_AGAIN = 100, 20  # steps; weights that were trained before need few, only the optimizer is new
CHECKPOINT_SECONDS = 20.0  # between two checkpoints, about


@dataclass(frozen=True)
class Step:
    """One process: its name, the row it trains ("" for none), and the seconds it may take."""

    name: str
    seconds: float
    row: str = ""

    @property
    def title(self) -> str:
        """For people and file names."""
        return f"{self.name} {self.row}".strip()


def steps(seconds: float, rows: Sequence[str] = ROWS) -> list[Step]:
    """The steps of a visit of `seconds`; ConfigError where that is too short for one checkpoint of each row."""
    for row in rows:
        systems.system(row)
    if not rows or len(set(rows)) != len(rows):
        raise ConfigError(f"rows are {', '.join(rows) or 'none'}: name each row once")
    own = {name: min(LIMITS[name], PARTS[name] * seconds) for name in LIMITS}
    left = seconds - sum(own.values())
    weights = [SHARES.get(row, 0.5) for row in rows]
    trainings = [left * weight / sum(weights) for weight in weights]
    if min(trainings) < LEAST_TRAINING:
        share = (1 - sum(PARTS.values())) * min(weights) / sum(weights)
        raise ConfigError(
            f"{seconds:g} s are too short for one checkpoint of {' and '.join(rows)}: give {LEAST_TRAINING / share:.0f} s or more, "
            "or fewer rows"
        )
    return [
        *(Step(name, own[name]) for name in ("unpack", "check", "race")),
        *(Step("train", share, row) for row, share in zip(rows, trainings)),
        Step("home", own["home"]),
    ]


def shares(seconds: float, rows: Sequence[str] = ROWS) -> dict[str, float]:
    """Row -> s of its training in a visit of `seconds`."""
    return {step.row: step.seconds for step in steps(seconds, rows) if step.row}


def changes(row: str, preset: str, again: bool = False) -> dict[str, object]:
    """Settings of a short run on a card, where they are not the preset's; `again`: from weights of an earlier visit."""
    own: dict[str, object] = {
        "train.steps": 1_000_000,  # the time ends the run
        "train.optimizer": "muon",
        "train.muon_learning_rate": 0.012,
        "train.learning_rate": 2e-3,
        "train.min_learning_rate": 0.0,
        "train.weight_decay": 0.1,
        "train.label_smoothing": 0.0,
        "train.schedule": "stable",
        "train.cooldown": 0.4,
        "train.warmup": WARM_UP_AGAIN if again else WARM_UP,
        "train.validation_windows": 256,
    }
    if preset == "nano":
        return {**own, "train.warmup": 5 if again else 10, "train.validation_windows": 16}
    if systems.build(row, preset)[
        "model"
    ].events:  # a window is four ids an event: half as many events as ids of `remi`
        return {**own, "train.batch_size": 32}
    return {**own, "train.batch_size": 32, "data.pitch_shift": 6, "data.velocity_shift": 2, "data.tempo_stretch": 0.1}


def configs(row: str, preset: str, again: bool = False, settings: Mapping[str, object] | None = None) -> dict:
    """The configs of a row's training on a card; `settings` such as {"train.batch_size": "64"} win."""
    return override(systems.build(row, preset), {**changes(row, preset, again), **(settings or {})})


def tokenizer_of(row: str) -> str:
    """The name of a row's tokenizer, which is that of its packed tokens."""
    return systems.system(row).tokenizer
