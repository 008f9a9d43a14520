"""What temperature, top-k and top-p do to the distribution of what the model plays next.

A model of tokens answers with one distribution. A model of events (tokenizers/events) answers with four, one after the
other: when, what, how long and how loud, each given the likeliest values of those before it.

The steps are those of `sampling.sample`, in its order: grammar, the k likeliest, temperature, nucleus. Ids are written as
a musician would say them ("next note 0.42 s later", "held 0.38 s", "mf"), since no bar line is heard in a performance.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import GenerationConfig
from ..notes import Performance
from ..tokenizers.events.tokenizer import EventTokenizer

if TYPE_CHECKING:
    from ..piano import Piano
    from ..tokenizers.protocol import Rules, Tokenizer

PITCHES = "C C♯ D E♭ E F F♯ G A♭ A B♭ B".split()
DYNAMICS = "ppp pp p mp mf f ff fff".split()  # of eight equal ranges of velocity
PARTS = ("When", "What", "How long", "How loud")  # parts of an event, in the order in which they are drawn


@dataclass(frozen=True)
class NextToken:
    """One distribution of the model's answer after a seed."""

    logits: np.ndarray  # (V,), -inf where the grammar allows nothing
    names: Names | tuple[str, ...]  # of the V ids
    title: str = ""  # which attribute of an event; empty for a model of tokens
    given: str = ""  # the parts of the event that are assumed, in words
    number: int = -1  # which attribute of an event, as GenerationConfig.of_part counts; -1 for a model of tokens

    @property
    def allowed(self) -> int:
        return int(np.isfinite(self.logits).sum())

    def shares(self, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
        """Probabilities (V,) from which the next id is drawn; with the defaults those of the model within the grammar."""
        import torch

        from .. import sampling  # with torch: the page is there before it

        GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p)  # ConfigError for what makes no sense
        logits = torch.from_numpy(self.logits / np.float32(temperature))
        return sampling.filter_logits(logits, top_k, top_p).softmax(-1).numpy()

    def drawn(self, config: GenerationConfig) -> np.ndarray:
        """Probabilities (V,) from which `config` draws; a part of an event may have settings of its own."""
        return self.shares(*config.of_part(self.number))

    def likeliest(self, count: int) -> list[int]:
        """Ids by the model's own probability."""
        return np.argsort(-self.logits, kind="stable")[: min(count, self.allowed)].tolist()


Offered = tuple[NextToken, ...]


def after(piano: Piano, seed: Performance) -> Offered:
    """What may follow `seed` (which may be empty) in generation: within the grammar, and without the end of the piece."""
    import torch

    from ..generation import make_prompt

    model, tokenizer = piano.model, piano.tokenizer
    ids = make_prompt(seed, tokenizer, piano.data).ids.astype(np.int64)
    names = Names(tokenizer, ids)
    grammar = tokenizer.grammar()
    rules, state = grammar.start(ids.tolist()), model.init_state(1)
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    device = next((p.device for p in parameters), torch.device("cpu"))
    with torch.no_grad():
        logits = model.prefill(torch.tensor(ids[None], device=device), state)
        if tokenizer.ids_per_event == 1:
            return (NextToken(_within(grammar, rules, tokenizer, logits), names),)
        parts: list[NextToken] = []
        given: list[str] = []
        for number, title in enumerate(PARTS):
            part = NextToken(_within(grammar, rules, tokenizer, logits), names, title, ", ".join(given), number)
            parts.append(part)
            chosen = _note(tokenizer, part) if title == "What" else part.likeliest(1)[0]
            given = ["if " + names[chosen]] if not given else [*given, names[chosen]]
            rules = grammar.advance(rules, chosen)
            logits = model.step(torch.tensor([chosen], device=device), state)
    return tuple(parts)


def _within(grammar: Rules, rules: Any, tokenizer: Tokenizer, logits: Any) -> np.ndarray:
    mask = np.array(grammar.mask(rules))
    mask[tokenizer.eos_id] = False
    return np.where(mask, logits[0].float().cpu().numpy(), -np.inf)


def _note(tokenizer: Tokenizer, part: NextToken) -> int:
    """The likeliest key. A movement of the pedal may be likelier, but has no length and no loudness to show."""
    ids = part.likeliest(part.allowed)
    return next((id for id in ids if "Pitch" in tokenizer.base_types(id)), ids[0])


