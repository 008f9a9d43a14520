"""Native code called with odd shapes, types and strides, each result held to plain PyTorch: run by test_native.py.

`make test-sanitizers` runs this file as a program, with the native code built under AddressSanitizer and
UndefinedBehaviorSanitizer. Every array then has memory of its own, so that a step beyond its end is seen. `--more N` adds N sizes
of scans and of convolutions that are drawn at random from `--seed`.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from ittybitty import systems
from ittybitty.config import SCALE_PRESETS
from ittybitty.models import PianoHybridModel, decode, native, scan
from ittybitty.models.decode_events import Choice
from ittybitty.models.mamba import Mamba
from ittybitty.models.parts import BOS
from ittybitty.sampling import Chance
from ittybitty.tokenizers import make_tokenizer

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda t: t.clone(),
    "half of a wider array": lambda t: torch.cat([t, t], dim=-1)[..., : t.shape[-1]],
    "every second element": lambda t: torch.stack([t, t], dim=-1)[..., 0],
    "transposed": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1),
    "one row, expanded": lambda t: t[:, :1].expand(t.shape) if t.dim() == 3 else t.clone(),
}


def tensors(B: int, L: int, E: int, N: int, kind: torch.dtype, layout: str) -> list[torch.Tensor]:
    """(u, delta, A, B, C, D, state, z) of `scan.selective_scan`, all in one layout."""
    g = torch.Generator().manual_seed(B + L + E + N)
    shapes = [(B, L, E), (B, L, E), (E, N), (B, L, N), (B, L, N), (E,), (B, E, N), (B, L, E)]
    made = [torch.rand(shape, generator=g, dtype=kind) for shape in shapes]
    made[2] = -made[2]
    return [LAYOUTS[layout](t) for t in made]


def compare(got, truth, kind: torch.dtype) -> None:
    for a, b in zip(got, truth, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3 if kind == torch.float32 else 1e-9, rtol=1e-4)


def with_gradients(outputs, inputs) -> list[torch.Tensor]:
    outputs = [t for t in outputs if t is not None]
    gradients = torch.autograd.grad(sum((t * t).sum() for t in outputs), inputs, allow_unused=True)
    return [*outputs, *(torch.zeros_like(t) if g is None else g for t, g in zip(inputs, gradients))]


def drawn(count: int, seed: int, *most: int) -> list[tuple[int, ...]]:
    """`count` sizes, each between 1 and `most`."""
    chance = random.Random(seed)
    return [tuple(chance.randint(1, end) for end in most) for _ in range(count)]


def scans(more: int = 0, seed: int = 0) -> Iterator[str]:
    sizes = [(0, 3, 4, 2), (1, 1, 1, 1), (2, 31, 7, 5), (1, 32, 16, 16), (3, 33, 17, 3), (1, 65, 33, 1)]
    sizes += drawn(more, seed, 4, 140, 40, 20)
    for (B, L, E, N), kind, layout in itertools.product(sizes, native.NAMES, LAYOUTS):
        for gated in (True, False):
            results = []
            for path in ("native", "chunked"):
                given = [t.requires_grad_() for t in tensors(B, L, E, N, kind, layout)][: 8 if gated else 7]
                results.append(with_gradients(scan.selective_scan(*given, path=path), given))
            compare(*results, kind)
            with torch.no_grad():
                compare(scan.selective_scan(*given, path="native"), results[0][:2], kind)
        yield f"scan of {(B, L, E, N)} in {kind}, {layout}"


def convolutions(more: int = 0, seed: int = 0) -> Iterator[str]:
    sizes = [(0, 2, 3), (2, 0, 3), (1, 1, 1), (2, 5, 17), (3, 33, 7), *drawn(more, seed, 4, 70, 40)]
    for (B, L, E), K, kind, layout in itertools.product(sizes, (1, 2, 4, 7), native.NAMES, LAYOUTS):
        if layout == "one row, expanded" and not L:
            continue
        config = dataclasses.replace(SCALE_PRESETS["nano"]["model"], d_model=E, expand=1, d_conv=K)
        block = Mamba(config).to(kind)
        state = block.init_state(B)
        state.conv.uniform_()
        u, results = LAYOUTS[layout](torch.rand(B, L, E, dtype=kind)).requires_grad_(), []
        for path in ("native", "chunked"):
            with scan.forced_path(path):
                y = block._convolve(u, dataclasses.replace(state, conv=state.conv.clone()))
            results.append(with_gradients([y], [u, block.conv1d.weight, block.conv1d.bias]))
        compare(*results, kind)
        yield f"convolution of {(B, L, E)} with {K} taps in {kind}, {layout}"


def steps() -> Iterator[str]:
    """The decoder with sizes that fill no vector, around the ends of its rings, each array in memory of its own."""
    nano = dataclasses.replace(SCALE_PRESETS["nano"]["model"], vocab_size=61, pattern="MF MFA M")
    nano = dataclasses.replace(nano, attn_window=8, attn_stride=4, attn_reach=16)
    changes = [{}, dict(d_model=44, d_ff=51), dict(d_state=5, d_conv=2), dict(d_conv=1, dt_rank=1), dict(d_state=1)]
    for change, kind, batch in itertools.product(changes, KINDS, (1, 3, 5)):
        torch.manual_seed(0)
        fast, truth = _decoder_and_truth(PianoHybridModel(dataclasses.replace(nano, **change)).eval(), kind)
        state, expected = fast.init_state(batch), truth.init_state(batch)
        with torch.no_grad():
            for length in (1, 70):
                ids = torch.randint(0, 61, (batch, length))
                compare([fast.prefill(ids, state)], [truth.prefill(ids, expected)], torch.float32)
            for ids in torch.randint(0, 61, (24, batch)):
                compare([fast.step(ids, state)], [truth.step(ids, expected)], torch.float32)
        yield f"decoder of {kind} for {batch} pieces with {change}"


KINDS = ("float32", "float16", "int8")  # of weights


def _decoder_and_truth(model, kind: str):
    """A decoder that keeps weights of this kind, and a PyTorch model with exactly these weights."""
    if kind == "float16":
        for parameter in model.parameters():
            parameter.data = parameter.data.half().float()
    precision = "int8" if kind == "int8" else "float32"
    return decode.decoder(model, precision), decode.quantized(model) if kind == "int8" else model


def events() -> Iterator[str]:
    """Whole events and single ids, held to the model's own step."""
    configs = systems.build("notes-hybrid", "nano")
    small = dict(pattern="MF MFA M", attn_window=8, attn_stride=4, attn_reach=16)
    for change, kind in itertools.product([{}, dict(d_model=44, d_ff=51, n_heads=2)], KINDS):
        torch.manual_seed(0)
        model = systems.build_model(
            {**configs, "model": dataclasses.replace(configs["model"], **small, **change)}
        ).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        fast, truth = _decoder_and_truth(model, kind)
        state, expected = fast.init_state(1), truth.init_state(1)
        grammar = make_tokenizer("notes").grammar()
        rules = grammar.start([BOS])
        choice = Choice(grammar.times, 20, 40, 0.3, True, False, top_k=(0, 5, 0, 1), top_p=(1.0, 0.5, 0.9, 1.0))
        with torch.no_grad():
            for ids in (torch.tensor([[BOS]]), torch.randint(4, 260, (1, 4 * 70))):
                compare([fast.prefill(ids, state)], [truth.prefill(ids, expected)], torch.float32)
            for event in itertools.islice(fast.events(state, rules, choice, Chance(0)), 40):
                for id in event.ids:
                    logits = truth.step(torch.tensor([id]), expected)
            compare(
                [state.h, torch.from_numpy(fast._predict(0, state.h.numpy(), state)[0])],
                [expected.h, logits[0, 3:][: fast._heads[0].out.rows]],
                torch.float32,
            )
        yield f"events of {kind} with {change}"


