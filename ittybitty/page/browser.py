"""Opens the page in a browser without a window: for its tests, its benchmarks and its picture.

Needs Playwright (``pip install 'ittybitty[browser]'``) and a Chromium or Chrome.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync"
PATIENCE = 120_000  # ms: a machine may be busy
READY = "html[data-ready=yes]"  # what the page's script sets once the model can play

# Stands in for a MIDI keyboard and a MIDI instrument: midi(status, pitch, value) plays, sent holds what the page sends.
MIDI_DEVICE = """
    window.sent = [];
    const input = { id: "in", name: "Mock keyboard", type: "input" };
    const output = { id: "out", name: "Mock piano", type: "output", send: (data, at) => window.sent.push({ data: [...data], at }) };
    const access = { inputs: new Map([["in", input]]), outputs: new Map([["out", output]]) };
    navigator.requestMIDIAccess = async () => access;
    window.midi = (...data) => input.onmidimessage({ data: Uint8Array.from(data) });
"""


def executable(driver: Any) -> str:
    """A Chromium or Chrome of the system, else Playwright's own; ConfigError where there is neither."""
    found = next(filter(None, map(shutil.which, NAMES)), None) or driver.chromium.executable_path
    if not Path(found).exists():
        raise ConfigError(
            "no Chromium or Chrome here: apt-get install chromium, or python -m playwright install chromium"
        )
    return found


@contextlib.contextmanager
def chromium() -> Iterator:
    """A running browser of Playwright; ConfigError where Playwright or the browser is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ConfigError("no Playwright here: pip install 'ittybitty[browser]'") from None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(driver), args=FLAGS.split(), timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Any, path: Path, width: int = 1280, height: int = 900) -> Any:
    """The page of a file in a new tab, once its model can play; a mock MIDI device is plugged in."""
    tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    tab.set_default_timeout(PATIENCE)
    tab.add_init_script(MIDI_DEVICE)
    tab.goto(path.resolve().as_uri())
    tab.wait_for_selector(READY, state="attached")
    return tab
