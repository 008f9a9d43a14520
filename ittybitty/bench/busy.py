"""`ittybitty bench decode --busy`: tokens per second of continuations that share the cores with each other or with other programs.

    one     a continuation alone
    two     two at once, each in a process of its own, and
    four    four at once; the slowest of them counts
    work    one beside as many processes as there are cores that do nothing but compute

Each does all of `ittybitty continue` except reading and writing files: grammar, sampling and decoding of a shipped
model. All start together, once all are ready. Goals: two keep half of the speed of one alone, four keep a quarter.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

from ..errors import ResultError

SECONDS = 4.0  # that each continuation plays while it is counted
READY = 300.0  # s that loading may take, with the cores shared
MODEL = "tiny"
COUNTS = {"one": 1, "two": 2, "four": 4}


def bench_busy(seconds: float | None = None) -> dict:
    """See the module's text; tokens a second, and shares of one alone's."""
    seconds = SECONDS if seconds is None else seconds
    rates = {name: together(count, 0, seconds) for name, count in COUNTS.items()}
    rates["work"] = together(1, os.cpu_count() or 1, seconds)
    alone = rates["one"][0]
    return {
        "model": MODEL,
        "cores": os.cpu_count(),
        "seconds": seconds,
        "tokens_per_s": {name: [round(rate, 1) for rate in each] for name, each in rates.items()},
        **{f"share_of_{name}": min(rates[name]) / alone for name in ("two", "four", "work")},
    }


def together(players: int, workers: int, seconds: float) -> list[float]:
    """Tokens per second of each of several continuations at once, while other processes only compute."""
    context = multiprocessing.get_context("spawn")
    start, rates = context.Barrier(players + workers), context.SimpleQueue()
    jobs: list[Callable] = [_play] * players + [_work] * workers
    processes = [context.Process(target=job, args=(start, rates, seconds), daemon=True) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(READY + 2 * seconds)
    if failed := [process.exitcode for process in processes if process.exitcode]:
        raise ResultError(f"a continuation beside others ended with {failed[0]}; close other programs and try again")
    return [rates.get() for _ in range(players)]


def _play(start: Barrier, rates, seconds: float) -> None:
    from ..checkpoint import load
    from ..config import GenerationConfig
    from ..generation import generate_tokens
    from ..models.decode import decoder

    loaded = load(MODEL)
    config = GenerationConfig(max_new_tokens=10**9, seed=0)
    ids = generate_tokens(decoder(loaded.model), loaded.tokenizer, [loaded.tokenizer.bos_id], config)
    for _ in itertools.islice(ids, 50):  # warm up: compile and allocate
        pass
    start.wait(READY)
    began = time.perf_counter()
    count = 0
    while (taken := time.perf_counter() - began) < seconds:
        next(ids)
        count += 1
    rates.put(count / taken)


def _work(start: Barrier, rates, seconds: float) -> None:
    start.wait(READY)
    end = time.perf_counter() + 2 * seconds  # longer than the continuations need
    while time.perf_counter() < end:
        sum(range(1000))
