"""A seed MIDI goes in, its continuation comes out: whole, or note by note as it is played.

The end of the seed is encoded from a bar line of its own clock on (2 s at 120 beats a minute), up to its last note and
with the pedal as it stands there. New tokens are drawn one at a time from the model within the grammar of the
tokenizer and decoded on the same clock, so the new music follows without a gap or a jump in tempo. A code whose clock is
not the seed's (pitch strings: one event a step) is moved as a whole, so that its last onset of the prompt falls on the
seed's. The seed itself goes into the result as it was read, not as its tokens say it.

The model's memory has a fixed size (models/), so a continuation may be many times longer than the training window.
By default its end token is never drawn: whoever asks for 512 tokens gets them (`GenerationConfig.stop_at_end`).

Left out: how one id is drawn (sampling.py), which ids are allowed (tokenizers/grammar.py), and several takes at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from . import checkpoint, endings, sampling, seeds, systems
from .config import DataConfig, GenerationConfig
from .errors import CheckpointError, ConfigError, OutputError
from .midi import read_midi, write_midi
from .models.decode import decoder
from .models.decode_events import Choice, EventDecoder
from .models.events import G
from .models.lm import LanguageModel
from .notes import NOTE, PEDAL, Note, Performance, between, join, shift
from .paths import atomic_path
from .tokenizers.events.grammar import TIME
from .tokenizers.protocol import NoteReader, Tokenizer

BAR_SECONDS = 2.0  # the clock's bar; prompts start on one
PENALTY_WINDOW = 256  # tokens back that the repetition penalty looks
TOKENS_PER_SECOND = 400  # of music: more than any performance has; bounds a request in seconds
MOST_TOKENS_PER_NOTE = 32  # more than any encoding needs, rests and pedal included; bounds a request in notes


@dataclass(frozen=True)
class Prompt:
    """What the model is given of a seed."""

    ids: np.ndarray  # (L,)
    performance: Performance  # the notes it stands for, at the seed's own times
    start: float  # s, what the ids' clock is behind the seed's
    join: float  # s, onset of the seed's last note: new music begins there or later


@dataclass(frozen=True)
class Continuation:
    """A seed and what was made of it; all times are those of the seed file."""

    seed: Performance  # as read, up to where the new music begins
    prompt: Performance  # its end that the model was given
    new: Performance  # begins at or after the seed's last onset
    joined: Performance  # seed and new music; where the same key or the pedal meets, the new one takes over
    tokens: int  # drawn
    seconds: float  # s that drawing them took, reading the prompt included
    seed_number: int  # the same number gives the same music again
    ids: tuple[int, ...] = ()  # what was drawn

    @property
    def tokens_per_second(self) -> float:
        """Speed of generation."""
        return self.tokens / max(self.seconds, 1e-9)


def make_prompt(seed: Performance, tokenizer: Tokenizer, config: DataConfig) -> Prompt:
    """The last `prompt_seconds` of a seed or its last `prompt_tokens` tokens, whichever is shorter; at least its last note.

    A seed that is taken whole begins with BOS, a cut one does not: the model has met both in training.
    """
    seed = tokenizer.prepare(seed)
    if not len(seed):
        return Prompt(np.array([tokenizer.bos_id]), seed, 0.0, 0.0)
    onsets = np.unique(seed.notes["onset"])
    join_at = float(onsets[-1])
    end = min(
        seed.end, join_at + config.prompt_seconds / 2
    )  # a last chord held for long leaves room for what led to it
    first = min(int(np.searchsorted(onsets, end - config.prompt_seconds)), len(onsets) - 1)

    def cut(index: int) -> Prompt:
        start = math.floor(float(onsets[index]) / BAR_SECONDS) * BAR_SECONDS if index else 0.0
        part = between(seed, float(onsets[index]) if index else -math.inf, math.inf)
        return Prompt(_encode(shift(part, -start), tokenizer, bos=index == 0), part, start, join_at)

    low, high = first, len(onsets) - 1  # the earliest cut that keeps within prompt_tokens; tokens fall as cuts move on
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(cut(middle).ids) <= config.prompt_tokens else (middle + 1, high)
    prompt = cut(low)
    if tokenizer.exact_clock:
        return prompt
    onsets = tokenizer.decode(prompt.ids).notes["onset"]
    return dataclasses.replace(prompt, start=join_at - float(onsets.max(initial=0.0)))


def _encode(part: Performance, tokenizer: Tokenizer, bos: bool) -> np.ndarray:
    """Ids up to the last note: a pedal that is down there stays down, and its end is left to the continuation."""
    last = float(part.notes["onset"][-1])
    pedals = part.pedals[part.pedals["onset"] <= last].copy()
    held = pedals["onset"] + pedals["duration"] > last
    pedals["duration"][held] = last - pedals["onset"][held] + 4 * BAR_SECONDS
    ids = tokenizer.encode(dataclasses.replace(part, pedals=pedals), bos=bos, eos=False)
    notes = len(tokenizer.decode(ids))
    low, high = 0, len(ids)  # the shortest beginning that holds every note
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(tokenizer.decode(ids[:middle])) == notes else (middle + 1, high)
    return ids[: max(low, int(bos))]


def generate_tokens(model, tokenizer, prompt_ids, config: GenerationConfig) -> Iterator[int]:
    """New ids as they are drawn, at most `max_new_tokens`; EOS only with `stop_at_end`, and then it is the last.

    `model` is anything with init_state, prefill and step. The prompt may be as long as memory allows.
    """
    generator = torch.Generator().manual_seed((secrets.randbits(32) if config.seed is None else config.seed) % 2**63)
    ids = torch.tensor([[int(i) for i in prompt_ids] or [tokenizer.bos_id]])
    if hasattr(model, "parameters"):
        ids = ids.to(next((p.device for p in model.parameters()), ids.device))
    in_parts = getattr(tokenizer, "ids_per_event", 1) > 1
    if config.by_part and not in_parts:
        raise ConfigError(
            "time_… and expression_… are for models that write a note in parts (notes-*): leave them out here"
        )
    grammar = tokenizer.grammar()
    rules = grammar.start(ids[0].tolist())
    history = deque(ids[0].tolist(), maxlen=PENALTY_WINDOW)
    state = model.init_state(1)
    with torch.no_grad():
        logits = model.prefill(ids, state)
    if isinstance(model, EventDecoder) and rules.place == TIME and config.repetition_penalty == 1:
        yield from islice(_whole_events(model, grammar, rules, state, generator, config), config.max_new_tokens)
        return
    for count in range(config.max_new_tokens):
        mask = grammar.mask(rules)
        if not config.stop_at_end:
            mask[tokenizer.eos_id] = False
        settings = config.of_part(rules.place if in_parts else -1)
        drawn = _draw(logits, mask, history, generator, config.repetition_penalty, settings)
        id = int(drawn)
        yield id
        if id == tokenizer.eos_id or count + 1 == config.max_new_tokens:
            return
        rules = grammar.advance(rules, id)
        history.append(id)
        with torch.no_grad():
            logits = model.step(drawn, state)


def _whole_events(model: EventDecoder, grammar, rules, state, generator, config: GenerationConfig) -> Iterator[int]:
    """The ids that would be drawn one by one, drawn event by event in native code."""
    settings = zip(*(config.of_part(part) for part in range(G)))  # temperatures, top-k and top-p of the four
    choice = Choice(grammar.times, grammar.longest, grammar.pedals, config.stop_at_end, *settings)
    try:
        for event in model.events(state, rules, choice, generator):
            yield from event
    except ValueError as error:
        raise CheckpointError(f"no token can be drawn: {error}; take other weights") from None


def _draw(logits: torch.Tensor, mask: np.ndarray, history: deque, generator, penalty: float, settings) -> torch.Tensor:
    """One id (1,); `settings` are temperature, top-k and top-p."""
    if penalty != 1:
        past = torch.tensor([list(history)], device=logits.device)
        logits = sampling.repetition_penalty(logits.float(), past, penalty)
    try:
        return sampling.sample(logits, generator, *settings, mask)
    except ValueError as error:
        raise CheckpointError(f"no token can be drawn: {error}; take other weights") from None


def stream(
    model, tokenizer, prompt: Performance, config: DataConfig, generation_config: GenerationConfig
) -> Iterator[Note]:
    """Each new note as soon as its duration is known, at times that follow those of `prompt` (which may be empty)."""
    _check_fit(model, tokenizer)
    prompt = seeds.chosen(prompt, generation_config.start, generation_config.before_ending)
    given = make_prompt(prompt, tokenizer, config)
    reader = _Listener(tokenizer, given)
    limit = math.inf if generation_config.seconds is None else given.join + generation_config.seconds
    left = math.inf if generation_config.notes is None else generation_config.notes
    with _evaluating(model, generation_config.precision) as player:
        for id in generate_tokens(player, tokenizer, given.ids, generation_config):
            for note in _heard(reader.feed(id), given, limit):
                yield note
                left -= 1
                if left <= 0:
                    return
            if reader.clock + given.start >= limit:
                return
    yield from islice(
        _heard(reader.feed(tokenizer.eos_id), given, limit), None if left == math.inf else left
    )  # what still sounds


def _heard(notes: list[Note], prompt: Prompt, limit: float) -> list[Note]:
    """Notes of a reader at the seed's own times, without those that begin too late."""
    placed = (note._replace(onset=note.onset + prompt.start) for note in notes)
    return [note._replace(onset=max(note.onset, prompt.join)) for note in placed if note.onset < limit]


