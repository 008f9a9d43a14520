"""Puts plain ES modules into one script, so that a page needs no server: browsers load no module from a file on disk.

Each module becomes a function that runs once, in the order of its imports, and returns what it exports. These forms are
supported:

    import { a, b as c } from "./other.js";
    export function f   export async function f   export class C   export const x   export { a, b };

Others, such as a default export, ``import *`` or a dynamic import, raise ConfigError with the name of the file.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError

IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w.-]+)";[^\S\n]*$', re.M)
DECLARED = re.compile(r"^export\s+((?:async\s+)?function\s*\*?|class|const)\s+(\w+)", re.M)
LISTED = re.compile(r"^export\s*\{([^}]*)\};[^\S\n]*$", re.M)
LEFT_OVER = re.compile(r"^\s*(?:import|export)\b[^\n]*|\bimport\s*\(", re.M)


def bundle(entry: Path) -> str:
    """The script of `entry` and all that it imports; ConfigError for a form of import or export that is not understood."""
    done: dict[Path, str] = {}
    _add(Path(entry), done, ())
    return "\n".join(['"use strict";', "(() => {", "const modules = {};", *done.values(), "})();", ""])


def _add(path: Path, done: dict[Path, str], above: tuple[Path, ...]) -> None:
    if path in done:
        return
    if path in above:
        raise ConfigError(f"{path}: imports itself by way of {above[-1].name}; move what both need into a third module")
    text = path.read_text(encoding="utf-8")
    for _, name in IMPORT.findall(text):
        _add(path.with_name(name), done, (*above, path))
    done[path] = _wrapped(path, text)


def _wrapped(path: Path, text: str) -> str:
    def imported(found: re.Match) -> str:
        names = re.sub(r"\s+as\s+", ": ", " ".join(found[1].split()))
        return f'const {{ {names} }} = modules["{found[2]}"];'

    exported = [name for _, name in DECLARED.findall(text)]
    for names in LISTED.findall(text):
        exported += [name.strip() for name in names.split(",") if name.strip()]
    body = LISTED.sub("", DECLARED.sub(r"\1 \2", IMPORT.sub(imported, text)))
    if wrong := LEFT_OVER.search(body):
        raise ConfigError(f"{path}: {wrong[0].strip()!r} is not understood; see the text of bundle.py")
    returned = f"return {{ {', '.join(exported)} }};" if exported else ""
    return f'modules["{path.name}"] = (() => {{\n{body.strip()}\n{returned}\n}})();'
