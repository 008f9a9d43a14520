"""What the paper is filled with: numbers as LaTeX macros and tables, from recorded results and from nothing else.

    paper/results/*.json        what was measured, with its provenance
    pretrained/<name>/          configuration and log of the model that the paper is about
        -> paper/numbers.tex    one macro a number, with the file that it came from
        -> paper/tables/*.tex

A macro is called \\val and a name in letters; main.tex holds no measured digit of its own (tests/test_paper.py).
Left out: pictures (figures.py, plots.py), and whether the claims in words hold: notebook 11 asserts them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import from_json
from .errors import ResultError
from .journal import read_log
from .paths import atomic_path, pretrained_dir

PROTOCOLS = ("windows", "pieces", "official")  # of experiments/leak.py
NEEDED = ("maestro", "tokenizer_settings", "complexity", "evaluate_tiny", *(f"leak_{protocol}" for protocol in PROTOCOLS))
MODEL = "tiny"
MIXERS = {  # of bench.complexity: name in macros, row of the table, time and memory as theory has them
    "attention": ("Attention", "Attention, dense", "L^2", "L^2"),
    "fused": ("Fused", "Attention, fused", "L^2", "L"),
    "lstm": ("Lstm", "RNN (LSTM)", "L", "L"),
    "ssm": ("Ssm", "SSM, by FFT", r"L \log L", "L"),
    "mamba": ("Mamba", "Selective SSM", "L", "L"),
}
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Number:
    """One macro: its name after \\val, the text it stands for, and the file that text was made from."""

    name: str
    text: str
    source: str


def read_results(folder: str | Path) -> dict[str, dict]:
    """Every results file by its stem, and the model's configuration and log under "config" and "log".

    ResultError when one that the paper needs is missing, damaged or without provenance.
    """
    found = {path.stem: _read(path) for path in sorted(Path(folder).glob("*.json"))}
    if missing := [name for name in NEEDED if name not in found]:
        raise ResultError(f"{folder}: lacks {missing[0]}.json, which the paper needs; record it first (see paper/LOG.md)")
    home = pretrained_dir() / MODEL
    found["config"] = from_json(_read(home / "config.json", provenance=False))
    found["log"] = read_log(home / "log.jsonl")
    return found


def _read(path: Path, provenance: bool = True) -> dict:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read ({error}); record it again") from None
    if provenance and not {"date", "commit", "device", "torch"} <= result.get("provenance", {}).keys():
        raise ResultError(f"{path}: does not say when, where and with what it was made; record it with evaluation.record")
    return result


def numbers(results: Mapping) -> list[Number]:
    """Every number of the text, in the order of the paper."""
    return [
        *_numbers("maestro.json", _data(results["maestro"]["splits"])),
        *_numbers("tokenizer_settings.json", _code(results["tokenizer_settings"])),
        *_numbers("complexity.json", _complexity(results["complexity"])),
        *_numbers(f"pretrained/{MODEL}/config.json", _shape(results["config"])),
        *_numbers(f"pretrained/{MODEL}/log.jsonl", _training(results["log"])),
        *_numbers("evaluate_tiny.json", _evaluation(results["evaluate_tiny"], results["config"]["model"].vocab_size)),
        *(number for protocol in PROTOCOLS for number in _numbers(f"leak_{protocol}.json", _claim(results[f"leak_{protocol}"]))),
        *_numbers("leak_windows.json", _leak(results["leak_windows"])),
    ]


def _numbers(source: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Number]:
    return (Number(name, text, source) for name, text in pairs)


def _data(splits: Mapping) -> Iterator[tuple[str, str]]:
    for split in SPLITS:
        yield f"{split.title()}Pieces", f"{splits[split]['pieces']:,}"
    total = {key: sum(splits[split][key] for split in SPLITS) for key in ("pieces", "notes", "hours")}
    yield "AllPieces", f"{total['pieces']:,}"
    yield "AllHours", f"{total['hours']:.0f}"
    yield "AllNotes", f"{total['notes'] / 1e6:.2f} million"


def _code(result: Mapping) -> Iterator[tuple[str, str]]:
    chosen, published = settings(result, "remi"), settings(result, "remi-published")
    yield "SettingsPieces", f"{len(result['pieces'])}"
    yield "BaseTokensPerNote", f"{chosen['tokens_per_note']:.2f}"
    yield "GridError", f"{chosen['onset_error_ms']:.1f}"
    yield "PublishedDrift", f"{published['late_at_end_s']:.1f}"


def settings(result: Mapping, variant: str) -> dict:
    """The row of tokenizer_settings.json that is that variant of the tokenizer."""
    return next(row for row in result["rows"] if row["settings"].endswith(f"({variant})"))


def _complexity(result: Mapping) -> Iterator[tuple[str, str]]:
    rows, lengths = result["mixers"], result["lengths"]
    yield "LengthFrom", f"{lengths[0]:,}"
    yield "LengthFitted", f"{result['fitted_from']:,}"
    yield "LengthTo", f"{lengths[-1]:,}"
    yield "MixerWidth", f"{result['width']}"
    yield "MixerHeads", f"{result['heads']}"
    yield "MixerTurns", f"{result['turns']}"
    yield "MixerThreads", f"{result['threads']}"
    for key, (name, *_) in MIXERS.items():
        yield f"{name}TimeExponent", f"{rows[key]['time_exponent']:.2f}"
        yield f"{name}MemoryExponent", f"{rows[key]['memory_exponent']:.2f}"
    for key, (name, *_) in MIXERS.items():
        if key != "mamba":
            yield f"{name}TimesMamba", ratio(rows[key]["seconds"][-1] / rows["mamba"]["seconds"][-1])
    yield "AttentionMemoryTimesMamba", ratio(rows["attention"]["bytes"][-1] / rows["mamba"]["bytes"][-1])
    yield "MambaOvertakesDense", overtakes(lengths, rows["mamba"]["seconds"], rows["attention"]["seconds"])
    yield "MambaOvertakesFused", overtakes(lengths, rows["mamba"]["seconds"], rows["fused"]["seconds"])


def ratio(value: float) -> str:
    """Two figures: machines are too noisy for more."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def overtakes(lengths: list[int], first: list[float], second: list[float]) -> str:
    """The length from which on `first` is below `second` at every length measured, as text."""
    ahead = [i for i in range(len(lengths)) if all(a < b for a, b in zip(first[i:], second[i:]))]
    return f"{lengths[ahead[0]]:,}" if ahead else "no length measured"


