"""The scan is the recurrence, on every path, in value and gradient."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ittybitty.errors import ConfigError
from ittybitty.models import native, scan

FAST = ["chunked", "native"]


def arguments(B, L, E, N, kind=torch.float64, largest_step=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=kind)

    delta = torch.rand(B, L, E, generator=g, dtype=kind) * largest_step
    A = -torch.rand(E, N, generator=g, dtype=kind) * 16
    return [
        normal(B, L, E),
        delta,
        A,
        normal(B, L, N),
        normal(B, L, N),
        normal(E),
        normal(B, E, N),
        3 * normal(B, L, E),
    ]


def values_and_gradients(path, args):
    args = [a.detach().clone().requires_grad_() for a in args]
    y, last = scan.selective_scan(*args, path=path)
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=g, dtype=t.dtype) for t in (y, last)]
    return [y, last, *torch.autograd.grad((y * weights[0]).sum() + (last * weights[1]).sum(), args)]


def needs(path):
    if path == "native" and not native.status()[0]:
        pytest.skip(f"no native scan here: {native.status()[1]}")


def assert_close(got, truth, tolerance):
    for name, a, b in zip(["y", "last", "u", "delta", "A", "B", "C", "D", "state", "z"], got, truth):
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-30)
        assert error <= tolerance, f"{name} is off by {error:.1e} of its largest magnitude"


def test_scan_is_the_recurrence_written_by_hand():
    u, delta, A, B, C, D, state, _ = arguments(1, 3, 1, 2)
    h, expected = state[0, 0].clone(), []
    for t in range(3):
        h = torch.exp(delta[0, t, 0] * A[0]) * h + delta[0, t, 0] * B[0, t] * u[0, t, 0]
        expected.append(C[0, t] @ h + D[0] * u[0, t, 0])
    y, last = scan.scan_sequential(u, delta, A, B, C, D, state)
    torch.testing.assert_close(y[0, :, 0], torch.stack(expected))
    torch.testing.assert_close(last[0, 0], h)


@pytest.mark.parametrize("path", FAST)
@settings(max_examples=20, deadline=None)
@given(
    B=st.integers(1, 3),
    L=st.integers(1, 130),
    E=st.integers(1, 40),
    N=st.integers(1, 20),
    largest_step=st.sampled_from([0.1, 1.0, 50.0]),
    gated=st.booleans(),
    seed=st.integers(0, 999),
)
def test_fast_path_equals_truth_in_value_and_gradient(path, B, L, E, N, largest_step, gated, seed):
    needs(path)
    args = arguments(B, L, E, N, largest_step=largest_step, seed=seed)[: 8 if gated else 7]
    assert_close(values_and_gradients(path, args), values_and_gradients("sequential", args), 1e-9)
    args = [a.float() for a in args]
    assert_close(values_and_gradients(path, args), values_and_gradients("sequential", args), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("path", FAST)
def test_fast_path_equals_truth_at_length_4096(path):
    needs(path)
    args = [a.float() for a in arguments(1, 4096, 8, 4, largest_step=0.1)]
    assert_close(values_and_gradients(path, args), values_and_gradients("sequential", args), 1e-4)


@pytest.mark.parametrize("path", ["sequential", *FAST])
def test_two_halves_with_the_state_between_them_are_the_whole(path):
    needs(path)
    u, delta, A, B, C, D, state, _ = arguments(2, 50, 12, 5)
    whole, end = scan.selective_scan(u, delta, A, B, C, D, state, path=path)
    first, middle = scan.selective_scan(u[:, :21], delta[:, :21], A, B[:, :21], C[:, :21], D, state, path=path)
    second, last = scan.selective_scan(u[:, 21:], delta[:, 21:], A, B[:, 21:], C[:, 21:], D, middle, path=path)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(last, end)


def test_half_precision_input_is_scanned_in_float32():
    args = [a.float() for a in arguments(1, 40, 8, 4)]
    truth, _ = scan.selective_scan(*args, path="sequential")
    args[0] = args[0].half()
    y, last = scan.selective_scan(*args)
    assert y.dtype == torch.float16 and last.dtype == torch.float32
    torch.testing.assert_close(y.float(), truth, atol=2e-2, rtol=2e-3)


def test_environment_forces_a_path_and_refuses_an_unknown_one(monkeypatch):
    monkeypatch.setenv(scan.VARIABLE, "sequential")
    assert scan.chosen() == "sequential"
    monkeypatch.setenv(scan.VARIABLE, "quick")
    with pytest.raises(ConfigError, match="quick.*chunked"):
        scan.chosen()


@pytest.mark.slow
def test_without_a_compiler_the_plain_path_takes_over(tmp_path):
    code = "from ittybitty.models import scan; print(scan.chosen(), [r['why'] for r in scan.describe() if r['path'] == 'native'])"
    env = {**os.environ, "PATH": "", "CXX": "", "ITTYBITTY_CACHE": str(tmp_path)}
    env.pop(scan.VARIABLE, None)
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert out.stdout.startswith("chunked") and "compiler" in out.stdout, out.stderr


def test_describe_names_every_path():
    assert {row["path"] for row in scan.describe()} == set(scan.PATHS)


def test_where_there_is_a_compiler_the_native_code_compiles():
    """Else every test of it would be skipped, and none fail."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler here")
    there, why = native.status()
    assert there, why
