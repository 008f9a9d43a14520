"""The encoding of events: grid, order at one instant, pedal, long silences, grammar, augmentation."""

from dataclasses import replace

import numpy as np
import pytest

from ittybitty import metrics
from ittybitty.notes import Performance, transpose
from ittybitty.tokenizers import make_tokenizer
from ittybitty.tokenizers.events import IDS_PER_EVENT, VARIANTS, EventTokenizer
from ittybitty.tokenizers.events.grid import EventGrid
from performances import random_performance

pytestmark = pytest.mark.slow

PAD, NONE, BOS, EOS = range(4)


@pytest.fixture(params=VARIANTS)
def tokenizer(request):
    return EventTokenizer(request.param)


@pytest.fixture(params=[name for name, grid in VARIANTS.items() if grid.pedal])
def with_pedal(request):
    return EventTokenizer(request.param)


def words(tokenizer, ids) -> list[str]:
    return [tokenizer.base_names(int(id))[0] for id in ids]


def test_an_event_is_four_ids():
    tokenizer = EventTokenizer()
    ids = tokenizer.encode(Performance.of([(0.5, 0.25, 60, 64), (0.5, 0.5, 64, 127)], [(0.5, 1.0)]))
    assert len(ids) == 1 + 4 * IDS_PER_EVENT + 1
    assert words(tokenizer, ids) == (
        "BOS Time_24 Pitch_60 Duration_12 Velocity_63 Time_0 Pitch_64 Duration_24 Velocity_127 "
        "Time_0 Pedal NONE NONE Time_48 PedalOff NONE NONE EOS".split()
    )


def test_onsets_are_within_half_a_tick(tokenizer):
    performance = random_performance(5)
    error = metrics.round_trip_error(performance, tokenizer.decode(tokenizer.encode(performance)))
    assert error["notes_lost"] == 0 and error["onset_error_ms"] <= 500 / tokenizer.grid.ticks_per_second


def test_pedals_stay_near_and_few_are_lost(with_pedal):
    tokenizer = with_pedal
    performance = random_performance(5, seconds=200)
    error = metrics.pedal_error(performance, tokenizer.decode(tokenizer.encode(performance)))
    step = tokenizer.grid.pedal_step / tokenizer.grid.ticks_per_second
    assert error["pedal_error_ms"] < 1000 * step and error["pedals_lost"] <= 0.25 * error["pedals"]


def test_a_pedal_changed_at_one_instant_comes_up():
    tokenizer = EventTokenizer()
    performance = Performance.of([(0, 1, 60, 64), (1, 1, 62, 64)], [(0, 1.0), (1.01, 1.0)])
    pedals = tokenizer.decode(tokenizer.encode(performance)).pedals
    assert len(pedals) == 2 and pedals["onset"][0] + pedals["duration"][0] < pedals["onset"][1]


def test_an_error_of_a_long_silence_does_not_add_up(tokenizer):
    onsets = np.cumsum([0.0] + [7.77, 0.5] * 20)
    performance = Performance.of([(t, 0.2, key, 64) for t in onsets for key in (60, 64, 67)])
    decoded = tokenizer.decode(tokenizer.encode(performance))
    starts = np.unique(decoded.notes["onset"])
    assert len(starts) == len(onsets)  # chords stay together
    assert np.abs(starts - onsets).max() < 0.2


def test_silences_are_bounded_when_sampling(tokenizer):
    grammar = tokenizer.grammar(max_silence=4.0)
    state = grammar.advance(grammar.start(), BOS)
    allowed = np.flatnonzero(grammar.mask(state))
    times = tokenizer.grid.times[allowed[allowed > EOS] - EOS - 1] / tokenizer.grid.ticks_per_second
    assert times.max() == pytest.approx(4.0, abs=0.3) and times.max() < 4.0


