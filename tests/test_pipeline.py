"""Corpus -> tokens in one call for every row, and tokens of another row are never taken for one's own."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from ittybitty import checkpoint, pipeline, systems
from ittybitty.corpora import Corpus, Piece, open_corpus
from ittybitty.errors import ConfigError, CorpusError, TokenizerError
from ittybitty.tokenizers import make_tokenizer
from ittybitty.tokenizers.store import INDEX
from performances import random_performance
from runs import Played

pytestmark = pytest.mark.slow

BY_TOKENIZER = {row.tokenizer: row.name for row in systems.SYSTEMS.values() if row.corpus == ""}


@pytest.fixture(scope="module")
def corpus():
    splits = ["train"] * 4 + ["validation", "test"]
    pieces = [
        Played(f"piece {i}", split, random_performance(i, notes=120, seconds=30.0)) for i, split in enumerate(splits)
    ]
    return Corpus(name="test", licence="CC0", pieces=tuple(pieces))


def tokenize(name, corpus, out, **changes):
    return pipeline.tokenize(systems.build(name, "nano", changes), corpus, out, workers=1, progress=False)


@pytest.mark.parametrize("name", BY_TOKENIZER.values())
def test_every_encoding_tokenizes_and_is_found_done(name, corpus, tmp_path):
    first = tokenize(name, corpus, tmp_path / "tokens")
    assert len(first) == 6 and first.tokenizer().variant == systems.system(name).tokenizer
    before = (tmp_path / "tokens" / INDEX).stat().st_mtime_ns
    again = tokenize(name, corpus, tmp_path / "tokens")
    assert (tmp_path / "tokens" / INDEX).stat().st_mtime_ns == before and again.tokenizer_hash == first.tokenizer_hash
    assert pipeline.tokenize(systems.build(name, "nano"), tmp_path / "tokens").tokenizer_hash == first.tokenizer_hash


def test_rows_of_different_encodings_have_cache_folders_of_their_own():
    folders, corpus = set(), Corpus(name="test", licence="CC0", pieces=())
    for name in ("hybrid", "lstm-pitch", "lstm-remi", "llama-1024"):
        configs = systems.build(name, "tiny")
        folders.add(pipeline.token_folder(corpus, systems.build_tokenizer(configs), configs["model"].vocab_size))
    assert len(folders) == 4


def test_a_changed_file_is_tokenized_again(maestro_folder):
    def place():
        configs = systems.build("hybrid", "tiny")
        return pipeline.token_folder(open_corpus(maestro_folder), systems.build_tokenizer(configs), 500)

    first = place()
    assert place() == first
    file = next(maestro_folder.rglob("*.midi"))
    content = bytearray(file.read_bytes())
    content[-10] ^= 1  # as long as before
    file.write_bytes(bytes(content))
    assert place() != first


def test_a_resumed_run_finds_its_tokens_where_fewer_ids_were_learnt_than_asked(maestro_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ITTYBITTY_CACHE", str(tmp_path / "cache"))
    configs = systems.build("lstm-pitch", "nano")
    store = pipeline.tokenize(configs, maestro_folder, progress=False)
    learnt = store.tokenizer()
    assert learnt.vocab_size < configs["model"].vocab_size == learnt.asked
    resumed = systems.build("lstm-pitch", "nano", {"model.vocab_size": learnt.vocab_size})
    assert pipeline.tokenize(resumed, maestro_folder, progress=False, tokenizer=learnt).path == store.path


def test_two_that_want_the_same_tokens_at_once_wait_for_each_other(corpus, tmp_path, monkeypatch):
    inside, most, real = [], [], pipeline.tokenize_corpus

    def slow(*given, **named):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.3)
        try:
            return real(*given, **named)
        finally:
            inside.pop()

    monkeypatch.setattr(pipeline, "tokenize_corpus", slow)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: tokenize("notes-hybrid", corpus, tmp_path / "tokens"), range(2)))
    assert max(most) == 1 and done[0].tokenizer_hash == done[1].tokenizer_hash


def test_tokens_of_another_encoding_are_refused(corpus, tmp_path):
    tokenize("hybrid", corpus, tmp_path / "tokens")
    for data, out in ((corpus, tmp_path / "tokens"), (tmp_path / "tokens", None)):
        with pytest.raises(TokenizerError, match="holds tokens of 'remi', and 'pitch-string' was asked for"):
            tokenize("lstm-pitch", data, out)


def test_tokens_of_another_size_are_refused(corpus, tmp_path):
    tokenize("llama-512", corpus, tmp_path / "tokens")
    for data, out in ((corpus, tmp_path / "tokens"), (tmp_path / "tokens", None)):
        with pytest.raises(TokenizerError, match="a vocabulary of 512, and 600 was asked for"):
            tokenize("llama-512", data, out, **{"model.vocab_size": 600})


@pytest.mark.parametrize("name", ["hybrid", "lstm-pitch"])
def test_too_small_a_vocabulary_is_refused(name, corpus, tmp_path):
    with pytest.raises(ConfigError, match="vocab_size is 20: give"):
        tokenize(name, corpus, tmp_path / "tokens", **{"model.vocab_size": 20})


def test_llama_sizes_are_those_asked_for(corpus, tmp_path):
    for size in (512, 1024):
        store = tokenize(f"llama-{size}", corpus, tmp_path / str(size), **{"model.vocab_size": size})
        assert store.tokenizer().vocab_size == size


@pytest.mark.parametrize(
    "splits, said",
    [
        (["train"], "mine: holds 1 piece that can be read; .* add files"),
        (
            ["train", "train"],
            "mine: none of its 2 readable pieces is in the validation split, so nothing is held out: add",
        ),
        (["validation", "test"], "mine: none of its 2 .* train split, so nothing is left to learn from: add files"),
    ],
)
def test_fine_tuning_needs_a_piece_to_learn_from_and_one_held_out(splits, said, tmp_path, monkeypatch):
    monkeypatch.setenv("ITTYBITTY_CACHE", str(tmp_path / "cache"))
    pieces = tuple(
        Piece(f"piece {i}", "", "", split, source=partial(random_performance, i, notes=40))
        for i, split in enumerate(splits)
    )
    mine = Corpus(name="mine", licence="CC0", pieces=pieces)
    with pytest.raises(CorpusError, match=said) as caught:
        pipeline.train(tmp_path / "run", data=mine, init_from="tiny", progress=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_weights_start_a_run_on_a_finer_grid_of_events(tmp_path, monkeypatch):
    monkeypatch.setenv("ITTYBITTY_CACHE", str(tmp_path / "cache"))
    pieces = tuple(
        Piece(f"piece {i}", "", "", split, source=partial(random_performance, i, notes=40))
        for i, split in enumerate(["train", "validation"])
    )
    mine = Corpus(name="mine", licence="CC0", pieces=pieces)
    own = checkpoint.read_config(checkpoint.find("tiny"))["configs"]["model"]
    fine = make_tokenizer("notes-fine")
    shape = {key: getattr(own, key) for key in ("d_model", "d_ff", "n_heads", "pattern")}
    changes = {
        **{f"model.{key}": value for key, value in shape.items()},
        "data.tokenizer": "notes-fine",
        "data.context": 64,
        "model.events": fine.sizes,
        "model.vocab_size": fine.vocab_size,
        "train.steps": 1,
    }
    pipeline.train(tmp_path / "run", "notes-hybrid", "tiny", changes, mine, init_from="tiny", progress=False)
    made = checkpoint.load(tmp_path / "run")
    assert made.tokenizer.content_hash == fine.content_hash
    assert [one["corpus"] for one in made.trained_on] == ["maestro", "mine"]
