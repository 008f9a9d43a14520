"""Generates the paper's numbers (LaTeX macros), tables and figures from recorded results, and from nothing else.

    paper/results/*.json        what was measured, with its provenance
    paper/published.yaml        what others have published, with sources
    paper/experiments/*.yaml    the rows of each experiment; one that was not run is marked as such
    pretrained/<name>/          configuration and log of the model that ships, and in results/runs/ of the one that does not
        -> paper/numbers.tex    one macro per number, with the file that it came from (numbers_tex.py, factors_numbers.py)
        -> paper/tables/*.tex   (tables_tex.py, ears.py, published.py, factors.py, claims.py, scaling.py)
        -> paper/figures/factors.pdf, passes.pdf (factors.py, passes.py)
        -> README.md            its table of results (readme_md.py)

main.tex holds no measured digit of its own (tests/test_paper.py). The installed package does not hold this folder:
callers put paper/ on their path and `import make`. Left out: pictures of data (ittybitty/plots/), and whether the
claims in words hold: notebook 12 asserts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ittybitty.paths import atomic_path

from .claims import claims, learnt, verdict
from .factors import analysed, factors_figure, grid
from .figures import save
from .number import Number
from .numbers_tex import macros, numbers
from .passes import best, fastest, passes_figure
from .published import published_rows
from .readme_md import fill, readme_blocks, readme_table, write_readme
from .results import (
    HYBRID,
    MIXERS,
    MODEL,
    NEEDED,
    PROTOCOLS,
    WHOLE,
    beats,
    common_pieces,
    extremes,
    music_read,
    on_pieces,
    overtakes,
    paired,
    read_published,
    read_results,
    rows_of,
    settings,
    uniform_bits,
)
from .tables_tex import systems, tables

__all__ = [
    "HYBRID",
    "MIXERS",
    "MODEL",
    "NEEDED",
    "PROTOCOLS",
    "WHOLE",
    "Number",
    "analysed",
    "beats",
    "best",
    "claims",
    "common_pieces",
    "extremes",
    "fastest",
    "fill",
    "grid",
    "learnt",
    "macros",
    "music_read",
    "numbers",
    "on_pieces",
    "overtakes",
    "paired",
    "published_rows",
    "read_published",
    "read_results",
    "readme_blocks",
    "readme_table",
    "rows_of",
    "settings",
    "systems",
    "tables",
    "uniform_bits",
    "verdict",
    "write",
    "write_readme",
]


def write(results: Mapping, folder: str | Path) -> list[Path]:
    """Writes numbers.tex, tables/*.tex and the figures of the factorial and of the passes below `folder`; returns their paths."""
    texts = {"numbers.tex": macros(results)} | {f"tables/{name}.tex": text for name, text in tables(results).items()}
    for name, text in texts.items():
        with atomic_path(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    import matplotlib.pyplot as plt

    (Path(folder) / "figures").mkdir(exist_ok=True)
    drawn = []
    for name, draw in (("factors", factors_figure), ("passes", passes_figure)):
        figure = draw(results)
        drawn += save(figure, Path(folder) / "figures" / name)
        plt.close(figure)  # a notebook would show it
    return [*(Path(folder) / name for name in texts), *drawn]