class Separate(list):
    """Arrays that each lie in memory of their own, and the size of them all, as one arena has it."""

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self)


def separate(parts) -> list[np.ndarray]:
    """In place of `decode._laid_out`: every part in memory of its own."""
    kept = []
    for owner, field, array, _ in parts:
        kept.append(np.array(array, order="C"))
        setattr(owner, field, kept[-1].ctypes.data)
    return Separate(kept)


def overrun() -> None:
    """A scan told that its input is longer than it is: the sanitizer must end this process."""
    u = torch.zeros(8)
    pointers = [ctypes.c_void_p(u.data_ptr())] * 11
    native.loaded().forward_float(*pointers, *map(ctypes.c_int64, (1, 100_000, 8, 1, 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--more", type=int, default=0, metavar="N", help="sizes drawn at random beside the fixed ones")
    parser.add_argument("--seed", type=int, default=0, help="of those sizes")
    parser.add_argument("-v", action="store_true", help="name every call")
    asked = parser.parse_args()
    caught = subprocess.run(
        [sys.executable, "-c", "import odd_calls; odd_calls.overrun()"], capture_output=True, text=True
    )
    if "AddressSanitizer" not in caught.stderr:
        raise SystemExit(f"the native code is not built with AddressSanitizer here: {native.status()[1]}")
    decode._laid_out = separate
    began, calls = time.perf_counter(), 0
    more = (asked.more, asked.seed)
    for what in itertools.chain(scans(*more), convolutions(*more), steps(), events()):
        calls += 1
        if asked.v:
            print(what)
    seconds = time.perf_counter() - began
    print(f"{calls} kinds of native calls, nothing found by AddressSanitizer or UBSan in {seconds:.0f} s")


if __name__ == "__main__":
    main()
