"""Every row of the results table keeps the family's promises; a new row gets these tests by being listed."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from ittybitty import checkpoint, generation, systems
from ittybitty.config import SCALE_PRESETS, GenerationConfig, from_json, to_json
from ittybitty.corpora import Corpus
from ittybitty.errors import CheckpointError, ConfigError
from ittybitty.evaluation import likelihood
from ittybitty.export import export
from ittybitty.models import native
from ittybitty.models.decode import Decoder, decoder
from ittybitty.models.quantize import quantized
from ittybitty.piano import Piano
from ittybitty.tokenizers import VARIANTS
from ittybitty.tokenizers.store import tokenize_corpus
from ittybitty.train import loop
from performances import random_performance
from runs import Played

pytestmark = pytest.mark.slow

ROWS = list(systems.SYSTEMS)
V, REACH = 60, 64  # tokens; of a llama: short, so that the tests go past it
SMALL = {"model.vocab_size": V, "model.attn_reach": REACH}
TRAIN = {
    "model.vocab_size": 400,
    "model.dropout": 0.1,
    "data.context": 48,
    "data.prompt_tokens": 32,
    "train.steps": 4,
    "train.batch_size": 2,
    "train.warmup": 1,
    "train.checkpoint_every": 2,
    "train.validate_every": 2,
    "train.validation_windows": 2,
}
each_row = pytest.mark.parametrize("name", ROWS)


def on_events(name: str) -> bool:
    return bool(systems.build(name, "nano")["model"].events)


def vocabulary(name: str) -> int:
    return systems.build(name, "nano")["model"].vocab_size if on_events(name) else V


def configs(name: str, **changes) -> dict:
    small = {"model.attn_reach": REACH} if on_events(name) else SMALL
    return systems.build(name, "nano", {**small, **changes})


def model(name: str, **changes):
    """Untrained, and less symmetric than a fresh one, which might not betray a mistake."""
    torch.manual_seed(0)
    made = systems.build_model(configs(name, **changes)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def ids(name: str, B=2, L=150, seed=1):
    """Any ids; for a model of events the ids of some music, which alone have a meaning for it."""
    if not on_events(name):
        return torch.randint(0, V, (B, L), generator=torch.Generator().manual_seed(seed))
    tokenizer = systems.build_tokenizer(configs(name))
    pieces = [tokenizer.encode(random_performance(seed + k), eos=False)[:L] for k in range(B)]
    return torch.from_numpy(np.stack(pieces).astype(np.int64))


def other(name: str, x: torch.Tensor) -> torch.Tensor:
    """Other ids than `x` at every place."""
    if not on_events(name):
        return (x + 1) % V
    return ids(name, *x.shape, seed=11)


# ---------------------------------------------------------------------- models


@each_row
def test_logits_have_a_row_for_each_token_and_a_column_for_each_id(name):
    with torch.no_grad():
        assert model(name)(ids(name, 3, 20)).shape == (3, 20, vocabulary(name))


@each_row
def test_future_does_not_leak(name):
    made, x = model(name), ids(name)
    changed = x.clone()
    changed[:, 100:] = other(name, x)[:, 100:]
    with torch.no_grad():
        torch.testing.assert_close(made(x)[:, :100], made(changed)[:, :100], atol=1e-5, rtol=0)
        assert not torch.allclose(made(x)[:, 100], made(changed)[:, 100])


@each_row
def test_step_read_and_prefill_are_forward(name):
    made, x = model(name), ids(name)
    with torch.no_grad():
        whole, state = made(x), made.init_state(2)
        steps = torch.stack([made.step(x[:, t], state) for t in range(x.shape[1])], dim=1)
        torch.testing.assert_close(steps, whole, atol=1e-4, rtol=1e-4)
        state = made.init_state(2)
        torch.testing.assert_close(made.prefill(x[:, :40], state), whole[:, 39], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            made.read(x[:, 40:130], state), whole[:, 40:130], atol=1e-4, rtol=1e-4
        )  # beyond the reach too
        torch.testing.assert_close(made.step(x[:, 130], state), whole[:, 130], atol=1e-4, rtol=1e-4)


def numbers(state) -> int:
    """Numbers that a state holds."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, (list, tuple)):
        return sum(map(numbers, state))
    return sum(map(numbers, vars(state).values())) if hasattr(state, "__dict__") else 0


