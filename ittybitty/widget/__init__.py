"""The playground: a page of widgets on which a person chooses a model and a seed, and generates, hears and compares continuations.

    from ittybitty.widget import Playground
    Playground()                         # in JupyterLab, on Kaggle; `ittybitty playground` serves it as a page

One module for each idea, the page and its server last:

    seeds        five short pieces of our own, and what an upload becomes
    models       the models that can be chosen: shipped ones and run folders
    next_token   what the sliders do to the probabilities of what comes next
    takes        a take, which is one continuation: its request, its generation in a thread, its files
    kept         takes as text, which the browser keeps while the page is reloaded
    roll         the piano roll as HTML
    pictures     chart, player and lines of text as HTML
    opening      what is shown while the kernel starts
    controls     the left side: model, seed, sliders, buttons
    chances      the card of what comes next
    browser      messages between kernel and browser; page.js is the browser's side
    page         the whole page, out of ipywidgets
    serve        the notebook as a web page, by Voilà on loopback
"""

from __future__ import annotations

__all__ = ["Playground"]


def __getattr__(name: str):
    if name != "Playground":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .page import Playground

    return Playground
