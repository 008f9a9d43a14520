"""`ittybitty bench train`: training tokens a second of the 25.6M hybrid on this machine, beside LLaMA and LSTM.

Forward and backward with loss, B 1, L 1,024, in turns: the hybrid, transformers' LLaMA of the published V7 shape (34M) and
an LSTM of 3 x 512. All three get the same tokens; optimizers are left out, since all would use the same.

`bench_rows` takes whole training steps of rows of the table instead, each with its own batch and optimizer, on the embedded
corpus, and gives notes a second, which can be compared between encodings. Its floor counts matrix products alone: those
of forward and backward (three times forward's) and of Muon's orthogonalisation, at the rate of one large product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .. import devices, systems
from ..config import preset
from ..corpora import open_corpus
from ..errors import ConfigError
from ..models import IGNORED, PianoHybridModel
from ..tokenizers.protocol import Tokenizer
from ..train.optimizer import Autocast, MuonAdamW, hidden_matrices, optimizer, precision
from . import peers
from .timing import in_turns, matmul_rate

LENGTH = 1024


def bench_train(name: str = "small", turns: int = 5, device: str = "cpu") -> dict:
    """See the module's text; rates are medians over turns."""
    torch.manual_seed(0)
    place = devices.device(device)
    config = preset(name)["model"]
    ids = torch.randint(0, config.vocab_size, (1, LENGTH + 1), generator=torch.Generator().manual_seed(0)).to(place)
    x, y = ids[:, :-1], ids[:, 1:]
    makers = PianoHybridModel(config), peers.llama(config.vocab_size), peers.LSTM(config.vocab_size)
    ours, llama, lstm = (model.to(place) for model in makers)

    def step(model: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            (loss() / LENGTH).backward()
            model.zero_grad(set_to_none=True)

        return run

    times = in_turns(
        {
            "ours": step(ours, lambda: ours(x, y, 0.1)[0]),
            "llama": step(llama, lambda: F.cross_entropy(llama(x).logits[0], y[0], reduction="sum")),
            "lstm": step(lstm, lambda: F.cross_entropy(lstm(x)[0], y[0], reduction="sum")),
        },
        turns,
        device=device,
    )
    return {
        "preset": name,
        **devices.ran_on(ours),
        "tokens_per_s": LENGTH / times["ours"].median,
        "llama_tokens_per_s": LENGTH / times["llama"].median,
        "lstm_tokens_per_s": LENGTH / times["lstm"].median,
        "ratio_vs_llama": times["llama"].ratio(times["ours"]),
        "ratio_vs_lstm": times["lstm"].ratio(times["ours"]),
        "parameters": {
            n: sum(p.numel() for p in m.parameters()) for n, m in (("ours", ours), ("llama", llama), ("lstm", lstm))
        },
        "matmul_gflops": matmul_rate(device=device) / 1e9,
    }


ROWS = ("notes-mamba", "notes-hybrid", "notes-llama", "mamba", "hybrid")


def bench_rows(
    size: str = "tiny", rows: tuple[str, ...] = ROWS, turns: int = 5, device: str = "cpu", dtype: str = "float32"
) -> dict:
    """Notes a second of whole training steps; see the module's text. ConfigError for an unknown row or precision."""
    place, kind = devices.device(device), precision(dtype, devices.device(device))
    torch.manual_seed(0)
    steps, about = {}, {}
    for name in rows:
        configs = systems.build(name, size)
        tokenizer = systems.build_tokenizer(configs)
        x, y, notes = _music(tokenizer, configs["data"].context, configs["train"].batch_size)
        model = systems.build_model(systems.override(configs, {"model.vocab_size": tokenizer.vocab_size})).to(place)
        rule = optimizer(model, configs["train"], kind)
        steps[name] = _step(Autocast(model, place.type, kind), rule, x.to(place), y.to(place))
        about[name] = {
            "notes": notes,
            "parameters": sum(p.numel() for p in model.parameters()),
            "optimizer": configs["train"].optimizer,
            "operations": _operations(model, rule, x.numel() // (len(configs["model"].events) or 1)),
        }
    times = in_turns(steps, turns, device=device)
    rate = matmul_rate(device=device)
    found = {}
    for name, known in about.items():
        seconds = times[name].median
        found[name] = {
            "parameters": known["parameters"],
            "optimizer": known["optimizer"],
            "notes_per_s": known["notes"] / seconds,
            "floor_notes_per_s": known["notes"] * rate / known["operations"],
            "ms_per_step": 1e3 * seconds,
        }
    return {"size": size, "precision": dtype, "rows": found, "matmul_gflops": rate / 1e9, **devices.ran_on(model)}


def _music(tokenizer: Tokenizer, context: int, batch: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """A batch (B, L) of the embedded corpus, its targets, and the notes in it."""
    rows = []
    for piece in open_corpus("embedded").pieces:
        ids = tokenizer.encode(piece.load(), eos=False)
        rows += [ids[at : at + context + 1] for at in range(0, len(ids) - context - 1, context)]
        if len(rows) >= batch:
            break
    if len(rows) < batch:
        raise ConfigError(f"data.context is {context}: the embedded corpus has no {batch} windows of that length")
    both = torch.from_numpy(np.stack(rows[:batch]).astype(np.int64))
    x, y = both[:, :-1], both[:, 1:]
    return x, y, int(tokenizer.notes_per_id[y[y != IGNORED].numpy()].sum())


def _step(model: nn.Module, rule: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    for group in rule.param_groups:
        group["lr"] = 1e-4 * group.get("scale", 1.0)

    def run() -> None:
        loss, _, count = model(x, y)
        (loss / count).sum().backward()
        rule.step()
        rule.zero_grad(set_to_none=True)

    return run


def _operations(model: nn.Module, rule: torch.optim.Optimizer, steps: int) -> float:
    """Floating-point operations of the matrix products of one training step; embeddings have none but as a tied head."""
    matrices = [p for m in model.modules() if isinstance(m, nn.Linear | nn.LSTM) for p in m.parameters() if p.ndim == 2]
    if getattr(model, "tied", False):
        matrices.append(model.get_parameter("embedding.weight"))
    total = 6.0 * steps * sum(p.numel() for p in matrices)
    if isinstance(rule, MuonAdamW):
        for p in hidden_matrices(model):
            rows, columns = min(p.shape), max(p.shape)
            total += 4.0 * rows**2 * columns + 17 * 2.0 * rows**3  # orthogonal(), on Gram matrices
    return total