@each_row
def test_memory_never_grows(name):
    made, x = model(name), ids(name, 1, 201)
    state = made.init_state(1)
    before = numbers(state)
    with torch.no_grad():
        for token in x.unbind(1):
            made.step(token, state)
    assert numbers(state) == before


NOT_NATIVE = {
    "hybrid-cfc",
    "ssm",
    "lstm-pitch",
    "lstm-pitch-wide",
    "lstm-remi",
    "llama-512",
    "llama-1024",
    "beat-base",
    "beat-velocity",
    "notes-llama",
}


def rounds_all_matrices(rounded, model) -> bool:
    """Whether each row of each matrix of linear maps, embeddings and LSTMs is rounded to the nearest of its 255 levels."""
    matrices = [
        (q, p)
        for q, p in zip(rounded.modules(), model.modules())
        if isinstance(p, torch.nn.Linear | torch.nn.Embedding | torch.nn.LSTM)
    ]
    pairs = [
        (q, p)
        for ours, theirs in matrices
        for q, p in zip(ours.parameters(recurse=False), theirs.parameters(recurse=False))
        if p.dim() == 2
    ]
    moved = [(q - p).abs() for q, p in pairs]
    steps = [p.abs().amax(1, keepdim=True) / 127 for _, p in pairs]
    large = sum(p.numel() for _, p in pairs) > 0.7 * sum(p.numel() for p in model.parameters() if p.dim() == 2)
    return large and all((m.max() > 0) & (m <= step / 2 + 1e-6).all() for m, step in zip(moved, steps))


@each_row
def test_decoder_is_the_models_own_step(name):
    made, x = model(name), ids(name, 1, 80)
    for precision, truth in (("float32", made), ("int8", quantized(made))):
        fast = decoder(made, precision)
        assert isinstance(fast, Decoder) == (name not in NOT_NATIVE and native.status()[0])
        if not isinstance(fast, Decoder):  # the model itself decodes: only its rounding is left to be tested
            assert fast is made if precision == "float32" else rounds_all_matrices(fast, made)
            continue
        with torch.no_grad():
            a, b = truth.init_state(1), fast.init_state(1)
            truth.prefill(x[:, :50], a)
            fast.prefill(x[:, :50], b)
            for t in range(50, 80):
                torch.testing.assert_close(fast.step(x[:, t], b), truth.step(x[:, t], a), atol=1e-4, rtol=1e-4)


def test_native_code_leaves_what_it_does_not_know_to_the_model():
    for name in ("ssm", "hybrid-cfc", "lstm-remi", "llama-512"):
        assert not isinstance(decoder(model(name)), Decoder)
    assert not isinstance(decoder(model("mamba", **{"model.tied_head": False})), Decoder)


@each_row
def test_a_row_learns_one_batch(name):
    torch.manual_seed(0)
    made, x = systems.build_model(configs(name)), ids(name, 2, 33)
    smoothing = configs(name)["train"].label_smoothing
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss, nats, count = made(x[:, :-1], x[:, 1:], smoothing)
        losses.append(float(nats / count))
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    assert losses[-1] < 0.75 * (losses[0] if on_events(name) else math.log(V))


@each_row
def test_parts_add_up(name):
    made = model(name)
    assert sum(made.parameters_by_part().values()) == sum(p.numel() for p in made.parameters())


# ---------------------------------------------------------------------- parameters


@each_row
@pytest.mark.parametrize("size", SCALE_PRESETS)
def test_a_row_has_the_hybrids_parameters(name, size):
    ours, hybrid = systems.parameter_count(name, size), systems.parameter_count("hybrid", size)
    assert abs(ours / hybrid - 1) < (0.2 if size == "nano" else 0.05), f"{ours:,} against {hybrid:,}"


