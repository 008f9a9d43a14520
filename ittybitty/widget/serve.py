"""Serves notebooks/playground.ipynb as a web page: Voilà [1] on loopback, with a template that loads nothing from the network.

Each browser tab has a kernel of its own, which ends with the tab, or ten minutes after the tab was last seen.

[1] https://voila.readthedocs.io.  Left out: passwords and encryption; to open the page to a network, put a proxy with both before it.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..paths import repository_root
from .opening import first_sight

LOOPBACK = "127.0.0.1"
PORT = 8866
TRIED = 20  # ports that are tried, from the first on
SHARE = Path(__file__).with_name("share")  # where Voilà finds the template
IDLE_SECONDS = 600
LARGEST_MESSAGE = 2**27  # bytes: large, so that a file above the limit reaches the page, which then refuses it by name
EXTENSIONS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
]  # the only extensions of JupyterLab that the page needs: they draw widgets
SLOW_AND_UNUSED = (
    "rfc3987_syntax"  # a grammar of web addresses, compiled at import: most of the time of importing Voilà
)
NOTEBOOK_ONLY = "notebook-only"  # tag of cells that the page leaves out


def notebook() -> Path:
    """Path of the notebook that is served; ConfigError outside a clone."""
    root = repository_root()
    if root is None or not (path := root / "notebooks" / "playground.ipynb").is_file():
        raise ConfigError(
            "the playground is a notebook of the repository: run this in a clone, or show ittybitty.widget.Playground() in a notebook"
        )
    return path


def free_port(host: str, first: int = PORT) -> int:
    """The first free port from `first` on; ConfigError if none is free or the host is not an address of this machine."""
    if not 0 < first < 65536:
        raise ConfigError(f"port {first}: give a number from 1 to 65535")
    trouble = ""
    for port in range(first, min(first + TRIED, 65536)):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
                return port
            except OSError as error:
                trouble = error.strerror or str(error)
    raise ConfigError(f"{host}:{first}: cannot be listened on ({trouble}); give another --port or --host")


def settings(host: str, port: int, browser: bool) -> dict[str, dict]:
    """Voilà's configuration, by class."""
    return {
        "Voila": {
            "ip": host,
            "port": port,
            "open_browser": browser,
            "log_level": "ERROR",
            "notebook_path": str(notebook()),
            "tornado_settings": {"websocket_max_message_size": LARGEST_MESSAGE, "ws_ping_timeout": 30_000},
        },
        "VoilaConfiguration": {
            "template": "ittybitty",
            "prelaunch_hook": page_cells,
            "extension_allowlist": EXTENSIONS,
            "show_tracebacks": False,
            "resources": {"first_sight": first_sight()},
        },
        "MappingKernelManager": {"cull_idle_timeout": IDLE_SECONDS, "cull_interval": 60},
    }


def page_cells(request: Any, notebook: Any, cwd: str) -> Any:
    """The notebook without the cells tagged notebook-only, which are neither run nor shown."""
    notebook.cells = [cell for cell in notebook.cells if NOTEBOOK_ONLY not in cell.metadata.get("tags", [])]
    return notebook


@contextmanager
def _without(module: str):
    """Inside this context, importing `module` fails as if it were not installed."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]  # which makes Python refuse the import
    try:
        yield
    finally:
        if before is None:
            del sys.modules[module]
        else:
            sys.modules[module] = before


def serve(host: str = LOOPBACK, port: int = PORT, browser: bool = True) -> str:
    """Serves the page until Ctrl-C; returns its address."""
    port = free_port(host, port)
    with _without(SLOW_AND_UNUSED):
        from traitlets.config import Config
        from voila.app import Voila
    found = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (str(SHARE), found)))
    application = Voila.instance(config=Config(settings(host, port, browser)))
    application.initialize([])
    address = f"http://{host}:{port}/"
    print(f"playground: {address}  (Ctrl-C ends it)", flush=True)
    application.start()
    return address
