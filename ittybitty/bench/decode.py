"""`ittybitty bench decode`: milliseconds a token of the 25.6M model, beside reading its weights and beside the peers; notes a
second of the shipped models (events.py).

512 tokens after a seed of 128, batch 1, sampled as in generation (temperature, top-k, top-p). One decoding step must
read every weight once, so the floor is the bytes of the float32 weights over the best read bandwidth of this run.
Blocks of 64 tokens of all contestants are timed in turns, and the reading of 1 GB is one of them: `paired_ratio` compares
each block with the reading next to it, which is fairer where neighbours on the same memory come and go.
Marks to hold: float32 at most 1.5x the floor, int8 at most 1.0x, with bits per note within 0.5% of float32's; 2,000 notes a
second of the shipped `tiny`.

`--busy` asks another question, in busy.py. Left out: native and int8 decoding on a GPU, which there are not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import devices
from ..config import preset
from ..corpora import open_corpus
from ..evaluation.likelihood import piece_bits
from ..models import PianoHybridModel
from ..models.decode import decoder
from ..models.quantize import quantized
from ..sampling import sample
from . import peers
from .busy import bench_busy
from .events import bench_events
from .stream import place_of
from .timing import Timing, in_turns

SEED, BLOCK, TOKENS = 128, 64, 512
BUFFER = 2**30  # bytes that are read for the floor: too many for any cache
MANY = 16  # continuations at once
PIECES, CONTEXT = 3, 1024  # held-out pieces of the embedded corpus, and tokens read of each, for int8's bits per note


def bench_decode(turns: int = TOKENS // BLOCK, device: str = "cpu", busy: bool = False) -> dict:
    """See the module's text; times in ms a token (medians over blocks)."""
    if busy:
        return bench_busy()
    torch.manual_seed(0)
    place = devices.device(device)
    model = PianoHybridModel(preset("small")["model"]).eval().to(place)
    buffer = torch.ones(BUFFER // 4, device=place)
    contestants: dict[str, Callable[[], object]] = {
        "floor": buffer.sum,
        "float32": _block(decoder(model), 1),
        "float32_batch": _block(decoder(model), MANY),
        "eager": _block(model, 1),
        "llama": _llama(model.config.vocab_size, place),
    }
    if place.type == "cpu":
        contestants |= {
            "int8": _block(decoder(model, "int8"), 1),
            "int8_batch": _block(decoder(model, "int8"), MANY),
        }
    times = in_turns(contestants, turns, device=device)
    result = {
        "parameters": (weights := sum(p.numel() for p in model.parameters())),
        **devices.ran_on(model),
        **_figures(times, 4 * weights, buffer.nbytes),
    }
    if place.type == "cpu":
        result |= {"int8_bits_per_note_change": int8_change(), "events": bench_events(turns)}
    return result


def _figures(times: dict[str, Timing], weights: int, buffer: int) -> dict:
    """Times as figures; `weights` and `buffer` are the bytes that a step and the floor's reading read."""
    reading = times["floor"]
    floor = weights * min(reading.turns) / buffer
    shrink = buffer / weights / BLOCK  # a block's seconds over the buffer's -> a token's over the weights'
    per_token = {name: t.median / BLOCK for name, t in times.items()}
    result = {"read_gb_per_s": buffer / min(reading.turns) / 1e9, "floor_ms": 1e3 * floor, "batch": MANY}
    for name, prefix in (("float32", ""), ("int8", "int8_")):
        if name in times:
            result |= {
                f"{prefix}ms_per_token": 1e3 * per_token[name],
                f"{prefix}ratio_to_floor": per_token[name] / floor,
                f"{prefix}paired_ratio": times[name].ratio(reading) * shrink,
                f"{prefix}batch_tokens_per_s": MANY / per_token[f"{name}_batch"],
            }
    return result | {
        "eager_ms_per_token": 1e3 * per_token["eager"],
        "llama_ms_per_token": 1e3 * per_token["llama"],
        "spread_ms": {name: [1e3 * s / BLOCK for s in t.spread] for name, t in times.items() if name != "floor"},
    }


def _block(model, batch: int) -> Callable[[], None]:
    """A function that continues its own piece by one block."""
    generator = torch.Generator().manual_seed(0)
    vocabulary, place = model.config.vocab_size, place_of(model)
    state = model.init_state(batch)
    with torch.no_grad():
        seed = torch.randint(0, vocabulary, (batch, SEED), generator=generator).to(place)
        now = [sample(model.prefill(seed, state), generator)]

    @torch.no_grad()
    def block() -> None:
        for _ in range(BLOCK):
            now[0] = sample(model.step(now[0], state), generator)

    return block


def _llama(vocabulary: int, place: torch.device) -> Callable[[], None]:
    """The published LLaMA with its cache, for the same blocks."""
    model, generator = peers.llama(vocabulary).eval().to(place), torch.Generator().manual_seed(0)
    with torch.no_grad():
        out = model(torch.randint(0, vocabulary, (1, SEED), generator=generator).to(place), use_cache=True)

    @torch.no_grad()
    def block() -> None:
        nonlocal out
        for _ in range(BLOCK):
            drawn = sample(out.logits[:, -1], generator)
            out = model(drawn[:, None], past_key_values=out.past_key_values, use_cache=True)

    return block


def int8_change(name: str = "tiny") -> float:
    """Relative change of bits per note when the matrices of a shipped model are rounded to int8, on held-out pieces."""
    from ..checkpoint import load

    loaded = load(name)
    pieces = [piece.load() for piece in open_corpus("embedded").split("validation")[:PIECES]]
    ids = [loaded.tokenizer.encode(performance)[: CONTEXT + 1] for performance in pieces]
    bits = [
        sum(float(piece_bits(m, each, CONTEXT, CONTEXT // 2).sum()) for each in ids)
        for m in (loaded.model, quantized(loaded.model))
    ]
    return bits[1] / bits[0] - 1
