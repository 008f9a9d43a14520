"""What tests/models/test_triton.py runs in a process of its own: Triton decides at its import whether it interprets or compiles."""

import re
import struct
import subprocess
import tempfile
from pathlib import Path

import torch

from ittybitty.models import conv, scan

CASES = {  # name -> (B, L, E, N), type of the activations, largest Δ, gated, softplus within
    "one step, one channel, one state": ((1, 1, 1, 1), torch.float32, 1.0, True, False),
    "two chunks and a bit, float64": ((1, 19, 5, 3), torch.float64, 1.0, True, True),
    "two blocks of channels, two pieces": ((2, 10, 35, 16), torch.float32, 1.0, True, True),
    "nothing to mask, two blocks of channels": ((2, 16, 64, 16), torch.float32, 1.0, True, True),
    "nothing to mask, few states, no gate": ((1, 8, 128, 4), torch.float32, 1.0, False, True),
    "nothing to mask, bfloat16": ((1, 24, 32, 16), torch.bfloat16, 1.0, True, True),
    "no gate, large Δ": ((1, 16, 6, 4), torch.float32, 50.0, False, False),
    "more states than a power of two": ((1, 8, 3, 33), torch.float32, 0.1, False, False),
    "bfloat16": ((1, 21, 6, 4), torch.bfloat16, 1.0, True, True),
    "float16": ((1, 21, 6, 4), torch.float16, 1.0, True, True),
}
CONVOLUTIONS = {  # name -> (B, L, E, K), type of the activations, with a past
    "convolution, two blocks of rows": ((2, 67, 5, 4), torch.float32, False),
    "convolution behind a past, float64": ((1, 9, 33, 4), torch.float64, True),
    "convolution shorter than its taps": ((1, 2, 3, 5), torch.float32, True),
    "convolution in bfloat16": ((1, 20, 4, 4), torch.bfloat16, False),
    "convolution in float16": ((1, 20, 4, 4), torch.float16, True),
}


def arguments(sizes, kind, largest_step, gated, softplus, device):
    """u, delta, A, B, C, D, state and z, where z, B and C are parts of wider arrays, as the block has them."""
    (B, L, E, N), g = sizes, torch.Generator().manual_seed(0)
    wide = torch.float64 if kind == torch.float64 else torch.float32

    def normal(*shape, kind=kind):
        return torch.randn(*shape, generator=g, dtype=wide).to(kind)

    delta = torch.rand(B, L, E, generator=g, dtype=wide) * largest_step
    delta = (4 * delta - 2).to(kind) if softplus else delta
    A = -torch.rand(E, N, generator=g, dtype=wide) * 16
    read = [normal(B, L, 2 * N)]
    made = [normal(B, L, E), delta, A, *read, normal(E, kind=wide), normal(B, E, N, kind=wide), normal(B, L, 2 * E)]
    return [t.to(device) for t in made[: 7 if gated else 6]]


def values_and_gradients(path, args, softplus, wide=None):
    """y and last, and the gradients of all arguments, computed in `wide`."""
    args = [a.detach().to(wide or a.dtype).clone().requires_grad_() for a in args]
    u, delta, A, read, D, state, *gate = args
    E, N = A.shape
    y, last = scan.selective_scan(
        u, delta, A, read[..., :N], read[..., N:], D, state, gate[0][..., E:] if gate else None, path, softplus
    )
    return _with_gradients([y, last], args)


def _with_gradients(values, args):
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=g, dtype=torch.float64).to(t.device) for t in values]
    return [*values, *torch.autograd.grad(sum((t * w).sum() for t, w in zip(values, weights)), args)]


def errors(sizes, kind, largest_step, gated, softplus, device) -> dict[str, float]:
    """Name -> largest error of its largest magnitude; the truth computes in float64."""
    args = arguments(sizes, kind, largest_step, gated, softplus, device)
    names = ["y", "last", "u", "delta", "A", "B and C", "D", "state", "z"]
    return _differences(names, values_and_gradients("triton", args, softplus), values_and_gradients("sequential", args, softplus, torch.float64))  # fmt: skip  # one measurement a line


def convolution_errors(sizes, kind, past, device) -> dict[str, float]:
    """The same of the convolution, whose weights are float32 at least; u is part of a wider array."""
    (B, L, E, K), g = sizes, torch.Generator().manual_seed(0)
    wide = torch.float64 if kind == torch.float64 else torch.float32
    u, before, weight, bias = (torch.randn(*shape, generator=g, dtype=wide).to(device) for shape in ((B, L, 2 * E), (B, K - 1, E), (E, K), (E,)))  # fmt: skip  # one measurement a line
    found = []
    for path, kinds in (("triton", (kind, wide)), ("plain", (torch.float64, torch.float64))):
        args = [t.to(kind).to(own).requires_grad_() for t, own, kind in zip((u, weight, bias), (kinds[0], kinds[1], kinds[1]), (kind, wide, wide))]  # fmt: skip  # one measurement a line
        state = before.to(kind).to(kinds[0]) if past else None
        y = conv.causal_convolution(args[0][..., :E], state, args[1], args[2], path)
        assert path == "plain" or y.dtype == kind
        found.append(_with_gradients([y], args))
    return _differences(["y", "u", "weight", "bias"], *found)


def _differences(names, found, truth) -> dict[str, float]:
    return {
        name: float(((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30)).detach())
        for name, a, b in zip(names, found, truth, strict=False)
    }


def thread_errors(device) -> float:
    """Largest difference between scans in one thread and in four at once, as DataParallel's replicas run."""
    from concurrent.futures import ThreadPoolExecutor

    pieces = [arguments((1, 5 + i, 4, 2), torch.float32, 1.0, True, True, device) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda args: values_and_gradients("triton", args, True), pieces))
    alone = [values_and_gradients("triton", args, True) for args in pieces]
    return max(float((a - b).abs().max().detach()) for x, y in zip(together, alone) for a, b in zip(x, y))


