"""Greedy decoding gives the same 256 tokens on every path: sequential truth, fast scans, one step at a time, native decoder, CUDA."""

import copy

import pytest
import torch

from ittybitty import checkpoint, paths
from ittybitty.config import SCALE_PRESETS
from ittybitty.models import PianoHybridModel, native
from ittybitty.models.decode import Decoder, decoder
from ittybitty.models.scan import forced_path

pytestmark = pytest.mark.slow

SEED, NEW = 64, 256
needs_compiler = pytest.mark.skipif(not native.status()[0], reason=f"no native code here: {native.status()[1]}")


@pytest.fixture(scope="module")
def model():
    """The shipped tiny-remi, else the smallest preset with random weights."""
    if (paths.pretrained_dir() / "tiny-remi" / "config.json").is_file():
        return checkpoint.load("tiny-remi").model.eval()
    torch.manual_seed(0)
    made = PianoHybridModel(SCALE_PRESETS["nano"]["model"]).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
            if name.endswith(("out_proj.weight", "down.weight", "mixer.out.weight")):
                weight.mul_(10)  # else the tied head of an untrained model repeats the last token for ever
    return made


@pytest.fixture(scope="module")
def seed(model):
    return torch.randint(8, model.config.vocab_size, (1, SEED), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def greedy(stepper, seed, path=None) -> list[int]:
    """The likeliest token, NEW times over, from a seed that is read in parallel on `path`."""
    state = stepper.init_state(1)
    with forced_path(path):
        logits, tokens = stepper.prefill(seed, state), []
        for _ in range(NEW):
            tokens.append(int(logits.argmax(-1)))
            logits = stepper.step(torch.tensor(tokens[-1:], device=seed.device), state)
    return tokens


@torch.no_grad()
def reread(model, seed, tokens, path) -> list[int]:
    """The likeliest token at every position of a finished piece: if all agree, full forwards would have written it."""
    whole = torch.cat([seed, torch.tensor([tokens[:-1]], device=seed.device)], dim=1)
    with forced_path(path):
        return model(whole)[0, SEED - 1 :].argmax(-1).tolist()


@pytest.fixture(scope="module")
def truth(model, seed):
    return greedy(model, seed, "sequential")


def test_truth_is_a_piece_and_not_one_token_over_and_over(truth):
    assert len(truth) == NEW and len(set(truth)) > 5


@pytest.mark.parametrize("path", ["sequential", "chunked", pytest.param("native", marks=needs_compiler)])
def test_step_and_full_forward_give_the_same_music_on_every_path(model, seed, truth, path):
    assert path == "sequential" or greedy(model, seed, path) == truth
    assert reread(model, seed, truth, path) == truth


@needs_compiler
def test_native_decoder_gives_the_same_music(model, seed, truth):
    fast = decoder(model)
    assert isinstance(fast, Decoder)
    assert greedy(fast, seed) == truth


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_float32_cuda_gives_the_same_music(model, seed, truth):
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    try:
        there = copy.deepcopy(model).cuda()
        assert greedy(there, seed.cuda()) == truth
        assert reread(there, seed.cuda(), truth, None) == truth
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@needs_compiler
def test_int8_gives_a_piece_that_may_differ(model, seed, truth, record_property):
    music = greedy(decoder(model, "int8"), seed)
    first = next((i for i, (a, b) in enumerate(zip(music, truth)) if a != b), NEW)
    record_property("tokens until int8 differs", first)
    print(
        f"int8 and float32 agree for the first {first} of {NEW} tokens, and in {sum(a == b for a, b in zip(music, truth))} of all"
    )
    assert len(music) == NEW and all(0 <= token < model.config.vocab_size for token in music)
