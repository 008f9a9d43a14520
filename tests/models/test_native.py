"""Every native call checks type, device, shape and layout: what C++ cannot read takes another path or ends in one line."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import odd_calls
import pytest
import torch

from ittybitty.config import SCALE_PRESETS
from ittybitty.errors import ConfigError
from ittybitty.models import PianoHybridModel, decode, native, scan
from ittybitty.models.native import build

pytestmark = pytest.mark.slow

needs_compiler = pytest.mark.skipif(not native.status()[0], reason=f"no native code here: {native.status()[1]}")
NANO = dataclasses.replace(SCALE_PRESETS["nano"]["model"], vocab_size=61, pattern="MF MFA SF M")


def model(**changes):
    torch.manual_seed(0)
    return PianoHybridModel(dataclasses.replace(NANO, **changes)).eval()


@pytest.mark.parametrize("kind", ["bfloat16", "half", "double"])
def test_a_whole_model_in_another_type_runs_on_the_cpu(kind):
    """In a process of its own: it ended in a segmentation fault."""
    program = f"""
import torch, test_native
made, ids = test_native.model(), torch.randint(0, 61, (2, 40))
truth = made(ids)
changed = made.{kind}()
logits, state = changed(ids), changed.init_state(2)
with torch.no_grad():
    changed.prefill(ids[:, :20], state)
    step = changed.step(ids[:, 20], state)
assert logits.dtype == next(changed.parameters()).dtype
torch.testing.assert_close(logits.float(), truth, atol=0.02, rtol=0.02)
torch.testing.assert_close(step.float(), truth[:, 20], atol=0.02, rtol=0.02)
logits.float().square().mean().backward()
assert all(p.grad is not None and p.grad.isfinite().all() for p in changed.parameters())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, env=_environment()
    )
    assert done.returncode == 0, done.stderr or f"ended with {done.returncode}"


