"""The paper's own figures: two diagrams, and the measured picture of time and memory against length.

    figure 1   selective_ssm   one step of the selective state-space model [1] section 3, after models/scan.py
    figure 2   mamba_block     the block, and the stack that the kit builds of it, after models/mamba.py and hybrid.py
    figure 3   benchmarks      what bench/complexity.py measured

Letters are those of models/layers.py. Widths are IEEE's: a column is 3.5 inches.
[1] Gu and Dao 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv:2312.00752.
Left out: pictures of data and of training; they are made by ittybitty/plots/.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ittybitty import plots
from ittybitty.paths import atomic_path

COLUMN = 3.4  # inches
FIXED, LEARNT, CHOSEN, COPIED = "#d9d9d9", "#bcdff2", "#fbd9a3", "#c9e8dc"  # tints of grey, blue, orange and green
FLOW, DEEP = "#333333", "#b36b00"  # lines; the hue of CHOSEN for lines and letters
NAMES = {  # of bench.complexity.MIXERS, with a colour, a marker and a line that tell them apart without colour too
    "attention": ("Attention, dense", plots.VERMILION, "o", "-"),
    "fused": ("Attention, fused", plots.ORANGE, "s", "--"),
    "lstm": ("LSTM", plots.GREEN, "^", "-"),
    "ssm": ("SSM, by FFT", plots.SKY, "D", "--"),
    "mamba": ("Selective SSM", plots.BLUE, "v", "-"),
}


class Sheet:
    """Boxes and arrows on axes that have no scale of their own; coordinates are the caller's units."""

    def __init__(self, width: float, height: float, inches: float = COLUMN):
        import matplotlib.pyplot as plt

        with plots.style():
            self.figure = plt.figure(figsize=(inches, inches * height / width))
        self.figure.set_layout_engine("none")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def box(self, x: float, y: float, text: str, color: str = LEARNT, width: float = 2.2, height: float = 0.8) -> None:
        """A rounded box with its centre at (x, y)."""
        from matplotlib.patches import FancyBboxPatch

        corner, outline = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.15"
        style: dict[str, Any] = dict(facecolor=color, edgecolor=FLOW, linewidth=0.7, zorder=2)
        self.axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=outline, **style))
        self.text(x, y, text, zorder=4)

    def join(self, x: float, y: float, sign: str) -> None:
        """A small circle in which two streams meet: + or ×."""
        from matplotlib.patches import Circle

        self.axes.add_patch(Circle((x, y), 0.26, facecolor="white", edgecolor=FLOW, linewidth=0.7, zorder=3))
        self.text(x, y - 0.02, sign, zorder=4)

    def text(self, x: float, y: float, text: str, **options) -> None:
        """Centred unless told otherwise."""
        self.axes.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": 7, **options})

    def arrow(self, *points: tuple[float, float], color: str = FLOW, dashed: bool = False, head: bool = True) -> None:
        """A line through the points; the last piece ends in an arrow head."""
        line = dict(color=color, linewidth=0.8, linestyle=(0, (3, 2)) if dashed else "-", zorder=1)
        xs, ys = zip(*points)
        if not head:
            self.axes.plot(xs, ys, **line)
            return
        self.axes.plot(xs[:-1], ys[:-1], **line)
        style = dict(arrowstyle="-|>,head_width=0.18,head_length=0.35", shrinkA=0, shrinkB=0, mutation_scale=8)
        self.axes.annotate("", points[-1], points[-2], arrowprops=dict(**style, **line), zorder=1)


def selective_ssm():
    """Figure 1: one step. Grey is the same for all tokens, orange is computed from the token."""
    sheet = Sheet(13, 7.6)
    sheet.text(0.75, 4.6, r"$h_{t-1}$")
    for x, y, text, width in (
        (3.1, 4.6, r"$\exp(\Delta_t A)$", 2.4),
        (6.3, 2.9, r"$\Delta_t B_t$", 2.4),
        (10.7, 5.8, "$C_t$", 1.4),
    ):
        sheet.box(x, y, text, CHOSEN, width)
    sheet.join(6.3, 4.6, "+")
    sheet.box(8.3, 4.6, "$h_t$", "white", 1.3, 1.0)
    sheet.arrow((1.3, 4.6), (1.9, 4.6))
    sheet.arrow((4.3, 4.6), (6.04, 4.6))
    sheet.arrow((6.56, 4.6), (7.65, 4.6))
    sheet.arrow((8.95, 4.6), (12.3, 4.6))
    sheet.text(12.65, 4.6, "…")
    sheet.arrow((10.7, 4.6), (10.7, 5.4))
    sheet.arrow((10.7, 6.2), (10.7, 7.05))
    sheet.text(10.7, 7.3, "$y_t$")
    sheet.box(3.1, 6.3, "$A$", FIXED, 1.4)
    sheet.arrow((3.1, 5.9), (3.1, 5.0))
    sheet.text(6.3, 0.3, "$u_t$")
    sheet.arrow((6.3, 0.55), (6.3, 2.5))
    sheet.arrow((6.3, 3.3), (6.3, 4.34))
    sheet.box(9.3, 1.5, "selection", CHOSEN, 2.2)
    sheet.arrow((6.3, 0.95), (9.3, 0.95), (9.3, 1.1), color=DEEP)
    _selections(sheet)
    _legend(sheet)
    return sheet.figure


