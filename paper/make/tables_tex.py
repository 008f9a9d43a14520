"""Generates the paper's tables as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .claims import claims_table
from .ears import ears_table
from .factors import factors_table
from .passes import passes_table
from .published import published_table
from .results import (
    MIXERS,
    MODEL,
    NOTES,
    PROTOCOLS,
    STAGES,
    WHOLE,
    common_pieces,
    music_read,
    on_pieces,
    rows_of,
)
from .scaling import scaling_table

EVERYTHING = ("pitch", "onset", "duration", "velocity", "pedal")  # what an encoding may keep
NOT_RUN = "not run"
SHIPPED = f"evaluate_{MODEL}"


def tables(results: Mapping) -> dict[str, str]:
    """{name of a table: its LaTeX}."""
    return {
        "settings": settings_table(results["tokenizer_settings"]),
        "complexity": complexity_table(results["complexity_mixers"]),
        "leak": leak_table([results[f"leak_{protocol}"] for protocol in PROTOCOLS]),
        "systems": systems_table(results),
        "ears": ears_table(results),
        "published": published_table(results),
        "factors": factors_table(results),
        "claims": claims_table(results),
        "passes": passes_table(results),
        "copied": copied_table(results),
        "scaling": scaling_table(results),
    }


def settings_table(result: Mapping) -> str:
    """Tokens per note and errors in time of several grids, over a few validation pieces."""
    rows = []
    for row in result["rows"]:
        name = row["settings"].replace("(remi)", "\\textbf{(ours)}").replace("(remi-published)", "(published)")
        rows.append(
            [
                name.replace("positions a beat", "positions per beat"),
                f"{row['tokens_per_note']:.2f}",
                f"{row['onset_error_ms']:,.1f}",
                f"{row['late_at_end_s']:.2f}",
            ]
        )
    head = [["", "Tokens", "Onset", "Off at"], ["Positions per beat, and more", "per note", "off (ms)", "end (s)"]]
    return _tabular(r">{\raggedright\arraybackslash}p{4.1cm}rrr", head, rows)


def complexity_table(result: Mapping) -> str:
    """For every mixer: theoretical growth, fitted exponent, and cost at the longest length."""
    rows = []
    for key, (_, name, time, memory) in MIXERS.items():
        row = result["mixers"][key]
        rows.append(
            [
                name,
                f"${time}$",
                f"{row['time_exponent']:.2f}",
                f"{row['seconds'][-1] * 1e3:,.0f}",
                f"${memory}$",
                f"{row['memory_exponent']:.2f}",
                f"{row['bytes'][-1] / 1e6:,.0f}",
            ]
        )
    head = [
        ["", r"\multicolumn{3}{c}{Time}", r"\multicolumn{3}{c}{Memory}"],
        ["Mixer", "$O$", "$p$", "ms", "$O$", "$p$", "MB"],
    ]
    return _tabular("lcrrcrr", head, rows)


def _system(results: Mapping, name: str) -> str:
    """The system of a result, by its row where it is not there."""
    return results[name]["system"] if name in results else name.rpartition("_")[2]


def leak_table(rows: Iterable[Mapping]) -> str:
    """Claimed and true bits per note of each protocol."""
    what = {"windows": "random windows", "pieces": "random pieces", "official": "by composition (ours)"}
    body = [
        [
            what[row["protocol"]],
            f"{row['claimed_bits_per_note']:.1f}",
            f"{row['bits_per_note']:.1f} ({row['ci95'][0]:.1f}--{row['ci95'][1]:.1f})",
        ]
        for row in rows
    ]
    return _tabular("lrr", [["Split", "Claimed", "True"]], body)


def systems(results: Mapping) -> list[dict]:
    """The rows of the comparison on the same pieces, cheapest first, those whose encoding keeps everything before the others: "name",
    "group" ("played", "shipped", "pass", "floor", "tenth" or "notes"), "keeps", "tokens_per_note", "parameters", "bits_per_note", "ci95"; of a row
    not run name and group alone."""
    names = common_pieces(results)
    given = [
        (f"{_system(results, name)}, one pass", "shipped" if name == SHIPPED else "pass", results.get(name))
        for name in WHOLE.values()
    ]
    passes, _ = music_read(results)
    given.append((f"notes-hybrid, {passes:.1f} passes", "played", results[f"evaluate_{NOTES}"]))
    given += [
        ("xz on a list of notes", "floor", results["baseline_xz"]),
        ("n-gram, Kneser–Ney", "floor", results["baseline_ngram"]),
    ]
    given += [(name, "tenth", row) for name, row in rows_of(results, "all_rows").items()]
    given += [(name, "notes", row) for name, row in rows_of(results, "notes").items()]
    rows = []
    for name, group, result in given:
        row = {"name": name, "group": group}
        if result:
            bits, *interval = on_pieces(result, names)
            row |= {key: result[key] for key in ("keeps", "tokens_per_note", "parameters")} | {
                "bits_per_note": bits,
                "ci95": interval,
            }
        rows.append(row)
    return sorted(
        rows,
        key=lambda row: (
            not row.get("keeps"),
            set(row.get("keeps", ())) != set(EVERYTHING),
            row.get("bits_per_note", 0),
        ),
    )


def systems_table(results: Mapping) -> str:
    """Every system and baseline on the same pieces."""
    rows = systems(results)
    body: list[list[str] | str] = []
    for row in rows:
        style = {"played": "textbf", "shipped": "textbf", "pass": "textbf", "tenth": "texttt", "notes": "texttt"}.get(
            row["group"]
        )
        name = rf"\{style}{{{row['name']}}}" if style else row["name"].replace("–", "--")
        if "keeps" not in row:
            body += [r"\midrule"] * (NOT_RUN not in body[-1]) + [[name, NOT_RUN]]
            continue
        if set(row["keeps"]) != set(EVERYTHING) and r"\midrule" not in body:
            body += [r"\midrule", [r"\multicolumn{5}{l}{\emph{encodings that keep less, and so have less to predict}}"]]
        tokens = f"{row['tokens_per_note']:.2f}" if row["tokens_per_note"] else "--"
        size = f"{row['parameters'] / 1e6:.2f}" if row["parameters"] else "--"
        body.append([name, _lost(row["keeps"]), tokens, size, _bits(row["bits_per_note"], row["ci95"])])
    head = [
        ["", "", "Tokens", "Parameters", "Bits per note"],
        ["System", "Not kept", "per note", "(millions)", r"(95\,\%)"],
    ]
    return _tabular("llrrr", head, body)


def _lost(keeps: Iterable[str]) -> str:
    return ", ".join(what for what in EVERYTHING if what not in keeps) or "--"


def _bits(bits: float, interval: Iterable[float]) -> str:
    return "{:.2f} ({:.2f}--{:.2f})".format(bits, *interval)


def copied_table(results: Mapping) -> str:
    """Longest runs shared with the training pieces: models by the music that they have read, then pianists."""
    ends = results["trained"][NOTES]["ends"]
    found = {name: row for name, row in rows_of(results, "memorisation").items() if row}
    body = []
    for name, row in found.items():
        model, stage = (NOTES, name.removeprefix(STAGES)) if name.startswith(STAGES) else (name, "")
        shown = rf"\texttt{{{model}}}" + f", stage {stage}" * bool(stage)
        read = sum(end["epoch"] for end in ends[: int(stage) if stage else None]) if model == NOTES else 1.0
        body.append([shown, f"{read:.1f}", *_longest(row, "generated")])
    people = found[MODEL]
    body += [["pianists, what followed", "--", *_longest(people, "truth")]]
    body += [["pianists, other pieces", "--", *_longest(people, "other_humans")]]
    return _tabular("lrrr", [["", "Passes", "Mean", "Longest"]], body)


def _longest(row: Mapping, whose: str) -> list[str]:
    found = row["longest"]["pitch and time"][whose]
    return [f"{found['mean']:.1f}", f"{found['longest']}"]


def _tabular(columns: str, head: list[list[str]], rows: Iterable[list[str] | str]) -> str:
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(row) + r" \\" for row in head] + [r"\midrule"] * bool(head)
    lines += [row if isinstance(row, str) else " & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
