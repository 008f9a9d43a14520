"""Generates the table of published likelihoods of MAESTRO, converted to bits per note, in Markdown for README and in LaTeX.

Figures and their sources are those of paper/published.yaml; tokens per note are those that we counted on MAESTRO v3
(results/performance_tokens_*.json). A row of our own is added for each recorded result of `ittybitty experiment performance`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ittybitty.evaluation.performance import bits_per_note

from .results import rows_of

NOT_RUN = "not run"


def tokens_per_note(results: Mapping, split: str) -> float:
    """Tokens per note of the performance encoding that we counted on a split of MAESTRO v3; validation where none is named."""
    found = f"performance_tokens_{split if split == 'test' else 'validation'}"
    return results[found]["tokens_per_note"]


def published_rows(results: Mapping) -> list[dict]:
    """Published rows with "bits_per_note", then our own, which have "ci95" too; a row not run has neither."""
    rows = [
        {**row, "bits_per_note": bits_per_note(row["nats_per_token"], tokens_per_note(results, row["split"]))}
        for row in results["published"]
    ]
    for name, row in rows_of(results, "performance").items():
        ours = {
            "model": f"{name}, ours",
            "maestro": "v3",
            "split": "validation",
            "window": NOT_RUN,
            "ours": True,
        }
        if row:
            origin, passes = row.get("settings", {}).get("from"), _passes(row["training"]["passes"])
            ours |= {
                "model": f"{origin}, ours, trained on for {passes}" if origin else f"{name}, ours, {passes}",
                "window": f"{row['context']:,} events",
                "nats_per_token": row["nats_per_performance_token"],
                "bits_per_note": row["bits_per_note_as_performance"],
                "ci95": row["ci95"],
            }
        rows.append(ours)
    return rows


def _passes(passes: float) -> str:
    return f"{passes:.2g} pass{'' if f'{passes:.2g}' == '1' else 'es'}"


def published_markdown(results: Mapping) -> str:
    """The table for README, with what makes its rows differ."""
    lines = [
        "Published likelihoods of MAESTRO beside ours, in bits per note: nats per token of Magenta's performance encoding times its",
        f"tokens per note ({results['performance_tokens_validation']['tokens_per_note']:.4f} on v3's validation split, "
        f"{results['performance_tokens_test']['tokens_per_note']:.4f} on test, counted by us), divided by ln 2. They differ in more than the",
        "model: v1 and v2 of MAESTRO have other pieces and splits than v3, and windows and context differ. † not checked in the publication.",
        "",
        "| model | MAESTRO, split | window | nats per token | bits per note |",
        "|---|---|---|---|---|",
    ]
    for row in published_rows(results):
        mark = "" if row.get("verified", True) else " †"
        where = f"{row['maestro']}, {row['split'] if row['split'] != 'not stated' else 'split not stated'}"
        name = "`{}`, {}".format(*row["model"].split(", ", 1)) if row.get("ours") else row["model"]
        lines.append(f"| {name}{mark} | {where} | {row['window']} | {_nats(row)} | {_bits(row)} |")
    return "\n".join(lines)


def published_table(results: Mapping) -> str:
    """The same in LaTeX, with citations."""
    lines = [r"\begin{tabular}{llrr}", r"\toprule"]
    lines += [r" & \textsc{maestro}, & Nats per & Bits per \\", r"Model & split & token & note \\", r"\midrule"]
    for row in published_rows(results):
        mark = "" if row.get("verified", True) else r"$^\dagger$"
        where = f"{row['maestro']}, {row['split']}"
        cite = rf"~\cite{{{row['cite']}}}" if "cite" in row else ""
        name = r"\texttt{{{}}}, {}".format(*row["model"].split(", ", 1)) if row.get("ours") else row["model"]
        lines.append(rf"{name}{mark}{cite} & {where} & {_nats(row)} & {_bits(row, '--')} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _nats(row: Mapping) -> str:
    value = row.get("nats_per_token")
    return NOT_RUN if value is None else f"{value:.3f}".rstrip("0") if not row.get("ours") else f"{value:.3f}"


def _bits(row: Mapping, dash: str = "–") -> str:
    if "bits_per_note" not in row:
        return NOT_RUN
    interval = " ({:.2f}{}{:.2f})".format(row["ci95"][0], dash, row["ci95"][1]) if "ci95" in row else ""
    return f"{row['bits_per_note']:.2f}{interval}" if interval else f"{row['bits_per_note']:.1f}"