def _selections(sheet: Sheet) -> None:
    """The three dashed lines by which the token sets Δ, B and C."""
    sheet.arrow((8.2, 1.7), (3.1, 1.7), (3.1, 4.2), color=DEEP, dashed=True)
    sheet.text(2.75, 3.0, r"$\Delta_t$", color=DEEP)
    sheet.arrow((9.3, 1.9), (9.3, 2.9), (7.5, 2.9), color=DEEP, dashed=True)
    sheet.text(8.5, 3.2, r"$\Delta_t,\,B_t$", color=DEEP)
    sheet.arrow((10.4, 1.5), (12.1, 1.5), (12.1, 5.8), (11.4, 5.8), color=DEEP, dashed=True)
    sheet.text(12.45, 3.0, "$C_t$", color=DEEP)


def _legend(sheet: Sheet) -> None:
    for y, color, text in ((1.15, FIXED, "the same for all $t$"), (0.45, CHOSEN, "from the token")):
        sheet.box(0.55, y, "", color, 0.5, 0.4)
        sheet.text(0.95, y, text, ha="left", fontsize=6)


def mamba_block(pattern: str = "MF MFA MF MFA"):
    """Figure 2: on the left the block, on the right a stack; `pattern` is that of config.ModelConfig."""
    sheet = Sheet(13, 11.4)
    sheet.text(4.3, 0.3, "(B, L, D)", fontsize=6)
    sheet.box(4.3, 2.0, "in_proj:  D → 2E", LEARNT, 5.4)
    sheet.arrow((4.3, 0.55), (4.3, 1.6))
    for y, text, color in ((3.5, "causal conv, K taps", LEARNT), (5.0, "SiLU", FIXED), (6.5, "selective SSM", CHOSEN)):
        sheet.box(2.7, y, text, color, 4.0)
        sheet.arrow((2.7, y - 1.1), (2.7, y - 0.4))
    sheet.box(6.3, 5.0, "SiLU", FIXED, 1.8)
    sheet.arrow((6.3, 2.4), (6.3, 4.6))
    sheet.join(2.7, 7.8, "×")
    sheet.arrow((2.7, 6.9), (2.7, 7.54))
    sheet.arrow((6.3, 5.4), (6.3, 7.8), (2.96, 7.8))
    sheet.text(2.35, 2.75, "u", fontsize=6.5)
    sheet.text(6.6, 2.75, "z", fontsize=6.5)
    sheet.box(2.7, 9.1, "out_proj:  E → D", LEARNT, 3.4)
    sheet.arrow((2.7, 8.06), (2.7, 8.7))
    sheet.arrow((2.7, 9.5), (2.7, 10.8))
    sheet.text(2.7, 11.05, "(B, L, D)", fontsize=6)
    _stack(sheet, pattern.replace(" ", ""))
    return sheet.figure


def _stack(sheet: Sheet, letters: str) -> None:
    kinds = {"M": ("Mamba", CHOSEN), "F": ("feed-forward", LEARNT), "A": ("attention", COPIED)}
    low, step = 1.9, 7.6 / len(letters)
    sheet.text(10.5, 0.3, "tokens", fontsize=6)
    sheet.arrow((10.5, 0.55), (10.5, 0.85))
    sheet.box(10.5, 1.15, "embedding", FIXED, 3.6, 0.6)
    sheet.arrow((10.5, 1.45), (10.5, 9.75))
    for i, letter in enumerate(letters):
        y = low + step * (i + 0.5)
        around = [y - 0.46 * step] * 2 + [y + 0.42 * step] * 2  # the residual stream passes every block
        sheet.axes.plot([10.5, 12.7, 12.7, 10.5], around, color="#888888", linewidth=0.6, zorder=1)
        sheet.box(10.5, y, *kinds[letter], 3.6, 0.62 * step)
    sheet.box(10.5, 10.1, "norm, tied head", FIXED, 3.6, 0.6)
    sheet.arrow((10.5, 10.4), (10.5, 10.8))
    sheet.text(10.5, 11.05, "logits (B, L, V)", fontsize=6)
    sheet.axes.plot([8.0, 8.0], [0.4, 11.0], color="#bbbbbb", linewidth=0.6, linestyle=":")


def benchmarks(results: Mapping):
    """Figure 3: seconds and peak memory of a training step against length, from `bench.complexity.complexity`."""
    import matplotlib.pyplot as plt

    lengths, rows = results["lengths"], results["mixers"]
    with plots.style(columns=1, height=2.4):
        figure, panels = plt.subplots(1, 2, sharex=True)
        time, memory = panels
        for name, row in rows.items():
            label, color, marker, line = NAMES[name]
            style = dict(color=color, marker=marker, linestyle=line, markersize=3, linewidth=1.1)
            time.loglog(lengths, [1e3 * s for s in row["seconds"]], label=label, **style)
            time.fill_between(
                lengths, *zip(*[[1e3 * s for s in pair] for pair in row["spread"]]), color=color, alpha=0.2, linewidth=0
            )
            memory.loglog(lengths, [b / 1e6 for b in row["bytes"]], **style)
        for axes, what in ((time, "time of a step (ms)"), (memory, "peak memory (MB)")):
            axes.set_ylabel(what, fontsize=8)
            axes.tick_params(labelsize=7)
            axes.set_xticks(lengths[::2], [f"{length:,}" for length in lengths[::2]])
            axes.minorticks_off()
            axes.set_xlabel("length L (tokens)", fontsize=8)
        figure.legend(fontsize=6.5, ncols=3, loc="outside upper center", handlelength=2.0, columnspacing=1.0)
    return figure


def save(figure, stem: str | Path) -> list[Path]:
    """Writes stem.pdf for LaTeX and stem.png for the eye; no date goes in, so that the same picture is the same file."""
    unstamped = {".pdf": {"CreationDate": None, "Creator": None, "Producer": None}, ".png": {"Software": None}}
    paths = [Path(stem).with_suffix(suffix) for suffix in unstamped]
    for path in paths:
        with plots.style(), atomic_path(path) as temporary:
            figure.savefig(temporary, metadata=unstamped[path.suffix])
    return paths