def continuation(
    model,
    tokenizer,
    seed: Performance,
    config: DataConfig,
    generation_config: GenerationConfig,
    progress: Callable[[int], None] | None = None,
    listen: Callable[[list[Note]], bool] | None = None,
) -> Continuation:
    """The continuation of a seed that is already read; `progress` is called with the number of tokens drawn so far.

    `listen` is called after each token with the notes that it completed, as `stream` gives them (often none); where it
    answers True the piece ends there, and what was drawn is kept.
    """
    _check_fit(model, tokenizer)
    number = secrets.randbits(32) if generation_config.seed is None else generation_config.seed
    settled = dataclasses.replace(generation_config, seed=number)
    seed = seeds.chosen(seed, settled.start, settled.before_ending)
    prompt = make_prompt(seed, tokenizer, config)
    reader = _Listener(tokenizer, prompt)
    limit = math.inf if settled.seconds is None else prompt.join + settled.seconds
    closes = settled.ending and limit < math.inf and settled.notes is None and listen is None
    until = limit - endings.BEFORE if closes else limit
    began, new, count = time.perf_counter(), [], 0
    with _evaluating(model, settled.precision) as player:
        for id in generate_tokens(player, tokenizer, prompt.ids, settled):
            new.append(id)
            heard = _heard(reader.feed(id), prompt, limit)
            count += len(heard)
            if progress:
                progress(len(new))
            enough = count >= (settled.notes or math.inf) or reader.clock + prompt.start >= until
            if (listen and listen(heard)) or enough:
                break
        if closes and (closed := _closed(model, player, tokenizer, prompt, new, limit, settled)):
            new, limit = closed, math.inf
    elapsed = time.perf_counter() - began
    music, joined = _joined(seed, prompt, new, tokenizer, limit, settled.notes)
    return Continuation(seed, prompt.performance, music, joined, len(new), elapsed, number, tuple(new))