@pytest.mark.parametrize("name", [name for name in ROWS if systems.system(name).published["parameters"]])
def test_the_published_size_has_the_published_parameters(name):
    published = systems.system(name).published["parameters"]
    counted = systems.parameter_count(name, systems.PUBLISHED)
    assert abs(counted / published - 1) < 0.01, f"{counted:,} against {published:,}"


def test_rows_of_four_sources_state_their_parameters():
    assert {"hybrid", "mamba", "llama-512", "llama-1024"} == {
        name for name in ROWS if systems.system(name).published["parameters"]
    }


def test_llamas_have_the_published_parameters_to_the_last():
    assert systems.parameter_count("V7", "published") == 33_825_280
    assert systems.parameter_count("V8", "published") == 34_087_424


# ---------------------------------------------------------------------- configurations


@each_row
@pytest.mark.parametrize("size", [*SCALE_PRESETS, systems.PUBLISHED])
def test_configurations_survive_json(name, size):
    made = systems.build(name, size)
    assert from_json(to_json(made)) == made


@each_row
def test_a_row_has_a_known_encoding_and_is_sampled_as_its_table_says(name):
    row = systems.system(name)
    assert row.tokenizer in VARIANTS
    drawn = systems.sampling(name, seed=3)
    assert drawn.seed == 3 and {key: getattr(drawn, key) for key in row.sampling} == dict(row.sampling)


def test_published_recipes():
    lstm, llama = systems.build("V6", "published"), systems.build("V8", "published")
    assert (lstm["model"].lstm_sizes, lstm["model"].d_embedding) == ((512, 512, 512), 128)
    assert (lstm["data"].context, lstm["data"].stride, lstm["train"].batch_size, lstm["train"].learning_rate) == (
        100,
        1,
        256,
        4e-3,
    )
    assert (llama["data"].context, llama["data"].stride, llama["data"].copies, llama["data"].pitch_shift) == (
        256,
        64,
        2,
        6,
    )
    assert (llama["train"].batch_size, llama["train"].accumulation, llama["train"].warmup) == (128, 2, 4000)
    assert systems.build("V3", "published")["model"].lstm_sizes == (256, 512, 256)
    mamba = systems.build("mamba-paper", "published")
    assert (mamba["model"].d_model, mamba["model"].d_state, mamba["model"].tied_head) == (2048, 128, False)
    assert (mamba["train"].schedule, mamba["train"].decay_epochs, mamba["train"].patience) == ("stairs", 3, 5)


def test_given_steps_replace_epochs():
    assert systems.build("V7", "published")["train"].epochs == 100
    made = systems.build("V7", "published", {"train.steps": "50"})["train"]
    assert (made.epochs, made.steps) == (0, 50)


def test_units_are_read_from_the_command_line():
    assert systems.build("V6", "nano", {"model.lstm_sizes": "8,16,8"})["model"].lstm_sizes == (8, 16, 8)
    with pytest.raises(ConfigError, match=r"such as \d+,\d+,\d+"):
        systems.build("V6", "nano", {"model.lstm_sizes": "8,x"})


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"model.family": "lstn"}, "did you mean 'lstm'"),
        ({"model.family": "lstm", "model.lstm_sizes": ()}, "lstm_sizes"),
        ({"model.family": "lstm", "model.lstm_input": "one-hot"}, "lstm_input"),
        ({"model.family": "llama", "model.n_heads": 5}, "heads"),
        ({"model.pattern": "C", "model.cfc_sweeps": -1}, "cfc_sweeps"),
        ({"train.schedule": "steps"}, "schedule"),
    ],
)
def test_nonsense_is_refused(changes, word):
    from ittybitty.train.optimizer import learning_rate

    with pytest.raises(ConfigError, match=word):
        made = configs("hybrid", **changes)
        systems.build_model(made)
        learning_rate(100, made["train"])


# ---------------------------------------------------------------------- runs


