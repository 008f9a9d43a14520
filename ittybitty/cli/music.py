"""`ittybitty continue`: write a continuation of a MIDI file; `playground` and `page`: the same in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import systems
from ..config import LONGEST, DataConfig, GenerationConfig
from ..errors import ConfigError
from .parser import Result, Verbs, add_device, add_verb, bar, outputs

ENDINGS = {
    "out": (".mid", ".midi"),
    "wav": (".wav",),
    "plot": (".png", ".pdf", ".svg"),
}  # of the files that are written


def add_verbs(verbs: Verbs) -> None:
    """Adds this module's verbs."""
    _add_continue(verbs)
    _add_playground(verbs)
    _add_page(verbs)


def _add_continue(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "continue",
        continue_,
        "write a continuation of a MIDI file (the seed)",
        "ittybitty continue seed.mid -o longer.mid",
        "ittybitty continue seed.mid -o longer.mid --seconds 60 --seed 7 --wav longer.wav --plot longer.png",
        "ittybitty continue seed.mid -o other.mid --from 20 --seconds 30",
        "ittybitty continue -o new.mid --seconds 30",
    )
    parser.add_argument(
        "seed_file",
        metavar="SEED.mid",
        nargs="?",
        help="any MIDI file; its pitched instruments are read as one piano. Without a file, a piece is generated without a seed",
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT.mid", help="where the seed and its continuation go")
    parser.add_argument(
        "--model",
        default="tiny",
        metavar="NAME|RUN_DIR",
        help="a model that ships with the package, or a run folder (%(default)s)",
    )
    _add_beginning_and_end(parser)
    _add_sampling(parser)
    add_device(parser, "cpu, which is faster for one piece at a time")
    parser.add_argument("--only-new", action="store_true", help="write the continuation without the seed")
    parser.add_argument("--wav", metavar="OUT.wav", help="also write the sound")
    parser.add_argument("--plot", metavar="OUT.png", help="also draw a piano roll (png, pdf or svg)")


def _add_beginning_and_end(parser: argparse.ArgumentParser) -> None:
    """Options for the part of the seed that is read, and for where the new music begins, how long it is and how it ends."""
    drawn, given = GenerationConfig(), DataConfig()
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--tokens", type=int, metavar="N", help=f"how many tokens to write ({drawn.max_new_tokens})")
    length.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="write about S seconds of music, which end where an end is likely; exactly S with --no-ending",
    )
    length.add_argument("--notes", type=int, metavar="N", help="how many notes to write")
    parser.add_argument(
        "--prompt-seconds",
        type=float,
        metavar="S",
        help=f"how many seconds from the end of the seed the model reads (default: as the model was trained; all of it for `tiny`, {given.prompt_seconds:g} for `tiny-remi`)",
    )
    parser.add_argument(
        "--prompt-tokens",
        type=int,
        metavar="N",
        help="the model reads at most N tokens of the seed (default: as the model was trained)",
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--from",
        dest="start",
        type=float,
        metavar="SECONDS",
        help="second of the seed at which the new music begins (default: its end, or before its last chords where they end the piece)",
    )
    begin.add_argument(
        "--keep-ending", action="store_true", help="begin after the seed's last chords even where they end the piece"
    )
    parser.add_argument(
        "--no-ending",
        action="store_true",
        help="with --seconds: cut the music at that length, and do not look for an end of the piece near it",
    )
    parser.add_argument("--stop-at-end", action="store_true", help="let the model end the piece early")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    """Options for how the next token is drawn."""
    drawn = GenerationConfig()
    ours = next(row for row in systems.TABLE if row.name == "notes-hybrid").sampling  # the system of `tiny`

    def usual(name: str) -> str:
        return f" (for `tiny`: {ours[name]}; else {getattr(drawn, name)}, unless the model's system sets another)"

    parser.add_argument(
        "--temperature",
        type=float,
        help=f"below 1 more predictable, above 1 more surprising{usual('temperature')}",
    )
    parser.add_argument(
        "--top-k", type=int, metavar="K", help=f"draw from the K likeliest tokens, 0 for all{usual('top_k')}"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help=f"draw from the likeliest tokens whose probabilities add up to P{usual('top_p')}",
    )
    for part, what in (("time", "times between notes"), ("expression", "durations and velocities")):
        parser.add_argument(
            f"--{part}-temperature", type=float, metavar="T", help=f"for systems notes-*: temperature for {what} only"
        )
        parser.add_argument(
            f"--{part}-top-p", type=float, metavar="P", help=f"for systems notes-*: top-p for {what} only"
        )
    parser.add_argument(
        "--hold",
        type=float,
        metavar="H",
        help="for systems notes-*: how firmly notes per second, register and loudness are held near those of the seed, 0 for not at all (1)",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        default=drawn.repetition_penalty,
        metavar="R",
        help="above 1 discourages repeats (%(default)s, off)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "int8"),
        default=drawn.precision,
        help="int8 is faster and may give other notes (%(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="random seed: the same number gives the same music (drawn and printed if not given)",
    )


