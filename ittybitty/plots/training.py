"""Draws training and validation losses from the records of a training log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from .appearance import GREY, NEW, PALETTE, SEED, axes_or_new, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training_curve(log: Iterable[Mapping], ax: Axes | None = None, x: str = "step") -> Axes:
    """Draw training and validation loss in nats per token, from the records of a log.jsonl (train.log.read_log); `x` is "step" or "tokens".

    Training is drawn as logged, faint, and smoothed over the records before; validation as points.
    """
    records = list(log)
    with style():
        ax = axes_or_new(ax)
        trained = [(r[x], r["nll"]) for r in records if "nll" in r and x in r]
        held_out = [(r[x], r["validation_nll"]) for r in records if "validation_nll" in r and x in r]
        if trained:
            steps, losses = np.array(trained, float).T
            ax.plot(steps, losses, color=SEED, alpha=0.3, lw=0.8)
            ax.plot(steps, _smooth(losses), color=SEED, label="training")
        if held_out:
            steps, losses = np.array(held_out, float).T
            ax.plot(steps, losses, "o-", color=NEW, ms=3.5, label="validation")
            best = int(losses.argmin())
            ax.annotate(
                f"{losses[best]:.3f}",
                (steps[best], losses[best]),
                (0, 7),
                textcoords="offset points",
                ha="center",
                color=NEW,
                fontsize=8,
            )
        ax.set(xlabel="training tokens" if x == "tokens" else x, ylabel="nats per token")
        if trained or held_out:
            ax.legend()
        else:
            ax.text(0.5, 0.5, "nothing logged yet", transform=ax.transAxes, ha="center", color=GREY)
    return ax


def learning_curves(logs: Mapping[str, Iterable[Mapping]], ax: Axes | None = None, x: str = "tokens") -> Axes:
    """Draw several runs in one picture, one colour each: training smoothed as a line, validation as points (see `training_curve`)."""
    with style():
        ax = axes_or_new(ax)
        for (name, log), color in zip(logs.items(), PALETTE):
            records = list(log)
            trained = np.array([(r[x], r["nll"]) for r in records if "nll" in r and x in r], float).reshape(-1, 2)
            held_out = np.array(
                [(r[x], r["validation_nll"]) for r in records if "validation_nll" in r and x in r], float
            ).reshape(-1, 2)
            ax.plot(trained[:, 0], _smooth(trained[:, 1]), color=color, alpha=0.6, lw=1)
            ax.plot(*held_out.T, "o-", color=color, ms=3.5, label=name)
        ax.set(xlabel="training tokens" if x == "tokens" else x, ylabel="nats per token")
        ax.legend()
    return ax


def _smooth(values: np.ndarray, share: float = 0.02) -> np.ndarray:
    """Mean over the latest values, a `share` of all of them."""
    width = max(1, int(len(values) * share))
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (total[ends] - total[starts]) / (ends - starts)