def _shape(configs: Mapping) -> Iterator[tuple[str, str]]:
    model, data, train = configs["model"], configs["data"], configs["train"]
    yield "Vocabulary", f"{model.vocab_size:,}"
    for letter, name in (("M", "MambaBlocks"), ("F", "FeedForwardBlocks"), ("A", "AttentionBlocks")):
        yield name, f"{model.pattern.count(letter)}"
    yield "Window", f"{model.attn_window}"
    yield "Stride", f"{model.attn_stride}"
    yield "Reach", f"{model.attn_reach:,}"
    yield "Cache", f"{model.attn_window + model.attn_reach // model.attn_stride + 1}"
    yield "Context", f"{data.context:,}"
    yield "Smoothing", f"{train.label_smoothing:g}"


def _training(log: list[dict]) -> Iterator[tuple[str, str]]:
    trained = [record for record in log if "tokens" in record]
    yield "Steps", f"{trained[-1]['step']:,}"
    yield "Tokens", f"{trained[-1]['tokens'] / 1e6:.1f} million"
    yield "Epochs", f"{trained[-1]['epoch']:.2f}"
    yield "Hours", f"{trained[-1]['seconds'] / 3600:.1f}"


def _evaluation(result: Mapping, vocabulary: int) -> Iterator[tuple[str, str]]:
    yield "Parameters", f"{result['parameters'] / 1e6:.2f} million"
    yield "BitsPerNote", f"{result['bits_per_note']:.2f}"
    yield "BitsLow", f"{result['ci95'][0]:.2f}"
    yield "BitsHigh", f"{result['ci95'][1]:.2f}"
    yield "UniformBits", f"{uniform_bits(result, vocabulary):.1f}"
    yield "ShareOfUniform", f"{100 * result['bits_per_note'] / uniform_bits(result, vocabulary):.0f}\\,\\%"
    yield "TokensPerNote", f"{result['tokens_per_note']:.2f}"
    yield "Pieces", f"{result['pieces']}"
    yield "Notes", f"{result['notes']:,}"
    yield "OnsetError", f"{result['onset_error_ms']:.1f}"
    easiest, hardest = extremes(result)
    yield "EasiestPiece", f"{easiest:.1f}"
    yield "HardestPiece", f"{hardest:.1f}"