def _closed(
    model, player, tokenizer, prompt: Prompt, new: list[int], limit: float, config: GenerationConfig
) -> list[int]:
    """`new` with an ending near `limit`; empty where there is none to be had, and the piece must be cut."""
    kept = endings.whole(tokenizer, prompt.ids.tolist(), new)
    past = [*prompt.ids.tolist(), *kept]
    reader = tokenizer.reader()
    for id in past:
        reader.feed(id)
    span = (limit - prompt.start - endings.BEFORE, limit - prompt.start + endings.AFTER)

    def draw(ids: list[int], take: int) -> Iterator[int]:
        return generate_tokens(player, tokenizer, ids, dataclasses.replace(config, seed=config.seed + 1 + take))

    ending = endings.close(model, tokenizer, past, reader, span, draw) if kept else None
    return [*kept, *ending.ids] if ending else []


def _joined(
    seed: Performance, prompt: Prompt, new: list[int], tokenizer, limit: float, most: int | None = None
) -> tuple[Performance, Performance]:
    """The new music, and seed and new music on one time line.

    Prompt and new ids are decoded together; what the prompt alone decodes to is not new, also where the new ids prolong it.
    The seed's own pedal holds until the first new note; from there on the pedal is the continuation's. Where the code says
    beats, the result has them: those that the prompt was given, and the new ones from the seed's last note on.
    """
    whole = tokenizer.decode([*prompt.ids.tolist(), *new])
    old, strikes = set(_strikes(tokenizer.decode(prompt.ids))), _strikes(whole)
    whole = shift(whole, prompt.start)
    notes = whole.notes[[strike not in old for strike in strikes]]
    notes["onset"] = np.maximum(notes["onset"], prompt.join)
    notes = np.sort(notes[notes["onset"] < limit], order=("onset", "pitch"))[:most]  # an id may complete several notes
    if not len(notes):
        return Performance(), seed
    takes_over = float(notes["onset"].min())
    pedals = between(whole, takes_over, min(limit, float((notes["onset"] + notes["duration"]).max()))).pedals
    beats = None if whole.beats is None else whole.beats[whole.beats >= prompt.join]
    music = Performance(notes, pedals, beats, seed.tempo_map)
    before = between(seed, -math.inf, takes_over).pedals if len(seed) else np.empty(0, PEDAL)
    old_beats = None if whole.beats is None else prompt.performance.beats
    both = join(Performance(seed.notes, before, old_beats, seed.tempo_map), music)
    return music, dataclasses.replace(both, notes=both.notes.astype(NOTE), pedals=_merged_pedals(both.pedals))


