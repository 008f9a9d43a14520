"""Generates README's tables of results, in Markdown, each between two comments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ittybitty.errors import ResultError
from ittybitty.paths import atomic_path

from .ears import ears_markdown
from .published import published_markdown
from .results import MODEL, NOTES, common_pieces
from .tables_tex import EVERYTHING, NOT_RUN, systems

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


def readme_blocks(results: Mapping) -> dict[str, str]:
    """{name of a block: its Markdown}."""
    return {"results": readme_table(results), "ears": ears_markdown(results), "published": published_markdown(results)}


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Put each block between its two comments in a README; ResultError if they are missing."""
    for name, block in blocks.items():
        begin, end = f"<!-- {name}: made by notebooks/12_figures.ipynb -->", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ResultError(f"README.md: lacks the two lines {begin} and {end}, between which a table belongs")
        text = f"{text.split(begin)[0]}{begin}\n{block}\n{end}{text.split(end)[1]}"
    return text


def write_readme(results: Mapping, path: str | Path) -> None:
    """Write the tables of results into a README."""
    text = fill(Path(path).read_text(encoding="utf-8"), readme_blocks(results))
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
