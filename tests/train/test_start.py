"""What a training starts from is decided once, and no folder in which something would be lost is begun in."""

from __future__ import annotations

import pytest

from ittybitty import checkpoint, paths, pipeline
from ittybitty.errors import CheckpointError, OutputError
from ittybitty.train import loop, start
from ittybitty.train.start import Start, find_start


def test_a_new_or_empty_folder_starts_from_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for run_dir in (tmp_path / "new", tmp_path / "empty"):
        assert find_start(run_dir) == Start(run_dir) and find_start(run_dir).header is None
        assert find_start(run_dir, resume=True) == Start(run_dir, resume=True)


def test_a_folder_with_other_files_is_refused_unless_its_run_is_resumed(tmp_path):
    (tmp_path / "poem.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"other things in it \(poem.txt\); give a new one"):
        find_start(tmp_path)
    assert find_start(tmp_path, resume=True).own is None


def test_a_run_that_has_no_checkpoint_yet_can_be_begun_again(tmp_path):
    for name in start.BEFORE_A_CHECKPOINT:
        (tmp_path / name).write_text("{}")
    (tmp_path / ".config-1.json").write_text("half")
    (tmp_path / checkpoint.WRITING).mkdir()
    assert find_start(tmp_path) == Start(tmp_path)


@pytest.mark.parametrize(
    "name, said", [(checkpoint.MODEL, "holds weights but no last/"), ("README.md", "exported model")]
)
def test_weights_without_a_checkpoint_are_not_trained_over(tmp_path, name, said):
    (tmp_path / name).touch()
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=f"{said}.*--from"):
            find_start(tmp_path, resume)


def test_settings_and_tokenizer_are_those_of_the_weights_that_are_taken(tmp_path):
    found = find_start(tmp_path / "run", init_from="tiny")
    assert found.origin == found.tokenizer_folder == paths.pretrained_dir() / "tiny"
    assert found.header == checkpoint.read_config(found.origin) and found.own is None


def test_a_folder_that_cannot_be_made_is_reported_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file; give a folder"):
        find_start(tmp_path / "file" / "run")


def test_the_pipeline_hands_its_answer_to_the_loop(tmp_path, monkeypatch):
    class Tokens:
        corpus, pieces = "mine", ()

    monkeypatch.setattr(pipeline, "tokenize", lambda *_, **__: Tokens())
    monkeypatch.setattr(loop, "find_start", lambda *_: pytest.fail("asked a second time"))
    monkeypatch.setattr(loop, "train", lambda *_, start, **__: start)
    assert pipeline.train(tmp_path / "run", "mamba", "nano", resume=True) == Start(tmp_path / "run", resume=True)
