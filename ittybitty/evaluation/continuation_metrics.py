"""Music metrics of a model's continuations, compared with what pianists played.

    results = listen(make_trials("tiny", data, "validation", pieces=40))

There are three sets of excerpts of equal length: the model's continuations of seeds, the pianists' continuations of the same
seeds ("truth"), and excerpts of other held-out pieces ("other humans"). Each distance between model and truth is reported
beside the distance between other humans and truth: a model cannot be expected to be nearer than people are. All human
excerpts are encoded and decoded by the model's tokenizer first, so that errors of the encoding (round_trip_error), such as
its grid of 21 ms, are not counted as errors of the model. The results are

- metrics of each set, means with 95% bootstrap intervals over excerpts: muspy's that need no metre, density, polyphony,
  repetition, self-similarity (metrics.py);
- histograms of each set's notes: overlapped area and Kullback-Leibler divergence to the truth's;
- MGEval's distances between sets (mgeval.py);
- the probability that the model gives to ids which the grammar forbids, along its own continuations: in its whole
  distribution, and after temperature, top-k and top-p. The latter is the expected share of invalid draws if the grammar
  were not applied. It is computed from probabilities; the continuations themselves were drawn with the grammar.

Left out: whether the music is good. No number here can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from .. import metrics, sampling
from ..config import GenerationConfig
from ..errors import ResultError
from ..models.lm import LanguageModel
from ..notes import Performance
from ..tokenizers.protocol import Tokenizer
from . import mgeval
from .trials import Trial, Trials

HISTOGRAMS = {
    "pitch_classes": metrics.pitch_class_histogram,
    "intervals": metrics.interval_histogram,
    "iois": metrics.ioi_histogram,
    "durations": metrics.duration_histogram,
    "velocities": metrics.velocity_histogram,
}
SETS = ("generated", "truth", "other_humans")


def listen(trials: Trials) -> dict:
    """All results for the trials. ResultError if fewer than three excerpts of a set have enough notes for every metric."""
    round_trips = [
        [after_round_trip(trials.tokenizer, piece) for piece in people] for people in (trials.truth, trials.others)
    ]
    sets = dict(zip(SETS, (trials.generated, *round_trips)))
    for name, pieces in sets.items():
        sets[name] = [piece for piece in pieces if len(piece) >= mgeval.SHORTEST]
        if len(sets[name]) < 3:
            raise ResultError(
                f"{name.replace('_', ' ')}: only {len(sets[name])} excerpts have {mgeval.SHORTEST} notes; ask for more --pieces or --seconds"
            )
    return {
        "measures": "music metrics of continuations",
        **trials.header,
        "people": "encoded and decoded by the model's tokenizer",
        "excerpts": {name: len(pieces) for name, pieces in sets.items()},
        "metrics": {name: set_metrics(pieces) for name, pieces in sets.items()},
        "histograms": {
            feature: {name: _against(sets[name], sets["truth"], histogram) for name in SETS if name != "truth"}
            for feature, histogram in HISTOGRAMS.items()
        },
        "mgeval": {name: mgeval.compare(sets[name], sets["truth"]) for name in SETS if name != "truth"},
        "invalid": invalid_tokens(trials.model, trials.tokenizer, trials.trials, trials.generation),
        "per_trial": [_row(trial, played) for trial, played in zip(trials.trials, round_trips[0])],
    }


def after_round_trip(tokenizer: Tokenizer, performance: Performance) -> Performance:
    """The performance as the tokenizer encodes and decodes it."""
    return tokenizer.decode(tokenizer.encode(tokenizer.prepare(performance)))


def piece_metrics(performance: Performance) -> dict[str, float]:
    """All metrics of one excerpt that are a single number."""
    return {
        **metrics.musical_metrics(performance),
        "polyphony": metrics.polyphony(performance),  # exact in time, where muspy's counts steps
        "note_density": metrics.note_density(performance),
        "repetition": metrics.repetition(performance),
        "self_similarity": metrics.self_similarity(performance),
    }


def set_metrics(pieces: Sequence[Performance]) -> dict[str, dict]:
    """{metric: {"mean", "ci95", "pieces"}} over the excerpts that have the metric."""
    rows = [piece_metrics(piece) for piece in pieces]
    result = {}
    for name in rows[0]:
        values = [row[name] for row in rows if np.isfinite(row[name])]
        mean = (
            {"mean": float(np.mean(values)), "ci95": list(metrics.bootstrap_interval(values))}
            if values
            else {"mean": None, "ci95": None}
        )
        result[name] = mean | {"pieces": len(values)}
    return result


def _against(pieces: Sequence[Performance], truth: Sequence[Performance], histogram) -> dict[str, float]:
    """Overlapped area and divergence of the mean histograms of two sets."""
    mine, theirs = (np.mean([histogram(piece) for piece in part], 0) for part in (pieces, truth))
    return {"overlap": metrics.overlapped_area(mine, theirs), "kl": metrics.kl_divergence(theirs, mine)}


@torch.no_grad()
def invalid_tokens(
    model: LanguageModel, tokenizer: Tokenizer, trials: Iterable[Trial], config: GenerationConfig
) -> dict[str, float]:
    """Probability of ids that the grammar forbids, mean over all tokens drawn: {"probability", "draws", "tokens"}.

    "probability" of the model's distribution as it is; "draws" after temperature, top-k and top-p of `config`.
    """
    grammar, raw, drawn = tokenizer.grammar(), [], []
    for trial in trials:
        ids = np.concatenate([trial.prompt_ids, trial.ids]).astype(np.int64)
        place = next(model.parameters()).device
        first = len(trial.prompt_ids) - 1
        logits = (
            model(torch.tensor(ids[None, :-1], device=place))[0, first:].float().cpu()
        )  # (T, V), one row a token drawn
        state, masks = grammar.start(trial.prompt_ids.tolist()), []
        for id in trial.ids.tolist():
            masks.append(grammar.mask(state))
            state = grammar.advance(state, id)
        allowed = torch.tensor(np.array(masks))
        raw.append((logits.softmax(-1) * ~allowed).sum(-1))
        left = sampling.filter_logits(logits / config.temperature, config.top_k, config.top_p)
        drawn.append((left.softmax(-1) * ~allowed).sum(-1))
    return {
        "probability": float(torch.cat(raw).mean()),
        "draws": float(torch.cat(drawn).mean()),
        "tokens": sum(map(len, raw)),
    }


def _row(trial: Trial, played: Performance) -> dict:
    """Details of one trial; `played` is the truth after encoding and decoding."""
    return {
        "name": trial.name,
        "tokens": len(trial.ids),
        "draw_seconds": trial.draw_seconds,
        "notes": {"generated": len(trial.generated), "truth": len(played)},
        "generated": piece_metrics(trial.generated),
        "truth": piece_metrics(played),
    }
