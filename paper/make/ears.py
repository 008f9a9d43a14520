"""Generates the table of matching, endurance, stuck and silent, in Markdown for README and in LaTeX for the paper.

Rows are those of paper/experiments/ears.yaml that were recorded (`ittybitty experiment ears`).
"""

from __future__ import annotations

from collections.abc import Mapping

from .results import MODEL, NOTES, rows_of

PIANISTS = "pianists"
TEST = "-test"  # rows by which no setting of the sampler was chosen
NAMES = {  # row of the recipe -> its name in a table
    PIANISTS: "pianists, what they really played",
    NOTES: "{}, one step per note",
    f"{NOTES}-not-held": "{}, not held to the seed",
    MODEL: "{}",
    f"{MODEL}-published": "{}, sampled as published",
    f"{PIANISTS}{TEST}": "pianists, openings of the test split",
    f"{NOTES}{TEST}": "{}, openings of the test split",
    f"{NOTES}-not-held{TEST}": "{}, not held, openings of the test split",
}
SHORT = {
    PIANISTS: "the pianists",
    NOTES: "{}, notes",
    f"{NOTES}-not-held": "{}, not held",
    f"{MODEL}-published": "{}, published",
    f"{PIANISTS}{TEST}": "the pianists",
    f"{NOTES}{TEST}": "{}, notes",
    f"{NOTES}-not-held{TEST}": "{}, not held",
}  # for the paper's narrow column


def ears_rows(results: Mapping) -> dict[str, Mapping]:
    """The recorded rows of the experiment: the pianists first, then the models in the order of the recipe; the test split last."""
    found = {name: row for name, row in rows_of(results, "ears").items() if row}

    def place(name: str) -> tuple[bool, bool]:
        return name.endswith(TEST), name.removesuffix(TEST) != PIANISTS

    return {name: found[name] for name in sorted(found, key=place)}


def ears_markdown(results: Mapping) -> str:
    """The table for README, with one sentence that says what was counted."""
    rows = ears_rows(results)
    if not rows:
        return "The continuations were not measured."
    plan = next(iter(rows.values()))["plan"]
    lines = [
        f"Continuations of {plan['pieces']} openings of {plan['opening']:.0f} s from the validation split, {plan['seconds']:.0f} s each. Windows are those of {plan['long']} further continuations of {plan['notes']:,} notes;",
        f"the last two columns also count continuations of {plan['whole_files']} whole files by the models. By chance the own opening would be the nearest in {100 / plan['pieces']:.1f}% of the cases.",
        "",
        "| who plays | own opening is the nearest | windows outside | stuck | silent |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        matched, outside, stuck, silent = _cells(row)
        shown = NAMES.get(name, "{}").format(f"`{row['model']}`")
        lines.append(f"| {f'**{shown}**' if name == NOTES else shown} | {matched}% | {outside}% | {stuck} | {silent} |")
    if any(name.endswith(TEST) for name in rows):
        lines += [
            "",
            "Temperature, truncation and hold were chosen on the openings of the validation split, and not on those of the test split.",
        ]
    return "\n".join([*lines, *_classifier(rows_of(results, "two_sample"))])


def _classifier(tested: Mapping) -> list[str]:
    """How often a small classifier tells continuations from what pianists played; nothing where a test is missing."""
    notes, remi = tested.get(NOTES), tested.get(MODEL)
    if not (notes and remi and notes["fit"] and remi["fit"]):
        return []
    alone, control, fit, other = (
        f"{100 * one['accuracy']:.0f}%" for one in (notes, notes["control"], notes["fit"], remi["fit"])
    )
    return [
        "",
        f"A small classifier that sees a few features of a minute of music tells a continuation of `{NOTES}` from what the pianist played in {alone} of the cases, and two successive minutes of the",
        f"same pianist from each other in {control}; chance is 50%. If it also sees how far the minute is from its opening, it is right in {fit} of the cases for `{NOTES}` and in {other} for `{MODEL}`.",
    ]


def ears_table(results: Mapping) -> str:
    """The same in LaTeX, and how often a small classifier tells excerpts from what pianists played, of the rows that were tested so."""
    lines = [r"\begin{tabular}{lrrrrr}", r"\toprule"]
    lines += [r" & Matched & Outside & Stuck & Silent & Told apart \\", r" & (\%) & (\%) & & & (\%) \\", r"\midrule"]
    rows, tested = ears_rows(results), rows_of(results, "two_sample")
    for name, row in rows.items():
        if name == f"{PIANISTS}{TEST}":
            lines += [r"\midrule", r"\multicolumn{6}{l}{\emph{openings of the test split}} \\"]
        matched, outside, stuck, silent = _cells(row)
        shown = SHORT.get(name, "{}").format(rf"\texttt{{{row['model']}}}")
        told = _told_apart(tested[NOTES] if name == PIANISTS else tested.get(name), name == PIANISTS)
        faults = " & ".join(one.replace(" of ", "/") for one in (stuck, silent))
        lines.append(rf"{shown} & {matched} & {outside} & {faults} & {told} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _told_apart(test: Mapping | None, control: bool) -> str:
    """Percent by the excerpt alone, and with its distance from the opening; for pianists that of the control."""
    if not test:
        return "--"
    found = (test["control"],) if control else (test, test["fit"])
    return ", ".join(f"{100 * one['accuracy']:.0f}" for one in found if one) or "--"


def _cells(row: Mapping) -> tuple[str, str, str, str]:
    """Percent of continuations matched, percent of windows outside, "n of N" stuck and silent, whole files included."""
    faults = [part for part in (row["openings"], row.get("whole_files")) if part]
    count = sum(part["continuations"] for part in faults)
    return (
        f"{100 * row['matching']['accuracy']:.0f}",
        f"{100 * row['endurance']['share_outside']:.0f}",
        f"{sum(part['stuck'] for part in faults)} of {count}",
        f"{sum(part['silent'] for part in faults)} of {count}",
    )
