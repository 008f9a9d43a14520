"""Cuts token files into windows and makes training batches (x, y), in an order decided by (seed, epoch, step) alone.

No batch depends on the batches before it, so resuming is exact: batch 7,001 of a run is the same whether 7,000 batches came
before it or none. A piece of n tokens has n - 1 targets; they are cut into ceil((n - 1) / L) windows, the smallest possible
number, so every epoch has the same number of steps. The positions of the cuts are drawn again for each epoch. With a `stride`
windows overlap, as in some published recipes: one begins every `stride` tokens, the last one ends with its piece, and each
epoch reads the same ones in another order.

Augmentation transposes each window anew, or (`copies`) gives each piece transposed copies that are drawn once.

Windows never cross pieces and a split is whole pieces, so no window of a held-out piece is ever trained on.
Left out: packing several pieces into one window (their boundary would need a mask in every model).
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..config import DataConfig
from ..errors import ConfigError, CorpusError
from ..models import IGNORED
from ..notes import HIGHEST_PITCH, LOWEST_PITCH
from ..tokenizers.protocol import Tokenizer

_AS_IT_IS = DataConfig(stride=0, copies=0, pitch_shift=0, velocity_shift=0, tempo_stretch=0.0)  # no augmentation


@dataclass(frozen=True)
class Plan:
    """The windows of one epoch: the length of each piece's first window, and the order of all windows."""

    first: np.ndarray  # (pieces,) tokens of a piece's first window
    order: np.ndarray  # (windows,) a permutation


class Store(Protocol):
    """What Windows reads: tokenizers.store.TokenStore, or anything with the same members."""

    pieces: Any  # a sequence of objects with .split, .length and .flat (all notes have one velocity)

    def split(self, name: str) -> list[int]:
        """Indices of the pieces of a split."""

    def tokens(self, i: int) -> np.ndarray:
        """The ids of piece i."""