@cache
def performance(i: int):
    return random_performance(i, 80, 20.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """variant -> six pieces in that code, two of them held out."""

    @cache
    def made(variant: str):
        pieces = tuple(Played(f"piece {i}", "validation" if i > 3 else "train", performance(i)) for i in range(6))
        corpus = Corpus(name="test", licence="CC0", pieces=pieces)
        tokenizer = systems.build_tokenizer(
            systems.build(next(n for n in ROWS if systems.SYSTEMS[n].tokenizer == variant), "nano")
        )
        tokenizer.train((p.performance for p in pieces[:4]), 400)
        return tokenize_corpus(
            corpus, tokenizer, tmp_path_factory.mktemp("tokens") / variant, workers=1, progress=False
        )

    return made


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """name -> the folder of a finished run of that row."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    @cache
    def made(name: str):
        folder = tmp_path_factory.mktemp("runs") / name
        loop.train(
            name,
            systems.build(name, "nano", TRAIN),
            store(systems.SYSTEMS[name].tokenizer),
            folder,
            progress=False,
            preset="nano",
        )
        return folder

    yield made
    torch.set_num_threads(threads)


@each_row
def test_resume_is_uninterrupted(name, store, run, tmp_path):
    made, tokens = systems.build(name, "nano", TRAIN), store(systems.SYSTEMS[name].tokenizer)

    class Stopped(Exception):
        pass

    def stop(step, record):
        if step == 3:  # one step after a checkpoint
            raise Stopped

    with pytest.raises(Stopped):
        loop.train(name, made, tokens, tmp_path / "run", progress=False, on_step=stop)
    loop.train(name, made, tokens, tmp_path / "run", progress=False, resume=True)
    whole, resumed = (checkpoint.newest(folder).path / checkpoint.MODEL for folder in (run(name), tmp_path / "run"))
    assert whole.read_bytes() == resumed.read_bytes()


@each_row
def test_a_run_folder_is_all_that_is_needed(name, run, tmp_path):
    found = checkpoint.load(run(name))
    assert found.system == name and found.model.config.vocab_size == found.tokenizer.vocab_size
    export(run(name), tmp_path / "hub")
    again = checkpoint.load(tmp_path / "hub")
    for key, value in found.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[key], value, atol=1e-3, rtol=1e-3)
    assert found.configs["model"].shape in (tmp_path / "hub" / "README.md").read_text()


@each_row
def test_a_seed_is_continued_within_the_grammar(name, run):
    piano = Piano.load(run(name))
    made = piano.continue_(performance(5), tokens=120, seed=1, prompt_tokens=32)
    assert made.tokens == 120 and len(made.new)
    assert made.new.notes["onset"].min() >= performance(5).notes["onset"].max()
    grammar = piano.tokenizer.grammar()
    state = grammar.start([piano.tokenizer.bos_id])
    for id in generation.generate_tokens(
        piano.model, piano.tokenizer, [piano.tokenizer.bos_id], GenerationConfig(100, seed=2)
    ):
        assert grammar.mask(state)[id]
        state = grammar.advance(state, id)


@each_row
def test_held_out_music_has_finite_bits(name, run):
    found = checkpoint.load(run(name))
    tokens = found.tokenizer.encode(found.tokenizer.prepare(performance(4)))
    bits = likelihood.piece_bits(found.model, tokens, context=128, stride=64)
    assert len(bits) == len(tokens) - 1 and np.isfinite(bits).all()


def test_a_run_of_another_row_is_not_resumed(store, run):
    with pytest.raises(ConfigError, match="is a run of hybrid, not of mamba"):
        loop.train(
            "mamba", systems.build("mamba", "nano", TRAIN), store("remi"), run("hybrid"), progress=False, resume=True
        )
    with pytest.raises(CheckpointError, match="of another model|trained with tokenizer"):
        loop.train(
            "lstm-remi",
            systems.build("lstm-remi", "nano", TRAIN),
            store("remi"),
            run("hybrid").parent / "new",
            progress=False,
            init_from=run("hybrid"),
        )
