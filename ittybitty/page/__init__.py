"""Writes one HTML file with a model, its encoding and a piano inside, which needs neither a server nor a network.

    ittybitty page -o piano.html             # or, in Python:
    from ittybitty.page import page_html, show, write_page

In Python:

    weights     tensors as bytes, matrices in 8 bits
    document    the data about model and encoding that the script reads
    seeds       the pieces that come with the page
    bundle      ES modules -> one script
    page        puts all of it into one file
    inline      shows the page inside a notebook
    script      runs and quotes the page's script from Python, for notebook 04
    browser     opens it without a window, for tests and for: measure (`ittybitty bench page`), picture (`make page-picture`),
                opening (`ittybitty bench playground`)

In js/, some modules have a counterpart in Python and use its names: numbers, weights, mamba, attention, model (models/);
tokens, grammar (tokenizers/events/); sampling, seeds, generate (sampling.py, seeds.py, generation.py). The others have no counterpart;
app.js is where it starts.
"""

from __future__ import annotations

__all__ = ["page_html", "show", "write_page"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import inline, page

    return getattr(inline if name == "show" else page, name)