def _add_playground(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "playground",
        playground,
        "open the playground, a page in the browser where you generate and compare continuations",
        "ittybitty playground",
        "ittybitty playground --port 9000 --no-browser",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; only this machine reaches the default (%(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8866, metavar="N", help="port; if it is taken, the next free one (%(default)s)"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")


def _add_page(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "page",
        page,
        "write one HTML file that contains a model and continues music without Python or a network",
        "ittybitty page -o piano.html",
        "ittybitty page -o piano.html --model runs/mine",
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT.html", help="where the page goes")
    parser.add_argument(
        "--model",
        default="tiny",
        metavar="NAME|RUN_DIR",
        help="a model with one step per note: one that ships with the package, or a run folder (%(default)s)",
    )


def playground(options: argparse.Namespace) -> Result:
    """Serve the page until Ctrl-C."""
    from ..widget.serve import serve

    address = serve(options.host, options.port, not options.no_browser)
    return {"address": address}, "playground ended"


def page(options: argparse.Namespace) -> Result:
    """Write the page; no file is left if the page cannot play the model."""
    if Path(options.out).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{options.out}: the name after --out must end in .html")
    from ..page import write_page

    size = write_page(options.out, options.model)
    result = {"out": options.out, "model": options.model, "bytes": size}
    return result, f"{options.out}: {size / 1e6:.1f} MB; open it in a browser, or put it on any web server"


def continue_(options: argparse.Namespace) -> Result:
    """Write the continuation of a seed. Options, output files and the seed are checked before the model is loaded."""
    choices = _choices(options)
    with outputs(options.seed_file, options.out, options.wav, options.plot) as (midi, wav, plot):
        from .. import seeds
        from ..midi import read_midi
        from ..notes import Performance

        # a bad seed is refused before a model is loaded
        seed = read_midi(options.seed_file, repair=True) if options.seed_file else Performance()
        if options.start is not None:
            seeds.chosen(seed, options.start)
        from .. import devices
        from ..piano import Piano

        piano = Piano.for_playing(options.model, options.device or "cpu", options.precision)
        with bar(options.tokens, "tokens") as tick:
            made = piano.continue_(seed, out=midi, progress=tick, **choices)
        if wav:
            from ..audio import write_wav

            write_wav(read_midi(midi), wav)  # the sound is that of the written file
        if plot:
            _draw(made, plot)
        ran_on = devices.ran_on(piano.model, options.precision if options.precision == "int8" else "")
    return _report(made, options, ran_on)


def _choices(options: argparse.Namespace) -> dict:
    """Keyword arguments of `Piano.continue_`; ConfigError for a bad value."""
    names = (
        "temperature",
        "top_k",
        "top_p",
        "time_temperature",
        "time_top_p",
        "expression_temperature",
        "expression_top_p",
        "hold",
        "repetition_penalty",
        "precision",
        "seconds",
        "notes",
        "seed",
        "only_new",
        "start",
        "stop_at_end",
    )
    drawn = {name: value for name in names if (value := getattr(options, name)) is not None}
    drawn["before_ending"] = not options.keep_ending
    drawn["ending"] = options.seconds is not None and not (options.no_ending or options.stop_at_end)
    if options.tokens is not None and not 1 <= options.tokens <= LONGEST:
        raise ConfigError(f"--tokens is {options.tokens}: give 1 to {LONGEST:,}")
    GenerationConfig(**drawn)
    for name in ("prompt_seconds", "prompt_tokens"):
        if (value := getattr(options, name)) is not None:
            if not 0 < value < float("inf"):
                raise ConfigError(f"--{name.replace('_', '-')} is {value}: give a finite number above 0")
            drawn[name] = value
    for name, endings in ENDINGS.items():
        if (place := getattr(options, name)) and Path(place).suffix.lower() not in endings:
            raise ConfigError(f"{place}: the name after --{name} must end in {' or '.join(endings)}")
    return drawn if options.tokens is None else {**drawn, "tokens": options.tokens}


def _draw(made, place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")  # no window is opened
    from ..plots import piano_roll

    axes = piano_roll(made.seed, made.new)
    axes.figure.savefig(place, dpi=150, bbox_inches="tight")


def _report(made, options: argparse.Namespace, ran_on: dict) -> Result:
    result = {
        "seed_notes": len(made.seed),
        "prompt_notes": len(made.prompt),
        "new_notes": len(made.new),
        "new_seconds": made.new.end - float(made.new.notes["onset"].min()) if len(made.new) else 0.0,
        "tokens": made.tokens,
        "seconds": made.seconds,
        "tokens_per_second": made.tokens_per_second,
        "seed": made.seed_number,
        "model": options.model,
        "ran_on": ran_on,
        "out": options.out,
        "wav": options.wav,
        "plot": options.plot,
    }
    seed = (
        f"{len(made.seed):,} notes, {made.seed.end:.1f} s; its last {len(made.prompt):,} notes were read by the model"
    )
    lines = [
        f"seed     {seed if len(made.seed) else 'none: a piece from nothing'}",
        f"new      {len(made.new):,} notes, {result['new_seconds']:.1f} s of music{_ending(options)}",
        f"written  {', '.join(filter(None, (options.out, options.wav, options.plot)))}",
        f"took     {made.seconds:.1f} s for {made.tokens:,} tokens ({made.tokens_per_second:.0f} a second); "
        f"--seed {made.seed_number} gives the same music again",
    ]
    return result, "\n".join(lines)


def _ending(options: argparse.Namespace) -> str:
    """Why the length may differ from the one that was asked for."""
    if options.seconds is None or options.no_ending or options.stop_at_end:
        return ""
    return f"; it ends where an end was likely near {options.seconds:g} s (--no-ending: exactly there)"
