"""The playground: choose a model and a seed, move a slider, watch the music grow, listen, keep it.

    from ittybitty.widget import Playground
    Playground()                         # in JupyterLab, on Kaggle; `ittybitty playground` serves it as a page

One module an idea, the page last:

    seeds        five short pieces of our own, and what an upload becomes
    models       what can play: shipped, runs, rows of the table
    next_token   what the sliders do to the next token's chances
    takes        one take: made in a thread, stopped, kept
    pictures     roll, chart and player as HTML
    page         ipywidgets around all of these
    serve        the notebook as a page, by Voilà on loopback
"""

from __future__ import annotations

__all__ = ["Playground"]


def __getattr__(name: str):
    if name != "Playground":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .page import Playground

    return Playground
