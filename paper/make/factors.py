"""Generates the table and the figure of the factorial.

Records are those of `ittybitty experiment factors` and `factors_small`; the analysis is ittybitty/experiments/variance.py's.
Cells that were not run are shown as not run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ittybitty import plots
from ittybitty.experiments import variance
from ittybitty.experiments.factors import FACTORS

from .results import rows_of

SHOWN = "factors_small"  # in table and figure
LARGER = "factors"  # some of its cells at three times the size
NOT_RUN = "not run"
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}
HOLLOW = {"adamw": "none"}
Cell = tuple[str, str, str]


def records(results: Mapping, experiment: str) -> list[dict]:
    """Every finished run of a factorial."""
    if experiment not in results["recipes"]:
        return []
    return [row for row in rows_of(results, experiment).values() if row]


def analysed(
    results: Mapping, experiment: str = SHOWN, timed: bool = False, like: Collection[Cell] | None = None
) -> dict:
    """The analysis of a factorial at equal music, or `timed` at equal processor time; of all its cells, or those that are `like` some."""
    found = cells_of(results, experiment, timed)
    return _analysis([run for cell, runs in found.items() if like is None or cell in like for run in runs], timed)


_KNOWN: dict[str, dict] = {}  # tables, numbers and the figure ask for the same analysis


def _analysis(runs: list[Mapping], timed: bool = False) -> dict:
    kept = (*FACTORS, "rate", "training", "settings", "per_piece")
    key = json.dumps([timed, [[run[name] for name in kept] for run in runs]], sort_keys=True)
    if key not in _KNOWN:
        _KNOWN[key] = variance.analysis(runs, timed=timed)
    return _KNOWN[key]


def cells_of(results: Mapping, experiment: str = SHOWN, timed: bool = False) -> dict[Cell, list[Mapping]]:
    """{cell: its runs at its best rate}, of the cells that were run at every rate of the recipe."""
    runs = records(results, experiment)
    if not runs:
        return {}
    tried: dict[Cell, set[float]] = {}
    for run in runs:
        if "seconds" not in run["settings"]:
            tried.setdefault(_cell(run), set()).add(run["rate"])
    asked = {row.settings["rate"] for row in results["recipes"][experiment].rows} - {"best"}
    whole = {cell for cell, rates in tried.items() if len(rates) >= len(asked)}
    return {cell: found for cell, found in variance.cells(runs, timed).items() if cell in whole}


def _cell(run: Mapping) -> Cell:
    return run["encoding"], run["optimizer"], run["architecture"]


def grid(results: Mapping, experiment: str = SHOWN) -> dict[Cell, list[Mapping]]:
    """{cell of the recipe: its runs at its best rate, [] where not every rate was tried}."""
    found = cells_of(results, experiment)
    return {cell: list(found.get(cell, ())) for cell in _planned(results, experiment)}


def _planned(results: Mapping, experiment: str) -> list[Cell]:
    rows = results["recipes"][experiment].rows
    return list(
        dict.fromkeys(
            (row.settings["encoding"], row.settings["optimizer"], row.settings["architecture"]) for row in rows
        )
    )


def mean_bits(runs: Sequence[Mapping]) -> float:
    """Bits per note, the mean over seeds."""
    return sum(run["bits_per_note"] for run in runs) / len(runs)


def factors_table(results: Mapping) -> str:
    """Bits per note of every cell with its rate and seeds, then at equal processor time; a row an architecture."""
    cells = grid(results)
    encodings, architectures = (list(dict.fromkeys(cell[i] for cell in cells)) for i in (0, 2))
    heads = [(encoding, optimizer) for encoding in encodings for optimizer in OPTIMIZERS]
    timed = cells_of(results, timed=True)
    lines = [rf"\begin{{tabular}}{{l{'r' * len(heads)}}}", r"\toprule"]
    lines.append(" & ".join(["", *(rf"\multicolumn{{2}}{{c}}{{\texttt{{{name}}}}}" for name in encodings)]) + r" \\")
    lines.append(" & ".join(["Architecture", *(OPTIMIZERS[optimizer] for _, optimizer in heads)]) + r" \\")
    blocks = [
        ("bits per note at equal music; rate; seeds", {cell: _bits(runs) for cell, runs in cells.items() if runs})
    ]
    if timed:
        texts = {cell: f"{mean_bits(runs):.2f}" for cell, runs in timed.items()}
        blocks.append(("bits per note at equal processor time", texts))
    for title, texts in blocks:
        lines += [r"\midrule", rf"\multicolumn{{{1 + len(heads)}}}{{l}}{{\emph{{{title}}}}} \\"]
        for architecture in architectures:
            missing = NOT_RUN if title == blocks[0][0] else "--"
            values = [texts.get((encoding, optimizer, architecture), missing) for encoding, optimizer in heads]
            if set(values) != {"--"}:
                lines.append(" & ".join([rf"\texttt{{{architecture}}}", *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _bits(runs: Sequence[Mapping]) -> str:
    return rf"{mean_bits(runs):.2f}; $\times${runs[0]['rate']:g}; {len(runs)}"


def difference(first: Sequence[Mapping], second: Sequence[Mapping]) -> tuple[float, float, float]:
    """Bits per note that one cell needs more than another, with its interval: the same draws whichever is asked for first."""
    if _cell(first[0]) <= _cell(second[0]):
        return variance.difference(first, second)
    value, low, high = variance.difference(second, first)
    return -value, -high, -low


def factors_figure(results: Mapping) -> Any:
    """Bits per note of every cell that was run, and below, where a complete block allows it, what each factor changes and explains."""
    import matplotlib.pyplot as plt

    found = analysed(results)
    cells = {cell: runs for cell, runs in grid(results).items() if runs}
    encodings, architectures = (list(dict.fromkeys(cell[i] for cell in grid(results))) for i in (0, 2))
    colors = dict(zip(encodings, (plots.BLUE, plots.VERMILION, plots.GREEN)))
    analyses = {"equal music": found, "equal time": analysed(results, timed=True)}
    analyses = {name: one for name, one in analyses.items() if one["shares"]}
    with plots.style(columns=1, height=3.35 if analyses else 2.2):
        figure = plt.figure()
        grids = figure.add_gridspec(2 if analyses else 1, 2, height_ratios=(3, 2)[: 2 if analyses else 1])
        above = figure.add_subplot(grids[0, :])
        for (encoding, optimizer, architecture), runs in cells.items():
            face = HOLLOW.get(optimizer, colors[encoding])
            style = dict(marker="o", markersize=4.5, markerfacecolor=face, color=colors[encoding], linestyle="none")
            bits = [run["bits_per_note"] for run in runs]
            above.plot(bits, [architectures.index(architecture)] * len(bits), **style)
        for encoding in encodings:
            above.plot([], [], "o", color=colors[encoding], label=encoding)
        for optimizer, face in (("adamw", "none"), ("muon", "#777777")):
            above.plot([], [], "o", color="#777777", markerfacecolor=face, label=OPTIMIZERS[optimizer])
        above.set_yticks(range(len(architectures)), architectures)
        above.set(xlabel="bits per note", ylim=(len(architectures) - 0.5, -0.5))
        above.legend(
            fontsize=6.5, ncols=5, loc="lower center", bbox_to_anchor=(0.42, 1.0), columnspacing=0.8, handletextpad=0.1
        )
        if analyses:
            left, right = figure.add_subplot(grids[1, 0]), figure.add_subplot(grids[1, 1])
            _bars(left, {name: one["changes"] for name, one in analyses.items()}, "bits_per_note", 1)
            _bars(right, {name: one["shares"] for name, one in analyses.items()}, "share", 100)
            left.set_xlabel("median change (bits)", fontsize=7)
            right.set_xlabel("share of variance (%)", fontsize=7)
            right.set_xlim(0, 1.6 * right.get_xlim()[1])  # room for the legend beside the bars of interactions
            right.legend(fontsize=6, loc="lower right", handlelength=0.8, borderpad=0, labelspacing=0.2)
    return figure


def _bars(axes: Any, analyses: Mapping[str, Mapping], key: str, scale: float) -> None:
    """A bar for each factor, and for each interaction where there are some, with its interval; side by side for each analysis."""
    names = list(next(iter(analyses.values())))
    height = 0.8 / len(analyses)
    for k, (title, one) in enumerate(analyses.items()):
        at = [i + (k - (len(analyses) - 1) / 2) * height for i in range(len(names))]
        told = [one.get(name, {key: 0.0, "ci95": (0.0, 0.0)}) for name in names]
        values = [scale * each[key] for each in told]
        axes.barh(at, values, height, color=(plots.SKY, plots.ORANGE)[k], label=title)
        for y, each in zip(at, told):
            axes.plot([scale * bound for bound in each["ci95"]], [y, y], color="#333333", linewidth=1)
    labels = [" × ".join(part[:3] for part in name.split(" x ")) if " x " in name else name for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.tick_params(axis="y", labelsize=6.5)
    axes.set(ylim=(len(names) - 0.5, -0.5))
