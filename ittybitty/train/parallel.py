"""Training on one device, with nn.DataParallel, or under torchrun: what differs between the three.

    none   one process, one device (a CPU, or the first GPU)
    dp     one process, all GPUs: nn.DataParallel splits each batch; simple, one GIL
    ddp    one process a GPU, started by torchrun, on one host or several: DistributedDataParallel

    torchrun --standalone --nproc-per-node=2 -m ittybitty train hybrid --preset small --data DIR --out RUN_DIR --resume
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes=2 --nproc-per-node=2 --max-restarts=3 \\
        --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 -m ittybitty …

All ranks read the same run folder when they resume, so hosts must share it. When a worker dies, torchrun restarts the
group, and --resume continues from the last checkpoint. The variable gives a restarted group a new store: otherwise torchrun keeps
one, in which it finds the addresses of the workers that died [1]. On one host this module does the same.

[1] https://github.com/pytorch/pytorch/issues/135712.  Left out: sharded models (FSDP); ours fit on any card.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import torch
from torch import distributed, nn

from ..errors import ConfigError

KINDS = ("none", "dp", "ddp")


@dataclass
class Parallel:
    """This process's rank and device among all processes of the training."""

    kind: str
    device: torch.device
    rank: int = 0
    world: int = 1
    opened: bool = False  # whether this object opened the process group, and so has to close it

    @property
    def main(self) -> bool:
        """True for the one process that writes files and shows progress."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as it is called in training; save the unwrapped one."""
        if self.kind == "dp":
            return nn.DataParallel(module)
        if self.kind == "ddp":
            ids = [self.device.index] if self.device.type == "cuda" else None
            return nn.parallel.DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)
        return module

    def quiet(self, module: nn.Module) -> contextlib.AbstractContextManager:
        """A context in which backward does not yet exchange gradients: for all micro-batches but the last."""
        return module.no_sync() if isinstance(module, nn.parallel.DistributedDataParallel) else contextlib.nullcontext()

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all ranks, exactly for counts."""
        if self.kind != "ddp":
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        if self.kind == "ddp":
            distributed.barrier()

    def close(self) -> None:
        """Leave the process group, if this object joined it."""
        if self.opened:
            distributed.destroy_process_group()
            self.opened = False


def choose(kind: str | None = None) -> str:
    """The kind asked for, else what the surroundings offer: ddp under torchrun, dp with several GPUs, none."""
    if kind is None or kind == "auto":
        if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", 1)) > 1:
            return "ddp"
        return "dp" if torch.cuda.device_count() > 1 else "none"
    if kind not in KINDS:
        raise ConfigError(f"parallel is {kind!r}: give {', '.join(KINDS)}")
    return kind


def open_parallel(kind: str | None = None) -> Parallel:
    """Join the other processes, where there are any; ConfigError for ddp outside torchrun."""
    kind = choose(kind)
    cuda = torch.cuda.is_available()
    if kind != "ddp":
        return Parallel(kind, torch.device("cuda", 0) if cuda else torch.device("cpu"))
    opened = not distributed.is_initialized()
    if opened:
        if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
            raise ConfigError(
                "parallel ddp needs torchrun: start with `torchrun --standalone --nproc-per-node=2 -m ittybitty train …`"
            )
        _join("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return Parallel(kind, device, distributed.get_rank(), distributed.get_world_size(), opened)


def _join(backend: str) -> None:
    """Form the process group, each restart of it under names of its own where all workers know which restart it is [1]."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get("GROUP_WORLD_SIZE") == "1":
        store, rank, world = next(distributed.rendezvous("env://"))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        distributed.init_process_group(
            backend, store=distributed.PrefixStore(f"attempt-{attempt}", store), rank=rank, world_size=world
        )
    else:
        distributed.init_process_group(backend)
