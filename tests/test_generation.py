"""A continuation starts where the seed ends, keeps the seed as it was, is valid whatever the model, and can be repeated."""

import json
from dataclasses import replace

import mido
import numpy as np
import pytest
import torch

import ittybitty
from ittybitty import generation
from ittybitty.config import DataConfig, GenerationConfig, preset
from ittybitty.errors import CheckpointError, ConfigError, MidiError, OutputError
from ittybitty.midi import read_midi, write_midi
from ittybitty.models import PianoHybridModel
from ittybitty.notes import Performance, TempoMap, shift
from ittybitty.piano import Piano
from ittybitty.tokenizers import PianoTokenizer
from ittybitty.tokenizers.reader import Reader

pytestmark = pytest.mark.slow

DATA = DataConfig(prompt_tokens=64)


def music(notes=200, seed=0, start=0.0):
    rng = np.random.default_rng(seed)
    onsets = start + np.cumsum(rng.uniform(0.03, 0.3, notes))
    rows = [(t, rng.uniform(0.05, 1.5), int(rng.integers(30, 90)), int(rng.integers(20, 110))) for t in onsets]
    return Performance.of(rows, [(start + 2.0 * i, 1.3) for i in range(int(onsets[-1] - start) // 2 + 1)])


@pytest.fixture(scope="module")
def tokenizer():
    return PianoTokenizer().train([music(600, seed) for seed in range(3)], 400)


def make_model(tokenizer, seed=0):
    torch.manual_seed(seed)
    return PianoHybridModel(replace(preset("nano")["model"], vocab_size=tokenizer.vocab_size)).eval()


@pytest.fixture(scope="module")
def model(tokenizer):
    return make_model(tokenizer)


class Scripted:
    """A model that knows by heart what comes next."""

    def __init__(self, tokenizer, script):
        self.config = replace(preset("nano")["model"], vocab_size=tokenizer.vocab_size)
        self.script = [int(i) for i in script]

    def init_state(self, batch_size=1):
        return {"at": 0}

    def prefill(self, ids, state):
        return self._logits(state)

    def step(self, ids, state):
        state["at"] += 1
        return self._logits(state)

    def _logits(self, state):
        logits = torch.zeros(1, self.config.vocab_size)
        if state["at"] < len(self.script):
            logits[0, self.script[state["at"]]] = 60.0
        return logits


def close(first, second):
    return (
        first.notes.dtype == second.notes.dtype
        and len(first) == len(second)
        and all(np.allclose(first.notes[name], second.notes[name], atol=1e-9) for name in first.notes.dtype.names)
    )


# The prompt


def test_prompt_is_the_end_of_the_seed(tokenizer):
    seed = music()
    prompt = generation.make_prompt(seed, tokenizer, DataConfig(prompt_seconds=3, prompt_tokens=10_000))
    assert prompt.performance == Performance(prompt.performance.notes, prompt.performance.pedals)
    assert np.array_equal(prompt.performance.notes, seed.notes[-len(prompt.performance) :])
    assert seed.end - 3 <= prompt.performance.notes["onset"][0] < seed.end - 3 + 0.4
    assert prompt.join == seed.notes["onset"][-1] and len(prompt.performance.pedals)


def test_a_long_last_chord_leaves_room_for_what_led_to_it(tokenizer):
    seed = Performance.of([*music(40), (music(40).end, 60.0, 50, 80)])
    prompt = generation.make_prompt(seed, tokenizer, DataConfig(prompt_tokens=10_000))
    assert len(prompt.performance) > 10 and prompt.performance.notes["onset"][0] >= prompt.join - 5


@pytest.mark.parametrize("limit", [9, 20, 64, 128])
def test_prompt_keeps_within_its_tokens(tokenizer, limit):
    short, longer = (
        generation.make_prompt(music(), tokenizer, DataConfig(prompt_tokens=n)) for n in (limit, limit + 12)
    )
    assert len(short.ids) <= limit and len(longer.performance) > len(short.performance) >= 1


def test_prompt_tokens_stand_on_the_seeds_clock(tokenizer):
    prompt = generation.make_prompt(music(), tokenizer, DATA)
    heard = shift(tokenizer.decode(prompt.ids), prompt.start)
    assert prompt.start % 2 == 0
    assert np.abs(heard.notes["onset"] - prompt.performance.notes["onset"]).max() < 0.011
    assert np.array_equal(heard.notes["pitch"], prompt.performance.notes["pitch"])
    assert tokenizer.bos_id not in prompt.ids and tokenizer.eos_id not in prompt.ids


def test_a_whole_seed_begins_with_bos(tokenizer):
    prompt = generation.make_prompt(music(8), tokenizer, DATA)
    assert prompt.ids[0] == tokenizer.bos_id and prompt.start == 0


def test_a_prompt_does_not_change_the_pedal(tokenizer):
    notes = [(0.1 * i, 0.1, 60 + i, 80) for i in range(5)]
    for pedals, down in (([(0.15, 5.0)], True), ([(0.15, 0.1)], False), ([(0.45, 1.0)], False)):
        prompt = generation.make_prompt(Performance.of(notes, pedals), tokenizer, DATA)
        reader = Reader(tokenizer.vocabulary, tokenizer.merges.spell)
        heard = [note for id in prompt.ids for note in reader.feed(id)]
        assert reader.pedal is down and len(heard) == 5
        assert reader.clock == pytest.approx(0.4, abs=0.011)  # no empty time after the last note


# The reader


@pytest.mark.parametrize("seed", range(5))
def test_reader_hears_what_decode_reads(tokenizer, seed):
    made = list(
        generation.generate_tokens(
            make_model(tokenizer, seed), tokenizer, [tokenizer.bos_id], GenerationConfig(300, 2.0, 1.0, 0, seed=seed)
        )
    )
    for ids in (made, tokenizer.encode(music(80, seed)), tokenizer.encode(music(80, seed))[17:]):
        reader = Reader(tokenizer.vocabulary, tokenizer.merges.spell)
        heard = Performance.of(note for id in ids for note in reader.feed(id))
        assert len(heard) > 20 and close(heard, tokenizer.decode(ids))


# The continuation


def test_continuation_joins_without_a_gap_or_a_jump_in_tempo(tokenizer):
    """A model that knows the piece by heart gives its rest back at the piece's own times."""
    piece = music(120)
    cut = 100
    seed = Performance(piece.notes[:cut], piece.pedals[piece.pedals["onset"] < piece.notes["onset"][cut - 1]])
    prompt = generation.make_prompt(seed, tokenizer, DATA)
    first = cut - len(prompt.performance)
    rest = shift(
        Performance(piece.notes[first:], piece.pedals[piece.pedals["onset"] >= piece.notes["onset"][first]]),
        -prompt.start,
    )
    whole = tokenizer.encode(rest, bos=False)
    at = next(i for i in range(len(whole)) if len(tokenizer.decode(whole[:i])) == cut - first)
    made = generation.continuation(
        Scripted(tokenizer, whole[at:]), tokenizer, seed, DATA, GenerationConfig(500, seed=0, stop_at_end=True)
    )
    assert len(made.new) == 20
    assert np.array_equal(made.new.notes["pitch"], piece.notes["pitch"][cut:])
    assert np.abs(made.new.notes["onset"] - piece.notes["onset"][cut:]).max() < 0.011


def test_seed_notes_stay_as_they_were_read(model, tokenizer, tmp_path):
    seed = music()
    write_midi(seed, tmp_path / "seed.mid")
    read = read_midi(tmp_path / "seed.mid")
    made = generation.generate_continuation(
        model, tokenizer, tmp_path / "seed.mid", tmp_path / "out.mid", DATA, GenerationConfig(200, seed=1)
    )
    assert made.seed == read
    written = read_midi(tmp_path / "out.mid")
    assert len(written) == len(read) + len(made.new) and len(made.new) > 10
    head = written.notes[: len(read)]
    for name in ("onset", "pitch", "velocity"):
        assert np.allclose(head[name], read.notes[name], atol=1e-3)
    assert made.new.notes["onset"][0] >= made.prompt.notes["onset"][-1]
    assert (np.diff(made.joined.notes["onset"]) >= 0).all()


def test_only_new_holds_the_continuation_alone_where_it_belongs_in_time(model, tokenizer, tmp_path):
    write_midi(music(), tmp_path / "seed.mid")
    made = generation.generate_continuation(
        model,
        tokenizer,
        tmp_path / "seed.mid",
        tmp_path / "out.mid",
        DATA,
        GenerationConfig(200, seed=1, only_new=True),
    )
    written = read_midi(tmp_path / "out.mid")
    assert len(written) == len(made.new)
    assert written.notes["onset"][0] == pytest.approx(made.new.notes["onset"][0], abs=1e-3)
    assert sorted(written.notes["pitch"]) == sorted(made.new.notes["pitch"])


@pytest.mark.parametrize("only_new", [False, True])
def test_the_seeds_clock_stays_and_new_notes_have_a_track(piano, tmp_path, only_new):
    clock = TempoMap(480, ((0, 618_557), (4800, 700_000)), ((0, 3, 4), (4320, 6, 8)))  # 97 and 86 quarters a minute
    seed = replace(music(), tempo_map=clock)
    write_midi(seed, tmp_path / "seed.mid")
    read = read_midi(tmp_path / "seed.mid")
    made = piano.continue_(tmp_path / "seed.mid", tokens=100, seed=1, out=tmp_path / "out.mid", only_new=only_new)
    written, file = read_midi(tmp_path / "out.mid"), mido.MidiFile(tmp_path / "out.mid")
    scale = file.ticks_per_beat // 480
    assert (
        read.tempo_map.finer(scale * 480 // read.tempo_map.ticks_per_quarter) == written.tempo_map == clock.finer(scale)
    )
    strikes = {
        part.name: sum(message.type == "note_on" and message.velocity > 0 for message in part) for part in file.tracks
    }
    assert strikes == ({"Piano": len(made.new)} if only_new else {"Seed": len(read), "Continuation": len(made.new)})
    expected = made.new if only_new else made.joined
    assert len(written) == len(expected) and len(written.pedals) == len(expected.pedals)
    for ours, theirs in ((written.notes, expected.notes), (written.pedals, expected.pedals)):
        assert np.allclose(np.sort(ours["onset"]), np.sort(theirs["onset"]), atol=1e-3)


def test_new_music_begins_where_it_is_asked_to(piano, tmp_path):
    write_midi(music(), tmp_path / "seed.mid")
    made = piano.continue_(tmp_path / "seed.mid", tokens=80, seed=1, start=12.0, out=tmp_path / "out.mid")
    old = music().notes["onset"][music().notes["onset"] < 12.0]
    assert len(made.seed) == len(old) and made.new.notes["onset"].min() >= old.max() - 1e-3
    assert made.new.notes["onset"].min() < 14 and len(read_midi(tmp_path / "out.mid")) == len(made.joined)
    streamed = piano.stream(tmp_path / "seed.mid", tokens=80, seed=1, start=12.0)
    assert close(Performance.of(streamed), made.new)
    with pytest.raises(ConfigError, match="cannot begin at 900 s"):
        piano.continue_(music(), tokens=80, start=900.0)


def test_a_piece_from_nothing_is_written(piano, tmp_path):
    made = piano.continue_(Performance(), tokens=80, seed=1, out=tmp_path / "new.mid")
    assert len(read_midi(tmp_path / "new.mid")) == len(made.new) > 5


def test_same_number_same_music(model, tokenizer):
    one, two, other = (
        generation.continuation(model, tokenizer, music(), DATA, GenerationConfig(100, seed=s)) for s in (5, 5, 6)
    )
    assert one.joined == two.joined and one.joined != other.joined
    drawn = generation.continuation(model, tokenizer, music(), DATA, GenerationConfig(100))
    again = generation.continuation(model, tokenizer, music(), DATA, GenerationConfig(100, seed=drawn.seed_number))
    assert drawn.joined == again.joined


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_model_no_token_is_lost(tokenizer, seed):
    config = GenerationConfig(250, temperature=3.0, top_p=1.0, top_k=0, seed=seed)
    prompt = generation.make_prompt(music(), tokenizer, DATA)
    new = list(generation.generate_tokens(make_model(tokenizer, seed), tokenizer, prompt.ids, config))
    assert len(new) == 250 and tokenizer.eos_id not in new
    began = sum(tokenizer.notes_per_id[new])
    heard = len(tokenizer.decode([*prompt.ids, *new])) - len(tokenizer.decode(prompt.ids))
    assert began - 1 <= heard <= began  # only a note cut off by the last token may miss


def test_generation_goes_past_the_context(tokenizer, model):
    made = generation.continuation(model, tokenizer, music(), DATA, GenerationConfig(700, seed=0))
    assert made.tokens == 700 > 5 * preset("nano")["data"].context and len(made.new) > 100


def test_seconds_end_the_music(model, tokenizer):
    made = generation.continuation(model, tokenizer, music(), DATA, GenerationConfig(5000, seconds=4.0, seed=0))
    onsets = made.new.notes["onset"] - music().notes["onset"][-1]
    assert onsets.min() >= 0 and 2 < onsets.max() < 4.0 and made.tokens < 5000


def test_the_end_token_is_drawn_only_on_request(tokenizer):
    ending = Scripted(tokenizer, [tokenizer.eos_id] * 50)
    assert generation.continuation(ending, tokenizer, music(), DATA, GenerationConfig(30, seed=0)).tokens == 30
    made = generation.continuation(ending, tokenizer, music(), DATA, GenerationConfig(30, seed=0, stop_at_end=True))
    assert made.tokens == 1 and len(made.new) == 0 and made.joined == made.seed


def test_pedal_is_not_lifted_at_the_seam(tokenizer):
    notes = [(0.5 * i, 0.4, 60 + i, 80) for i in range(4)]
    seed = Performance.of(notes, [(0.2, 1.9)])  # down at the last note
    follow = tokenizer.encode(Performance.of([*notes, (2.0, 0.4, 70, 80), (3.0, 0.4, 71, 80)], [(0.2, 2.3)]))
    at = next(i for i in range(len(follow)) if len(tokenizer.decode(follow[:i])) == 4)
    made = generation.continuation(
        Scripted(tokenizer, follow[at:]), tokenizer, seed, DATA, GenerationConfig(50, seed=0, stop_at_end=True)
    )
    assert len(made.new) == 2 and len(made.joined.pedals) == 1
    assert made.joined.pedals["onset"][0] == 0.2 and made.joined.pedals["duration"][0] == pytest.approx(2.3, abs=0.02)


@pytest.mark.parametrize(
    "seed",
    [Performance.of([(0, 1, 60, 80)]), Performance.of([(50, 90, 21, 1), (50, 0.01, 108, 127)])],
    ids=["one", "late"],
)
def test_a_seed_of_very_few_notes_works(model, tokenizer, seed):
    made = generation.continuation(model, tokenizer, seed, DATA, GenerationConfig(100, seed=0))
    assert len(made.new) > 5 and made.new.notes["onset"][0] >= seed.notes["onset"][-1]


# The stream


def test_stream_gives_the_same_notes_one_by_one(model, tokenizer):
    config = GenerationConfig(200, seed=3)
    made = generation.continuation(model, tokenizer, music(), DATA, config)
    notes = generation.stream(model, tokenizer, music(), DATA, config)
    first = next(notes)
    assert isinstance(first, ittybitty.Note) and first.onset >= music().notes["onset"][-1]
    assert close(Performance.of([first, *notes]), made.new)


def test_stream_does_not_wait_for_the_end(tokenizer, model):
    calls = []

    class Counting(Scripted):
        def __init__(self):
            self.config = model.config

        init_state, prefill = staticmethod(model.init_state), staticmethod(model.prefill)

        def step(self, ids, state):
            calls.append(1)
            return model.step(ids, state)

    next(generation.stream(Counting(), tokenizer, music(), DATA, GenerationConfig(10_000, seed=0)))
    assert len(calls) < 50


def test_stream_from_nothing_makes_a_piece(model, tokenizer):
    assert len(list(generation.stream(model, tokenizer, Performance(), DATA, GenerationConfig(100, seed=0)))) > 5


@pytest.fixture
def piano(model, tokenizer):
    return Piano(model, tokenizer, DATA, "test")


@pytest.mark.parametrize("notes", [1, 7, 40])
def test_a_continuation_has_the_requested_number_of_notes(piano, notes):
    made = piano.continue_(music(), notes=notes, seed=0)
    assert len(made.new) == notes == len(list(piano.stream(music(), notes=notes, seed=0)))
    assert close(Performance.of(piano.stream(music(), notes=notes, seed=0)), made.new)


def test_a_listener_hears_every_note_and_may_end_the_piece(piano):
    heard = []
    made = piano.continue_(music(), notes=30, seed=0, listen=lambda notes: heard.extend(notes))
    assert close(Performance.of(heard[:30]), made.new)
    heard.clear()
    ended = piano.continue_(music(), notes=30, seed=0, listen=lambda notes: heard.extend(notes) or len(heard) >= 10)
    assert 10 <= len(ended.new) < 30 and len(ended.new) == len(heard)
    assert np.array_equal(ended.new.notes, made.new.notes[: len(ended.new)])


# Trouble


def test_the_place_is_checked_before_the_work(tokenizer, tmp_path):
    write_midi(music(20), tmp_path / "seed.mid")
    with pytest.raises(OutputError, match="missing"):
        generation.generate_continuation(
            None, tokenizer, tmp_path / "seed.mid", tmp_path / "missing" / "out.mid", DATA, GenerationConfig()
        )
    with pytest.raises(OutputError, match="seed itself"):
        generation.generate_continuation(
            None, tokenizer, tmp_path / "seed.mid", tmp_path / "seed.mid", DATA, GenerationConfig()
        )


def test_a_failure_leaves_what_stood_there(tokenizer, model, tmp_path):
    (tmp_path / "out.mid").write_bytes(b"before")
    (tmp_path / "bad.mid").write_bytes(b"not midi")
    with pytest.raises(MidiError):
        generation.generate_continuation(
            model, tokenizer, tmp_path / "bad.mid", tmp_path / "out.mid", DATA, GenerationConfig()
        )
    assert (tmp_path / "out.mid").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 2


def test_a_tokenizer_of_another_model_is_refused(tokenizer):
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        generation.continuation(
            PianoHybridModel(preset("nano")["model"]), tokenizer, music(), DATA, GenerationConfig(5)
        )


def test_weights_that_diverged_are_named(tokenizer):
    class Broken(Scripted):
        def _logits(self, state):
            return torch.full((1, self.config.vocab_size), torch.nan)

    with pytest.raises(CheckpointError, match="diverged"):
        generation.continuation(Broken(tokenizer, []), tokenizer, music(), DATA, GenerationConfig(5))


# The short way


def test_piano_continues_files_and_performances(piano, tmp_path):
    write_midi(music(), tmp_path / "seed.mid")
    done = []
    made = piano.continue_(
        tmp_path / "seed.mid", tokens=40, out=tmp_path / "out.mid", seed=2, temperature=1.1, progress=done.append
    )
    assert made.tokens == 40 and done == list(range(1, 41)) and made.tokens_per_second > 0
    assert len(read_midi(tmp_path / "out.mid")) == len(made.joined)
    assert len(piano.continue_(music(), tokens=40, seed=2, prompt_seconds=1, prompt_tokens=9).prompt) < len(made.prompt)
    assert close(Performance.of(piano.stream(tmp_path / "seed.mid", tokens=40, seed=2, temperature=1.1)), made.new)


def test_piano_plays_for_the_requested_time(piano):
    made = piano.continue_(music(), seconds=12, seed=0)
    assert 9 < made.new.notes["onset"].max() - music().notes["onset"][-1] < 12


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"tokens": -5},
        {"seconds": -1},
        {"notes": 0},
        {"colour": 1},
        {"prompt_tokens": 0},
    ],
)
def test_nonsense_options_are_named(piano, options):
    with pytest.raises(ConfigError, match=next(iter(options)).replace("tokens", "tokens")):
        piano.continue_(music(), **options)


def test_load_reads_a_run_folder(model, tokenizer, tmp_path):
    from ittybitty import checkpoint

    configs = {**preset("nano"), "model": model.config}
    checkpoint.write_config(tmp_path, configs, "hybrid", "nano", tokenizer.content_hash, {})
    checkpoint.save_model(tmp_path, model)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert json.loads((tmp_path / "config.json").read_text())["system"] == "hybrid"
    loaded = ittybitty.load(tmp_path)
    mine = Piano(model, tokenizer, configs["data"], "mine")
    assert loaded.continue_(music(), tokens=50, seed=1).joined == mine.continue_(music(), tokens=50, seed=1).joined


def test_a_penalty_discourages_repeats(model, tokenizer):
    plain, less = (
        generation.continuation(
            model, tokenizer, music(), DATA, GenerationConfig(150, top_k=1, repetition_penalty=penalty)
        ).ids
        for penalty in (1.0, 3.0)
    )
    assert len(set(less)) > 2 * len(set(plain))


def test_eight_bits_are_used_on_request(model, tokenizer, monkeypatch):
    asked, made = [], generation.decoder
    monkeypatch.setattr(
        generation, "decoder", lambda model, precision: asked.append(precision) or made(model, precision)
    )
    generation.continuation(model, tokenizer, music(), DATA, GenerationConfig(20, seed=1, precision="int8"))
    assert asked == ["int8"]
