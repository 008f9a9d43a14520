"""Continues a MIDI file: gives the whole continuation, or its notes one by one as they are generated.

The model is given the end of the seed (prompts.py); new tokens are drawn within the grammar of the tokenizer (drawing.py) and
decoded on the same clock, so the new music follows without a gap or a jump in tempo. The seed itself goes into the result
as it was read, not as it is after encoding and decoding.

The model's memory has a fixed size (models/), so a continuation may be many times longer than the training window.

Left out: how a piece closes (endings.py), a model with its tokenizer as one object (piano.py), and several takes at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import drawing, endings, seeds
from .config import DataConfig, GenerationConfig
from .drawing import generate_tokens
from .errors import CheckpointError, OutputError
from .midi import read_midi, write_midi
from .models.decode import Decoder, decoder
from .models.states import Player
from .notes import NOTE, PEDAL, Note, Performance, between, join, shift
from .paths import atomic_path
from .prompts import Prompt, make_prompt
from .tokenizers.protocol import NoteReader, Tokenizer

__all__ = [
    "Continuation",
    "Prompt",
    "continuation",
    "generate_continuation",
    "generate_tokens",
    "make_prompt",
    "stream",
]

TOKENS_PER_SECOND = 400  # of music: more than any performance has; bounds a request in seconds
Progress = Callable[[int], None]  # called with the number of tokens drawn so far
# called with the notes that each token completes; generation ends if it returns True
Listen = Callable[[list[Note]], bool]


@dataclass(frozen=True)
class Continuation:
    """A seed and its continuation; all times are those of the seed file."""

    seed: Performance  # as read, up to where the new music begins
    prompt: Performance  # its end that the model was given
    new: Performance  # begins at or after the seed's last onset
    joined: Performance  # seed and new music; where the same key or the pedal meets, the new one takes over
    tokens: int  # drawn
    seconds: float  # s that reading the prompt and drawing the tokens took
    seed_number: int  # the same number gives the same music again
    ids: tuple[int, ...] = ()  # what was drawn

    @property
    def tokens_per_second(self) -> float:
        """Speed of generation."""
        return self.tokens / max(self.seconds, 1e-9)


def stream(
    model: Player, tokenizer: Tokenizer, prompt: Performance, config: DataConfig, generation_config: GenerationConfig
) -> Iterator[Note]:
    """Each new note as soon as its duration is known, at times that follow those of `prompt` (which may be empty)."""
    _check_fit(model, tokenizer)
    prompt = seeds.chosen(prompt, generation_config.start, generation_config.before_ending)
    given = make_prompt(prompt, tokenizer, config)
    with _evaluating(model, generation_config.precision) as player:
        for _, notes in _played(player, tokenizer, given, generation_config):
            yield from notes


def continuation(
    model: Player,
    tokenizer: Tokenizer,
    seed: Performance,
    config: DataConfig,
    generation_config: GenerationConfig,
    progress: Progress | None = None,
    listen: Listen | None = None,
) -> Continuation:
    """The continuation of a seed that is already read; `progress` is called with the number of tokens drawn so far.

    `listen` is called after each token with the notes that it completed, as `stream` gives them (often none); if it
    returns True, generation ends, and what was drawn is kept. It is not called for the notes of an ending.
    """
    _check_fit(model, tokenizer)
    number = secrets.randbits(32) if generation_config.seed is None else generation_config.seed
    settled = dataclasses.replace(generation_config, seed=number)
    seed = seeds.chosen(seed, settled.start, settled.before_ending)
    prompt = make_prompt(seed, tokenizer, config)
    limit = _limit(prompt, settled)
    closes = settled.ending and limit < math.inf and settled.notes is None
    began, new, stopped = time.perf_counter(), [], False
    with _evaluating(model, settled.precision) as player:
        for id, notes in _played(player, tokenizer, prompt, settled, endings.BEFORE if closes else 0.0):
            if id is None:  # what still sounds is in the ids already
                break
            new.append(id)
            if progress:
                progress(len(new))
            if listen and listen(notes):
                stopped = True
                break
        if closes and not stopped and (closed := _closed(player, tokenizer, prompt, new, limit, settled)):
            new, limit = closed, math.inf
    elapsed = time.perf_counter() - began
    music, joined = _joined(seed, prompt, new, tokenizer, limit, settled.notes, closes and limit == math.inf)
    return Continuation(seed, prompt.performance, music, joined, len(new), elapsed, number, tuple(new))


def _played(
    player: Player, tokenizer: Tokenizer, prompt: Prompt, config: GenerationConfig, before: float = 0.0
) -> Iterator[tuple[int | None, list[Note]]]:
    """Each id as it is drawn, with the notes that it completes; with None at the end, those that still sound.

    It ends where the music is as long as `config` asks for, or `before` that many seconds earlier.
    """
    reader, limit = _Listener(tokenizer, prompt), _limit(prompt, config)
    left = sys.maxsize if config.notes is None else config.notes

    def heard(id: int) -> list[Note]:
        placed = (note._replace(onset=note.onset + prompt.start) for note in reader.feed(id))
        return [n._replace(onset=max(n.onset, prompt.join)) for n in placed if n.onset < limit][:left]

    for id in generate_tokens(player, tokenizer, prompt.ids, config):
        notes = heard(id)
        yield id, notes
        left -= len(notes)
        if left <= 0 or reader.clock + prompt.start >= limit - before:
            break
    yield None, heard(tokenizer.eos_id)


def _limit(prompt: Prompt, config: GenerationConfig) -> float:
    """Second of the seed's clock at which new music ends."""
    return math.inf if config.seconds is None else prompt.join + config.seconds


