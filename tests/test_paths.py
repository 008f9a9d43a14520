"""Where things are found, and that writing never harms what stood before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ittybitty import paths
from ittybitty.errors import OutputError


def test_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ITTYBITTY_CACHE", str(tmp_path / "mine"))
    assert paths.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("ITTYBITTY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert paths.cache_dir() == tmp_path / "xdg" / "ittybitty"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_dir() == tmp_path / ".cache" / "ittybitty"


def test_argument_goes_before_environment(monkeypatch, tmp_path):
    assert paths.data_dir(None) is None
    monkeypatch.setenv("ITTYBITTY_DATA", str(tmp_path / "a"))
    assert paths.data_dir(None) == tmp_path / "a"
    assert paths.data_dir(tmp_path / "b") == tmp_path / "b"


def test_repository_root_is_the_clone():
    root = paths.repository_root()
    assert root is not None and (root / "ittybitty" / "notes.py").is_file()
    assert paths.pretrained_dir() == root / "ittybitty" / "pretrained"


def put_maestro(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "maestro-v3.0.0.csv").touch()
    return folder


def test_maestro_is_found_in_a_named_folder(monkeypatch, tmp_path):
    folder = put_maestro(tmp_path / "maestro-v3.0.0")
    assert paths.find_maestro(tmp_path) == folder
    assert paths.find_maestro(folder) == folder
    monkeypatch.setenv("ITTYBITTY_DATA", str(tmp_path))
    assert paths.find_maestro() == folder
    assert paths.find_maestro(tmp_path / "elsewhere") is None  # a named folder is the only one looked at


@pytest.mark.parametrize(
    "mount",
    ["datasets/owner/slug/maestro-v3.0.0", "slug/maestro-v3.0.0", "datasets/owner/slug", "slug/a/maestro-v3.0.0"],
)
def test_maestro_is_found_on_a_kaggle_mount(monkeypatch, tmp_path, mount):
    monkeypatch.setenv("ITTYBITTY_KAGGLE_ROOT", str(tmp_path))
    assert paths.find_maestro() is None
    folder = put_maestro(tmp_path / "input" / mount)
    assert paths.find_maestro() == folder
    assert not paths.on_kaggle()
    (tmp_path / "working").mkdir()
    assert paths.on_kaggle()


def test_maestro_is_found_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ITTYBITTY_CACHE", str(tmp_path))
    folder = put_maestro(tmp_path / "maestro-v3.0.0")
    assert paths.find_maestro() == folder


def test_asap_is_recognised_by_its_table(tmp_path):
    (tmp_path / "asap").mkdir()
    table = tmp_path / "asap" / "metadata.csv"
    table.write_text("some,other,table\n")
    assert paths.find_asap(tmp_path) is None
    table.write_text("split,composer,performance_annotations\n")
    assert paths.find_asap(tmp_path) == tmp_path / "asap"


def test_run_folders_are_found_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITTYBITTY_KAGGLE_ROOT", str(tmp_path / "kaggle"))
    for run in ("runs/a", "kaggle/working/b", "kaggle/working/runs/c"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.json").touch()
    (tmp_path / "runs" / "no-config").mkdir()
    assert [run.name for run in paths.run_dirs() if tmp_path in run.parents] == ["a", "b", "c"]


def test_atomic_path_replaces_on_success(tmp_path):
    target = tmp_path / "out.mid"
    target.write_text("old")
    with paths.atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".mid"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.mid"]


@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_atomic_path_keeps_the_old_file_on_error(tmp_path, trouble):
    target = tmp_path / "out.mid"
    target.write_text("old")
    with pytest.raises(trouble), paths.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise trouble
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.mid"]


def test_an_error_of_a_writer_names_the_file_that_was_asked_for(tmp_path):
    asked = paths.atomic_path(tmp_path / "out.mid")
    with pytest.raises(OutputError) as error, asked as outer, paths.atomic_path(outer) as inner:
        raise OutputError(f"{inner}: cannot be written")
    assert str(error.value) == f"{tmp_path / 'out.mid'}: cannot be written" and not os.listdir(tmp_path)


def test_atomic_path_follows_a_link(tmp_path):
    (tmp_path / "real.mid").write_text("old")
    (tmp_path / "link.mid").symlink_to("real.mid")
    with paths.atomic_path(tmp_path / "link.mid") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.mid").is_symlink() and (tmp_path / "real.mid").read_text() == "new"


@pytest.mark.parametrize(
    "target, says", [(".", "is a folder"), ("no/such/out.mid", "does not exist"), ("/dev/null", "not a regular file")]
)
def test_an_unwritable_path_gets_one_clear_line(tmp_path, target, says):
    place = tmp_path / target
    with pytest.raises(OutputError, match=says) as caught, paths.atomic_path(place):
        pytest.fail("the body must not run")
    assert str(place) in str(caught.value) and "\n" not in str(caught.value)


def test_folder_without_permission_gets_one_clear_line(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):  # root may write anywhere, so chmod would not do
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match="Permission denied"), paths.atomic_path(tmp_path / "out.mid"):
        pytest.fail("the body must not run")


def test_full_disk_gets_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match="No space left"), paths.atomic_path(tmp_path / "out.mid"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_atomic_folder_appears_complete_and_makes_its_parents(tmp_path):
    with paths.atomic_folder(tmp_path / "a" / "b") as temporary:
        (temporary / "file").write_text("new")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "a") == ["b"]


def test_atomic_folder_replaces_a_full_folder_only_on_request(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").touch()
    with (
        pytest.raises(OutputError, match="not empty.*; free some space"),
        paths.atomic_folder(target, hint="free some space") as temporary,
    ):
        (temporary / "new").touch()
    assert os.listdir(target) == ["old"]
    with paths.atomic_folder(target, replace=True) as temporary:
        (temporary / "new").touch()
    assert os.listdir(target) == ["new"] and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_atomic_folder_keeps_the_old_folder_on_error(tmp_path, trouble):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(trouble), paths.atomic_folder(target, replace=True) as temporary:
        (temporary / "half").touch()
        raise trouble
    assert os.listdir(target) == ["old"] and os.listdir(tmp_path) == ["out"]


def test_atomic_folder_restores_the_old_folder_if_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    target, rename = tmp_path / "out", os.rename
    target.mkdir()
    (target / "old").touch()

    def refuse(source, place):
        if Path(place) == target and not str(source).endswith("-old"):
            raise OSError(30, "Read-only file system")
        rename(source, place)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match="Read-only"), paths.atomic_folder(target, replace=True):
        pass
    assert os.listdir(target) == ["old"] and os.listdir(tmp_path) == ["out"]
