"""Weights, values, gradients and music are those of `mamba_ssm.Mamba`. It needs an environment of its own: make test-parity.

mamba-ssm is installed there without its CUDA code, and its module runs on its own reference scan (selective_scan_ref).
"""

import copy
import dataclasses
import importlib.util
import sys
import types

import pytest
import torch
from torch import nn

from ittybitty.config import SCALE_PRESETS
from ittybitty.models import PianoHybridModel, native
from ittybitty.models.decode import Decoder, decoder
from ittybitty.models.mamba import Mamba
from ittybitty.models.scan import forced_path

if importlib.util.find_spec("mamba_ssm") is None or torch.cuda.is_available():
    pytest.skip("mamba-ssm without CUDA is not installed here: run make test-parity", allow_module_level=True)

CONFIG = dataclasses.replace(SCALE_PRESETS["nano"]["model"], vocab_size=61, pattern="MF MFA M")
PATHS = [
    "sequential",
    "chunked",
    pytest.param("native", marks=pytest.mark.skipif(not native.status()[0], reason="no native scan here")),
]
SEED, NEW = 32, 256


@pytest.fixture(scope="module")
def reference():
    """mamba_ssm.modules.mamba_simple, made to run on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("selective_scan_cuda") is None:
            patch.setitem(sys.modules, "selective_scan_cuda", types.ModuleType("selective_scan_cuda"))
        from mamba_ssm.modules import mamba_simple
        from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

        patch.setattr(mamba_simple, "selective_scan_fn", selective_scan_ref)
        patch.setattr(mamba_simple, "selective_state_update", None)  # a Triton kernel; None takes the lines in PyTorch
        yield mamba_simple


class Theirs(nn.Module):
    """mamba_ssm.Mamba in the place of our mixer."""

    def __init__(self, reference, ours: Mamba, config):
        super().__init__()
        self.inner = reference.Mamba(config.d_model, config.d_state, config.d_conv, config.expand)
        self.inner.load_state_dict(ours.state_dict(), strict=True)

    def forward(self, x, state=None):
        return self.inner(x)

    def step(self, x, state):
        return self.inner.step(x[:, None], *state)[0][:, 0]

    def init_state(self, batch_size):
        return self.inner.allocate_inference_cache(batch_size, 0)


def perturbed(module, deviation=0.05, seed=0):
    """Weights that are no longer special: A of every channel alike and D of ones would hide a mix-up."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g) * deviation)
    return module


def off(got, truth) -> float:
    return float((got - truth).detach().abs().max() / truth.detach().abs().max())


def test_state_dicts_of_both_implementations_are_interchangeable(reference):
    ours = perturbed(Mamba(CONFIG))
    theirs = reference.Mamba(CONFIG.d_model, CONFIG.d_state, CONFIG.d_conv, CONFIG.expand)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    again = Mamba(CONFIG)
    again.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) and all(torch.equal(again.state_dict()[k], v) for k, v in ours.state_dict().items())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("L", [1, 7, 130])
def test_values_and_gradients_equal_those_of_mamba_ssm(reference, path, L):
    torch.manual_seed(L)
    ours = perturbed(Mamba(CONFIG))
    theirs = Theirs(reference, ours, CONFIG).inner
    x, weights = torch.randn(2, L, CONFIG.d_model), torch.randn(2, L, CONFIG.d_model)
    found = []
    for module in (ours, theirs):
        own = x.clone().requires_grad_()
        with forced_path(path):
            y = module(own)
            names, parameters = zip(*sorted(module.named_parameters()))
            found.append([y, *torch.autograd.grad((y * weights).sum(), [own, *parameters])])
    errors = {name: off(a, b) for name, a, b in zip(["y", "x", *names], *found)}
    print(f"{path}, L {L}: largest error {max(errors.values()):.1e} of the largest magnitude")
    assert max(errors.values()) <= 1e-4, errors


@torch.no_grad()
def greedy(model, seed) -> list[int]:
    state, tokens = model.init_state(1), []
    for token in seed[0]:
        logits = model.step(token[None], state)
    for _ in range(NEW):
        tokens.append(int(logits.argmax(-1)))
        logits = model.step(torch.tensor(tokens[-1:]), state)
    return tokens


def test_a_stack_of_their_blocks_plays_the_same_256_tokens(reference):
    torch.manual_seed(0)
    ours = perturbed(PianoHybridModel(CONFIG), 0.2).eval()
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight", "mixer.out.weight")):
                weight.mul_(3)  # else the tied head of an untrained model repeats the last token for ever
    theirs = copy.deepcopy(ours)
    for block in theirs.backbone.blocks:
        if isinstance(block.mixer, Mamba):
            block.mixer = Theirs(reference, block.mixer, CONFIG)
    seed = torch.randint(0, CONFIG.vocab_size, (1, SEED), generator=torch.Generator().manual_seed(1))
    truth = greedy(theirs, seed)
    assert len(set(truth)) > 5, "a piece of one token would prove nothing"
    whole = torch.cat([seed, torch.tensor([truth[:-1]])], dim=1)
    with torch.no_grad():
        assert theirs(whole)[0, SEED - 1 :].argmax(-1).tolist() == truth
        for path in ["sequential", "chunked"] + ["native"] * native.status()[0]:
            with forced_path(path):
                assert ours(whole)[0, SEED - 1 :].argmax(-1).tolist() == truth, path
    assert greedy(ours, seed) == truth
    if native.status()[0]:
        assert isinstance(decoder(ours), Decoder) and greedy(decoder(ours), seed) == truth
