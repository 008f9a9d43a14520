"""The data that the page's script reads beside the weights: shape of the model, tables of the encoding, defaults, licences.

It is JSON and is taken from the model of the page; the script itself contains nothing about a particular model.
"""

from __future__ import annotations

from .. import checkpoint
from ..errors import CheckpointError
from ..models.events import EventModel
from ..models.hybrid import Stack
from ..notes import LOWEST_PITCH
from ..piano import Piano
from ..tokenizers.events import EventTokenizer, hold

LETTERS = "MFA"  # the blocks that js/model.js knows
SHAPE = (
    "pattern", "vocab_size", "d_model", "d_state", "d_conv", "expand", "d_ff", "n_heads",
    "attn_window", "attn_stride", "attn_reach", "attn_bias", "events",
)  # fmt: skip  # names in groups, as config.py has them
PROMPT_TOKENS = 8192  # at most so many ids of a seed are read (2,048 events); this takes some seconds, while the user listens to the seed


def playable(piano: Piano) -> tuple[EventModel, EventTokenizer]:
    """Model and tokenizer; CheckpointError, in one line, for those that the page's script cannot play."""
    model, tokenizer = piano.model, piano.tokenizer
    if not isinstance(model, EventModel) or not isinstance(tokenizer, EventTokenizer):
        raise CheckpointError(
            f"{piano.name}: is not a model of events (one step a note), and the page plays no other; "
            "take one that was trained as notes-hybrid or notes-mamba"
        )
    letters = getattr(model.backbone, "letters", "") if isinstance(model.backbone, Stack) else ""
    other = sorted(set(letters) - set(LETTERS)) or ([] if letters else [model.config.family])
    if other:
        raise CheckpointError(
            f"{piano.name}: has blocks of {', '.join(other)}, and the page plays stacks of {', '.join(LETTERS)} only; "
            "take a model of these"
        )
    return model, tokenizer


def document(piano: Piano, index: dict) -> dict:
    """Everything but seeds and weights; `index` is the index of the latter."""
    model, tokenizer = playable(piano)
    config, sampling = model.config, piano.sampling
    return {
        "name": model_name(piano),
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_on": _trained_on(piano),
        "model": {name: getattr(config, name) for name in SHAPE},
        "weights": index,
        "tokenizer": tokenizer_tables(tokenizer),
        "prompt": {
            "promptSeconds": piano.data.prompt_seconds,
            "promptTokens": min(piano.data.prompt_tokens, PROMPT_TOKENS),
        },
        "sampling": {
            "temperature": sampling.temperature,
            "topK": sampling.top_k,
            "topP": sampling.top_p,
            "timeTemperature": sampling.time_temperature,
            "timeTopP": sampling.time_top_p,
            "expressionTemperature": sampling.expression_temperature,
            "expressionTopP": sampling.expression_top_p,
            "hold": sampling.hold,
        },
    }


def model_name(piano: Piano) -> str:
    """The name that readers see: of a run folder its last part, so that no path of the machine enters the page."""
    return piano.name if piano.path is None else piano.path.resolve().name


def tokenizer_tables(tokenizer: EventTokenizer) -> dict:
    """The encoding as tables: class -> ticks or MIDI velocity, and the first id of each part."""
    grid = tokenizer.grid
    return {
        "ticks_per_second": grid.ticks_per_second,
        "exact": grid.exact,
        "pedal": grid.pedal,
        "pedal_step": grid.pedal_step,
        "times": grid.times.tolist(),
        "lengths": grid.lengths.tolist(),
        "loudness": grid.loudness.tolist(),
        "first_ids": list(tokenizer.first_ids),
        **{
            name: getattr(tokenizer.grammar(), name) for name in ("longest", "span", "max_share")
        },  # limits of the grammar
        "hold": {
            "habits": [list(habit) for habit in hold.PIANISTS],
            "horizon": hold.HORIZON,
            "fewest": hold.FEWEST,
            "shortest": hold.SHORTEST,
            "strength": hold.STRENGTH,
            "lowest_pitch": LOWEST_PITCH,
        },
        "sizes": list(tokenizer.sizes),
        "vocab_size": tokenizer.vocab_size,
    }


def _trained_on(piano: Piano) -> list[dict]:
    """{"corpus", "licence"} of each corpus, where the run folder says so."""
    if piano.path is None:
        return []
    return [dict(corpus) for corpus in checkpoint.read_config(piano.path).get("trained_on") or []]