class Names:
    """The names of all ids, by id, as they are read after a prompt; each is made when it is needed."""

    def __init__(self, tokenizer: Tokenizer, prompt: np.ndarray):
        self._tokenizer, self._prompt = tokenizer, prompt

    def __getitem__(self, id: int) -> str:
        return spelt(self._tokenizer, id, self._wait(id))

    @cached_property
    def _reader(self):
        reader = self._tokenizer.reader()
        for id in self._prompt.tolist():
            reader.feed(id)
        return reader

    def _wait(self, id: int) -> float | None:
        """By how many seconds the id moves the clock; None if the id carries no time."""
        if "time" not in self._tokenizer.attributes(id):
            return None
        before, reader = self._reader.clock, copy.deepcopy(self._reader)
        reader.feed(id)
        return reader.clock - before


def spelt(tokenizer: Tokenizer, id: int, wait: float | None = None) -> str:
    """An id as a musician reads it: "0.3 s later, C♯4". `wait` is by how many seconds it moves the clock, if it does."""
    names = list(tokenizer.base_names(id))
    if str(id) in names:  # base tokens without names: their types, and the number of the id
        return f"{', '.join(_plain(name) for name in tokenizer.base_types(id))} ({id})"
    ticks = tokenizer.grid.ticks_per_second if isinstance(tokenizer, EventTokenizer) else 0
    if wait is None:
        return ", ".join(_plain(name, ticks) for name in names)
    rest = [name for name in names if not name.startswith(("Bar", "Position", "Rest", "TimeShift", "Time_"))]
    moved = "at the same time" if wait < 5e-4 else f"{_seconds(wait)} later"
    if rest:
        return ", ".join([moved, *(_plain(name, ticks) for name in rest)])
    if names[-1].startswith("Bar"):  # a bar line, which only says that what comes stands behind it
        return f"next note {_seconds(wait)} later or more"
    return f"next note {moved}"


def _plain(name: str, ticks: int = 0) -> str:
    """A base token's name in words; `ticks` a second, where values are ticks."""
    kind, _, value = name.partition("_")
    if kind == "Pitch" and value.isdigit():
        return f"{PITCHES[int(value) % 12]}{int(value) // 12 - 1}"
    if kind in ("Duration", "Rest") and (parts := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", value)):
        beats, rest, per_beat = map(int, parts.groups())
        length = _seconds((beats + rest / per_beat) / 2)  # beats of the clock last half a second
        return f"held {length}" if kind == "Duration" else f"rest {length}"
    if ticks and kind in ("Time", "Duration"):
        return f"held {_seconds(int(value) / ticks)}" if kind == "Duration" else f"{_seconds(int(value) / ticks)} later"
    if kind == "Velocity" and value.isdigit():
        return f"{DYNAMICS[min(int(value), 127) // 16]} (velocity {value})"
    if kind in ("PedalOff", "Pedal"):
        return "pedal up" if kind == "PedalOff" else "pedal down"
    kind = {"BOS": "start", "EOS": "end", "PAD": "padding", "NONE": "nothing"}.get(kind, kind).lower()
    return kind if value in ("", "None") else f"{kind} {value}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def sentence(offered: Offered, config: GenerationConfig) -> str:
    """What temperature, top-k and top-p of `config` did, in one sentence."""
    if len(offered) == 1:
        return _of_a_token(offered[0], config)
    left = [(part, int((part.drawn(config) > 0).sum())) for part in offered]
    kept = ", ".join(f"{part.title.lower()} from {of:,} of {part.allowed:,}" for part, of in left)
    return f"{_of_temperature(offered[0], config, 'moment')}; the next note is drawn in four steps: {kept}."


def _of_a_token(offered: NextToken, config: GenerationConfig) -> str:
    _, top_k, top_p = config.of_part(offered.number)
    kept_k = min(top_k or offered.allowed, offered.allowed)
    kept = int((offered.drawn(config) > 0).sum())
    cut_k = f"top-k {top_k} leaves {kept_k:,} of" if kept_k < offered.allowed else "top-k leaves all"
    cut_p = f"top-p {top_p:.2f} leaves {kept:,} of these" if kept < kept_k else "top-p leaves all of these"
    drawn = "so there is no choice left" if kept == 1 else f"so the next token is drawn from {kept:,}"
    return f"{_of_temperature(offered, config, 'token')}, {cut_k} {offered.allowed:,}, {cut_p}: {drawn}."


def _of_temperature(part: NextToken, config: GenerationConfig, noun: str) -> str:
    temperature = config.of_part(part.number)[0]
    first = part.likeliest(1)[0]
    before, after = part.shares()[first], part.shares(temperature)[first]
    if abs(after - before) < 5e-4:
        return f"Temperature {temperature:.2f} leaves the likeliest {noun} at {_percent(before)}"
    did = "raises" if after > before else "lowers"
    return f"Temperature {temperature:.2f} {did} the likeliest {noun} from {_percent(before)} to {_percent(after)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.995 else f"{100 * share:.2f}%"