def _merged_pedals(pedals: np.ndarray) -> np.ndarray:
    """Stretches that touch or overlap made one: the pedal is not lifted where seed and continuation meet."""
    kept: list[list[float]] = []
    for onset, duration in pedals.tolist():
        if kept and onset <= kept[-1][1] + 1e-6:
            kept[-1][1] = max(kept[-1][1], onset + duration)
        else:
            kept.append([onset, onset + duration])
    return np.array([(onset, end - onset) for onset, end in kept], PEDAL)


def generate_continuation(
    model,
    tokenizer,
    seed_midi_path: str | Path,
    output_path: str | Path | None,
    config: DataConfig,
    generation_config: GenerationConfig,
    progress: Callable[[int], None] | None = None,
    listen: Callable[[list[Note]], bool] | None = None,
) -> Continuation:
    """Continue a MIDI file and write seed + continuation (`only_new`: the continuation alone, at the same times).

    `output_path` is checked before the work begins and written atomically; None writes nothing. Raises MidiError for the
    seed, OutputError for the place, CheckpointError where tokenizer and model do not belong together.
    """
    if output_path is not None and Path(output_path).resolve() == Path(seed_midi_path).resolve():
        raise OutputError(f"{output_path}: is the seed itself; give another name to write to")
    with atomic_path(output_path) if output_path is not None else contextlib.nullcontext() as place:
        seed = read_midi(seed_midi_path, repair=True)
        made = continuation(model, tokenizer, seed, config, generation_config, progress, listen)
        if place is not None:
            _write(made, place, generation_config.only_new)
    return made


def _write(made: Continuation, place: Path, only_new: bool) -> None:
    """The seed and, on a track of its own, the new music, or that alone: at its own times and on the seed's clock."""
    if not len(made.new):  # no place is named: the command line writes to a temporary file
        if only_new:
            raise OutputError("the continuation holds no note yet; ask for more tokens or seconds")
        write_midi(made.joined, place)
    elif only_new or not len(made.seed):
        write_midi(made.new, place)
    else:
        begins = made.joined.pedals["onset"] < float(made.new.notes["onset"].min())
        seed = dataclasses.replace(made.joined, notes=made.seed.notes, pedals=made.joined.pedals[begins])
        write_midi(seed, place, made.new)


def _strikes(performance: Performance) -> list[tuple[int, int]]:
    """What tells notes apart whatever their length: onset in 0.1 ms, and pitch."""
    return [(round(10_000 * onset), pitch) for onset, pitch in performance.notes[["onset", "pitch"]].tolist()]


