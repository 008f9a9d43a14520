"""Generates the tables and the figure of the factorial, and the table of former claims with the results for and against them.

Records are those of `ittybitty experiment factors` and `factors_small`; the analysis is ittybitty/experiments/variance.py's.
Cells that were not run are shown as not run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ittybitty import plots
from ittybitty.experiments import variance
from ittybitty.experiments.factors import FACTORS

from .results import paired, rows_of

EXPERIMENTS = ("factors", "factors_small")  # the first that has a complete block of two levels is shown
NOT_RUN = "not run"
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}
SEED = ("seeds_mamba-1", "all_rows_mamba")  # the two whose difference says how far a seed may move a row
HOLLOW = {"adamw": "none"}


def records(results: Mapping, experiment: str) -> list[dict]:
    """Every finished run of a factorial."""
    return [row for row in rows_of(results, experiment).values() if row]


def shown(results: Mapping) -> tuple[str, dict]:
    """The experiment that tables and figure show, and its analysis."""
    found = [(name, _analysis(records(results, name))) for name in EXPERIMENTS]
    return next(((name, one) for name, one in found if one["shares"]), found[-1])


_KNOWN: dict[str, dict] = {}  # tables, numbers and the figure ask for the same analysis


def _analysis(runs: list[dict]) -> dict:
    key = json.dumps(
        [[run[name] for name in (*FACTORS, "rate", "training", "per_piece")] for run in runs], sort_keys=True
    )
    if key not in _KNOWN:
        _KNOWN[key] = variance.analysis(runs)
    return _KNOWN[key]


def grid(results: Mapping, experiment: str) -> dict[tuple[str, str, str], float | None]:
    """{cell of the recipe: bits per note at its best rate, the mean over its seeds, or None}."""
    cells: dict[tuple[str, str, str], float | None] = {}
    for row in results["recipes"][experiment].rows:
        cells[row.settings["encoding"], row.settings["optimizer"], row.settings["architecture"]] = None
    for (encoding, optimizer, architecture), runs in variance.cells(records(results, experiment)).items():
        cells[encoding, optimizer, architecture] = sum(run["bits_per_note"] for run in runs) / len(runs)
    return cells


def factors_table(results: Mapping) -> str:
    """Bits per note of every cell: a row an architecture, a column an encoding and an optimizer."""
    experiment, _ = shown(results)
    cells = grid(results, experiment)
    encodings, architectures = (list(dict.fromkeys(cell[i] for cell in cells)) for i in (0, 2))
    heads = [(encoding, optimizer) for encoding in encodings for optimizer in OPTIMIZERS]
    lines = [rf"\begin{{tabular}}{{l{'r' * len(heads)}}}", r"\toprule"]
    lines.append(" & ".join(["", *(rf"\multicolumn{{2}}{{c}}{{\texttt{{{name}}}}}" for name in encodings)]) + r" \\")
    lines += [" & ".join(["Architecture", *(OPTIMIZERS[optimizer] for _, optimizer in heads)]) + r" \\", r"\midrule"]
    for architecture in architectures:
        values = [cells.get((encoding, optimizer, architecture)) for encoding, optimizer in heads]
        texts = [NOT_RUN if value is None else f"{value:.2f}" for value in values]
        lines.append(" & ".join([rf"\texttt{{{architecture}}}", *texts]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def shares_table(results: Mapping) -> str:
    """Share of the variance of each factor and interaction of the largest complete block."""
    _, found = shown(results)
    lines = [r"\begin{tabular}{lrr}", r"\toprule", r"Factor & Levels & Share of the variance (95\,\%) \\", r"\midrule"]
    levels = found["levels"]
    for name in FACTORS:
        count = len(levels[name])
        lines.append(
            rf"{name} & {count} & {_share(found['shares'].get(name)) if count > 1 else 'one level' if count else NOT_RUN} \\"
        )
    for name, share in found["shares"].items():
        parts = name.split(" x ")
        if len(parts) > 1 and all(len(levels[part]) > 1 for part in parts):
            lines.append(" & ".join([r" $\times$ ".join(parts), "", _share(share)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _share(share: Mapping | None) -> str:
    if share is None:
        return "no block of two factors"
    return "{:.0f}\\,\\% ({:.0f}--{:.0f})".format(*(100 * value for value in (share["share"], *share["ci95"])))


CLAIMS = (  # what was said, whether it is of an order or of no difference, REMI's two results, and two where models have learnt
    ("Mamba alone is ahead of the hybrid", "order", ("all_rows_hybrid", "all_rows_mamba"), ("notes_notes-hybrid", "notes_notes-mamba")),
    (
        "Mamba alone is ahead of a Transformer",
        "order",
        ("all_rows_llama-512", "all_rows_mamba"),
        ("factors_small_notes-muon-llama", "factors_small_notes-muon-mamba"),
    ),
    (
        "selection is worth nothing",
        "nothing",
        ("all_rows_ssm", "all_rows_mamba"),
        ("factors_small_notes-muon-ssm", "factors_small_notes-muon-mamba"),
    ),
    ("attention is worth nothing in the hybrid", "nothing", ("attention_hybrid-no-attention", "all_rows_hybrid"), None),
    ("the bias of attention is worth nothing", "nothing", ("attention_hybrid-no-bias", "all_rows_hybrid"), None),
    ("CfC is no better than feed-forward", "nothing", ("all_rows_hybrid-cfc", "all_rows_hybrid"), None),
    ("label smoothing costs bits", "order", ("all_rows_hybrid", "collapse_no-smoothing"), None),
    ("fewer byte pairs are better", "order", ("all_rows_hybrid", "vocabulary_size_bpe-512"), None),
)  # fmt: skip  # one claim a line where it fits


def verdict(kind: str, before: float, after: float | None, seed: float) -> str:
    """Does a claim stand? `before` and `after` are differences in bits per note; what a seed may move decides nothing.

    An order stands where `after` has the sign of `before`, and turns round where it has the other; that something is worth
    nothing stands where `after` is less than a seed may move, and falls where it is more.
    """
    if after is None:
        return "open"
    if kind == "nothing":
        return "stands" if abs(after) <= seed else "falls"
    if abs(after) <= seed:
        return "open"
    return "stands" if after * before > 0 else "turns round"


def claims(results: Mapping) -> list[dict]:
    """Each former claim with its two differences ("before", "after": value and interval, or None) and its verdict."""
    moved = _paired(results, SEED)
    seed = abs(moved[0]) if moved else 0.0
    rows = []
    for text, kind, first, second in CLAIMS:
        before, after = _paired(results, first), _paired(results, second)
        said = verdict(kind, before[0], after[0] if after else None, seed) if before else "open"
        rows.append({"claim": text, "before": before, "after": after, "verdict": said})
    return rows


def _paired(results: Mapping, names: tuple[str, str] | None) -> tuple[float, float, float] | None:
    """What the first needs more than the second, with its interval; None where one of them was not run."""
    if names is None or not all(name in results for name in names):
        return None
    return paired(results[names[0]], results[names[1]])


def claims_table(results: Mapping) -> str:
    """Former claims, both differences, and what has become of them."""
    columns = r">{\raggedright\arraybackslash}p{2.6cm}rrl"
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [r" & REMI, AdamW, & where models & \\", r"Claim & a tenth & have learnt & Now \\", r"\midrule"]
    for row in claims(results):
        before, after = (_difference(row[name]) if row[name] else NOT_RUN for name in ("before", "after"))
        lines.append(rf"{row['claim']} & {before} & {after} & {row['verdict']} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _difference(values: tuple[float, float, float]) -> str:
    return f"${values[0]:+.2f}$"


def factors_figure(results: Mapping) -> Any:
    """Bits per note of every cell that was run, and below, where a complete block allows it, what each factor explains."""
    import matplotlib.pyplot as plt

    experiment, found = shown(results)
    cells = {cell: value for cell, value in grid(results, experiment).items() if value is not None}
    encodings, architectures = (list(dict.fromkeys(cell[i] for cell in grid(results, experiment))) for i in (0, 2))
    colors = dict(zip(encodings, (plots.BLUE, plots.VERMILION, plots.GREEN)))
    names = [name for name in found["shares"] if all(len(found["levels"][part]) > 1 for part in name.split(" x "))]
    panels = 2 if names else 1
    with plots.style(columns=1, height=3.6 if names else 2.2):
        figure, axes = plt.subplots(panels, 1, height_ratios=(3, 2)[:panels], squeeze=False)
        above, below = axes[0, 0], axes[-1, 0]
        for (encoding, optimizer, architecture), value in cells.items():
            face = HOLLOW.get(optimizer, colors[encoding])
            style = dict(marker="o", markersize=5, markerfacecolor=face, color=colors[encoding], linestyle="none")
            above.plot([value], [architectures.index(architecture)], **style)
        for encoding in encodings:
            if any(cell[0] == encoding for cell in cells):
                above.plot([], [], "o", color=colors[encoding], label=encoding)
        for optimizer, face in (("adamw", "none"), ("muon", "#777777")):
            above.plot([], [], "o", color="#777777", markerfacecolor=face, label=OPTIMIZERS[optimizer])
        above.set_yticks(range(len(architectures)), architectures)
        above.set(xlabel="bits per note", ylim=(len(architectures) - 0.5, -0.5))
        above.legend(fontsize=6.5, ncols=3, loc="lower center", bbox_to_anchor=(0.35, 1.0), columnspacing=1.0)
        if not names:
            return figure
        for i, name in enumerate(names):
            share = found["shares"][name]
            low, high = share["ci95"]
            below.barh(i, 100 * share["share"], color=plots.SKY)
            below.plot([100 * low, 100 * high], [i, i], color="#333333", linewidth=1)
        below.set_yticks(
            range(len(names)),
            [" × ".join(part[:4] for part in name.split(" x ")) if " x " in name else name for name in names],
        )
        below.tick_params(axis="y", labelsize=6.5)
        below.set(xlabel="share of the variance (%)", xlim=(0, 100), ylim=(max(len(names), 1) - 0.5, -0.5))
    return figure
