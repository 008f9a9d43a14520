"""Generates README's tables of results, in Markdown, each between two comments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ittybitty.errors import ResultError
from ittybitty.paths import atomic_path

from .ears import ears_markdown
from .passes import passes_numbers
from .published import published_markdown
from .results import HYBRID, MODEL, NOTES, WHOLE, music_read
from .tables_tex import NOT_RUN

ROWS = (  # record on the validation split, on the test split, its name, the music that it has read
    (f"evaluate_{NOTES}", f"test_{NOTES}", f"**`{NOTES}`**: hybrid, one step per note", "{passes:.1f} passes"),
    ("passes_hybrid", "", "hybrid, one step per note, optimizer Muon", "1 pass"),
    ("passes_llama", "", "LLaMA-style Transformer, one step per note, Muon", "1 pass"),
    ("passes_hybrid-remi-512", "", "hybrid on REMI tokens, vocabulary of 512, Muon", "1 pass"),
    ("passes_hybrid-fine-pedal", "", "hybrid, one step per note with a precise pedal, Muon", "1 pass"),
    ("passes_mamba-lower", "", "Mamba, one step per note, Muon", "1 pass"),
    ("passes_hybrid-remi", "", "hybrid on REMI tokens, vocabulary of 2,000, Muon", "1 pass"),
    ("passes_mamba-remi", "", "Mamba on REMI tokens, Muon", "1 pass"),
    ("passes_hybrid-adamw", "", "hybrid, one step per note, optimizer AdamW", "1 pass"),
    (f"evaluate_{MODEL}", f"test_{MODEL}", f"**`{MODEL}`**: Mamba on REMI tokens, AdamW and label smoothing", "1 pass"),
    (f"evaluate_{HYBRID}", "", "hybrid on REMI tokens, AdamW and label smoothing", "1 pass"),
    (WHOLE["Llama"], "", "LLaMA-style Transformer on REMI tokens, AdamW and label smoothing", "1 pass"),
    ("baseline_xz", "", "xz on a list of notes, no training", "–"),
    ("baseline_ngram", "", "n-gram on REMI tokens, Kneser–Ney", "1 pass"),
)


def readme_table(results: Mapping) -> str:
    """The table: the models that ship, others after a whole pass, and baselines without a network."""
    shipped = results[f"evaluate_{NOTES}"]
    test = results[f"test_{NOTES}"]
    passes, minutes = music_read(results)
    lines = [
        f"Bits per note on MAESTRO's validation split ({shipped['pieces']} pieces, {shipped['notes']:,} notes) and test split ({test['pieces']} pieces, by which nothing was chosen), with 95%",
        f"intervals over pieces. All keep pitch, onset, duration, velocity and pedal{_pedal(results)}. `{NOTES}` was trained for {minutes / 60:.1f} hours on one processor core.",
        "",
        "| system | parameters | music read | validation | test |",
        "|---|---|---|---|---|",
    ]
    for validation, test, name, music in ROWS:
        if validation not in results:
            continue
        row = results[validation]
        parameters = f"{row['parameters'] / 1e6:.1f}M" if row["parameters"] else "–"
        lines.append(
            f"| {name} | {parameters} | {music.format(passes=passes)} | {_bits(row)} | {_bits(results[test]) if test else NOT_RUN} |"
        )
    return "\n".join([*lines, *_lesson(results)])


def _pedal(results: Mapping) -> str:
    """How precisely the two encodings keep the pedal, where both were measured."""
    notes, remi = (results.get(name, {}).get("pedal_error_ms") for name in ("passes_hybrid", "passes_hybrid-remi"))
    if notes is None or remi is None:
        return ""
    return f"; movements of the pedal are {notes:.0f} ms off on average in models with one step per note, and {remi:.0f} ms with REMI tokens or a precise pedal"


def _lesson(results: Mapping) -> list[str]:
    """What the rows after one pass teach, in one sentence; nothing where one of the numbers is missing."""
    told = dict(passes_numbers(results))
    names = ("Optimizer", "Spread", "EncodingFine", "FewLess")
    optimizer, spread, encoding, few = (told[f"Passes{name}"] for name in names)
    if NOT_RUN in (optimizer, spread, encoding, few):
        return []
    return [
        "",
        f"After one pass over the same music, AdamW in place of Muon costs the hybrid {optimizer} bits, and the best and the worst of {told['PassesArchitectures']} architectures (LSTM and Mamba without selection are not shown) are {spread} bits apart, of which the",
        f"hybrid and the Transformer are the best two; differences are means over seeds. Beside one step per note with an equally precise pedal, REMI tokens need {encoding} more with a vocabulary of 2,000 and {few} less with one of 512,",
        f"but training on them takes {_slower(results)} times as long.",
    ]


def _slower(results: Mapping) -> str:
    """How much longer the hybrid trains on REMI tokens than on notes with a precise pedal, from the least to the most."""
    hours = [results[f"passes_hybrid-remi{size}"]["training"]["hours"] for size in ("", "-512")]
    notes = results["passes_hybrid-fine-pedal"]["training"]["hours"]
    return f"{min(hours) / notes:.1f} to {max(hours) / notes:.1f}"


def _bits(row: Mapping) -> str:
    return "{:.2f} ({:.2f}–{:.2f})".format(row["bits_per_note"], *row["ci95"])


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