def _closed(
    player: Player, tokenizer: Tokenizer, prompt: Prompt, new: list[int], limit: float, config: GenerationConfig
) -> list[int]:
    """`new` with an ending near `limit`; an empty list if no ending was found, and the piece has to be cut."""
    kept = endings.whole(tokenizer, prompt.ids.tolist(), new)
    if not kept:
        return []
    past = [*prompt.ids.tolist(), *kept]
    reader = tokenizer.reader()
    for id in past:
        reader.feed(id)
    begun = drawing.begin(player, tokenizer, past[-endings.CONTEXT :])

    def draw(take: int) -> Iterator[tuple[int, float]]:
        number = (config.seed or 0) + 1 + take
        return drawing.drawn(begun.copy(), dataclasses.replace(config, seed=number), ends=True)

    span = (limit - prompt.start - endings.BEFORE, limit - prompt.start + endings.AFTER)
    ending = endings.close(tokenizer, past[-endings.CONTEXT :], reader, span, draw)
    return [*kept, *ending.ids] if ending else []


def _joined(
    seed: Performance,
    prompt: Prompt,
    new: list[int],
    tokenizer: Tokenizer,
    limit: float,
    most: int | None = None,
    rings: bool = False,
) -> tuple[Performance, Performance]:
    """The new music, and seed and new music on one time line; a piece that closes `rings`.

    Prompt and new ids are decoded together; what the prompt alone decodes to is not new, also where the new ids prolong it.
    The seed's own pedal holds until the first new note; from there on the pedal is the continuation's. If the encoding has
    beats, the result has those of the prompt, and new ones from the seed's last note on.
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
    end = float((notes["onset"] + notes["duration"]).max())
    pedals = between(whole, takes_over, min(limit, end)).pedals
    if rings:
        pedals = endings.ring(pedals, float(notes["onset"].max()), end)
    beats = None if whole.beats is None else whole.beats[whole.beats >= prompt.join]
    music = Performance(notes, pedals, beats, seed.tempo_map)
    before = between(seed, -math.inf, takes_over).pedals if len(seed) else np.empty(0, PEDAL)
    old_beats = None if whole.beats is None else prompt.performance.beats
    both = join(Performance(seed.notes, before, old_beats, seed.tempo_map), music)
    return music, dataclasses.replace(both, notes=both.notes.astype(NOTE), pedals=_merged_pedals(both.pedals))


def _merged_pedals(pedals: np.ndarray) -> np.ndarray:
    """Merge pedal intervals that touch or overlap, so that the pedal is not lifted between seed and continuation."""
    kept: list[list[float]] = []
    for onset, duration in pedals.tolist():
        if kept and onset <= kept[-1][1] + 1e-6:
            kept[-1][1] = max(kept[-1][1], onset + duration)
        else:
            kept.append([onset, onset + duration])
    return np.array([(onset, end - onset) for onset, end in kept], PEDAL)


def generate_continuation(
    model: Player,
    tokenizer: Tokenizer,
    seed_midi_path: str | Path,
    output_path: str | Path | None,
    config: DataConfig,
    generation_config: GenerationConfig,
    progress: Progress | None = None,
    listen: Listen | None = None,
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
            write_continuation(made, place, generation_config.only_new)
    return made


def write_continuation(made: Continuation, place: Path, only_new: bool) -> None:
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
    """What identifies a note, whatever its length: onset in 0.1 ms, and pitch."""
    return [(round(10_000 * onset), pitch) for onset, pitch in performance.notes[["onset", "pitch"]].tolist()]


class _Listener:
    """Reads the ids after a prompt. Some encodings complete a note only when it ends; notes that the prompt began are not returned."""

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


def _check_fit(model: Player, tokenizer: Tokenizer) -> None:
    if model.config.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"the model has {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}: "
            "use the tokenizer.json that was saved with the weights"
        )


@contextlib.contextmanager
def _evaluating(model: Player, precision: str) -> Iterator[Player]:
    """Context: the fastest decoder of this model's weights, in evaluation mode; the model's own mode is restored afterwards."""
    if isinstance(model, Decoder):  # made for one precision already, and PyTorch is not imported for it
        yield model
        return
    from .models.lm import LanguageModel

    if not isinstance(model, LanguageModel):
        yield model
        return
    training = model.training
    model.eval()
    try:
        yield decoder(model, precision)
    finally:
        model.train(training)
