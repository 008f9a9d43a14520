"""`ittybitty evaluate`: measure a model, a run or a baseline on held-out pieces, in one of five ways."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from .parser import Result, Verbs, add_data, add_device, add_verb, outputs, table, terminal, whole

# which options belong to which measurement; the others refuse them
_OF_TRIALS = ("pieces", "seconds", "seed", "device")
BASELINES = ("ngram", "xz")
_OPTIONS = {
    "by_position": ("limit", "length", "device"),
    "music": _OF_TRIALS,
    "memorisation": _OF_TRIALS,
    "bits": ("limit", "tokenizer", "order", "device"),
    "as": ("limit", "device"),
}


def add_verbs(verbs: Verbs) -> None:
    """Adds this module's verb."""
    parser = add_verb(
        verbs,
        "evaluate",
        evaluate,
        "measure bits per note on held-out pieces, with a 95%% interval, and what the encoding keeps; or make another measurement",
        "ittybitty evaluate tiny --data ~/music --split validation --limit 8",
        "ittybitty evaluate ngram --data ~/music",
        "ittybitty evaluate tiny --data ~/music --by-position",
        "ittybitty evaluate runs/performance --data ~/music --as performance",
        "ittybitty evaluate tiny --data ~/music --music --pieces 40 --record music.json",
    )
    parser.add_argument(
        "model",
        metavar="NAME|RUN_DIR",
        help="a model that ships with the package, a run folder, or a baseline: ngram, xz",
    )
    add_data(parser)
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="validation",
        help="pieces to evaluate on (%(default)s)",
    )
    _add_measurements(parser)
    _add_options(parser)
    add_device(parser, "for bits per note a GPU if there is one; for music the CPU, which is faster there")
    parser.add_argument(
        "--record", metavar="FILE.json", help="also write the figures there, with date, commit, device and versions"
    )


def _add_measurements(parser: argparse.ArgumentParser) -> None:
    """Options that choose a measurement; bits per note without any of them."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--by-position",
        action="store_true",
        help="bits per note by position in the piece: once with the whole piece so far as context, once with windows",
    )
    kind.add_argument(
        "--music", action="store_true", help="continue seeds and compare the music with what the pianists played"
    )
    kind.add_argument(
        "--memorisation", action="store_true", help="continue seeds and look for the music in the training pieces"
    )
    kind.add_argument(
        "--as",
        dest="as_",
        choices=("performance",),
        help="likelihood at the information of Magenta's performance encoding, which published models of MAESTRO use: "
        "for a run that was trained on the encoding notes-performance",
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Options of single measurements; `_given` refuses those of another one."""
    parser.add_argument("--limit", type=int, metavar="N", help="only N pieces, evenly spaced over the split")
    parser.add_argument("--length", type=int, metavar="N", help="with --by-position: tokens of each piece (8192)")
    parser.add_argument(
        "--pieces", type=int, metavar="N", help="with --music, --memorisation: pieces that give a seed (40)"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="with --music, --memorisation: seconds that are continued (30)"
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        metavar="N",
        help="with --music, --memorisation: random seed of cuts and music (0)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="NAME|RUN_DIR",
        help="for a baseline: the model or run whose tokens and grid it uses (tiny-remi)",
    )
    parser.add_argument(
        "--order",
        type=whole(1),
        metavar="N",
        help="for ngram: the order of the model (default: the best order on held-back training pieces)",
    )


def evaluate(options: argparse.Namespace) -> Result:
    """Run one of the five measurements; with --record also write its results file."""
    from .. import evaluation

    kind = next((name for name in ("by_position", "music", "memorisation") if getattr(options, name)), "bits")
    kind = "as" if options.as_ else kind
    given = _given(options, kind)
    with outputs(None, options.record) as (place,):
        measure = {
            "by_position": _by_position,
            "music": _music,
            "memorisation": _memorisation,
            "as": _as_performance,
            "bits": _bits,
        }[kind]
        result, describe = measure(options, given)
        if place:
            result = evaluation.record(result, place)
    return result, describe(result)


def _given(options: argparse.Namespace, kind: str) -> dict:
    """The options that were given; ConfigError for one that does not belong to this measurement."""
    known = {name for names in _OPTIONS.values() for name in names}
    given = {name: value for name in sorted(known) if (value := getattr(options, name)) is not None}
    if wrong := [name for name in given if name not in _OPTIONS[kind]]:
        homes = [
            {"bits": "plain bits per note", "as": "--as performance"}.get(one, f"--{one.replace('_', '-')}")
            for one, names in _OPTIONS.items()
            if wrong[0] in names
        ]
        raise ConfigError(f"--{wrong[0]} goes with {' or '.join(homes)}: leave it out here")
    if kind != "bits" and options.model in BASELINES:
        raise ConfigError(
            f"{options.model} is a baseline, measured in bits per note alone: leave out --{kind.replace('_', '-')}, or give a model"
        )
    return given


def _bits(options: argparse.Namespace, given: dict):
    from .. import evaluation
    from ..evaluation import baselines

    if options.model in BASELINES:
        if given.pop("device", "cpu") not in ("cpu", "auto"):
            raise ConfigError(f"{options.model} is a baseline that runs on the CPU alone: leave out --device")
        return baselines.evaluate_baseline(
            options.model, options.data, options.split, progress=terminal(), **given
        ), _describe_bits
    if given.keys() & {"tokenizer", "order"}:
        raise ConfigError(
            f"{options.model} has a tokenizer of its own: --tokenizer and --order are for {' and '.join(BASELINES)}"
        )
    return evaluation.evaluate(options.model, options.data, options.split, progress=terminal(), **given), _describe_bits


