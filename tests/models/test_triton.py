"""The Triton kernels are the recurrence: in Triton's interpreter where there is no GPU, compiled where there is one."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from ittybitty.config import SCALE_PRESETS
from ittybitty.errors import ConfigError
from ittybitty.gpu import floors
from ittybitty.models import scan

pytestmark = pytest.mark.slow

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton has no wheel for this system (on Linux: pip install .[test])",
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
# of the largest magnitude; in half precision what rounding results and upstream gradients costs
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 1e-2, torch.float16: 1.3e-3}


def child(call: str, **environment) -> dict:
    """The value of a call into tests/models/interpreted.py, in a fresh process."""
    program = f"import json, interpreted; print(json.dumps(interpreted.{call}))"
    env = {**os.environ, "TRITON_DEFAULT_FP_FUSION": "1", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_small(found: dict[str, dict[str, float]]) -> None:
    from interpreted import CASES, CONVOLUTIONS

    cases = {**CASES, **CONVOLUTIONS}
    assert set(cases) < set(found)
    for case, errors in found.items():
        most = TOLERANCE[cases[case][1]] if case in cases else 0  # "threads": the same bits
        if "last" in errors:
            assert errors["last"] <= TOLERANCE[torch.float32], (
                f"{case}: the state is float32 whatever the activations are"
            )
        for name, error in errors.items():
            assert error <= most, f"{case}: {name} is off by {error:.1e} of its largest magnitude"


ON_PAPER = {
    "_forward GATED SOFTPLUS FULL KEPT": floors.FORWARD_INSTRUCTIONS,
    "_backward GATED SOFTPLUS FULL": floors.BACKWARD_INSTRUCTIONS,
}


@needs_triton
def test_interpreted_kernels_equal_truth_in_value_and_gradient_and_in_threads():
    assert_small(child("values('cpu')", TRITON_INTERPRET="1"))


@needs_triton
@needs_cuda
def test_compiled_kernels_equal_truth_in_value_and_gradient_and_in_threads():
    assert_small(child("values('cuda')", TRITON_INTERPRET="0"))


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(("capability", "shared"), [(75, 64 * 1024), (90, 227 * 1024)], ids=["T4", "H100"])
def test_every_kernel_compiles_and_fits_the_shared_memory(tmp_path, capability, shared):
    made = child(f"compiled({capability})", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    assert len(made) == 14 and min(one["instructions"] for one in made.values()) > 100
    assert max(one["shared"] for one in made.values()) <= shared
    if capability == 90:
        assert_on_paper(made)


def assert_on_paper(made: dict[str, dict[str, int]]) -> None:
    """What floors.py takes a step of the scan to need is what the loops over CHUNK steps were compiled to. Other compilers differ.

    A state and step takes one exponential in the forward and, states being recomputed, two in the backward; a row takes a few.
    """
    triton_scan = pytest.importorskip("ittybitty.models.triton_scan")
    found = {name: made[f"{name} bf16"]["loop"] / triton_scan.CHUNK for name in ON_PAPER}
    assert found == pytest.approx(ON_PAPER, rel=0.1)
    special = [made[f"{name} bf16"]["special"] / triton_scan.CHUNK for name in ON_PAPER]
    assert special == pytest.approx([16 + 3, 2 * 16 + 3], abs=1)
    assert made["_forward GATED SOFTPLUS FULL KEPT bf16"]["spills"] == 0
    assert made["_forward GATED SOFTPLUS FULL KEPT bf16"]["shared"] == 0  # no state crosses from lane to lane


def test_a_cpu_tensor_is_refused_in_one_line(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    one = torch.ones(1, 2, 3)
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        scan.selective_scan(
            one, one, -torch.ones(3, 2), torch.ones(1, 2, 2), torch.ones(1, 2, 2), torch.ones(3), path="triton"
        )


@pytest.mark.parametrize("available", [True, False])
def test_a_gpu_without_mamba_ssm_takes_triton_where_it_runs(monkeypatch, available):
    monkeypatch.setattr(scan.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(scan, "_triton_status", lambda: (available, "for this test"))
    assert scan._best.__wrapped__("cuda") == ("triton" if available else "chunked")


def test_warm_up_compiles_once_for_each_size_of_block(monkeypatch):
    from ittybitty import models
    from ittybitty.models import build, mamba

    calls = []
    for name in ("triton_scan", "triton_conv"):
        stand_in = types.SimpleNamespace(warm_up=lambda *given, name=name: calls.append((name, *given)))
        monkeypatch.setitem(sys.modules, f"ittybitty.models.{name}", stand_in)
        monkeypatch.setattr(models, name, stand_in, raising=False)  # where another test has imported it
    model = build(SCALE_PRESETS["nano"]["model"])
    mamba.warm_up(model, ["cuda:0", "cuda:1"])
    assert calls == []  # another path is chosen here
    monkeypatch.setattr(mamba, "chosen", lambda device: "triton")
    mamba.warm_up(model, ["cuda:0", "cuda:1"], torch.float16)
    devices, half = ["cuda:0", "cuda:1"], torch.float16
    assert calls == [("triton_scan", devices, 96, 16, half), ("triton_conv", devices, 96, 4, half)]
