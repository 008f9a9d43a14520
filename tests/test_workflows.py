"""What runs without anybody looking calls targets that exist, and the long checks run every night."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_asks_make_for_targets_that_exist(script):
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    asked = set(re.findall(r"\bmake ([a-z][\w-]*)", "\n".join(commands)))
    assert asked <= TARGETS, f"{script.name} asks for {asked - TARGETS}"


def test_the_long_checks_run_every_night():
    nightly = (ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8")
    assert re.search(r"schedule:\s+- cron: \"\d+ \d+ \* \* \*\"", nightly)
    (long,) = re.findall(r"^nightly: (.*)$", MAKEFILE, re.MULTILINE)
    for target in ("fuzz", "kills", "test-sanitizers"):
        assert f"make {target} " in nightly and target in long.split() + re.findall(r"\$\(MAKE\) (\S+)", MAKEFILE)