def _claim(result: Mapping) -> Iterator[tuple[str, str]]:
    name = result["protocol"].title()
    yield f"{name}Claimed", f"{result['claimed_bits_per_note']:.1f}"
    yield f"{name}True", f"{result['bits_per_note']:.1f}"


def _leak(result: Mapping) -> Iterator[tuple[str, str]]:
    settings = result["settings"]
    yield "LeakPieces", f"{settings['training_pieces']}"
    yield "LeakHeldOut", f"{result['pieces']}"
    yield "LeakSteps", f"{result['training']['steps']:,}"
    yield "LeakParameters", f"{result['parameters'] / 1e6:.1f} million"
    yield "LeakContext", f"{settings['set']['data.context']}"
    yield "LeakStride", f"{settings['set']['data.stride']}"
    yield "LeakCopies", f"{settings['set']['data.copies']}"


def uniform_bits(result: Mapping, vocabulary: int) -> float:
    """Bits per note of a model that finds every token equally likely."""
    return result["tokens_per_note"] * math.log2(vocabulary)


def extremes(result: Mapping) -> tuple[float, float]:
    """Bits per note of the easiest and of the hardest piece."""
    values = [row["bits"] / row["notes"] for row in result["per_piece"]]
    return min(values), max(values)


def macros(results: Mapping) -> str:
    """The text of numbers.tex."""
    lines = ["% Made by notebooks/11_figures.ipynb from recorded results: change those, never this file."]
    lines += [f"\\newcommand{{\\val{n.name}}}{{{n.text}}}  % {n.source}" for n in numbers(results)]
    return "\n".join(lines) + "\n"


def tables(results: Mapping) -> dict[str, str]:
    """Name of a table -> its LaTeX."""
    return {
        "settings": settings_table(results["tokenizer_settings"]),
        "complexity": complexity_table(results["complexity"]),
        "setup": setup_table(results["config"]),
        "results": results_table(results["evaluate_tiny"]),
        "leak": leak_table([results[f"leak_{protocol}"] for protocol in PROTOCOLS]),
    }


def settings_table(result: Mapping) -> str:
    """What a grid costs in tokens and in time, over a few validation pieces."""
    rows = []
    for row in result["rows"]:
        name = row["settings"].replace("(remi)", "\\textbf{(ours)}").replace("(remi-published)", "(published)")
        rows.append([name, f"{row['tokens_per_note']:.2f}", f"{row['onset_error_ms']:,.1f}", f"{row['late_at_end_s']:.2f}"])
    head = [["", "Tokens", "Onset", "Late at"], ["Positions a beat, and more", "per note", "off (ms)", "end (s)"]]
    return _tabular(r">{\raggedright\arraybackslash}p{4.1cm}rrr", head, rows)


def complexity_table(result: Mapping) -> str:
    """Of every mixer theory, fitted exponent and the cost at the longest length."""
    rows = []
    for key, (_, name, time, memory) in MIXERS.items():
        row = result["mixers"][key]
        rows.append([name, f"${time}$", f"{row['time_exponent']:.2f}", f"{row['seconds'][-1] * 1e3:,.0f}",
                     f"${memory}$", f"{row['memory_exponent']:.2f}", f"{row['bytes'][-1] / 1e6:,.0f}"])  # fmt: skip
    head = [["", r"\multicolumn{3}{c}{Time}", r"\multicolumn{3}{c}{Memory}"], ["Mixer", "$O$", "$p$", "ms", "$O$", "$p$", "MB"]]
    return _tabular("lcrrcrr", head, rows)


