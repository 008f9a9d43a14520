"""Generates README's table of results, in Markdown, between two comments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ittybitty.errors import ResultError
from ittybitty.paths import atomic_path

from .results import MODEL, NOTES, common_pieces
from .tables_tex import EVERYTHING, NOT_RUN, systems

BEGIN, END = "<!-- results: made by notebooks/12_figures.ipynb -->", "<!-- /results -->"

ROW_NAMES = {
    "shipped": f"**{{}}, one whole pass: the shipped `{MODEL}`**",
    "pass": "**{}, one whole pass**",
    "played": f"**{{}}: the shipped `{NOTES}`**",
    "tenth": "`{}`",
    "notes": "`{}`",
}


def readme_table(results: Mapping) -> str:
    """The table: every system on the same pieces, one line each."""
    share, tokens = (results["all_rows_hybrid"]["training"][key] for key in ("passes", "tokens"))
    lines = [
        f"Bits per note on {len(common_pieces(results))} pieces of MAESTRO's validation split, 95% interval over pieces; all but those in bold and the",
        f"floors after {100 * share:.0f}% of one pass ({tokens / 1e6:.1f} million tokens of the hybrid's encoding), about 2.9 million parameters each.",
        "",
        "| system | not kept by its encoding | tokens per note | bits per note |",
        "|---|---|---|---|",
    ]
    for row in systems(results):
        name = ROW_NAMES.get(row["group"], "{}").format(row["name"].removesuffix(", one pass"))
        if "keeps" not in row:
            lines.append(f"| {name} | {NOT_RUN} | | |")
            continue
        lost = ", ".join(what for what in EVERYTHING if what not in row["keeps"]) or "–"
        tokens_per_note = f"{row['tokens_per_note']:.2f}" if row["tokens_per_note"] else "–"
        lines.append(
            "| {} | {} | {} | {:.2f} ({:.2f}–{:.2f}) |".format(
                name, lost, tokens_per_note, row["bits_per_note"], *row["ci95"]
            )
        )
    return "\n".join(lines)


def fill(text: str, table: str) -> str:
    """Put the table between the two comments of a README; ResultError if they are missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ResultError(f"README.md: lacks the two lines {BEGIN} and {END}, between which the results belong")
    return f"{text.split(BEGIN)[0]}{BEGIN}\n{table}\n{END}{text.split(END)[1]}"


def write_readme(results: Mapping, path: str | Path) -> None:
    """Write the table of results into a README."""
    text = fill(Path(path).read_text(encoding="utf-8"), readme_table(results))
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
