"""What tests/models/test_triton.py runs in a process of its own: Triton decides at its import whether it interprets or compiles."""

import torch

from ittybitty.models import scan

NAMES = ["y", "last", "u", "delta", "A", "B", "C", "D", "state", "z"]
CASES = {  # name -> (B, L, E, N), type, largest Δ, gated
    "one step, one channel, one state": ((1, 1, 1, 1), torch.float32, 1.0, True),
    "a chunk and a bit, float64": ((1, 11, 5, 3), torch.float64, 1.0, True),
    "two blocks of channels, two pieces": ((2, 10, 19, 16), torch.float32, 1.0, True),
    "no gate, large Δ": ((1, 16, 6, 4), torch.float32, 50.0, False),
    "more states than a power of two": ((1, 8, 3, 33), torch.float32, 0.1, False),
}


def arguments(sizes, kind, largest_step, gated, device):
    (B, L, E, N), g = sizes, torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=kind)

    delta, A = (
        torch.rand(B, L, E, generator=g, dtype=kind) * largest_step,
        -torch.rand(E, N, generator=g, dtype=kind) * 16,
    )
    made = [
        normal(B, L, E),
        delta,
        A,
        normal(B, L, N),
        normal(B, L, N),
        normal(E),
        normal(B, E, N),
        normal(B, L, 2 * E),
    ]
    return [t.to(device) for t in made[: 8 if gated else 7]]


def values_and_gradients(path, args):
    args = [a.detach().clone().requires_grad_() for a in args]
    E = args[0].shape[2]
    y, last = scan.selective_scan(
        *args[:7], args[7][..., E:] if len(args) > 7 else None, path=path
    )  # as the block has it
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=g, dtype=t.dtype).to(t.device) for t in (y, last)]
    return [y, last, *torch.autograd.grad((y * weights[0]).sum() + (last * weights[1]).sum(), args)]


def errors(sizes, kind, largest_step, gated, device) -> dict[str, float]:
    """Name -> largest error of its largest magnitude."""
    args = arguments(sizes, kind, largest_step, gated, device)
    pairs = zip(NAMES, values_and_gradients("triton", args), values_and_gradients("sequential", args))
    return {name: float(((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).detach()) for name, a, b in pairs}


def thread_errors(device) -> float:
    """Largest difference between scans in one thread and in four at once, as DataParallel's replicas run."""
    from concurrent.futures import ThreadPoolExecutor

    pieces = [arguments((1, 5 + i, 4, 2), torch.float32, 1.0, True, device) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda args: values_and_gradients("triton", args), pieces))
    alone = [values_and_gradients("triton", args) for args in pieces]
    return max(float((a - b).abs().max().detach()) for x, y in zip(together, alone) for a, b in zip(x, y))


def compiled(capability: int) -> dict[str, dict[str, int]]:
    """Kernel and flags -> bytes of machine code, and of shared memory, for this compute capability; no card is needed."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ittybitty.models import triton_scan

    made = {}
    for kernel, flags in variants():
        states, channels = triton_scan.blocks(16)
        sizes = {"N": 16, "STATES": states, "CHANNELS": channels, "CHUNK": triton_scan.CHUNK, **flags}
        own = {k: v for k, v in sizes.items() if k in kernel.arg_names}
        absent = set() if flags["GATED"] else {"z", "dz"}
        absent |= set() if flags.get("KEPT", True) else {"entries"}
        own |= dict.fromkeys(absent & set(kernel.arg_names))
        types = {
            name: "constexpr" if name in own else "i32" if name in ("L", "E", "apart") else "*fp32"
            for name in kernel.arg_names
        }
        source = ASTSource(fn=kernel, signature=types, constexprs=own)
        options = {"num_warps": 1, "num_stages": 1}
        done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        name = " ".join([kernel.__name__, *(flag for flag, on in flags.items() if on)])
        made[name] = {"code": len(done.asm["cubin"]), "shared": done.metadata.shared}
    return made


def variants() -> list[tuple]:
    """Every kernel of the package, with the flags that it is launched with."""
    from triton import JITFunction

    from ittybitty.models import triton_scan

    launched = [  # as a Mamba block launches them, in training and without a gradient
        (triton_scan._forward, {"GATED": True, "KEPT": True}),
        (triton_scan._forward, {"GATED": True, "KEPT": False}),
        (triton_scan._backward, {"GATED": True}),
    ]
    inner = {"_row", "_put"}  # are called by kernels, never launched
    kernels = {name for name, value in vars(triton_scan).items() if isinstance(value, JITFunction)} - inner
    assert kernels == {kernel.__name__ for kernel, _ in launched}, "a kernel is not listed here"
    return launched


def values(device: str) -> dict[str, dict[str, float]]:
    """Case -> errors, in the interpreter (TRITON_INTERPRET=1) on a CPU, compiled on CUDA."""
    if device == "cuda":
        from ittybitty.models import triton_scan

        triton_scan.warm_up(["cuda"], 19, 16)
    return {**{name: errors(*case, device) for name, case in CASES.items()}, "threads": {"all": thread_errors(device)}}
