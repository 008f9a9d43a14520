"""Windows: every target once an epoch, an order that (seed, epoch, step) alone decides, shares without overlap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from ittybitty.config import DataConfig
from ittybitty.errors import ConfigError, CorpusError
from ittybitty.models import IGNORED
from ittybitty.train.windows import Windows, batches

LENGTHS = (2, 16, 17, 18, 33, 100, 250)  # one target only, one window exactly, one token more …


@dataclass
class Piece:
    split: str
    start: int
    length: int
    flat: bool = False


class Store:
    """Pieces whose ids are all different, so that a token tells where it came from."""

    def __init__(self, lengths=LENGTHS):
        starts = np.cumsum([0, *lengths])
        self.ids = np.arange(starts[-1]).astype(np.uint16)
        self.pieces = [Piece("train", int(s), n) for s, n in zip(starts, lengths)] + [Piece("validation", 0, 1)]

    def tokens(self, i):
        return self.ids[self.pieces[i].start : self.pieces[i].start + self.pieces[i].length]

    def split(self, name):
        return [i for i, piece in enumerate(self.pieces) if piece.split == name]


class Tokenizer:
    """Says what augmentation it was asked for; pitches are those of a passage from 30 to 105."""

    pad_id, ids_per_event = 0, 1

    def __init__(self):
        self.asked = []

    def pitch_range(self, ids):
        return 30, 105

    def augment(self, ids, semitones, velocity_steps, stretch):
        self.asked.append((semitones, velocity_steps, stretch, len(ids)))
        return ids[: len(ids) * 9 // 10]  # merges become longer


def targets(windows, epoch=0):
    steps = range(epoch * windows.steps_per_epoch, (epoch + 1) * windows.steps_per_epoch)
    return sorted(int(t) for step in steps for t in windows.batch(step)[1].flatten() if t != IGNORED)


def all_targets(store):
    return sorted(int(t) for piece in store.split("train") for t in store.tokens(piece)[1:])


@pytest.mark.parametrize("context", [1, 5, 16, 64, 300])
@pytest.mark.parametrize("epoch", [0, 3])
def test_every_token_is_a_target_exactly_once_an_epoch(context, epoch):
    store = Store()
    windows = Windows(store, "train", context, 4)
    assert targets(windows, epoch) == all_targets(store)
    assert windows.tokens_per_epoch == len(all_targets(store))


def test_a_target_follows_its_input_within_one_piece():
    store = Store()
    piece_of = np.concatenate([np.full(n, i) for i, n in enumerate(LENGTHS)])
    windows = Windows(store, "train", 16, 4)
    for step in range(windows.steps_per_epoch):
        x, y = windows.batch(step)
        kept = y != IGNORED
        assert torch.equal(y[kept], x[kept] + 1)
        assert (piece_of[x[kept]] == piece_of[y[kept]]).all()
        assert all(len(set(piece_of[row[k]])) == 1 for row, k in zip(x.numpy(), kept.numpy()))


def test_batch_depends_on_the_step_alone():
    straight = [Windows(Store(), "train", 16, 3, seed=5).batch(step) for step in range(12)]
    windows = Windows(Store(), "train", 16, 3, seed=5)
    for step in (11, 0, 7, 7, 3):  # in any order, twice, from a windows object with another past
        assert all(torch.equal(a, b) for a, b in zip(windows.batch(step), straight[step]))


def test_another_epoch_or_seed_is_another_order_and_other_cuts():
    windows, other = Windows(Store(), "train", 16, 4, seed=0), Windows(Store(), "train", 16, 4, seed=1)
    plans = [windows.plan(0), windows.plan(1), other.plan(0)]
    for a, b in ((0, 1), (0, 2)):
        assert not np.array_equal(plans[a].order, plans[b].order)
        assert not np.array_equal(plans[a].first, plans[b].first)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_a_step_without_overlap_or_omission(world):
    whole = Windows(Store(), "train", 16, 4)
    shares = [Windows(Store(), "train", 16, 4, rank=rank, world=world) for rank in range(world)]
    for step in range(2 * whole.steps_per_epoch):
        rows = np.concatenate([share.rows(step)[1] for share in shares])
        assert sorted(rows) == sorted(whole.rows(step)[1])
        assert all(len(share.batch(step)[0]) >= 1 for share in shares)  # a rank with nothing to do still takes the step
    assert sorted(t for share in shares for t in targets(share)) == all_targets(Store())


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_ahead_changes_nothing(workers):
    windows = Windows(Store(), "train", 16, 4)
    before = torch.get_rng_state()
    ahead = list(batches(windows, 3, 9, workers))
    assert len(ahead) == 6
    assert all(torch.equal(a, b) for step, pair in enumerate(ahead, 3) for a, b in zip(pair, windows.batch(step)))
    assert torch.equal(torch.get_rng_state(), before), "reading windows drew from the model's random numbers"


def test_augmentation_stays_on_the_keyboard_and_repeats_itself():
    data = DataConfig(pitch_shift=6, velocity_shift=2, tempo_stretch=0.1)
    first, second = Tokenizer(), Tokenizer()
    for tokenizer in (first, second):
        windows = Windows(Store(), "train", 16, 4, tokenizer, data)
        for step in range(4 * windows.steps_per_epoch):
            windows.batch(step)
    assert first.asked == second.asked
    semitones, velocity, stretch, read = map(set, zip(*first.asked))
    assert semitones == set(range(-6, 4)), "105 + 3 is the highest key"
    assert velocity == set(range(-2, 3))
    assert 0.9 <= min(stretch) < 0.95 and 1.05 < max(stretch) <= 1.1
    assert max(read) == 16 + 1 + 4, "a full window reads a margin on, for what augmentation shortens"


def test_nothing_is_augmented_without_being_asked():
    tokenizer = Tokenizer()
    off = DataConfig(pitch_shift=0, velocity_shift=0, tempo_stretch=0.0)
    for data in (None, off):
        Windows(Store(), "train", 16, 4, tokenizer, data).batch(0)
    assert tokenizer.asked == []


def test_a_split_without_targets_is_refused():
    with pytest.raises(CorpusError, match="validation"):
        Windows(Store(), "validation", 16, 4)


@pytest.mark.parametrize("options", [{"context": 0}, {"batch_size": 0}, {"rank": 2, "world": 2}])
def test_nonsense_is_refused(options):
    with pytest.raises(ConfigError):
        Windows(Store(), "train", **{"context": 16, "batch_size": 4, **options})


def test_overlapping_windows_begin_every_stride_and_end_with_their_piece():
    store = Store([7, 30, 101])
    windows = Windows(
        store, "train", 20, 4, None, DataConfig(stride=6, pitch_shift=0, velocity_shift=0, tempo_stretch=0), seed=1
    )
    spans = [windows.span(0, i) for i in range(len(windows))]
    for piece in windows.pieces:
        own, targets = sorted(span[1:] for span in spans if span[0] == piece), store.pieces[piece].length - 1
        assert own[0][0] == 0 and own[-1][1] == targets
        assert all(stop - start == min(20, targets) for start, stop in own)
        assert all(0 < b[0] - a[0] <= 6 for a, b in pairwise(own))
    read = np.concatenate([windows.rows(step)[1] for step in range(windows.steps_per_epoch)])
    assert sorted(read) == list(range(len(windows)))


def test_copies_are_transposed_as_a_whole_and_no_two_alike():
    store = Store([50, 60])

    class Moving:
        pad_id, ids_per_event = 0, 1

        def pitch_range(self, ids):
            return 40, 80

        def augment(self, ids, semitones, velocity_steps, stretch):
            assert (velocity_steps, stretch) == (0, 1.0)
            return np.asarray(ids, int) + 1000 * semitones

    data = DataConfig(copies=3, pitch_shift=2, velocity_shift=0, tempo_stretch=0)
    windows = Windows(store, "train", 20, 4, Moving(), data, seed=1)
    plain = Windows(store, "train", 20, 4)
    assert len(windows) == 4 * len(plain)
    shifts: dict = {}
    for epoch in (0, 1):
        for window in range(len(windows)):
            piece, start, _ = windows.span(epoch, window)
            ids = windows.tokens(epoch, window).astype(int)
            semitones = {int(n) for n in (ids - store.tokens(piece)[start : start + len(ids)]) // 1000}
            assert len(semitones) == 1
            shifts.setdefault((piece, window // len(plain)), set()).update(semitones)
    assert all(len(found) == 1 for found in shifts.values())  # a copy keeps its key through windows and epochs
    for piece in windows.pieces:
        drawn = [next(iter(shifts[piece, copy])) for copy in range(4)]
        assert drawn[0] == 0 and len(set(drawn)) == 4 and max(map(abs, drawn)) <= 2


def test_more_copies_than_there_are_shifts_are_refused():
    with pytest.raises(ConfigError, match="copies 3, pitch_shift 1"):
        Windows(Store([50]), "train", 20, 4, object(), DataConfig(copies=3, pitch_shift=1))
