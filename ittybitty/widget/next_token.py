"""What temperature, top-k and top-p do to the distribution of the next token, in numbers and in one sentence.

The steps are those of `sampling.sample`, in its order: grammar, the k likeliest, temperature, nucleus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from .. import sampling
from ..config import GenerationConfig
from ..generation import make_prompt
from ..notes import Performance

PITCHES = "C C♯ D E♭ E F F♯ G A♭ A B♭ B".split()


@dataclass(frozen=True)
class NextToken:
    """The model's answer after a seed."""

    logits: np.ndarray  # (V,), -inf where the grammar allows nothing
    names: tuple[str, ...]  # of the V tokens

    @property
    def allowed(self) -> int:
        return int(np.isfinite(self.logits).sum())

    def shares(self, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
        """Probabilities (V,) from which the next token is drawn; with the defaults those of the model within the grammar."""
        import torch

        GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p)  # ConfigError for what makes no sense
        logits = torch.from_numpy(self.logits / np.float32(temperature))
        return sampling.filter_logits(logits, top_k, top_p).softmax(-1).numpy()

    def likeliest(self, count: int) -> list[int]:
        """Ids by the model's own probability."""
        return np.argsort(-self.logits, kind="stable")[: min(count, self.allowed)].tolist()


def after(piano, seed: Performance) -> NextToken:
    """What follows `seed` (which may be empty), as generation asks for it: within the grammar, and not the end."""
    import torch

    model, tokenizer = piano.model, piano.tokenizer
    ids = make_prompt(seed, tokenizer, piano.data).ids
    grammar = tokenizer.grammar()
    mask = np.array(grammar.mask(grammar.start(ids.tolist())))
    mask[tokenizer.eos_id] = False
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model.prefill(torch.tensor(ids[None].astype(np.int64), device=device), model.init_state(1))[0]
    logits = np.where(mask, logits.float().cpu().numpy(), -np.inf)
    return NextToken(logits, tuple(spelt(tokenizer, id) for id in range(tokenizer.vocab_size)))


def spelt(tokenizer, id: int) -> str:
    """A token as a musician reads it: "bar, position 12, C♯4"."""
    if hasattr(tokenizer, "base_names"):
        return ", ".join(_plain(name) for name in tokenizer.base_names(id))
    return f"{', '.join(map(_plain, tokenizer.base_types(id)))} ({id})"  # a code whose tokens have no names: its kind and number


def _plain(name: str) -> str:
    kind, _, value = name.partition("_")
    if kind == "Pitch" and value.isdigit():
        return f"{PITCHES[int(value) % 12]}{int(value) // 12 - 1}"
    if kind in ("Duration", "Rest") and (parts := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", value)):
        beats, rest, per_beat = map(int, parts.groups())
        length = f"{(beats + rest / per_beat) / 2:.2f} s"  # beats of the clock last half a second
        return length if kind == "Duration" else f"rest {length}"
    if kind in ("PedalOff", "Pedal"):
        return "pedal up" if kind == "PedalOff" else "pedal down"
    kind = {"BOS": "start", "EOS": "end", "PAD": "padding"}.get(kind, kind).lower()
    return kind if value in ("", "None") else f"{kind} {value}"


def sentence(offered: NextToken, temperature: float, top_k: int, top_p: float) -> str:
    """What the three did, in one sentence."""
    first = offered.likeliest(1)[0]
    plain, warm = offered.shares()[first], offered.shares(temperature)[first]
    kept_k = min(top_k or offered.allowed, offered.allowed)
    kept = int((offered.shares(temperature, top_k, top_p) > 0).sum())
    did = "lifts" if warm > plain else "lowers"
    moved = f"{did} the likeliest token from {_percent(plain)} to {_percent(warm)}"
    change = f"Temperature {temperature:.2f} {moved if abs(warm - plain) >= 5e-4 else f'leaves the likeliest token at {_percent(plain)}'}"
    cut_k = f"top-k {top_k} leaves {kept_k:,} of" if kept_k < offered.allowed else "top-k leaves all"
    cut_p = f"top-p {top_p:.2f} leaves {kept:,} of these" if kept < kept_k else "top-p leaves all of these"
    drawn = "so there is no choice left" if kept == 1 else f"so the next token is drawn from {kept:,}"
    return f"{change}, {cut_k} {offered.allowed:,}, {cut_p}: {drawn}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.995 else f"{100 * share:.2f}%"
