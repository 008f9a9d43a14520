"""Draws the picture of the page with four takes that README shows: `make page-picture`, or

python -m ittybitty.page.picture notebooks/page.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from ..paths import atomic_path
from .browser import chromium, open_page
from .page import write_page

WIDTH, HEIGHT = 1190, 900  # pixels of the window
NUMBER, NOTES = 3, 80  # seed number of the first take, and its length
COLOURS = 128  # of the palette: a third of the bytes, and no difference to the eye
LARGEST = 200_000  # bytes


def draw(path: str | Path, model: str = "tiny") -> int:
    """Writes the picture, atomically, and returns its size in bytes. ConfigError where there is no browser."""
    with tempfile.TemporaryDirectory() as folder, atomic_path(path) as place, chromium() as browser:
        page = Path(folder) / "piano.html"
        write_page(page, model)
        tab = open_page(browser, page, WIDTH, HEIGHT)
        tab.set_checked("#at-once", False)
        tab.fill("#number", str(NUMBER))
        tab.evaluate(f"notes.value = {NOTES}; notes.dispatchEvent(new Event('input'))")
        tab.click("#make-four")
        tab.wait_for_function("document.getElementById('halt').hidden")
        tab.evaluate("document.activeElement.blur()")
        tab.mouse.move(1, 1)  # no button is drawn as if it were pointed at
        end = tab.evaluate("document.getElementById('takes').getBoundingClientRect().bottom + scrollY + 24")
        tab.screenshot(path=place, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": end})
        with Image.open(place) as shot:
            few = shot.convert("RGB").quantize(COLOURS)
        few.save(place, "PNG", optimize=True)
        return place.stat().st_size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=draw.__doc__)
    parser.add_argument("out", help="a name that ends in .png")
    parser.add_argument("--model", default="tiny", metavar="NAME|RUN_DIR")
    options = parser.parse_args()
    print(f"{options.out}: {draw(options.out, options.model) / 1e3:.0f} kB")
