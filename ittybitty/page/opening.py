"""`ittybitty bench playground`: time until the playground is visible and usable, in Chromium without a window.

Each turn starts `ittybitty playground` as a person would, in a new process, opens its address as soon as there is one, and
looks at the page several times in each frame. Seconds count from the start of the command:

    address_s    the server answers, and a browser would be opened
    seen_s       the page's heading and the piano roll of the first seed are drawn
    usable_s     Generate can be pressed
    notes_s      the first new note is drawn, where Generate was pressed at once; the model is loaded by then

The measurement is in page/ and not in widget/, because browser.py is here. The browser is started before the first turn. In the
first turn files may have to be read from disk, in the later ones they are in the cache, so the median is reported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..widget.serve import LOOPBACK, free_port, notebook
from .browser import PATIENCE, chromium

TURNS = 3
PORT = 8950
SHOWN = "e => e && e.getClientRects().length > 0"
SEEN = (
    f"""() => ({SHOWN})(document.querySelector('.ib h1')) && ({SHOWN})(document.querySelector('.ib .ib-notes path'))"""
)
USABLE = f"() => (e => ({SHOWN})(e) && !e.disabled)(document.querySelector('#rendered_cells .ib-generate'))"
NOTES = "() => !!document.querySelector('.ib-stage .ib-notes .ib-new')"
PHASES = ("address_s", "seen_s", "usable_s", "notes_s")


def bench_playground(turns: int | None = None) -> dict:
    """See the module's text. ConfigError outside a clone, and where there is no browser."""
    notebook()
    with chromium() as browser:
        found = np.array([_turn(browser) for _ in range(TURNS if turns is None else turns)])
        return {
            "browser": browser.version,
            "cores": os.cpu_count(),
            "turns": len(found),
            **dict(zip(PHASES, np.median(found, 0).tolist())),
            **{f"{name}_most": value for name, value in zip(PHASES, found.max(0).tolist())},
        }


def _turn(browser) -> list[float]:
    """Seconds from the start of the command to each phase."""
    began = time.perf_counter()
    with _server() as address:
        found = [time.perf_counter() - began]
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(PATIENCE)
        try:
            tab.goto(address, wait_until="commit")
            for phase in (SEEN, USABLE):
                tab.wait_for_function(phase)
                found.append(time.perf_counter() - began)
            tab.click(".ib-generate")
            tab.wait_for_function(NOTES)
            return [*found, time.perf_counter() - began]
        finally:
            tab.close()


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """The address of a playground that answers; it ends with the context."""
    port = free_port(LOOPBACK, PORT)
    address = f"http://{LOOPBACK}:{port}/"
    command = [sys.executable, "-m", "ittybitty", "playground", "--no-browser", "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "wb+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(f"{address}voila/static/voila.js", server, log)
            yield address
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(address: str, server: subprocess.Popen, log) -> None:
    """Returns when the address answers; ConfigError where the server ends before that, or never answers."""
    until = time.monotonic() + PATIENCE / 1000
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()
            return
        time.sleep(0.02)
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines()
    raise ConfigError(f"the playground does not start: {said[-1] if said else 'it does not answer'}")