class TrainingStore(Store, Protocol):
    """What a training reads besides: the tokenizer of the ids, and what a run records of the corpus."""

    corpus: str  # name; empty if it is not to be recorded
    licence: str

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the ids."""


class Windows:
    """Batches of one split of a token store.

    `batch_size` counts the windows of a whole step; each of `world` ranks gets its share of them, without overlap or
    omission. Augmentation happens when `data` and `tokenizer` are given and `data` asks for any.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        context: int,
        batch_size: int,
        tokenizer: Tokenizer | None = None,
        data: DataConfig | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        if context < 1 or batch_size < 1:
            raise ConfigError(f"context {context} and batch_size {batch_size} must both be 1 or more")
        if not 0 <= rank < world:
            raise ConfigError(f"rank {rank} of {world} processes: give a rank from 0 to {world - 1}")
        self.store, self.context, self.batch_size = store, context, batch_size
        self.seed, self.rank, self.world = seed, rank, world
        data = data if data is not None else _AS_IT_IS
        self.tokenizer, self.data = tokenizer, data
        self.augments = bool(data.pitch_shift or data.velocity_shift or data.tempo_stretch)
        self.stride, self.copies = data.stride, data.copies
        if self.copies > 2 * data.pitch_shift:
            raise ConfigError(
                f"copies {self.copies}, pitch_shift {data.pitch_shift}: copies are at most twice the shift, since no two are alike"
            )
        if self.augments and tokenizer is None:
            raise ConfigError("augmentation needs the tokenizer of these tokens: give tokenizer=")
        self.grain = (
            tokenizer.ids_per_event if tokenizer is not None else 1
        )  # windows begin where an event has just ended
        if context % self.grain:
            raise ConfigError(f"data.context is {context}: give a multiple of {self.grain}, the ids of an event")
        # a padded position is masked out of the loss, so any valid id would do
        self.pad_id = tokenizer.pad_id if tokenizer is not None else 0

        self.pieces = [i for i in store.split(split) if store.pieces[i].length >= 2]
        if not self.pieces:
            raise CorpusError(f"split {split!r} of these tokens holds no piece: give a corpus that has that split")
        self._rows = self.pieces * (1 + self.copies)  # pieces, then their copies
        self._targets = np.array([store.pieces[i].length - 1 for i in self._rows])  # (rows,)
        if self.stride:
            self._windows = 1 + -(-(self._targets - context).clip(0) // self.stride)
        else:
            self._windows = -(-self._targets // context)  # (rows,) windows of each, the same in every epoch
        self._ends = self._windows.cumsum()  # of each row, counted in windows
        self._plans: dict[int, Plan] = {}
        self._shifts: dict[int, int] = {}  # semitones of the rows that are copies, as they are needed

    def __len__(self) -> int:
        """Windows of an epoch."""
        return int(self._ends[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last one may be short."""
        return -(-len(self) // self.batch_size)

    @property
    def tokens_per_epoch(self) -> int:
        """Targets of an epoch, over all ranks, before augmentation."""
        return int(self._targets.sum())

    def plan(self, epoch: int) -> Plan:
        """Cuts and order of an epoch, from (seed, epoch) alone."""
        plan = self._plans.get(epoch)
        if plan is None:
            random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
            longest = np.minimum(self.context, self._targets)
            # a fixed stride has no random cuts; a stride above the context has fewer windows than all tokens would need
            shortest = np.minimum(self._targets - (self._windows - 1) * self.context, longest)
            first = random.integers(shortest, longest, endpoint=True)
            first = np.where(self._windows > 1, -(-first // self.grain) * self.grain, first)
            plan = Plan(first, random.permutation(len(self)))
            self._plans = {epoch: plan}  # one epoch is kept: another is cheap to draw again
        return plan

    def span(self, epoch: int, window: int) -> tuple[int, int, int]:
        """(piece of the store, start, stop): the window reads tokens [start, stop) and predicts [start + 1, stop + 1)."""
        row = int(np.searchsorted(self._ends, window, side="right"))
        place, targets = int(window - self._ends[row] + self._windows[row]), int(self._targets[row])
        if self.stride:
            start = max(0, min(place * self.stride, targets - self.context)) // self.grain * self.grain
            return self._rows[row], start, min(start + self.context, targets)
        first = int(self.plan(epoch).first[row])
        start = 0 if place == 0 else first + (place - 1) * self.context
        stop = first if place == 0 else min(start + self.context, targets)
        return self._rows[row], start, stop

    def rows(self, step: int) -> tuple[int, np.ndarray]:
        """(epoch, windows) that this rank reads at `step`, which counts over all epochs from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        windows = self.plan(epoch).order[place * self.batch_size : (place + 1) * self.batch_size]
        return epoch, windows[self.rank :: self.world]

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y (B, L) int64 of one step; y is IGNORED where padded.

        A rank for which a short last batch leaves nothing gets one row of padding, so that all ranks take every step.
        """
        epoch, windows = self.rows(step)
        x = np.full((max(1, len(windows)), self.context), self.pad_id, np.int64)  # (B, L)
        y = np.full_like(x, IGNORED)
        for row, window in enumerate(windows):
            ids = self.tokens(epoch, int(window))
            x[row, : len(ids) - 1], y[row, : len(ids) - 1] = ids[:-1], self._scored(ids, epoch, int(window))[1:]
        return torch.from_numpy(x), torch.from_numpy(y)

    def _scored(self, ids: np.ndarray, epoch: int, window: int) -> np.ndarray:
        """Ids as targets: IGNORED where the tokenizer says that a piece of one velocity teaches nothing."""
        if self.tokenizer is None or not self.store.pieces[self.span(epoch, window)[0]].flat:
            return ids
        unscored = self.tokenizer.unscored(ids)
        return ids if unscored is None else np.where(unscored, IGNORED, ids.astype(np.int64))

    __getitem__ = batch  # a map-style dataset for torch's DataLoader

    def tokens(self, epoch: int, window: int) -> np.ndarray:
        """The window's tokens, inputs and last target together: at most L + 1 of them."""
        piece, start, stop = self.span(epoch, window)
        ids = self.store.tokens(piece)
        if not self.augments:
            return np.asarray(ids[start : stop + 1])
        # a shifted passage merges into fewer or more BPE tokens: read on a little, and cut afterwards
        margin = self.context // 4 if stop - start == self.context else 0
        changed = self._augment(np.asarray(ids[start : stop + 1 + margin]), epoch, window)
        return changed[: self.context + 1]

    def _augment(self, ids: np.ndarray, epoch: int, window: int) -> np.ndarray:
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch, window])))
        assert self.tokenizer is not None, "checked in __init__"
        semitones = int(random.integers(-self.data.pitch_shift, self.data.pitch_shift, endpoint=True))
        if self.copies:
            semitones = self._shift_of_copy(int(np.searchsorted(self._ends, window, side="right")))
        velocity_steps = random.integers(-self.data.velocity_shift, self.data.velocity_shift, endpoint=True)
        stretch = 1 + self.data.tempo_stretch * random.uniform(-1, 1)
        return self.tokenizer.augment(ids, self._on_keyboard(semitones, ids), int(velocity_steps), float(stretch))

    def _shift_of_copy(self, row: int) -> int:
        """Semitones that a row is transposed by: 0 for the piece itself, a different number for each of its copies."""
        if row not in self._shifts:
            piece, copy = row % len(self.pieces), row // len(self.pieces)
            random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, piece])))
            most = self.data.pitch_shift
            drawn = random.permutation([n for n in range(-most, most + 1) if n])
            ids = self.store.tokens(self._rows[row])
            self._shifts[row] = self._on_keyboard(int(drawn[copy - 1]), np.asarray(ids)) if copy else 0
        return self._shifts[row]

    def _on_keyboard(self, semitones: int, ids: np.ndarray) -> int:
        """`semitones`, reduced if needed so that no note leaves the keyboard."""
        if self.tokenizer is None or not (pitches := self.tokenizer.pitch_range(ids)):
            return semitones
        lowest, highest = pitches
        return int(np.clip(semitones, min(0, LOWEST_PITCH - lowest), max(0, HIGHEST_PITCH - highest)))


def loaders(world: int) -> int:
    """Number of processes that make batches for one rank: 2 to 12, depending on the cores, since a fast GPU uses what 8 of them make."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(12, (cores - 2) // world))


def batches(
    windows: Windows, start: int, stop: int, workers: int = 0
) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
    """Yield `windows.batch(step)` for start <= step < stop, prepared ahead of time.

    With `workers` 0 one thread prepares them, otherwise that many processes (a GPU is faster than one core can augment).
    """
    if workers:
        from torch.utils.data import DataLoader

        # its own generator: the loader would otherwise draw its seed from the model's random numbers
        yield from DataLoader(
            windows,  # type: ignore[arg-type]  # any object with __getitem__ is a dataset
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            generator=torch.Generator(),
        )
        return
    with ThreadPoolExecutor(1, thread_name_prefix="windows") as thread:
        ahead = [thread.submit(windows.batch, step) for step in range(start, min(start + 2, stop))]
        for step in range(start, stop):
            ready = ahead.pop(0).result()
            if step + 2 < stop:
                ahead.append(thread.submit(windows.batch, step + 2))
            yield ready
