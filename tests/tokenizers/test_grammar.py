"""Whatever the grammar allows is music that survives decoding and a MIDI file; whatever was encoded, it allows."""

import numpy as np
import pytest

from ittybitty.midi import read_midi, write_midi
from ittybitty.tokenizers import PianoTokenizer
from ittybitty.tokenizers.grammar import NOT_BEGUN, State
from ittybitty.tokenizers.grid import TYPES
from ittybitty.tokenizers.remi import VARIANTS
from performances import random_performance


@pytest.fixture(scope="module", params=[(name, size) for name in VARIANTS for size in (0, 700)], ids=str)
def tokenizer(request):
    name, size = request.param
    tokenizer = PianoTokenizer(name)
    return tokenizer.train([random_performance(seed) for seed in range(8)], size) if size else tokenizer


@pytest.fixture(scope="module")
def grammar(tokenizer):
    return tokenizer.grammar()


def sampled(tokenizer, grammar, seed: int, length: int = 200) -> list[int]:
    """Ids that a random model would sample, cut where nothing is half written."""
    random = np.random.default_rng(seed)
    taste = random.normal(size=tokenizer.vocab_size) * random.choice([0, 1, 4])
    ids = [tokenizer.bos_id]
    state, best = grammar.start(ids), 1
    for _ in range(length):
        logits = np.where(grammar.mask(state), taste + random.gumbel(size=len(taste)), -np.inf)
        assert logits.max() > -np.inf, "nothing is allowed"
        ids.append(int(logits.argmax()))
        state = grammar.advance(state, ids[-1])
        best = len(ids) if grammar.complete(state) else best
        if ids[-1] == tokenizer.eos_id:
            break
    return ids[:best]


def test_no_sampled_note_is_lost(tokenizer, grammar, tmp_path):
    for seed in range(25):
        ids = sampled(tokenizer, grammar, seed)
        decoded = tokenizer.decode(ids)
        assert len(decoded) == tokenizer.notes_per_id[ids].sum()
        if len(decoded) == 0:  # it ended at once
            continue
        write_midi(decoded, tmp_path / "sampled.mid")
        again = read_midi(tmp_path / "sampled.mid")
        keys = [sorted(zip(p.notes["pitch"], p.notes["onset"])) for p in (decoded, again)]
        assert len(again) == len(decoded)
        assert np.allclose(keys[0], keys[1], atol=1e-3)


def test_sampled_ids_are_what_their_music_is_written_as(tokenizer, grammar):
    if tokenizer.settings.tempos:
        pytest.skip("a tempo drawn anew at every bar cannot be written back")
    for seed in range(25):
        ids, state, end = sampled(tokenizer, grammar, seed + 100), grammar.start(), 0
        for place, id in enumerate(ids):
            state = grammar.advance(state, id)
            if TYPES[state.last] in ("Duration", "PedalOff") and not state.pedal:
                end = place + 1  # a note and the pedal end here
        base = tokenizer.merges.expand(np.array(ids[1:end], int))
        assert np.array_equal(tokenizer.encode_base(tokenizer.decode(ids[:end])), base)


def test_every_encoded_token_is_allowed(tokenizer):
    grammar = tokenizer.grammar(max_bars=None)
    for seed in range(4):
        state = grammar.start()
        for id in tokenizer.encode(random_performance(seed + 50, notes=200)).tolist():
            assert grammar.mask(state)[id], (state, tokenizer.base_names(id))
            state = grammar.advance(state, id)
        assert not grammar.mask(state).any()


def test_a_mask_equals_the_rules_checked_id_by_id(tokenizer, grammar):
    """The tables against a plain reading of the rules, token by token."""
    random = np.random.default_rng(0)
    for seed in range(3):
        ids = sampled(tokenizer, grammar, seed + 200, length=60)
        for cut in random.integers(1, len(ids) + 1, 4):
            state = grammar.start(ids[:cut])
            mask = grammar.mask(state)
            for id in random.integers(0, tokenizer.vocab_size, 300).tolist():
                assert mask[id] == plainly_allowed(tokenizer, state, id), (state, tokenizer.base_names(id))


def plainly_allowed(tokenizer, state: State, id: int) -> bool:
    last = "start" if state.last == NOT_BEGUN else TYPES[state.last]
    position, pitch, pedal, bars = state.position, state.pitch, state.pedal, state.empty_bars
    metre = tokenizer.settings.time_signatures
    after_event = ("Pitch", "Position", "Bar", "EOS")
    for name in tokenizer.base_names(id):
        kind, value = name.split("_", 1)
        follows = {
            "start": ("BOS", "Bar"),
            "BOS": ("Bar", "EOS"),
            "Bar": ("TimeSig",) if metre else ("Bar", "Position"),
            "TimeSig": ("Bar", "Position"),
            "Position": ("Pedal", "PedalOff", "Pitch", "Tempo"),
            "Pedal": after_event,
            "PedalOff": after_event,
            "Tempo": (*after_event, "Pedal", "PedalOff"),
            "Pitch": ("Velocity",),
            "Velocity": ("Duration",),
            "Duration": after_event,
        }
        if kind not in follows.get(last, ()):
            return False
        if kind == "Bar":
            if bars >= 8:
                return False
            bars, position, pitch = bars + 1, -1, -1
        elif kind == "Position":
            if int(value) <= position or int(value) >= tokenizer.vocabulary.ticks_per_bar:
                return False
            bars, position, pitch = 0, int(value), -1
        elif kind == "Pitch":
            if int(value) <= pitch:
                return False
            pitch = int(value)
        elif kind in ("Pedal", "PedalOff"):
            if pedal == (kind == "Pedal"):
                return False
            pedal = kind == "Pedal"
        elif kind == "TimeSig" and value != "4/4":
            return False
        last = kind
    return True


def test_silence_is_limited(tokenizer, grammar):
    bars = [tokenizer.vocabulary.id("Bar_None")]
    if tokenizer.settings.time_signatures:
        bars += [tokenizer.vocabulary.id("TimeSig_4/4")]
    state = grammar.start([tokenizer.bos_id, *bars])
    assert grammar.mask(state)[bars[0]]
    state = grammar.start([tokenizer.bos_id, *bars * 2])
    assert not grammar.mask(state)[bars[0]] and grammar.mask(state).any()
    assert tokenizer.grammar(max_bars=None).mask(state)[bars[0]]


def test_a_sequence_begins_with_bos_and_ends_with_eos(tokenizer, grammar):
    begin = grammar.mask(grammar.start())
    assert begin[tokenizer.bos_id] and not begin[tokenizer.eos_id]
    after = grammar.mask(grammar.start([tokenizer.bos_id]))
    assert not after[tokenizer.bos_id] and not after[tokenizer.pad_id]
    assert not grammar.mask(grammar.start([tokenizer.bos_id, tokenizer.eos_id])).any()


def test_advancing_leaves_the_old_state_good(grammar, tokenizer):
    state = grammar.start([tokenizer.bos_id])
    before = grammar.mask(state)
    grammar.advance(state, int(np.flatnonzero(before)[0]))
    assert np.array_equal(grammar.mask(state), before)


def test_any_prompt_is_taken(tokenizer, grammar):
    for seed in range(20):
        prompt = np.random.default_rng(seed).integers(3, tokenizer.vocab_size, 50)
        assert grammar.mask(grammar.start(prompt)).any()
