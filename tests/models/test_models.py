"""The family's promises: causal, sparse, step equals forward, counts as published, learns."""

import dataclasses
import warnings

import pytest
import torch

from ittybitty.config import SCALE_PRESETS, ModelConfig
from ittybitty.errors import CheckpointError, ConfigError
from ittybitty.models import PianoHybridModel, native
from ittybitty.models.attention import SparseAttention
from ittybitty.models.mamba import Mamba

NANO = SCALE_PRESETS["nano"]["model"]
PATTERNS = ["M", "F", "A", "MF", "MFA", "AAM"]


def model(pattern="MF MFA", **changes) -> PianoHybridModel:
    torch.manual_seed(0)
    made = PianoHybridModel(dataclasses.replace(NANO, pattern=pattern, vocab_size=60, **changes)).eval()
    with torch.no_grad():  # a fresh model is too symmetric to betray a mistake
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def ids(B=2, L=150):
    return torch.randint(0, 60, (B, L), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name, millions, tolerance",
    [
        ("nano", 0.09, 0.05),
        ("tiny", 2.87, 0.01),
        ("small", 25.6, 0.01),
        ("medium", 60, 0.02),
        ("large", 100, 0.05),
    ],
)
def test_presets_have_the_stated_size(name, millions, tolerance):
    with torch.device("meta"):
        made = PianoHybridModel(SCALE_PRESETS[name]["model"])
    total = sum(p.numel() for p in made.parameters())
    assert abs(total / 1e6 - millions) <= tolerance * millions
    assert sum(made.parameters_by_part().values()) == total


def test_small_keeps_the_published_numbers():
    small = SCALE_PRESETS["small"]
    m, t = small["model"], small["train"]
    assert (m.d_model, m.n_heads, m.vocab_size, m.d_state, m.d_conv, m.expand) == (512, 8, 2000, 16, 4, 2)
    assert len(m.pattern.split()) == 6 and [("A" in g) for g in m.pattern.split()] == [False, False, True] * 2
    assert (small["data"].context, t.batch_size, t.warmup, t.label_smoothing) == (1024, 64, 200, 0.1)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_step_is_forward(pattern):
    made, x = model(pattern), ids()
    with torch.no_grad():
        whole, state = made(x), made.init_state(2)
        steps = torch.stack([made.step(x[:, t], state) for t in range(x.shape[1])], dim=1)
    torch.testing.assert_close(steps, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed_length", [1, 31, 32, 100])
def test_prefill_leaves_the_state_of_the_steps(pattern, seed_length):
    made, x = model(pattern), ids()
    with torch.no_grad():
        whole, state = made(x), made.init_state(2)
        logits = made.prefill(x[:, :seed_length], state)
        torch.testing.assert_close(logits, whole[:, seed_length - 1], atol=1e-4, rtol=1e-4)
        for t in range(seed_length, x.shape[1]):
            logits = made.step(x[:, t], state)
    torch.testing.assert_close(logits, whole[:, -1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_future_does_not_leak(pattern):
    made, x = model(pattern), ids()
    changed = x.clone()
    changed[:, 100:] = (changed[:, 100:] + 1) % 60
    with torch.no_grad():
        torch.testing.assert_close(made(x)[:, :100], made(changed)[:, :100], atol=1e-5, rtol=0)
        assert not torch.allclose(made(x)[:, 100], made(changed)[:, 100])


@pytest.mark.parametrize("kind", ["learned", "alibi", "none"])
def test_sparse_attention_is_dense_attention_under_its_pattern(kind):
    torch.manual_seed(0)
    attention, x = SparseAttention(dataclasses.replace(NANO, attn_bias=kind)), torch.randn(2, 300, NANO.d_model)
    q, k, v = attention._split(x)
    distance = (torch.arange(300)[:, None] - torch.arange(300)[None]).clamp(min=0)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + attention.relative_bias(distance)
    weights = scores.masked_fill(~attention.seen(300), float("-inf")).softmax(-1)
    dense = attention.out((weights @ v).transpose(1, 2).reshape(x.shape))
    torch.testing.assert_close(attention(x), dense)


def test_attention_reads_few_keys_and_its_cache_never_grows():
    attention = SparseAttention(NANO)
    most = NANO.attn_window + NANO.attn_reach // NANO.attn_stride
    assert attention.seen(1000).sum(1).max() <= most
    state = attention.init_state(1)
    size = state.keys.numel() + state.landmark_keys.numel()
    for _ in range(300):
        attention.step(torch.randn(1, NANO.d_model), state)
    assert state.keys.numel() + state.landmark_keys.numel() == size


def test_mamba_has_the_names_and_shapes_of_mamba_ssm():
    block = Mamba(ModelConfig(d_model=64))
    shapes = {name: tuple(p.shape) for name, p in block.state_dict().items()}
    assert shapes == {
        "A_log": (128, 16),
        "D": (128,),
        "in_proj.weight": (256, 64),
        "conv1d.weight": (128, 1, 4),
        "conv1d.bias": (128,),
        "x_proj.weight": (36, 128),
        "dt_proj.weight": (128, 4),
        "dt_proj.bias": (128,),
        "out_proj.weight": (64, 128),
    }
    step = torch.nn.functional.softplus(block.dt_proj.bias)
    assert step.min() >= 1e-4 and step.max() <= 0.11


@pytest.mark.parametrize("path", ["chunked", "native"])
def test_our_convolution_is_conv1d_in_value_and_gradient(path, monkeypatch):
    if path == "native" and not native.status()[0]:
        pytest.skip(f"no native code here: {native.status()[1]}")
    monkeypatch.setenv("ITTYBITTY_SCAN", path)
    torch.manual_seed(0)
    block, wide = Mamba(NANO).double(), torch.randn(2, 20, 192, dtype=torch.float64, requires_grad=True)
    u = wide.chunk(2, dim=-1)[0]  # rows that lie apart, as in the block
    ours = block._convolve(u, None)
    theirs = torch.nn.functional.silu(block.conv1d(u.transpose(1, 2))[..., :20].transpose(1, 2))
    torch.testing.assert_close(ours, theirs)
    weight, inputs = torch.randn_like(ours), (wide, block.conv1d.weight, block.conv1d.bias)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, theirs))):
        torch.testing.assert_close(a, b)


