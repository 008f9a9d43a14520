"""Trains a model: one loop, and its parts.

    loop.py        the training loop; `train` is what others call
    start.py       what a training starts from: nothing, the run in its folder, or the weights of another
    windows.py     token files -> training batches, in an order that a resumed run repeats exactly
    optimizer.py   AdamW's parameter groups, learning rate, precision
    parallel.py    one device, DataParallel, or torchrun
    validation.py  held-out windows, measured while the model is trained
    log.py         log.jsonl and the progress line
    stop.py        stop requests: SIGINT, SIGTERM, a limit of hours

Left out: what is trained (systems.py) and on what (pipeline.py tokenizes a corpus and calls `train`).
"""

from __future__ import annotations

from .loop import train

__all__ = ["train"]