def setup_table(configs: Mapping) -> str:
    """The model and its recipe."""
    model, data, train = configs["model"], configs["data"], configs["train"]
    rows = [
        ["Stack", rf"\texttt{{{model.pattern}}}"],
        ["Width $D$, inner width $E$", f"{model.d_model}, {model.expand * model.d_model}"],
        ["States $N$, taps $K$", f"{model.d_state}, {model.d_conv}"],
        ["Feed-forward width", f"{model.d_ff:,}"],
        ["Attention heads", f"{model.n_heads}"],
        ["Vocabulary $V$", f"{model.vocab_size:,}"],
        ["Window of training", f"{data.context:,} tokens"],
        ["Windows a step", f"{train.batch_size}"],
        ["Optimizer", rf"AdamW, $\beta$ {train.beta1:g} and {train.beta2:g}"],
        ["Learning rate", f"{_power(train.learning_rate)}, cosine to {_power(train.min_learning_rate)}"],
        ["Warm-up", f"{train.warmup} steps"],
        ["Weight decay, matrices only", f"{train.weight_decay:g}"],
        ["Gradient clipping", f"{train.clip:g}"],
        ["Label smoothing", f"{train.label_smoothing:g}"],
        ["Augmentation", _augmentation(data)],
    ]
    return _tabular("ll", [], rows)


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value))
    return rf"${value / 10**exponent:g} \times 10^{{{exponent}}}$"


def _augmentation(data) -> str:
    if not (data.pitch_shift or data.velocity_shift or data.tempo_stretch):
        return "none"
    return rf"$\pm{data.pitch_shift}$ semitones, $\pm{100 * data.tempo_stretch:g}$\,\% tempo"


def results_table(result: Mapping) -> str:
    """What was measured on held-out pieces, beside what the code keeps."""
    low, high = result["ci95"]
    rows = [
        ["Bits per note", f"{result['bits_per_note']:.2f} ({low:.2f}--{high:.2f})"],
        ["Bits per token", f"{result['bits_per_token']:.2f}"],
        ["Bits per second of music", f"{result['bits_per_second']:.1f}"],
        ["Tokens per note", f"{result['tokens_per_note']:.2f}"],
        ["Code keeps", ", ".join(result["keeps"])],
        ["Onset error, mean", f"{result['onset_error_ms']:.1f}\\,ms"],
        ["Duration error, mean", f"{result['duration_error_ms']:.1f}\\,ms"],
        ["Velocity error, mean", f"{result['velocity_error']:.2f} of 127 steps"],
        ["Notes lost", f"{result['notes_lost']:,}"],
        ["Pieces, notes", f"{result['pieces']:,}, {result['notes']:,}"],
    ]
    return _tabular("ll", [], rows)


def leak_table(rows: Iterable[Mapping]) -> str:
    """What each protocol would have claimed, and what is true."""
    what = {"windows": "random windows", "pieces": "random pieces", "official": "by composition (ours)"}
    body = [
        [what[row["protocol"]], f"{row['claimed_bits_per_note']:.1f}", f"{row['bits_per_note']:.1f} ({row['ci95'][0]:.1f}--{row['ci95'][1]:.1f})"]
        for row in rows
    ]
    return _tabular("lrr", [["Split", "Claimed", "True"]], body)


def _tabular(columns: str, head: list[list[str]], rows: list[list[str]]) -> str:
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(row) + r" \\" for row in head] + [r"\midrule"] * bool(head)
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write(results: Mapping, folder: str | Path) -> list[Path]:
    """Writes numbers.tex and tables/*.tex below `folder`; returns their paths."""
    texts = {"numbers.tex": macros(results)} | {f"tables/{name}.tex": text for name, text in tables(results).items()}
    for name, text in texts.items():
        with atomic_path(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [Path(folder) / name for name in texts]