class _Listener:
    """A reader that stands where the prompt ends. A code may know a note only when it has ended: those of the prompt are not given."""

    def __init__(self, tokenizer: Tokenizer, prompt: Prompt):
        self._reader: NoteReader = tokenizer.reader()
        self._old = set(_strikes(tokenizer.decode(prompt.ids)))
        for id in prompt.ids:
            self._reader.feed(int(id))

    @property
    def clock(self) -> float:
        """Second before which no later note begins, on the ids' clock."""
        return self._reader.clock

    def feed(self, id: int) -> list[Note]:
        """The new notes that this id completes."""
        return [note for note in self._reader.feed(id) if (round(10_000 * note.onset), note.pitch) not in self._old]


def _check_fit(model, tokenizer) -> None:
    if model.config.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"the model has {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}: "
            "use the tokenizer.json that was saved with the weights"
        )


@contextlib.contextmanager
def _evaluating(model, precision: str):
    """What decodes fastest with this model's weights, without dropout; the model's mode is put back afterwards."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    try:
        yield decoder(model, precision) if isinstance(model, LanguageModel) else model
    finally:
        if training:
            model.train()


@dataclass(frozen=True)
class Piano:
    """A trained model with its tokenizer, ready to play: `ittybitty.load()`."""

    model: LanguageModel
    tokenizer: Tokenizer
    data: DataConfig
    name: str
    path: Path | None = None
    sampling: GenerationConfig = GenerationConfig()  # how its system is sampled unless told otherwise

    @classmethod
    def load(cls, name: str | Path = "tiny", device: str = "cpu") -> Piano:
        """A model that ships with the package, or a run folder, on a device ("auto", "cpu", "cuda:1" …).

        One piece at a time is decoded fastest on the CPU, where native code does it. CheckpointError says what is
        wrong with the model, ConfigError what with the device.
        """
        found = checkpoint.load(name, device)
        return cls(
            found.model, found.tokenizer, found.configs["data"], str(name), found.path, systems.sampling(found.system)
        )

    def continue_(
        self,
        seed_file: str | Path | Performance,
        /,
        seconds: float | None = None,
        tokens: int | None = None,
        out: str | Path | None = None,
        progress: Callable[[int], None] | None = None,
        listen: Callable[[list[Note]], bool] | None = None,
        **options,
    ) -> Continuation:
        """Continue a MIDI file or a performance by `seconds` of music or `tokens` (512), and write it to `out` if given.

        `options` are fields of GenerationConfig (temperature, top_k, top_p, notes, seed, only_new, …) and `prompt_seconds`,
        `prompt_tokens`. ConfigError for one that makes no sense. `progress` and `listen` are those of `continuation`.
        """
        config, wanted = self._configs(seconds, tokens, options)
        if not isinstance(seed_file, Performance):
            return generate_continuation(self.model, self.tokenizer, seed_file, out, config, wanted, progress, listen)
        with atomic_path(out) if out is not None else contextlib.nullcontext() as place:
            made = continuation(self.model, self.tokenizer, seed_file, config, wanted, progress, listen)
            if place is not None:
                _write(made, place, wanted.only_new)
        return made

    def stream(
        self,
        seed_file: str | Path | Performance = Performance(),
        /,
        seconds: float | None = None,
        tokens: int | None = None,
        **options,
    ) -> Iterator[Note]:
        """The notes of a continuation as they are made; without a seed, of a piece from nothing."""
        config, wanted = self._configs(seconds, tokens, options)
        seed = seed_file if isinstance(seed_file, Performance) else read_midi(seed_file, repair=True)
        return stream(self.model, self.tokenizer, seed, config, wanted)

    def _configs(self, seconds: float | None, tokens: int | None, options: dict) -> tuple[DataConfig, GenerationConfig]:
        listening = {k: options.pop(k) for k in ("prompt_seconds", "prompt_tokens") if k in options}
        for name, value in listening.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value}: give a number above 0")
        if unknown := options.keys() - {f.name for f in dataclasses.fields(GenerationConfig)}:
            raise ConfigError(f"no option is called {min(unknown)!r}: see ittybitty.GenerationConfig")
        if tokens is None:
            notes = options.get("notes") or 0
            music = TOKENS_PER_SECOND * (seconds if seconds and seconds > 0 else 0), MOST_TOKENS_PER_NOTE * notes
            tokens = 512 + math.ceil(min(max(music), 1e9))
        options.setdefault("max_new_tokens", tokens)
        return dataclasses.replace(self.data, **listening), dataclasses.replace(
            self.sampling, seconds=seconds, **options
        )
