"""Generates the table of former claims, with the results for and against them.

Records are those of `ittybitty experiment factors_small`, `claims` and `passes`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ittybitty.experiments import variance

from .factors import NOT_RUN, SHOWN, cells_of, difference
from .passes import best, done
from .results import paired

CLAIMED = "claims"  # further cells in the setting of the factorial that is shown
SEED = ("seeds_mamba-1", "all_rows_mamba")  # the two whose difference says how far a seed may move a row

CLAIMS = (  # what was said, of an order or of no difference; REMI's two results, two cells on notes, two architectures after a pass
    ("Mamba alone is ahead of the hybrid", "order", ("all_rows_hybrid", "all_rows_mamba"), ("notes-muon-hybrid", "notes-muon-mamba"), ("hybrid", "mamba")),
    ("Mamba alone is ahead of a Transformer", "order", ("all_rows_llama-512", "all_rows_mamba"), ("notes-muon-llama", "notes-muon-mamba"), ("llama", "mamba")),
    ("selection is worth nothing", "nothing", ("all_rows_ssm", "all_rows_mamba"), ("notes-muon-ssm", "notes-muon-mamba"), ("ssm", "mamba")),
    ("attention is worth nothing in the hybrid", "nothing", ("attention_hybrid-no-attention", "all_rows_hybrid"), ("notes-muon-no-attention", "notes-muon-hybrid"), ("no-attention", "hybrid")),
    ("the bias of attention is worth nothing", "nothing", ("attention_hybrid-no-bias", "all_rows_hybrid"), ("notes-muon-no-bias", "notes-muon-hybrid"), ("no-bias", "hybrid")),
    ("CfC is no better than feed-forward", "no better", ("all_rows_hybrid-cfc", "all_rows_hybrid"), ("notes-muon-cfc", "notes-muon-hybrid"), ("cfc", "hybrid")),
    ("label smoothing costs bits", "order", ("all_rows_hybrid", "collapse_no-smoothing"), ("notes-muon-smoothing", "notes-muon-hybrid"), ("smoothing", "hybrid")),
    ("512 entries are better than 2,000", "order", ("all_rows_hybrid", "vocabulary_size_bpe-512"), ("remi-muon-hybrid", "remi-512-muon-hybrid"), ("hybrid-remi", "hybrid-remi-512")),
)  # fmt: skip  # one claim a line


def counts(found: tuple[float, float, float], seed: float) -> bool:
    """Whether a difference is more than a seed may move, and its interval does not hold 0."""
    value, low, high = found
    return abs(value) > seed and low * high > 0


def verdict(kind: str, before: float, after: tuple[float, float, float] | None, seed: float) -> str:
    """Does a claim stand? `before` is a difference in bits per note, `after` one with its interval.

    An order stands where `after` counts and has the sign of `before`, and is reversed where it has the other; that something
    is worth nothing is refuted where `after` counts, that something is no better where `after` counts and is below 0.
    """
    if after is None:
        return "open"
    value = after[0]
    if kind != "order":
        return "refuted" if counts(after, seed) and (kind == "nothing" or value < 0) else "stands"
    if not counts(after, seed):
        return "open"
    return "stands" if value * before > 0 else "reversed"


def learnt(results: Mapping) -> dict[str, list[Mapping]]:
    """{name of a cell: its runs at its best rate} of factors_small and claims."""
    names = (SHOWN, CLAIMED)
    found = [cells_of(results, name) for name in names if name in results["recipes"]]
    return {"-".join(cell): list(runs) for one in found for cell, runs in one.items()}


def seed_move(results: Mapping) -> float:
    """The most that a seed was seen to move a result: a cell where models have learnt, or a row on REMI tokens."""
    moved = _paired(results, SEED)
    moves = [variance.moves(runs) for runs in learnt(results).values()]
    return max([*moves, abs(moved[0]) if moved else 0.0])


def claims(results: Mapping) -> list[dict]:
    """Each former claim with its differences: "before", "after" 3% of a pass on notes and after a "whole" one, each a value and
    its interval or None; how far a seed may move the two latter, and the "verdict" by the longest training.
    """
    widest, cells, passes = seed_move(results), learnt(results), best(results)
    moved = max((variance.moves(runs) for runs in done(results).values() if len(runs) > 1), default=widest)
    rows = []
    for text, kind, first, second, third in CLAIMS:
        before = _paired(results, first)
        runs = [cells.get(name, []) for name in second]
        after = difference(runs[0], runs[1]) if all(runs) else None
        # seeds of the two cells say how far chance moves them; a cell of one seed does not, so the widest spread stands in
        seed = max(map(variance.moves, runs)) if min(map(len, runs)) > 1 else widest
        changed, base = (passes.get(name, []) for name in third)
        whole = variance.difference(changed, base) if changed and base else None
        said = verdict(kind, before[0], *((whole, moved) if whole else (after, seed))) if before else "open"
        found = {"before": before, "after": after, "after_seed": seed, "whole": whole, "whole_seed": moved}
        rows.append({"claim": text, **found, "verdict": said})
    return rows


def _paired(results: Mapping, names: tuple[str, str] | None) -> tuple[float, float, float] | None:
    """What the first needs more than the second, with its interval; None where one of them was not run."""
    if names is None or not all(name in results for name in names):
        return None
    return paired(results[names[0]], results[names[1]])


def claims_table(results: Mapping) -> str:
    """Former claims, their differences, and what has become of them; a star where a difference does not count."""
    lines = [r"\begin{tabular}{>{\raggedright\arraybackslash}p{3.5cm}rrrl}", r"\toprule"]
    lines += [r" & REMI, & Muon, & Muon, & \\", r"Claim & AdamW & short & a pass & Now \\", r"\midrule"]
    for row in claims(results):
        before = f"${row['before'][0]:+.2f}$" if row["before"] else NOT_RUN
        after, whole = (_starred(row[name], row[f"{name}_seed"]) for name in ("after", "whole"))
        lines.append(rf"{row['claim']} & {before} & {after} & {whole} & {row['verdict']} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _starred(found: tuple[float, float, float] | None, seed: float) -> str:
    """A difference, with a star where it does not count."""
    if found is None:
        return NOT_RUN
    return f"${found[0]:+.2f}$" + ("" if counts(found, seed) else r"\rlap{*}")
