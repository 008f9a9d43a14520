"""A corpus becomes one file of ids, on any number of cores, in any number of attempts, and is never half there."""

import json
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from ittybitty.errors import ConfigError, CorpusError, MidiError, OutputError, TokenizerError
from ittybitty.tokenizers import PianoTokenizer
from ittybitty.tokenizers.store import TokenStore, tokenize_corpus
from performances import random_performance

INTERRUPTIONS: list[int] = []  # seeds at which loading is interrupted, each once


@dataclass(frozen=True)
class SmallPiece:
    seed: int
    split: str = "train"

    @property
    def name(self):
        return f"piece {self.seed}"

    def load(self):
        if self.seed in INTERRUPTIONS:
            INTERRUPTIONS.remove(self.seed)
            raise KeyboardInterrupt
        if self.seed % 7 == 6:
            raise MidiError(f"{self.name}: not a MIDI file: take another")
        return random_performance(self.seed, notes=40, seconds=20.0)


@dataclass(frozen=True)
class SmallCorpus:
    pieces: tuple = tuple(SmallPiece(i, ("train", "train", "validation", "test")[i % 4]) for i in range(16))
    name: str = "small"
    licence: str = "CC0"


@pytest.fixture(scope="module")
def tokenizer():
    return PianoTokenizer().train([random_performance(seed) for seed in range(3)], 400)


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    return tokenize_corpus(SmallCorpus(), tokenizer, tmp_path_factory.mktemp("store"), workers=1, progress=False)


def same(a: TokenStore, b: TokenStore) -> bool:
    return a.pieces == b.pieces and a.skipped == b.skipped and np.array_equal(a.ids, b.ids)


def test_each_piece_is_its_encoding(whole, tokenizer):
    for i, piece in enumerate(whole.pieces):
        performance = random_performance(int(piece.name.split()[1]), notes=40, seconds=20.0)
        assert np.array_equal(whole.tokens(i), tokenizer.encode(performance))
        assert piece.notes == len(performance) and piece.seconds == pytest.approx(performance.end, abs=1e-3)
    assert isinstance(whole.ids, np.memmap) and whole.ids.dtype == np.uint16


def test_pieces_follow_one_another(whole):
    assert [p.start for p in whole.pieces] == list(np.cumsum([0] + [p.length for p in whole.pieces])[:-1])
    assert len(whole.ids) == sum(p.length for p in whole.pieces)


def test_unreadable_pieces_are_skipped_and_reported(whole):
    assert [s.name for s in whole.skipped] == ["piece 6", "piece 13"]
    assert "not a MIDI file" in whole.skipped[0].reason
    assert len(whole) == 14


def test_splits_are_the_corpus(whole):
    assert [whole.pieces[i].name for i in whole.split("test")] == ["piece 3", "piece 7", "piece 11", "piece 15"]
    with pytest.raises(CorpusError, match="'dev'; there is test, train, validation"):
        whole.split("dev")


def test_more_workers_write_the_same(whole, tokenizer, tmp_path):
    assert same(tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=2, progress=False), whole)


@dataclass(frozen=True)
class Killing(SmallPiece):
    """A piece that needs more memory than there is: the system ends its process."""

    def load(self):
        if self.seed == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load()


def test_a_killed_worker_is_reported_and_not_waited_for(tokenizer, tmp_path):
    corpus = SmallCorpus(tuple(Killing(i) for i in range(16)))
    with pytest.raises(ConfigError, match="one of 2 workers was killed"):
        tokenize_corpus(corpus, tokenizer, tmp_path / "store", workers=2, progress=False)


def test_a_store_that_is_opened_equals_the_one_that_was_written(whole, tokenizer):
    opened = TokenStore.open(whole.path)
    assert same(opened, whole) and opened.licence == "CC0" and opened.corpus == "small"
    assert opened.tokenizer().content_hash == opened.tokenizer_hash == tokenizer.content_hash


@pytest.mark.parametrize("damage", ["none", "half a line", "more ids than lines", "fewer ids than lines"])
def test_an_interrupted_run_continues_where_it_stopped(whole, tokenizer, tmp_path, damage):
    INTERRUPTIONS.append(9)
    with pytest.raises(KeyboardInterrupt):
        tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=1, progress=False)
    with pytest.raises(TokenizerError, match="no finished token files"):
        TokenStore.open(tmp_path)
    lines = (tmp_path / "pieces.part").read_text()
    assert "piece 8" in lines
    if damage == "half a line":
        (tmp_path / "pieces.part").write_text(lines + '{"name": "pie')
    elif damage == "more ids than lines":
        with open(tmp_path / "ids.part", "ab") as file:
            file.write(b"12345")
    elif damage == "fewer ids than lines":
        with open(tmp_path / "ids.part", "ab") as file:
            file.truncate(1000)
    assert same(tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=2, progress=False), whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ids.u16", "store.json", "tokenizer.json"]


def test_done_work_is_not_done_again(tokenizer, tmp_path):
    for interrupted_at in (5, 10):
        INTERRUPTIONS.append(interrupted_at)
        with pytest.raises(KeyboardInterrupt):
            tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=1, progress=False)
    INTERRUPTIONS.extend([0, 9])  # would interrupt if they were loaded again
    tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=1, progress=False)
    tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=1, progress=False)
    assert INTERRUPTIONS == [0, 9]
    INTERRUPTIONS.clear()


def test_folder_of_another_tokenizer_is_refused(whole):
    other = PianoTokenizer("remi-published")
    with pytest.raises(TokenizerError, match=f"{whole.tokenizer_hash}, not {other.content_hash}") as error:
        tokenize_corpus(SmallCorpus(), other, whole.path, progress=False)
    assert "\n" not in str(error.value)


def test_unfinished_folder_of_another_tokenizer_is_refused(tokenizer, tmp_path):
    INTERRUPTIONS.append(3)
    with pytest.raises(KeyboardInterrupt):
        tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=1, progress=False)
    with pytest.raises(TokenizerError, match="was made with tokenizer"):
        tokenize_corpus(SmallCorpus(), PianoTokenizer(), tmp_path, workers=1, progress=False)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["content_hash"] == tokenizer.content_hash


def test_folder_of_other_pieces_is_refused(whole, tokenizer):
    with pytest.raises(TokenizerError, match="other pieces"):
        tokenize_corpus(SmallCorpus(pieces=(SmallPiece(1),)), tokenizer, whole.path, progress=False)


def test_tokenizer_put_in_by_hand_is_refused(tokenizer, tmp_path):
    store = tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=1, progress=False)
    PianoTokenizer().save(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match="was made with tokenizer"):
        store.tokenizer()


def test_nothing_readable_is_an_error(tokenizer, tmp_path):
    with pytest.raises(CorpusError, match="no piece of small could be read; the first: piece 6"):
        tokenize_corpus(SmallCorpus(pieces=(SmallPiece(6), SmallPiece(13))), tokenizer, tmp_path, progress=False)


@pytest.mark.parametrize("name", ["ids.u16", "store.json"])
def test_damaged_store_is_refused(tokenizer, tmp_path, name):
    tokenize_corpus(SmallCorpus(), tokenizer, tmp_path, workers=1, progress=False)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(TokenizerError, match="holds damaged token files"):
        TokenStore.open(tmp_path)


def test_missing_store_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match="ittybitty tokenize"):
        TokenStore.open(tmp_path / "nowhere")


def test_a_file_in_the_way_is_refused(tokenizer, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        tokenize_corpus(SmallCorpus(), tokenizer, tmp_path / "file", progress=False)
    assert (tmp_path / "file").read_text() == "mine"
