"""Packed tokens are the tokens, and damage is a line that says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import visits

from ittybitty.errors import OutputError, TokenizerError
from ittybitty.gpu import tokens
from ittybitty.tokenizers.store import TokenStore


@pytest.fixture
def pack(tmp_path, performance):
    return visits.packed(tmp_path, performance)


def test_unpacked_is_what_was_packed_and_one_encoding_follows_from_the_other(tmp_path, pack):
    assert tokens.listed(pack)["notes"]["from"] == "remi"
    for name in ("notes", "remi"):
        before, after = TokenStore.open(tmp_path / "stores" / name), tokens.unpack(pack, name, tmp_path / "there", 1)
        assert np.array_equal(before.ids, after.ids) and before.pieces == after.pieces
        assert after.tokenizer().content_hash == before.tokenizer_hash


def test_what_differs_travels_as_a_patch(tmp_path, performance):
    stores = visits.stores(tmp_path / "stores", performance)
    ids = np.fromfile(stores["notes"].path / "ids.u16", "<u2")
    other = stores["notes"].pieces[3]
    ids[other.start + 4] += 1  # a velocity that the other encoding does not know
    ids.tofile(stores["notes"].path / "ids.u16")
    stores["notes"] = TokenStore.open(stores["notes"].path)
    packed = tokens.pack(stores, tmp_path / "tokens.pack")
    assert packed["stores"]["notes"]["from"] == "remi"
    assert np.array_equal(tokens.unpack(packed["out"], "notes", tmp_path / "there", 1).ids, ids)


def test_packing_that_was_cut_short_is_done_again_and_other_folders_are_left_alone(tmp_path, pack, performance):
    (pack / tokens.PACK).write_text(json.dumps({"format": 1, "stores": {}}))
    with pytest.raises(TokenizerError, match="not finished"):
        tokens.listed(pack)
    store = TokenStore.open(tmp_path / "stores" / "remi")
    assert set(tokens.listed(tokens.pack({"remi": store}, pack)["out"])) == {"remi"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="other things"):
        tokens.pack({"remi": store}, tmp_path / "mine")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda pack: (pack / "pack.json").unlink(), "no packed tokens"),
        (lambda pack: (pack / "pack.json").write_text("{"), "damaged"),
        (lambda pack: (pack / "remi" / "ids.xz").write_bytes(b"xz?"), "damaged"),
        (lambda pack: (pack / "notes" / "patches.npz").write_bytes(b"PK"), "damaged"),
        (lambda pack: (pack / "notes" / "patches.npz").unlink(), "damaged"),
        (lambda pack: _other_hash(pack), "not those that were packed"),
    ],
)
def test_damage_is_named(tmp_path, pack, damage, says):
    damage(pack)
    with pytest.raises(TokenizerError, match=says):
        tokens.unpack(pack, "notes", tmp_path / "there", 1)


def _other_hash(pack):
    listed = json.loads((pack / tokens.PACK).read_text())
    listed["stores"]["notes"]["sha256"] = "0" * 64
    (pack / tokens.PACK).write_text(json.dumps(listed))