def _environment() -> dict[str, str]:
    """A child finds the package where this process found it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(native.__file__).parents[3]), *sys.path])}


def scan_arguments(**changes):
    names = ("u", "delta", "A", "B", "C", "D", "state", "z")
    given = dict(zip(names, odd_calls.tensors(2, 5, 4, 3, torch.float32, "contiguous")))
    return [{**given, **changes}[name] for name in names]


@needs_compiler
@pytest.mark.parametrize(
    "name,wrong",
    [
        ("delta", torch.ones(2, 5, 4, dtype=torch.float64)),  # another type
        ("u", torch.ones(2, 5, 4, dtype=torch.bfloat16)),
        ("B", torch.ones(2, 5, 3, dtype=torch.int32)),
        ("C", torch.ones(2, 4, 3)),  # a step short
        ("D", torch.ones(3)),  # a channel short
        ("state", torch.ones(1, 4, 3)),  # of another batch
        ("A", torch.ones(4, 3, device="meta")),  # another device
        ("z", torch.ones(2, 5, 3)),
        ("z", torch.ones(2, 5, 4, device="meta")),
    ],
)
def test_a_tensor_that_cpp_cannot_read_is_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=name if name != "u" else "float32 and float64") as refused:
        native.Scan.apply(*scan_arguments(**{name: wrong}))
    assert "\n" not in str(refused.value)


@needs_compiler
def test_pointers_are_passed_only_for_tensors_of_the_checked_kind():
    whole = torch.ones(2, 5, 8)
    half = whole[..., :4]
    assert native.address("x", half, torch.float32, (2, 5, 4), 8).value == whole.data_ptr()
    for tensor, shape, apart in [(half, (2, 5, 4), None), (half, (2, 5, 4), 4), (whole.transpose(0, 1), (5, 2, 8), 8)]:
        with pytest.raises(ValueError, match="strides"):
            native.address("x", tensor, torch.float32, shape, apart)


@needs_compiler
@pytest.mark.parametrize("checks", [odd_calls.scans, odd_calls.convolutions, odd_calls.steps], ids=lambda f: f.__name__)
def test_unusual_shapes_types_and_strides_give_correct_results(checks):
    assert sum(1 for _ in checks()) >= 30


@needs_compiler
def test_events_are_drawn_and_read_right_in_odd_sizes():
    assert sum(1 for _ in odd_calls.events()) == 2 * len(odd_calls.KINDS)


@needs_compiler
def test_a_second_derivative_is_refused_and_not_wrong():
    given = [t.requires_grad_() for t in scan_arguments()]
    gradient = torch.autograd.grad(
        scan.selective_scan(*given, path="native")[0].square().sum(), given[0], create_graph=True
    )[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@needs_compiler
def test_the_decoder_refuses_ids_and_states_that_are_not_its_own():
    fast = decode.decoder(model(pattern="MF MFA M"))
    state, one = fast.init_state(2), torch.zeros(2, dtype=torch.int64)
    before = fast.step(one, state).clone()
    for ids in ([0, 61], [-1, 0], [0, 2**40]):
        with pytest.raises(ValueError, match="vocabulary of 61"):
            fast.step(torch.tensor(ids), state)
    assert state[4].position == 1  # a refused step moves nothing
    with pytest.raises(ValueError, match=r"conv.*\(2, .*\(3, "):
        fast.step(torch.zeros(3, dtype=torch.int64), state)
    with pytest.raises(ValueError, match="zip"):
        fast.step(one, state[:3])
    with pytest.raises(ValueError, match="float64"):
        fast.step(one, model(pattern="MF MFA M").double().init_state(2))
    with pytest.raises(ValueError, match="ids"):
        fast.step(one[:, None], state)
    torch.testing.assert_close(fast.step(one, fast.init_state(2)), before)


@needs_compiler
def test_a_tensor_that_is_put_into_a_state_is_the_one_that_is_read():
    fast = decode.decoder(model(pattern="M"))
    state, other = fast.init_state(1), fast.init_state(1)
    ids = torch.tensor([3])
    first = fast.step(ids, state).clone()
    fast.step(ids, state)
    state[0].conv, state[0].ssm = other[0].conv, other[0].ssm  # the former tensors are freed
    torch.testing.assert_close(fast.step(ids, state), first)


@needs_compiler
@pytest.mark.parametrize("precision", decode.PRECISIONS)
def test_all_that_a_step_reads_is_in_the_arena_and_a_tied_head_once(precision):
    made = model(pattern="MF MFA M")
    fast = decode.decoder(made, precision)
    start, end = fast._arena.ctypes.data, fast._arena.ctypes.data + len(fast._arena)
    matrices = [fast._head, *(b.in_ for b in fast._blocks), *(b.out for b in fast._blocks)]
    assert all(start <= (m.weight or m.packed) < end for m in matrices)
    assert (fast._head.weight == fast._ends.embedding) == (precision == "float32")
    assert len(fast._arena) < 1.1 * 4 * sum(p.numel() for p in made.parameters()) or precision == "int8"


def test_a_decoder_is_given_only_to_models_that_it_can_read():
    for changed in (model().bfloat16(), model().double(), model().to("meta")):
        assert not isinstance(decode.decoder(changed), decode.Decoder)


@pytest.mark.parametrize(
    "path,device,says",
    [
        ("native", "cuda", "CPU only and the data is on cuda"),
        ("native", "meta", "CPU only and the data is on meta"),
        ("triton", "cpu", "needs a CUDA device and the data is on cpu"),
        ("mamba_ssm", "cpu", "needs a CUDA device and the data is on cpu"),
        ("quick", "cpu", "quick.*chunked"),
    ],
)
def test_a_forced_path_that_cannot_run_says_so_in_one_line(path, device, says, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv(scan.VARIABLE, path)
    with pytest.raises(ConfigError, match=f"{scan.VARIABLE}.*{says}") as refused:
        scan.chosen(device)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "path,lacking,says",
    [
        ("triton", "_triton_status", "no Triton, for this test"),
        ("mamba_ssm", "_mamba_ssm_status", "no mamba-ssm, for this test"),
    ],
)
def test_a_forced_path_that_is_not_installed_says_so_in_one_line(path, lacking, says, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(scan, lacking, lambda: (False, says))
    with scan.forced_path(path), pytest.raises(ConfigError, match=says):
        scan.chosen("cuda")


def test_the_native_path_forced_without_a_compiler_is_one_line(tmp_path):
    program = "import torch, test_native; test_native.model()(torch.zeros(1, 4, dtype=torch.int64))"
    env = {**_environment(), "PATH": "", "CXX": "", "ITTYBITTY_CACHE": str(tmp_path), scan.VARIABLE: "native"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, env=env, capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigError" in last and "no C++ compiler found" in last and "AttributeError" not in done.stderr


def test_threads_that_ask_at_once_wait_for_one_build(monkeypatch):
    builds = []

    def once():
        builds.append(1)
        raise build.NativeError("for this test")

    monkeypatch.setattr(build, "_build", once)
    build._load.cache_clear()
    try:
        threads = [threading.Thread(target=native.library) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(builds) == 1
    finally:
        build._load.cache_clear()
