"""The colours and the style of every picture.

Colours are those of Okabe and Ito [1]: colour-blind readers can distinguish them, and by lightness in grey. Sizes are for
a page of two columns: text of 8 to 9 points on 7 inches, 3.4 inches with `style(columns=1)`.

[1] Okabe and Ito 2008, Color Universal Design.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F",
)  # fmt: skip  # the eight colours side by side
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
SEED, NEW = BLUE, VERMILION  # a seed and its continuation, in every picture

_STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "image.cmap": "cividis",
    "pdf.fonttype": 42,
}


class style:
    """Set the style of all following figures, ``plots.style()``, or of a block, ``with plots.style(): …``.

    Figures are as wide as one or both `columns` of a page, and `height` inches high.
    """

    def __init__(self, columns: int = 2, height: float = 2.6):
        import matplotlib
        from cycler import cycler

        self._before = dict(matplotlib.rcParams.copy())
        del self._before["backend"]  # not part of the style; reading it would choose a backend
        size = (7.0 if columns == 2 else 3.4, height)
        matplotlib.rcParams.update({**_STYLE, "figure.figsize": size, "axes.prop_cycle": cycler(color=PALETTE)})

    def __enter__(self) -> style:
        return self

    def __exit__(self, *exception) -> None:
        import matplotlib

        matplotlib.rcParams.update(self._before)


def axes_or_new(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots()[1]
