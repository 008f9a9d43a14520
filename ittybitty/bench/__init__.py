"""Benchmarks: speed and memory on this machine, compared with other implementations and with the machine's own limits.

    timing.py       how all benchmarks are timed: in turns, medians, lower bounds, peak memory
    complexity.py   time and memory of sequence mixers against length, with fitted exponents
    scan.py decode.py stream.py tokenize.py train.py   one verb `ittybitty bench …` each, beside other implementations and lower bounds
    busy.py         decode's other question: what is left of its speed where the cores are shared
    marks.py        what each verb must reach, and its result as text

Speeds of two runs cannot be compared, but ratios within one run can: everything that is compared is timed in turns.
Left out: the table and the picture of the figures; they are made by paper/make/ and ittybitty/plots/.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable


def named(kind: str) -> Callable[..., dict]:
    """The benchmark function of that verb: named("scan") is scan.bench_scan."""
    return getattr(importlib.import_module(f".{kind}", __name__), f"bench_{kind}")
