"""notebooks/playground.ipynb as a page: Voilà [1] on loopback, with a template that takes nothing from elsewhere.

Each tab gets a kernel of its own, which ends with the tab; one that lost its page is ended after ten minutes.

[1] https://voila.readthedocs.io.  Left out: passwords and encryption; whoever opens the page to a network puts them before it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ..errors import ConfigError
from ..paths import repository_root

LOOPBACK = "127.0.0.1"
PORT = 8866
TRIED = 20  # ports from the first on
SHARE = Path(__file__).with_name("share")  # where Voilà finds the template
IDLE_SECONDS = 600
LARGEST_MESSAGE = 2**27  # bytes: an upload that is too large reaches the page, which says so
EXTENSIONS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
]  # of JupyterLab's, only what draws widgets
NOTEBOOK_ONLY = "notebook-only"  # tag of cells that are not on the page


def notebook() -> Path:
    """The notebook that is served; ConfigError outside a clone."""
    root = repository_root()
    if root is None or not (path := root / "notebooks" / "playground.ipynb").is_file():
        raise ConfigError(
            "the playground is a notebook of the repository: run this in a clone, or show ittybitty.widget.Playground() in a notebook"
        )
    return path


def free_port(host: str, first: int = PORT) -> int:
    """`first`, or one of the next where others listen already; ConfigError when none is free or the host is not ours."""
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
        },
        "MappingKernelManager": {"cull_idle_timeout": IDLE_SECONDS, "cull_interval": 60},
    }


def page_cells(request, notebook, cwd):
    """The notebook without the cells that only a reader of the notebook wants; they are not run either."""
    notebook.cells = [cell for cell in notebook.cells if NOTEBOOK_ONLY not in cell.metadata.get("tags", [])]
    return notebook


def serve(host: str = LOOPBACK, port: int = PORT, browser: bool = True) -> str:
    """Shows the page until Ctrl-C; the address it had."""
    from traitlets.config import Config
    from voila.app import Voila

    port = free_port(host, port)
    found = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (str(SHARE), found)))
    application = Voila.instance(config=Config(settings(host, port, browser)))
    application.initialize([])
    address = f"http://{host}:{port}/"
    print(f"playground: {address}  (Ctrl-C ends it)", flush=True)
    application.start()
    return address
