"""Corpora: fetched whole or not at all, split by work, and the same every time."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import pickle
import shutil
import stat
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conftest import make_maestro
from ittybitty import cli, corpora, paths
from ittybitty.corpora import asap, folder, maestro, open_corpus, performer
from ittybitty.corpora.maestro import Archive
from ittybitty.errors import CorpusError, OutputError
from ittybitty.midi import write_midi
from ittybitty.notes import transpose

pytestmark = pytest.mark.slow


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `content`; `breaks` lists after how many bytes the coming transfers are cut off."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers.get("Range"))
        if self.path != "/maestro.zip":
            self.send_error(404)
            return
        start = 0
        if server.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = start + server.breaks.pop(0) if server.breaks else len(server.content)
        with contextlib.suppress(ConnectionError):
            self.wfile.write(server.content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A loopback server; `archive()` declares what it holds."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.breaks, server.requests, server.ranges = b"", [], [], True
    url = f"http://127.0.0.1:{server.server_address[1]}/maestro.zip"
    server.archive = lambda: Archive(url, len(server.content), hashlib.sha256(server.content).hexdigest())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def zipped(tmp_path, performance) -> bytes:
    """A small archive of the real layout."""
    make_maestro(tmp_path / "made", performance)
    return Path(shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path / "made")).read_bytes()


def with_members(zipped: bytes, tmp_path: Path, *members: zipfile.ZipInfo | str) -> bytes:
    path = tmp_path / "more.zip"
    path.write_bytes(zipped)
    with zipfile.ZipFile(path, "a") as archive:
        for member in members:
            archive.writestr(member, b"../../secret")
    return path.read_bytes()


def fetch(root, server, **changes):
    archive = server.archive()
    return maestro.fetch(root, progress=False, pause=0, archive=Archive(**{**archive.__dict__, **changes}))


def leftovers(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_archive_is_fetched_verified_and_joined(tmp_path, server, zipped, performance):
    server.content = zipped
    found = fetch(tmp_path / "data", server)
    assert found == tmp_path / "data" / "maestro-v3.0.0"
    assert leftovers(tmp_path / "data") == {"maestro-v3.0.0", ".muspy.success"}
    corpus = open_corpus(tmp_path / "data")
    assert (corpus.name, corpus.licence) == ("maestro", "CC BY-NC-SA 4.0")
    assert corpus.counts() == {"train": 3, "validation": 1, "test": 2}
    piece = corpus.split("validation")[0]
    assert (piece.composer, piece.title) == ("Franz Schubert", "Piece, No. 3") and len(piece.load()) == len(performance)


def test_fetching_twice_downloads_once(tmp_path, server, zipped):
    server.content = zipped
    for _ in range(2):
        fetch(tmp_path, server)
    assert server.requests == [None]


def test_folder_that_is_found_needs_no_download(maestro_folder, monkeypatch):
    monkeypatch.setenv("ITTYBITTY_DATA", str(maestro_folder.parent))
    assert maestro.fetch(progress=False, archive=Archive("http://127.0.0.1:1/", 1, "")) == maestro_folder


@pytest.mark.parametrize("named", ["--root", "--data", "ITTYBITTY_DATA", "the cache"])
def test_what_is_fetched_is_found_by_every_later_verb(named, tmp_path, server, zipped, monkeypatch, capsys):
    server.content = zipped
    monkeypatch.setattr(maestro, "declared", server.archive)
    monkeypatch.setenv("ITTYBITTY_CACHE", str(tmp_path / "cache"))
    place = tmp_path / ("cache" if named == "the cache" else "mine")
    if named.isupper():
        monkeypatch.setenv(named, str(place))
    options = [named, str(place)] if named.startswith("--") else []
    assert cli.main(["data", "fetch", *options]) == 0 and leftovers(place) == {"maestro-v3.0.0", ".muspy.success"}
    assert cli.main(["data", "stats", *options]) == 0 and "maestro (CC BY-NC-SA 4.0)" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_the_embedded_corpus_is_not_fetched(by, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if by == "environment":
        monkeypatch.setenv("ITTYBITTY_DATA", "embedded")
    with pytest.raises(CorpusError, match="nothing to fetch"):
        maestro.fetch(
            "embedded" if by == "argument" else None, progress=False, archive=Archive("http://127.0.0.1:1/", 1, "")
        )


def test_broken_transfer_is_resumed(tmp_path, server, zipped):
    server.content, server.breaks = zipped, [1000, 700]
    fetch(tmp_path, server)
    assert server.requests == [None, "bytes=1000-", "bytes=1700-"]
    assert maestro.verify(tmp_path, progress=False).missing == ()


def test_broken_transfer_is_resumed_by_the_next_call(tmp_path, server, zipped):
    server.content, server.breaks = zipped, [1000] + [0] * 10
    with pytest.raises(CorpusError, match="broke off after 1,000 of") as caught:
        fetch(tmp_path, server)
    assert "continues where it stopped" in str(caught.value) and not (tmp_path / "maestro-v3.0.0").exists()
    server.breaks, server.requests = [], []
    fetch(tmp_path, server)
    assert server.requests == ["bytes=1000-"]


def test_server_without_ranges_is_asked_for_the_whole(tmp_path, server, zipped):
    server.content, server.breaks, server.ranges = zipped, [1000], False
    assert fetch(tmp_path, server).is_dir()


def test_the_partial_download_of_another_archive_is_discarded(tmp_path, server, zipped):
    server.content = zipped
    (tmp_path / "maestro-v3.0.0-midi.zip.part").write_bytes(b"x" * 500)
    assert fetch(tmp_path, server).is_dir()
    assert server.requests == ["bytes=500-", None]


def test_truncated_archive_is_refused(tmp_path, server, zipped):
    server.content = zipped[:-500]
    with pytest.raises(CorpusError, match="broke off after"):
        fetch(tmp_path, server, size=len(zipped))
    assert not (tmp_path / "maestro-v3.0.0").exists()


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"size": 1000}])
def test_wrong_archive_is_refused(tmp_path, server, zipped, change):
    server.content = zipped
    with pytest.raises(CorpusError, match="instead of"):
        fetch(tmp_path / "data", server, **change)
    assert leftovers(tmp_path / "data") == set()


def test_missing_archive_and_unreachable_server_get_one_clear_line(tmp_path, server):
    url = server.archive().url
    with pytest.raises(CorpusError, match="404"):
        fetch(tmp_path, server, url=url + ".gone", size=10)
    server.requests.clear()
    with pytest.raises(CorpusError, match="broke off"):
        fetch(tmp_path, server, url="http://127.0.0.1:1/maestro.zip", size=10)


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


HOSTILE = [
    "../evil.midi",
    "/tmp/evil.midi",
    "maestro-v3.0.0/../../evil.midi",
    "..\\evil.midi",
    "C:/evil.midi",
    link("maestro-v3.0.0/link"),
]


@pytest.mark.parametrize("member", HOSTILE, ids=lambda m: getattr(m, "filename", m))
def test_hostile_member_is_refused_and_nothing_unpacked(tmp_path, server, zipped, member):
    server.content = with_members(zipped, tmp_path, member)
    root = tmp_path / "deep" / "data"
    with pytest.raises(CorpusError, match="would leave the folder"):
        fetch(root, server)
    assert leftovers(root) <= {"maestro-v3.0.0-midi.zip"} and leftovers(tmp_path / "deep") == {"data"}


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path, server, zipped, monkeypatch):
    monkeypatch.setattr(maestro, "LARGEST_UNPACKED", 1000)
    server.content = zipped
    with pytest.raises(CorpusError, match="would unpack to"):
        fetch(tmp_path, server)


def test_archive_that_is_no_zip_is_refused(tmp_path, server):
    server.content = b"not a zip" * 100
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        fetch(tmp_path, server)


def test_an_incomplete_folder_is_completed_and_the_users_files_stay(tmp_path, server, zipped):
    server.content = zipped
    found = fetch(tmp_path, server)
    (found / "notes.txt").write_text("mine")
    gone = next(found.rglob("*.midi"))
    gone.unlink()
    assert maestro.verify(tmp_path, progress=False).missing == (gone.relative_to(found).as_posix(),)
    fetch(tmp_path, server)
    assert gone.is_file() and (found / "notes.txt").read_text() == "mine"


def test_unwritable_root_gets_one_clear_line(tmp_path, server, zipped):
    server.content = zipped
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(tmp_path / "file", server)


def test_muspy_opens_what_was_fetched(tmp_path, server, zipped, monkeypatch):
    muspy_datasets = pytest.importorskip("muspy.datasets")
    declared = maestro.declared()
    assert (declared.size, declared.sha256[:8], declared.url[:8]) == (58_416_533, "70470ee2", "https://")
    server.content = zipped
    served = server.archive()
    monkeypatch.setitem(muspy_datasets.MAESTRODatasetV3._sources["maestro"], "url", served.url)
    monkeypatch.setitem(muspy_datasets.MAESTRODatasetV3._sources["maestro"], "size", served.size)
    monkeypatch.setitem(muspy_datasets.MAESTRODatasetV3._sources["maestro"], "sha256", served.sha256)
    maestro.fetch(tmp_path / "data", progress=False)
    assert len(muspy_datasets.MAESTRODatasetV3(tmp_path / "data")) == 6


def test_verification_names_what_is_missing_or_damaged(maestro_folder):
    whole = maestro.verify(maestro_folder, progress=False)
    assert (whole.missing, whole.damaged, whole.complete) == ((), (), False)  # 6 pieces are not 1,276
    files = sorted(maestro_folder.rglob("*.midi"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:200])
    found = maestro.verify(maestro_folder.parent, progress=False)
    assert found.missing == (files[0].relative_to(maestro_folder).as_posix(),)
    assert len(found.damaged) == 1 and files[1].name in found.damaged[0]


@pytest.mark.parametrize(
    "row", ["A,B,train,2004,../../etc/passwd,x,1", "A,B,holdout,2004,2004/a.midi,x,1", "A,B,train,2004,/etc/passwd,x,1"]
)
def test_a_csv_with_invalid_rows_is_refused(maestro_folder, row):
    with (maestro_folder / paths.MAESTRO_CSV).open("a") as table:
        table.write(row + "\n")
    with pytest.raises(CorpusError, match="makes no sense"):
        maestro.open(maestro_folder)


def test_missing_corpus_gets_one_clear_line(tmp_path):
    (tmp_path / "file.mid").touch()
    (tmp_path / "empty").mkdir()
    for place, says in [("none", "no such folder"), ("file.mid", "is a file"), ("empty", "holds no MIDI files")]:
        with pytest.raises(CorpusError, match=says) as caught:
            open_corpus(tmp_path / place)
        assert str(tmp_path / place) in str(caught.value) and "\n" not in str(caught.value)
    for module in (maestro, asap):
        with pytest.raises(CorpusError, match="holds no"):
            module.open(tmp_path)


def test_corpus_follows_environment_mount_and_default(monkeypatch, tmp_path, maestro_folder):
    assert open_corpus().name == "embedded"
    monkeypatch.setenv("ITTYBITTY_DATA", str(maestro_folder.parent))
    assert open_corpus().name == "maestro"
    assert open_corpus("embedded").name == "embedded"
    monkeypatch.delenv("ITTYBITTY_DATA")
    monkeypatch.setenv("ITTYBITTY_KAGGLE_ROOT", str(tmp_path / "kaggle"))
    shutil.copytree(maestro_folder, tmp_path / "kaggle" / "input" / "datasets" / "owner" / "slug" / "maestro-v3.0.0")
    assert open_corpus().name == "maestro"


def test_statistics_count_every_split(maestro_folder, performance):
    next(maestro_folder.rglob("*_05.midi")).write_bytes(b"")
    found = corpora.statistics(open_corpus(maestro_folder), progress=False)
    hours = pytest.approx(3 * (performance.end + 0.1) / 3600, rel=1e-3)
    assert found["train"] == {"pieces": 3, "notes": 3 * len(performance), "hours": hours, "unreadable": 0}
    assert (found["test"]["pieces"], found["test"]["unreadable"]) == (1, 1)


def test_an_unknown_split_is_answered_with_those_that_exist(maestro_folder):
    corpus = open_corpus(maestro_folder)
    assert len(corpus.split("test")) == 2 and len(corpus) == 6
    with pytest.raises(CorpusError, match="train, validation, test"):
        corpus.split("dev")
    with pytest.raises(CorpusError, match="no piece"):
        corpora.Corpus("x", "y", corpus.split("train")).split("test")


# A folder of the user's own files


def fill(place: Path, performance, count: int) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        write_midi(transpose(performance, i - 5), place / f"piece {i}.mid")
    return place


def test_folder_splits_by_content(tmp_path, performance):
    place = fill(tmp_path / "mine" / "Bach", performance, 12).parent
    before = {piece.path.read_bytes(): piece.split for piece in open_corpus(place).pieces}
    assert len(before) == 12 and set(before.values()) == {"train", "validation", "test"}
    for i, path in enumerate(sorted(place.rglob("*.mid"))):
        path.rename(place / f"{i}.MIDI")
    shutil.copy(place / "0.MIDI", place / "copy.mid")
    corpus = open_corpus(place)
    assert {piece.path.read_bytes(): piece.split for piece in corpus.pieces} == before
    assert len(corpus) == 12  # the copy is the same piece


def test_a_piece_of_a_folder_has_the_path_of_its_file(tmp_path, performance):
    piece = open_corpus(fill(tmp_path / "mine" / "Bach", performance, 1).parent).pieces[0]
    assert (piece.name, piece.composer, piece.title, piece.split) == ("Bach/piece 0.mid", "Bach", "piece 0", "train")
    assert len(piece.load()) == len(performance)


def test_three_files_fill_three_splits(tmp_path, performance):
    assert open_corpus(fill(tmp_path / "mine", performance, 3)).counts() == {"train": 1, "validation": 1, "test": 1}


def test_large_folder_is_split_by_the_stated_shares():
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(5000)]
    shares = {name: np.mean([folder._split(d) == name for d in digests]) for name in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.02)


# ASAP


@pytest.fixture
def asap_folder(tmp_path, performance) -> Path:
    place = tmp_path / "asap"
    (place / "Bach" / "Fugue").mkdir(parents=True)
    write_midi(performance, place / "Bach" / "Fugue" / "A01.mid")
    (place / "Bach" / "Fugue" / "A01_annotations.txt").write_text(
        "0.5\t0.5\tb,3/4,0\n1.0\t1.0\tdb\n1.5\t1.5\tbR\n\n2.0\t2.0\tdb,4/4\n"
    )
    (place / "metadata.csv").write_text(
        "split,maestro_midi_filename,composer,title,midi_performance,performance_annotations,midi_score,midi_score_annotations\n"
        "validation,2006/x.midi,Bach,Fugue,Bach/Fugue/A01.mid,Bach/Fugue/A01_annotations.txt,s.mid,s.txt\n"
    )
    return place


def test_asap_pairs_performance_and_beats(asap_folder, performance):
    piece = open_corpus(asap_folder).split("validation")[0]
    assert (piece.name, piece.composer, piece.maestro) == ("Bach/Fugue/A01", "Bach", "2006/x.midi")
    assert len(piece.load()) == len(performance)
    beats = asap.beats(piece)
    assert beats.times.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert beats.downbeats.tolist() == [False, True, False, True] and beats.rubato.tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_maestro_goes_before_asap(asap_folder, maestro_folder):
    shutil.move(asap_folder, maestro_folder.parent / "asap")
    assert open_corpus(maestro_folder.parent).name == "maestro"
    assert open_corpus(maestro_folder.parent / "asap").name == "asap"
    assert len(asap.open(maestro_folder.parent)) == 1


def test_asap_loads_with_its_beats_and_with_its_scores(asap_folder, performance):
    assert asap.open(asap_folder).pieces[0].load().beats.tolist() == [0.5, 1.0, 1.5, 2.0]
    write_midi(performance, asap_folder / "s.mid")
    assert len(asap.open(asap_folder, scores=True)) == 1  # a score of a held-out work
    (asap_folder / "s.mid").unlink()
    (asap_folder / "metadata.csv").write_text((asap_folder / "metadata.csv").read_text().replace("validation", "train"))
    assert len(asap.open(asap_folder, scores=True)) == 1  # its score is not there
    write_midi(performance, asap_folder / "s.mid")
    (asap_folder / "s.txt").write_text("0\t0\tdb\n2\t2\tb\n")
    score = asap.open(asap_folder, scores=True).pieces[-1]
    assert (score.name, score.split, score.load().beats.tolist()) == ("s", "train", [0.0, 2.0])
    assert len(open_corpus(asap_folder, "asap+scores")) == 2 and len(open_corpus(asap_folder, "asap")) == 1


def lines(times) -> str:
    return "".join(f"{time}\t{time}\tb\n" for time in times)


BAD_ANNOTATIONS = {
    "label 'x'": "0.5\t0.5\tx\n",
    "line 1 is not": "half past\n",
    "holds no beats": "",
    "line 3 has an earlier time": lines([0.5, 1.5, 1.0]),
    "line 3 has the same time": lines([0.5, 1.0, 1.0]),
    "one beat only": lines([0.5]),
    "does not match its MIDI.*0% of its 30": lines(range(100, 130)),  # after the music
    "does not match its MIDI.*0% on a note": lines([0.125 + 0.25 * i for i in range(30)]),  # between all notes
}


@pytest.mark.parametrize("says", BAD_ANNOTATIONS)
def test_damaged_annotations_get_one_clear_line(asap_folder, says):
    piece = asap.open(asap_folder).pieces[0]
    piece.annotations.write_text(BAD_ANNOTATIONS[says])
    with pytest.raises(CorpusError, match=says) as caught:
        piece.load()
    assert str(piece.annotations) in str(caught.value) and "\n" not in str(caught.value)


def test_asap_without_splits_is_refused(asap_folder):
    table = asap_folder / "metadata.csv"
    table.write_text(table.read_text().replace("split,", "fold,", 1))
    with pytest.raises(CorpusError, match="no column 'split'"):
        asap.open(asap_folder)


# The embedded works


def test_embedded_works_fill_fixed_splits(embedded):
    assert embedded.counts() == {"train": 59, "validation": 9, "test": 11}
    assert len({piece.name for piece in embedded.pieces}) == len(embedded)
    found = corpora.statistics(embedded, progress=False)
    assert 40_000 < sum(row["notes"] for row in found.values()) < 80_000
    assert all(row["unreadable"] == 0 for row in found.values())


def test_no_work_is_in_two_splits():
    places: dict[tuple[str, str], set[str]] = {}
    for work in corpora.embedded.WORKS:
        places.setdefault((work.composer, work.title), set()).add(work.split)
    assert all(len(splits) == 1 for splits in places.values())


def test_no_chorale_tune_is_in_two_splits():
    tunes: dict[tuple[int, ...], set[str]] = {}
    for work in corpora.embedded.WORKS:
        if work.title.startswith("Chorale"):
            notes = corpora.embedded.read_score(work.movements[0].score).notes
            soprano = notes["pitch"][notes["part"] == 0][:9].astype(int)
            tunes.setdefault(tuple(np.diff(soprano)), set()).add(work.split)
    assert len(tunes) >= 34 and all(len(splits) == 1 for splits in tunes.values())


def test_embedded_music_varies_in_timing_and_velocity(embedded):
    for piece in embedded.pieces:
        performance = piece.load()
        notes, pedals = performance.notes, performance.pedals
        assert notes["pitch"].min() >= 21 and notes["pitch"].max() <= 108
        assert notes["velocity"].std() > 4 and np.unique(notes["velocity"]).size > 15
        assert 0.4 < pedals["duration"].sum() / performance.end < 1 and (pedals["duration"] > 0).all()
        assert (pedals["onset"][1:] >= pedals["onset"][:-1] + pedals["duration"][:-1]).all()
        assert (notes["duration"] > 0).all() and notes["onset"].min() >= 0
        assert np.mean(np.diff(notes["onset"]) == 0) < 0.01  # no chord is quite together


def test_embedded_performance_is_deterministic(embedded, monkeypatch, tmp_path):
    kept = {name: corpora.embedded.performance(name) for name in ("bach/bwv281", "schumann_robert/opus48no2")}
    works = tuple(work for work in corpora.embedded.WORKS if work.movements[0].score in kept)
    monkeypatch.setattr(corpora.embedded, "WORKS", works)
    assert corpora.embedded._play_all() == kept


def test_embedded_cache_gives_the_same_notes(embedded, tmp_path):
    made = corpora.embedded._performances()
    corpora.embedded._to_cache(made, tmp_path / "cache" / "embedded.npz")
    again = corpora.embedded._from_cache(tmp_path / "cache" / "embedded.npz")
    assert again == made and all(np.array_equal(again[name].beats, made[name].beats) for name in made)
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "cache" / "embedded.npz").read_bytes()[:5000])
    assert corpora.embedded._from_cache(tmp_path / "damaged.npz") is None
    (tmp_path / "file").touch()
    corpora.embedded._to_cache(made, tmp_path / "file" / "embedded.npz")  # unwritable: silently made anew next time


def test_an_embedded_piece_can_be_pickled_for_a_worker(embedded):
    piece = pickle.loads(pickle.dumps(embedded.pieces[-1]))
    assert piece == embedded.pieces[-1] and piece.load() == embedded.pieces[-1].load()


def test_score_is_read_with_ties_joined():
    score = corpora.embedded.read_score("bach/bwv281")
    assert score.beat == 1.0 and len(score.fermatas) == 4 and score.notes["part"].max() == 3
    assert (score.notes["duration"] > 0).all()
    soprano = score.notes[score.notes["part"] == 0]
    assert soprano["pitch"].mean() > score.notes["pitch"].mean()
    assert (np.diff(soprano["onset"]) >= soprano["duration"][:-1] - 1e-9).all()  # one voice, nothing overlaps


def small_score(**changes) -> performer.Score:
    notes = np.zeros(32, performer.SCORE_NOTE)
    notes["onset"], notes["duration"], notes["level"] = np.repeat(np.arange(16), 2), 1.0, 0.5
    notes["pitch"], notes["part"] = np.tile([48, 72], 16), np.tile([1, 0], 16)
    for field, value in changes.items():
        notes[field] = value
    return performer.Score(notes, np.arange(0, 16, 4.0), 1.0, np.empty(0))


def play(**changes):
    return performer.play(small_score(**changes), 60, np.random.default_rng(0)).notes


def test_performer_leads_with_the_melody_and_plays_it_louder():
    notes = play()
    melody, bass = notes[notes["pitch"] == 72], notes[notes["pitch"] == 48]
    assert -0.05 < np.mean(melody["onset"] - bass["onset"]) < -0.01
    assert np.mean(melody["velocity"]) > np.mean(bass["velocity"]) + 4


def test_performer_slows_down_at_the_end():
    gaps = np.diff(play()["onset"][::2])
    assert gaps[-1] > 1.15 * np.median(gaps)


def test_performer_obeys_marks():
    assert play(level=0.8)["velocity"].mean() > play(level=0.3)["velocity"].mean() + 15
    assert np.median(play(staccato=True)["duration"]) < 0.6 * np.median(play()["duration"])


def test_embedded_works_have_beats(embedded):
    chorale = next(piece for piece in embedded.pieces if piece.name == "bach/bwv371").load()
    assert (np.diff(chorale.beats) > 0).all() and 40 < 60 / np.median(np.diff(chorale.beats)) < 80  # printed 66
    assert chorale.beats[0] < 1 and chorale.beats[-1] > chorale.notes["onset"][-1]
    nearest = np.abs(chorale.beats[:, None] - chorale.notes["onset"]).min(1)
    assert np.median(nearest) < 0.03  # a chorale moves by beats: no more than the hands are apart