def _describe_bits(result: dict) -> str:
    low, high = result["ci95"]
    pedal = (
        f", {result['pedal_error_ms']:.1f} ms in movements of the pedal"
        if result.get("pedal_error_ms") is not None
        else ""
    )
    lines = [
        f"{result['bits_per_note']:.3f} bits a note on {result['split']} (95% between {low:.3f} and {high:.3f}; {result['pieces']:,} pieces, {result['notes']:,} notes)",
        f"the encoding keeps {', '.join(result['keeps'])}; off by {result['onset_error_ms']:.1f} ms at the onset, "
        f"{result['duration_error_ms']:.1f} ms in duration, {result['velocity_error']:.2f} in velocity{pedal}, on average",
    ]
    if "bits_per_note_by_attribute" in result:
        shares = [
            f"{what} {100 * share:.0f}%" for what, share in result["share_by_attribute"].items() if share >= 0.005
        ]
        lines.append("of the bits: " + ", ".join(shares))
    if (tokens := result["tokens_per_note"]) is not None and tokens == tokens:  # xz has none
        lines.append(f"{tokens:.2f} tokens a note; {result['notes_per_second']:,.0f} notes scored a second")
    return "\n".join([*lines, *_skipped(result)])


def _as_performance(options: argparse.Namespace, given: dict):
    from ..evaluation.performance import as_performance

    return as_performance(
        options.model, options.data, options.split, progress=terminal(), **given
    ), _describe_performance


def _describe_performance(result: dict) -> str:
    low, high = result["ci95"]
    return "\n".join(
        [
            f"{result['bits_per_note_as_performance']:.3f} bits a note on {result['split']} at the information of the performance encoding "
            f"(95% between {low:.3f} and {high:.3f}; {result['pieces']:,} pieces, {result['notes']:,} notes)",
            f"{result['nats_per_performance_token']:.3f} nats per token of that encoding, which has {result['performance_tokens_per_note']:.3f} tokens a note here",
            *_skipped(result),
        ]
    )


def _by_position(options: argparse.Namespace, given: dict):
    from .. import evaluation

    return evaluation.by_position(
        options.model, options.data, options.split, progress=terminal(), **given
    ), _describe_positions


def _describe_positions(result: dict) -> str:
    rows = [{**one, "tokens": f"{one['from_token']:,} to {one['to_token']:,}"} for one in result["bins"]]
    columns = {
        "tokens": "tokens",
        "bits_per_note": "bits a note",
        "windowed_bits_per_note": "in windows",
        "notes": "notes",
    }
    head = (
        f"{result['pieces']} pieces of {result['length']:,} tokens; trained on windows of {result['trained_context']:,}"
    )
    return f"{head}\n\n{table(rows, columns)}"


def _trials(options: argparse.Namespace, given: dict):
    from ..evaluation.trials import make_trials

    return make_trials(options.model, options.data, options.split, progress=terminal(), **given)


def _music(options: argparse.Namespace, given: dict):
    from ..evaluation.continuation_metrics import listen

    return listen(_trials(options, given)), _describe_music


def _describe_music(result: dict) -> str:
    sets = {"generated": "generated", "truth": "the pianists", "other_humans": "other humans"}
    means = [
        {"metric": name, **{one: result["metrics"][one][name]["mean"] for one in sets}}
        for name in result["metrics"]["truth"]
    ]
    near = [
        {
            "feature": name,
            **{one: found and found["overlap"] for one in result["mgeval"] for found in [result["mgeval"][one][name]]},
        }
        for name in result["mgeval"]["generated"]
    ]
    invalid = result["invalid"]
    return "\n".join(
        [
            f"{result['trials']} seeds of {result['split']} continued by {result['seconds']:g} s",
            "",
            table(means, {"metric": "mean", **sets}),
            "",
            table(
                near,
                {
                    "feature": "overlap with the pianists' distances",
                    "generated": "generated",
                    "other_humans": "other humans",
                },
            ),
            "",
            f"without its grammar {100 * invalid['draws']:.2f}% of the draws would be invalid ({100 * invalid['probability']:.2f}% of the probability)",
            *_skipped(result),
        ]
    )


def _memorisation(options: argparse.Namespace, given: dict):
    from ..corpora import open_corpus
    from ..evaluation.memorisation import memorisation

    trials = _trials(options, given)
    training = open_corpus(options.data, trials.prefer).split("train")
    return memorisation(trials, training, progress=terminal()), _describe_memorisation


def _describe_memorisation(result: dict) -> str:
    rows = [
        {
            "runs of": kind,
            "excerpts": name.replace("_", " "),
            **{key: found.get(key) for key in ("mean", "median", "longest")},
        }
        for kind, sets in result["longest"].items()
        for name, found in sets.items()
        if name != "per_trial"
    ]
    head = f"longest run of notes shared with {result['training_pieces']:,} training pieces, {result['trials']} seeds continued by {result['seconds']:g} s"
    columns = {"runs of": "runs of", "excerpts": "excerpts", "mean": "mean", "median": "median", "longest": "longest"}
    return "\n".join([head, "", table(rows, columns), *_skipped(result)])


def _skipped(result: dict) -> list[str]:
    return [f"left out: {piece['reason']}" for piece in result.get("skipped", ())]