def test_loss_is_cross_entropy_and_sums_over_replicas():
    made, x = model(), ids(4, 40)
    y = x.roll(-1, 1)
    y[1, 30:] = -100
    loss, nats, count = made(x, y, label_smoothing=0.1)
    logits = made(x).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(loss, expected.view(1))
    torch.testing.assert_close(nats, torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="sum").view(1))
    parts = [made(x[s], y[s], 0.1) for s in (slice(0, 3), slice(3, 4))]
    torch.testing.assert_close(sum(p[0] for p in parts), loss)
    assert int(count) == sum(int(p[2]) for p in parts) == 150


@pytest.mark.parametrize("pattern", ["MFA", "M"])
def test_model_learns_one_batch(pattern):
    torch.manual_seed(0)
    made, x = PianoHybridModel(dataclasses.replace(NANO, pattern=pattern, vocab_size=60)), ids(2, 48)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    for _ in range(60):
        loss, nats, count = made(x[:, :-1], x[:, 1:])
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    assert float(nats / count) < 0.5


def test_a_fresh_model_has_the_loss_of_equal_probabilities():
    x = ids(4, 100)
    torch.manual_seed(0)
    fresh = PianoHybridModel(dataclasses.replace(NANO, vocab_size=60))
    _, nats, count = fresh(x[:, :-1], x[:, 1:])
    assert abs(float(nats / count) - torch.log(torch.tensor(60.0))) < 0.2


def test_a_state_dict_that_does_not_fit_is_refused_and_a_partial_one_reported():
    made = model()
    with pytest.raises(CheckpointError, match="does not|do not fit"):
        made.load_state_dict(model(d_ff=64).state_dict(), strict=False)
    with pytest.raises(CheckpointError, match="no tensor name"):
        made.load_state_dict({"other.weight": torch.zeros(1)}, strict=False)
    partial = dict(made.state_dict(), extra=torch.zeros(1))
    del partial["norm.weight"]
    with pytest.warns(UserWarning) as said:
        made.load_state_dict(partial, strict=False)
    assert any("missing from the file: norm.weight" in str(w.message) for w in said)
    assert any("unknown to the model: extra" in str(w.message) for w in said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.load_state_dict(made.state_dict())


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"pattern": "MXF"}, "pattern"),
        ({"pattern": ""}, "pattern"),
        ({"attn_bias": "rope"}, "attn_bias"),
        ({"n_heads": 5}, "heads"),
    ],
)
def test_invalid_configurations_are_refused(changes, word):
    with pytest.raises(ConfigError, match=word):
        PianoHybridModel(dataclasses.replace(NANO, **changes))
