"""Seeds cut from held-out pieces, with the model's continuation and the pianist's: input of continuation_metrics.py and
memorisation.py.

    trials = make_trials("tiny", data, "validation", pieces=40, seconds=30)

In each piece a note is drawn (seeded) that has the prompt's length, LONGEST_SEED at most, before it and `seconds` of music after
it. The model is given what comes before the note and continues for `seconds`; the truth is what the pianist played. The same number of other
pieces of the split is cut in the same way ("other humans"): the distance between people is what the distance between model
and truth is compared with. All excerpts begin at second 0.

Left out: the numbers; they are computed in continuation_metrics.py and memorisation.py.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import checkpoint, systems
from ..config import DataConfig, GenerationConfig
from ..corpora import Corpus, Piece
from ..errors import UNREADABLE, ConfigError, CorpusError, IttyBittyError, MidiError
from ..generation import TOKENS_PER_SECOND, continuation, make_prompt
from ..models.lm import LanguageModel
from ..models.states import Player
from ..notes import Performance, between, shift
from ..tokenizers.protocol import Tokenizer
from .bits import chosen_pieces, evenly_spaced, read_piece, shown
from .results import data_hash, header

LONGEST_SEED = 40.0  # s; a model that reads the whole of a seed has no length of its own, and most pieces last minutes


@dataclass(frozen=True)
class Trial:
    """One seed, continued by the model and by the pianist."""

    name: str  # of the piece
    seed: Performance  # all before the cut, at its own times
    truth: Performance  # the pianist's next seconds
    generated: Performance  # the model's
    prompt_ids: np.ndarray  # (L,) what the model was given
    ids: np.ndarray  # (T,) what it drew
    draw_seconds: float  # s that drawing took


@dataclass(frozen=True)
class Trials:
    """Trials of one model, excerpts of other pieces of the split, and the settings that are recorded with results."""

    trials: tuple[Trial, ...]
    others: tuple[Performance, ...]
    model: LanguageModel
    tokenizer: Tokenizer
    generation: GenerationConfig
    prefer: str = ""  # the corpus that the system asks for where a data folder holds several
    header: dict = field(repr=False, default_factory=dict)  # for the record: model, split, seconds, seeds
    skipped: tuple[dict, ...] = ()

    @property
    def generated(self) -> list[Performance]:
        """The model's continuations."""
        return [trial.generated for trial in self.trials]

    @property
    def truth(self) -> list[Performance]:
        """The pianists' continuations of the same seeds."""
        return [trial.truth for trial in self.trials]


def make_trials(
    name: str | Path,
    data: str | Path | Corpus | None,
    split: str = "validation",
    pieces: int = 40,
    seconds: float = 30.0,
    seed: int = 0,
    progress: bool = True,
    device: str = "cpu",
    **sampling,
) -> Trials:
    """Make trials for a shipped model or run folder. The same `seed` gives the same cuts and the same music.

    `pieces` pieces of the split give seeds, and as many others give the excerpts of other humans; if the split has fewer
    than twice `pieces`, half of it each. `sampling` are fields of GenerationConfig (default: those of the system). Pieces
    that are too short or unreadable, or for which the model generates no note, are listed in `skipped`; CorpusError if
    nothing is left.
    """
    if pieces < 1 or not 0 < seconds < math.inf:
        raise ConfigError(f"pieces is {pieces} and seconds is {seconds}: give 1 or more pieces and more than 0 seconds")
    found = checkpoint.load(name, device)
    corpus, all_of_split = chosen_pieces(data, split, None, found.configs["data"].corpus)
    count = max(1, min(pieces, len(all_of_split) // 2))
    chosen = evenly_spaced(all_of_split, 2 * count)
    length = {"seconds": seconds, "max_new_tokens": math.ceil(seconds * TOKENS_PER_SECOND)}
    config = systems.sampling(found.system, **{**length, **sampling})
    before = min(found.configs["data"].prompt_seconds, LONGEST_SEED)
    others, skipped = other_humans(chosen[1::2], before, seconds, seed)
    trials, failed = [], []
    for i, piece in enumerate(shown(chosen[::2], progress, "continuing")):
        try:
            past, truth = cut(piece, before, seconds, np.random.default_rng([seed, i]))
            one = dataclasses.replace(config, seed=1000 * seed + i)
            trials.append(
                continue_seed(found.model, found.tokenizer, found.configs["data"], piece.name, past, truth, one)
            )
        except UNREADABLE as error:
            failed.append({"name": piece.name, "reason": str(error)})
    if not trials:
        raise CorpusError(
            f"{corpus.name}: no piece of {split} gives a trial ({failed[0]['reason']}); give longer pieces or fewer seconds"
        )
    head = {
        **header(found, corpus, split),
        "data_hash": data_hash([{"name": trial.name, "notes": len(trial.truth)} for trial in trials]),
        "trials": len(trials),
        "others": len(others),
        "seconds": seconds,
        "seed": seed,
        "sampling": {key: getattr(config, key) for key in ("temperature", "top_k", "top_p", "repetition_penalty")},
        "skipped": failed + skipped,
    }
    prefer = found.configs["data"].corpus
    return Trials(
        tuple(trials), tuple(others), found.model, found.tokenizer, config, prefer, head, tuple(failed + skipped)
    )


def cut(piece: Piece, before: float, seconds: float, rng: np.random.Generator) -> tuple[Performance, Performance]:
    """Cut a piece at a note drawn by `rng`: the music up to it, and the `seconds` after it, which begin at second 0.

    MidiError if no note has enough music before and after it.
    """
    performance = read_piece(piece)
    onsets = np.unique(performance.notes["onset"])
    places = onsets[(onsets >= onsets[0] + before) & (onsets <= onsets[-1] - seconds)]
    if not len(places):
        raise MidiError(
            f"{piece.name}: lasts {onsets[-1] - onsets[0]:.0f} s, shorter than a prompt of {before:g} s and {seconds:g} s to continue"
        )
    join = float(rng.choice(places))
    after = between(performance, math.nextafter(join, math.inf), join + seconds)
    if not len(after):
        raise MidiError(f"{piece.name}: is silent for {seconds:g} s after second {join:.0f}; ask for more seconds")
    return between(performance, -math.inf, math.nextafter(join, math.inf)), shift(after, -join)


def continue_seed(
    model: Player,
    tokenizer: Tokenizer,
    data_config: DataConfig,
    name: str,
    seed: Performance,
    truth: Performance,
    config: GenerationConfig,
) -> Trial:
    """A model's continuation of one seed; MidiError where it holds no note."""
    made = continuation(model, tokenizer, seed, data_config, config)
    if not len(made.new):
        raise MidiError(
            f"{name}: the generated piece holds no notes ({made.tokens} tokens were drawn); train the model longer"
        )
    prompt = make_prompt(seed, tokenizer, data_config)
    return Trial(
        name, seed, truth, shift(made.new, -prompt.join), prompt.ids, np.array(made.ids, np.int64), made.seconds
    )


def other_humans(
    pieces: Sequence[Piece], before: float, seconds: float, seed: int
) -> tuple[list[Performance], list[dict]]:
    """One excerpt of each piece that is long enough, and the names and reasons of the others."""
    excerpts, skipped = [], []
    for i, piece in enumerate(pieces):
        try:
            excerpts.append(cut(piece, before, seconds, np.random.default_rng([seed, i, 1]))[1])
        except IttyBittyError as error:
            skipped.append({"name": piece.name, "reason": str(error)})
    return excerpts, skipped
