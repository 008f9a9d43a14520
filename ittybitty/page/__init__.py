"""A page that plays by itself: one HTML file with the model, its encoding and a piano inside; no server, no network.

    ittybitty page -o piano.html             # or, in Python:
    from ittybitty.page import page_html

In Python:

    weights     tensors as bytes, matrices in 8 bits
    document    what the script is told about model, encoding and seeds
    seeds       the pieces that come with the page
    bundle      ES modules -> one script
    page        all of it in one file

In js/, to be read beside their models in Python: numbers, weights, mamba, attention, model (models/); tokens, grammar
(tokenizers/events/); sampling, generate (sampling.py, generation.py). The others are the page's own; app.js begins it.
"""

from __future__ import annotations

__all__ = ["page_html", "write_page"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import page

    return getattr(page, name)