def test_a_silence_is_not_split_over_movements_of_the_pedal(tokenizer):
    """Random walks of the pedal and long times: a note comes before the limit, and after a prompt beyond it at once."""
    random, first, rate = np.random.default_rng(0), tokenizer.first_ids, tokenizer.grid.ticks_per_second
    grammar = tokenizer.grammar(max_silence=2.0)
    beyond = [BOS, first[0] + 90, first[1] + 88, NONE, NONE, first[0] + 90, first[1] + 89, NONE, NONE] * 3
    for prompt in ([BOS], beyond[: len(beyond) // 3], beyond[:-4], beyond):
        ids, state = list(prompt), grammar.start(prompt)
        while len(ids) < len(prompt) + 400:
            allowed = np.flatnonzero(grammar.mask(state))
            allowed = allowed[allowed != EOS]
            pedal = allowed[(allowed >= first[1] + 88) & (allowed < first[2])]
            id = int(random.choice(pedal if len(pedal) else allowed))
            ids.append(id)
            state = grammar.advance(state, id)
        rows = np.array(ids[len(prompt) :]).reshape(-1, 4)
        before = grammar.start(prompt).silent
        onsets = np.cumsum(tokenizer.grid.times[rows[:, 0] - first[0]])[rows[:, 2] != NONE]
        assert onsets[0] <= max(1, 2 * rate - 1 - before)
        assert 1.5 * rate < np.diff(onsets).max() < 2 * rate


def test_a_key_may_not_be_struck_beyond_its_share_of_the_last_fifteen_seconds(tokenizer):
    """Whoever strikes one key whenever it is allowed, about ten times a second, gets three notes of ten from it."""
    grammar, first, tick = tokenizer.grammar(max_share=0.3), tokenizer.first_ids, tokenizer.grid.ticks_per_second
    state, struck = grammar.start([BOS]), []
    for _ in range(400):
        state = grammar.advance(state, first[0] + tick // 10)
        struck.append(39 if grammar.mask(state)[first[1] + 39] else len(struck) % 30)
        for id in (first[1] + struck[-1], first[2], first[3]):
            assert grammar.mask(state)[id]
            state = grammar.advance(state, id)
    assert struck[:9] == [39] * 9 and struck[9] != 39
    notes = grammar.span // (tick // 10)  # in 15 s
    shares = [struck[at - notes : at].count(39) / notes for at in range(notes, 400)]
    assert min(shares) > 0.28 and max(shares) <= 0.3 + 1 / notes
    free = tokenizer.grammar(max_share=None)
    assert free.mask(free.advance(state, first[0] + 4))[first[1] : first[1] + 88].all()


def test_the_share_of_a_key_gives_way_where_nothing_else_can_happen(tokenizer):
    """Above the last key but one there is the last key alone, and the pedal has just gone down."""
    first, grammar = tokenizer.first_ids, tokenizer.grammar()

    def note(first, time, key):
        return [first[0] + time, first[1] + key, first[2], first[3]]

    prompt = [BOS, *note(first, 5, 87) * 30]
    barred = grammar.mask(grammar.start([*prompt, first[0] + 5]))
    assert not barred[first[1] + 87] and barred[first[1] + 86]
    other = EventTokenizer(replace(tokenizer.grid, pedal=False))
    no_pedal, first = other.grammar(), other.first_ids
    alone = no_pedal.start([BOS, *note(first, 5, 87) * 30, *note(first, 5, 86), first[0]])
    assert no_pedal.mask(alone)[first[1] + 87]


def test_no_limit_of_silence_allows_every_time(tokenizer):
    grammar = tokenizer.grammar(max_silence=None)
    allowed = grammar.mask(grammar.start([BOS]))
    assert allowed[tokenizer.first_ids[0] : tokenizer.first_ids[1]].all()


def test_every_sequence_that_the_grammar_allows_decodes_to_valid_music(tokenizer):
    """Random walks: each key at most once at an instant, the pedal in turn, and the same ids when encoded again."""
    random = np.random.default_rng(0)
    for _ in range(5):
        grammar, ids = tokenizer.grammar(), [BOS]
        state = grammar.advance(grammar.start(), BOS)
        while len(ids) < 801:
            allowed = np.flatnonzero(grammar.mask(state))
            allowed = allowed[allowed != EOS]
            zero = tokenizer.first_ids[0]
            id = zero if zero in allowed and random.random() < 0.6 else int(random.choice(allowed))
            ids.append(id)
            state = grammar.advance(state, id)
        notes = (np.array(ids)[2::4] < tokenizer.first_ids[1] + 88).sum()
        decoded = tokenizer.decode(ids)
        assert len(decoded) == notes
        strikes = {(round(1000 * n.onset), n.pitch) for n in decoded}
        assert len(strikes) == notes
        assert (decoded.pedals["onset"][1:] >= (decoded.pedals["onset"] + decoded.pedals["duration"])[:-1]).all()


def test_transposing_ids_is_transposing_the_music(tokenizer):
    performance = Performance.of(
        [(n.onset, n.duration, n.pitch, n.velocity) for n in random_performance(2) if 40 < n.pitch < 90]
    )
    assert np.array_equal(
        tokenizer.augment(tokenizer.encode(performance), 5), tokenizer.encode(transpose(performance, 5))
    )


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 5])
def test_a_window_is_augmented_from_any_id_on(tokenizer, start):
    ids = tokenizer.encode(random_performance(2))[start:203]
    changed = tokenizer.augment(ids, 0, 1, 1.1)
    low, high = tokenizer.first_ids[3], tokenizer.vocab_size - 1
    lead = (1 - start) % 4
    assert len(changed) > 0.7 * len(ids)
    for old, new in zip(ids[:lead], changed[:lead]):
        assert new == (min(old + 1, high) if old >= low else old)


def test_a_grid_of_a_users_own_is_saved(tmp_path):
    tokenizer = EventTokenizer(EventGrid(ticks_per_second=20, exact=20, silence_steps=((100, 4),), pedal=False))
    tokenizer.save(tmp_path / "tokenizer.json")
    again = EventTokenizer().load(tmp_path / "tokenizer.json")
    assert again.content_hash == tokenizer.content_hash and again.sizes == tokenizer.sizes
    assert again.keeps == ("pitch", "onset", "duration", "velocity")


def test_bits_of_an_id_are_divided_among_its_attributes():
    tokenizer = make_tokenizer("notes")
    ids = tokenizer.encode(Performance.of([(0, 1, 60, 64)], [(0, 1)]))
    said = [tokenizer.attributes(int(id))[0] for id in ids]
    assert said == "other time pitch duration velocity time pedal other other time pedal other other other".split()


def test_an_instant_at_which_nothing_more_can_happen_is_left(with_pedal):
    """The pedal went down after the last key had been struck: no note may follow at once, and the pedal may not come up yet."""
    tokenizer = with_pedal
    first = tokenizer.first_ids
    for wait in (0, 4):
        ids = [BOS, first[0] + 4, first[1] + 87, first[2], first[3], first[0] + wait, first[1] + 88, NONE, NONE]
        grammar = tokenizer.grammar()
        state = grammar.start(ids)
        assert not grammar.mask(state)[first[0]] and grammar.mask(state)[first[0] + 1]
        state = grammar.advance(state, first[0] + 1)
        assert grammar.mask(state)[first[1] + 89]


@pytest.mark.parametrize("other", VARIANTS)
def test_nearest_ids_mean_nearly_the_same_music(tokenizer, other):
    theirs = EventTokenizer(other)
    music = random_performance(6)
    ids = tokenizer.encode(music)
    moved = tokenizer.nearest_ids(theirs)[ids]
    assert words(theirs, moved)[0] == "BOS" and words(theirs, moved)[-1] == "EOS"
    place = np.array([tokenizer.place(int(id)) for id in ids])
    same = np.array([theirs.place(int(id)) for id in moved])
    assert (same[place >= 0] == place[place >= 0]).mean() > 0.9  # a pedal that is not there becomes NONE
    keys = [w for w in words(tokenizer, ids) if w.startswith("Pitch")]
    assert [w for w in words(theirs, moved) if w.startswith("Pitch")] == keys
    if other == tokenizer.variant:
        assert (moved == ids).all()


def test_a_fine_pedal_is_as_precise_as_the_notes():
    performance = random_performance(6)
    moved = {
        name: metrics.pedal_error(performance, EventTokenizer(name).decode(EventTokenizer(name).encode(performance)))
        for name in ("notes", "notes-fine-pedal")
    }
    tick = 1000 / EventTokenizer("notes").grid.ticks_per_second  # ms
    assert moved["notes-fine-pedal"]["pedal_error_ms"] <= tick / 2 < moved["notes"]["pedal_error_ms"]
    assert EventTokenizer("notes-fine-pedal").sizes == EventTokenizer("notes").sizes
