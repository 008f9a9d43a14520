"""Generates numbers, table and figure of architectures and encodings after a whole pass, from `ittybitty experiment passes`.

The curves are those of training's own validation windows; the bits of the text are those of whole validation pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from statistics import median
from typing import Any

from ittybitty import plots
from ittybitty.experiments import variance

from .factors import NOT_RUN, mean_bits
from .results import rows_of

FIRST = "hybrid"  # what the others are compared with
RATES = ("-lower", "-low", "-high")  # behind the name of one that was tried with other learning rates as well
TITLES = {"hybrid": "hybrid", "llama": "LLaMA", "mamba": "Mamba", "ssm": "Mamba, no selection", "lstm": "LSTM"}
CHANGED = {  # the hybrid with one change -> its name in the text
    "no-attention": "no attention",
    "no-bias": "no bias of attention",
    "cfc": "CfC, no feed-forward",
    "smoothing": "label smoothing",
    "hybrid-adamw": "AdamW",
    "hybrid-fine-pedal": "pedal as precise as in REMI",
}
ON_REMI = {  # rows on REMI tokens -> the same
    "hybrid-remi-unmerged": "hybrid, no merging",
    "hybrid-remi-512": "hybrid, 512 entries",
    "hybrid-remi": "hybrid, 2,000 entries",
    "mamba-remi": "Mamba, 2,000 entries",
}
DIFFERENCES = (  # a macro of the text, and the two whose difference it is
    ("NoAttention", "no-attention", "hybrid"),
    ("Selection", "ssm", "mamba"),
    ("Optimizer", "hybrid-adamw", "hybrid"),
    ("Encoding", "hybrid-remi", "hybrid"),
    ("Few", "hybrid-remi-512", "hybrid"),
    ("Steps", "hybrid-remi-unmerged", "hybrid"),
    ("Bias", "no-bias", "hybrid"),
    ("RemiMamba", "mamba-remi", "hybrid-remi"),
    ("Pedal", "hybrid-fine-pedal", "hybrid"),
    ("EncodingFine", "hybrid-remi", "hybrid-fine-pedal"),
    ("FewLess", "hybrid-fine-pedal", "hybrid-remi-512"),
)
DRAWN = {  # beside the architectures on notes with Muon -> its label and its line
    "hybrid-adamw": ("hybrid, AdamW", "--"),
    "hybrid-remi": ("hybrid, REMI 2,000", ":"),
    "hybrid-remi-512": ("hybrid, REMI 512", "-."),
    "mamba-remi": ("Mamba, REMI 2,000", ":"),
}
COLORS = {
    "hybrid": plots.BLUE,
    "llama": plots.VERMILION,
    "mamba": plots.SKY,
    "lstm": plots.GREEN,
    "ssm": plots.ORANGE,
}


def done(results: Mapping) -> dict[str, list[Mapping]]:
    """{architecture, or one at other rates: its records, one a seed}, of those that were trained.

    One digit at the end of a row's name is the number of a seed; 512 is one of entries.
    """
    found: dict[str, list[Mapping]] = {}
    if "passes" in results["recipes"]:
        for name, row in rows_of(results, "passes").items():
            if row:
                first, _, last = name.rpartition("-")
                found.setdefault(first if last.isdigit() and len(last) == 1 else name, []).append(row)
    return found


def best(results: Mapping) -> dict[str, list[Mapping]]:
    """{architecture: its runs, one a seed}, at the best rate where several were tried."""
    found: dict[str, list[Mapping]] = {}
    for name, runs in done(results).items():
        architecture = _without_rate(name)
        found[architecture] = min(runs, found.get(architecture, runs), key=mean_bits)
    return found


def _without_rate(name: str) -> str:
    return next((name.removesuffix(rate) for rate in RATES if name.endswith(rate)), name)


def fastest(results: Mapping) -> dict[str, float]:
    """{architecture: hours of its fastest run at any rate}: all compute the same, but other work shares the machine."""
    found: dict[str, float] = {}
    for name, runs in done(results).items():
        hours = [run["training"]["hours"] for run in runs]
        found[_without_rate(name)] = min([*hours, found.get(_without_rate(name), hours[0])])
    return found


def passes_numbers(results: Mapping) -> Iterator[tuple[str, str]]:
    """How many architectures were trained for a pass, on how many notes, and how far apart they and some others are.

    Means over seeds.
    """
    found = best(results)
    first = found.get(FIRST)
    yield "PassesArchitectures", f"{len(found.keys() & COLORS.keys())}"
    sizes = [run["parameters"] for runs in found.values() for run in runs]
    yield "PassesParameters", f"{sum(sizes) / max(1, len(sizes)) / 1e6:.1f} million"
    yield "PassesNotes", f"{_notes(first[0]) / 1e6:.1f} million" if first else NOT_RUN
    yield "PassesWindow", f"{first[0]['context']}" if first else NOT_RUN
    yield "PassesHybrid", f"{mean_bits(first):.2f}" if first else NOT_RUN
    for macro, name, base in DIFFERENCES:
        runs, others = found.get(name), found.get(base)
        yield f"Passes{macro}", f"{variance.difference(runs, others)[0]:.2f}" if runs and others else NOT_RUN
    means = [mean_bits(found[name]) for name in COLORS if name in found]
    yield "PassesSpread", f"{max(means) - min(means):.2f}" if means else NOT_RUN
    apart = [abs(one - other) for one, other in combinations(means, 2)]
    yield "PassesMedian", f"{median(apart):.2f}" if apart else NOT_RUN
    several = [runs for runs in done(results).values() if len(runs) > 1]
    yield "PassesSeeded", f"{len(several)}"
    yield "PassesSeedMoves", f"{max(map(variance.moves, several)):.2f}" if several else NOT_RUN


def _notes(row: Mapping) -> float:
    """Notes that a training has read."""
    return row["training"]["tokens"] / row["tokens_per_note"]


def passes_table(results: Mapping) -> str:
    """Bits per note of architectures and of the hybrid with one change, best first, and what each needs more than the hybrid."""
    found = best(results)
    lines = [r"\begin{tabular}{lrr}", r"\toprule", r" & Bits per note & More than the first \\"]
    for title, names in (
        ("on notes, with Muon", TITLES),
        ("the hybrid there with one change", CHANGED),
        ("on REMI tokens, with Muon", ON_REMI),
    ):
        lines += [r"\midrule", rf"\multicolumn{{3}}{{l}}{{\emph{{{title}}}}} \\"]
        trained = sorted((name for name in names if name in found), key=lambda name: mean_bits(found[name]))
        lines += [_line(names[name], found[name], found.get(FIRST)) for name in trained]
        lines += [rf"{names[name]} & {NOT_RUN} & \\" for name in names if name not in found]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _line(title: str, runs: list[Mapping], first: list[Mapping] | None) -> str:
    """A row of the table; two seeds or more are said behind the name."""
    seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
    apart = (
        ""
        if first is None or runs is first
        else "${:+.2f}$ (${:+.2f}$ to ${:+.2f}$)".format(*variance.difference(runs, first))
    )
    return rf"{title}{seeds} & {mean_bits(runs):.2f} & {apart} \\"


def passes_figure(results: Mapping) -> Any:
    """Bits per note on training's validation windows against the notes read, and the minutes that each architecture takes."""
    import matplotlib.pyplot as plt

    found, least = best(results), fastest(results)
    with plots.style(columns=1, height=1.95):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        for name in (*COLORS, *DRAWN):
            label, line = DRAWN.get(name, (TITLES.get(name), "-"))
            for row, once in zip(found.get(name, ()), (label, *[None] * len(found))):
                curve = row["training"]["curve"]
                bits = [one["bits_per_note"] for one in curve]
                per_note = row["tokens_per_note"] * 1e6
                style = dict(color=COLORS[name.partition("-")[0]], linestyle=line, linewidth=1.0)
                left.plot([one["tokens"] / per_note for one in curve], bits, label=once, **style)
                share = least[name] / row["training"]["hours"]
                right.plot([one["seconds"] / 60 * share for one in curve], bits, **style)
        left.set_ylim(12.3, 17.2)  # the first minutes, when all are far above, are left out
        left.set(xlabel="notes read (millions)", ylabel="bits per note")
        right.set(xlabel="minutes of one core")
        if found:
            figure.legend(fontsize=6.5, ncols=3, loc="outside upper center", columnspacing=1.0, handlelength=1.6)
    return figure