HALF = {"u", "delta", "z", "y", "dy", "du", "ddelta", "dz"}  # have the type of the activations


def compiled(capability: int) -> dict[str, dict[str, int]]:
    """Kernel, flags and type -> machine instructions, and bytes of shared memory, for this compute capability; no card is needed."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    made = {}
    for half in ("fp32", "bf16" if capability >= 80 else "fp16"):
        for kernel, warps, sizes, flags in variants():
            if half == "fp32" and not flags.get("FULL", True):
                continue  # masks differ from none as they do in half precision, and a backward takes seconds to compile
            own = {k: v for k, v in {**sizes, **flags}.items() if k in kernel.arg_names}
            absent = set() if flags.get("GATED", True) else {"z", "dz"}
            absent |= set() if flags.get("KEPT", True) else {"entries"}
            absent |= set() if flags.get("PAST", True) else {"past"}
            own |= dict.fromkeys(absent & set(kernel.arg_names))
            types = {name: _type(name, own, half) for name in kernel.arg_names}
            # as at a launch: pointers and rows that 16 divides, so that several elements are loaded at once
            even = {
                (p.num,): [["tt.divisibility", 16]]
                for p in kernel.params
                if not (p.name in own or p.do_not_specialize or p.do_not_specialize_on_alignment)
            }
            source = ASTSource(fn=kernel, signature=types, constexprs=own, attrs=even)
            options = {"num_warps": warps, "num_stages": 1}
            done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            name = " ".join([kernel.__name__, *(flag for flag, on in flags.items() if on), half])
            made[name] = {
                "instructions": instructions(done.asm["cubin"]), "shared": done.metadata.shared, **loop(done.asm["cubin"]),
            }  # fmt: skip  # one measurement a line
    return made


def instructions(cubin: bytes) -> int:
    """Machine instructions of a kernel, of 16 bytes each, by the sections of its ELF file that hold code."""
    sections, entry, count = struct.unpack_from("<Q", cubin, 40)[0], *struct.unpack_from("<HH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, sections + i * entry) for i in range(count)]
    executable = 4  # of the flags
    return sum(size for _, _, flags, _, _, size in headers if flags & executable) // 16


def loop(cubin: bytes) -> dict[str, int]:
    """Machine instructions of the longest loop of a kernel, of which exponentials and their like, and of those that spill registers."""
    import triton

    tool = Path(triton.__file__).with_name("backends") / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout
    found, labels, longest = [], {}, []
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(found)
        if instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)(.*);", line):
            found.append(instruction[1])
            back = re.search(r"\.L_x_\d+", instruction[2]) if instruction[1] == "BRA" else None
            if back and back[0] in labels and len(found) - labels[back[0]] > len(longest):
                longest = found[labels[back[0]] :]
    return {
        "loop": len(longest),
        "special": longest.count("MUFU"),
        "spills": longest.count("STL") + longest.count("LDL"),
    }


def _type(name: str, own: dict, half: str) -> str:
    if name in own:
        return "constexpr"
    return "i32" if name in ("L", "E") or name.startswith("apart") else f"*{half if name in HALF else 'fp32'}"


def variants() -> list[tuple]:
    """Every kernel of the package with its warps, its sizes and the flags that it is launched with."""
    from triton import JITFunction

    from ittybitty.models import triton_conv, triton_scan

    states, channels = triton_scan.blocks(16)
    sizes = {
        "N": 16, "STATES": states, "CHANNELS": channels, "CHUNK": triton_scan.CHUNK, "HALVINGS": triton_scan.halvings(16),
        "E": 1024,
    }  # fmt: skip  # one measurement a line
    taps = {"K": 4, "ROWS": triton_conv.ROWS, "CHANNELS": triton_conv.CHANNELS}
    block = {"GATED": True, "SOFTPLUS": True, "FULL": True}
    launched = [  # as a Mamba block launches them, in training and without a gradient
        (triton_scan._forward, 1, sizes, {**block, "KEPT": True}),
        (triton_scan._forward, 1, sizes, {**block, "KEPT": False}),
        (triton_scan._backward, 1, sizes, block),
        (triton_scan._forward, 1, sizes, {**block, "FULL": False, "KEPT": True}),
        (triton_scan._backward, 1, sizes, {**block, "FULL": False}),
        (triton_conv._conv_forward, 4, taps, {"PAST": False}),
        (triton_conv._conv_forward, 4, taps, {"PAST": True}),
        (triton_conv._conv_backward, 4, taps, {"PAST": False}),
    ]
    kernels = {name for m in (triton_scan, triton_conv) for name, f in vars(m).items() if isinstance(f, JITFunction)}
    kernels -= {"_row", "_put", "_sigmoid", "_step_size", "_states", "_over_channels", "_taken"}
    assert kernels == {kernel.__name__ for kernel, *_ in launched}, "a kernel is not listed here"
    return launched


def values(device: str) -> dict[str, dict[str, float]]:
    """Case -> errors, in the interpreter (TRITON_INTERPRET=1) on a CPU, compiled on CUDA."""
    if device == "cuda":
        from ittybitty.models import triton_conv, triton_scan

        for kind in (torch.float32, torch.float16):
            triton_scan.warm_up(["cuda"], 19, 16, kind)
            triton_conv.warm_up(["cuda"], 19, 4, kind)
    scans = {name: errors(*case, device) for name, case in CASES.items()}
    convolutions = {name: convolution_errors(*case, device) for name, case in CONVOLUTIONS.items()}
    return {**scans, **convolutions, "threads": {"all": thread_errors(device)}}
