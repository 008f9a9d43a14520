"""`ittybitty bench page`: the size of the page, the speed of its model, and how soon it answers, in Chromium without a window.

    notes_per_core_s    new notes per second of processor time of the tab's process, which runs the model and everything else of the page
    notes_per_s         new notes per second of elapsed time; fewer while other programs use this machine
    latency_ms          from the end of the chosen pause to the first note of an answer, as sent to a (mock) MIDI output

Left out: phones, and other browsers.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from .browser import chromium, open_page
from .page import write_page

TURNS = 5
NOTES = 200  # of one continuation
TONES = 6000  # ms that the page's piano takes to compute its tones, beside which nothing is measured
PAUSE = 0.5  # s
PHRASE = (60, 64, 67, 72, 67, 64)

CONTINUE = f"""(seed) => ittybitty.continue(
    [0, 1, 2, 3].map((i) => ({{ onset: 0.5 * i, duration: 0.4, pitch: 60 + 4 * i, velocity: 70 }})), {{ notes: {NOTES}, seed }})"""
ANSWER = f"""async () => {{
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    for (const pitch of {list(PHRASE)}) {{
        midi(0x90, pitch, 80);
        await sleep(150);
        midi(0x80, pitch, 0);
    }}
    const released = performance.now();
    sent.length = 0;
    while (!sent.some(({{ data }}) => data[0] === 0x90)) await sleep(5);
    const first = sent.find(({{ data }}) => data[0] === 0x90).at;
    midi(0x90, 48, 40); // ends the answer
    midi(0x80, 48, 0);
    document.getElementById("start-over").click();
    return first - released - {1000 * PAUSE};
}}"""


def bench_page(turns: int | None = None, model: str = "tiny") -> dict:
    """See the module's text. ConfigError where there is no browser."""
    turns = TURNS if turns is None else turns
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder) / "piano.html"
        size = write_page(path, model)
        tab = open_page(browser, path)
        tab.wait_for_timeout(TONES)
        core, clock = zip(*(_speed(browser, tab, seed) for seed in range(turns)))
        latency = _latency(tab, turns)
        return {
            "model": model,
            "browser": browser.version,
            "bytes": size,
            "megabytes": size / 1e6,
            "turns": turns,
            "notes_per_core_s": float(np.median(core)),
            "notes_per_s": float(np.median(clock)),
            "latency_ms": float(np.median(latency)),
            "latency_ms_most": max(latency),
        }


def _speed(browser, tab, seed: int) -> tuple[float, float]:
    """Notes a second of processor time, and on the clock."""
    spent, began = _renderers(browser), time.perf_counter()
    count = len(tab.evaluate(CONTINUE, seed))
    return count / (_renderers(browser) - spent), count / (time.perf_counter() - began)


def _renderers(browser) -> float:
    """Processor seconds of this browser's tabs so far."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(one["cpuTime"] for one in processes if one["type"] == "renderer")


def _latency(tab, turns: int) -> list[float]:
    """ms beyond the chosen pause, of each answer."""
    tab.click("#midi")
    tab.select_option("#midi-out", label="Mock piano")
    tab.evaluate(f"pause.value = {PAUSE}; pause.dispatchEvent(new Event('input'))")
    return [tab.evaluate(ANSWER) for _ in range(turns)]
