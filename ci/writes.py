"""The rule that artifacts are written by one module: no other call in `pipeline/` and `eval/` may change a file system.

Here: a check by syntax tree. The one module is interlock/fs.py; a library that insists on a path is called through `Workspace.produce`, which
hands it one inside a workspace. Run: `python ci/writes.py`; exits 1 and names every place.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "eval")
MODULES = {"shutil", "tempfile"}
OS_CALLS = {"replace", "rename", "renames", "remove", "unlink", "rmdir", "mkdir", "makedirs", "link", "symlink", "truncate", "chmod", "open"}
METHODS = {"write_text", "write_bytes", "mkdir", "unlink", "rmdir", "touch", "symlink_to", "hardlink_to", "rename"}
# These write packages, which are directories that a library insists on making: always at a path that a Workspace handed out.
PACKAGE_WRITERS = {
    "pipeline/coreml/lengths.py",
    "pipeline/coreml/functions.py",
    "pipeline/coreml/merge.py",
    "pipeline/coreml/normal.py",
    "pipeline/coreml/compression/rewrite.py",
}


def places(file: Path) -> Iterator[tuple[int, str]]:
    """Every forbidden call of one file: line and what it is."""
    if file.relative_to(ROOT).as_posix() in PACKAGE_WRITERS:
        return
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module or ""}
            for name in names & MODULES:
                yield node.lineno, f"import {name}"
        if isinstance(node, ast.Call) and (found := _forbidden(node)):
            yield node.lineno, found


def _forbidden(call: ast.Call) -> str | None:
    function = call.func
    if isinstance(function, ast.Name) and function.id == "open":
        return "open" if _writes(call, 1) else None
    if not isinstance(function, ast.Attribute):
        return None
    if isinstance(function.value, ast.Name) and function.value.id == "os":
        if function.attr == "open" and any("O_RDONLY" in ast.dump(argument) for argument in call.args):
            return None
        return f"os.{function.attr}" if function.attr in OS_CALLS else None
    if isinstance(function.value, ast.Attribute) and function.value.attr == "fs":
        return None  # the injected file system itself
    if isinstance(function.value, ast.Name) and function.value.id == "tarfile" and any(word.arg == "fileobj" for word in call.keywords):
        return None  # an archive over a stream that is open already
    if function.attr == "open":
        return "open" if _writes(call, 0) else None
    return function.attr if function.attr in METHODS else None


def _writes(call: ast.Call, position: int) -> bool:
    modes = list(call.args[position : position + 1]) + [word.value for word in call.keywords if word.arg == "mode"]
    return any(not (isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set(mode.value) <= set("rbt")) for mode in modes)


def main() -> int:
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    found = [f"{file.relative_to(ROOT)}:{line}: `{what}`" for file in files for line, what in places(file)]
    for line in found:
        sys.stderr.write(f"{line} changes a file system; use interlock.fs (Workspace, save_file)\n")
    print(f"{len(files)} files of {', '.join(ROOMS)}: {len(found) or 'no'} changes of a file system past interlock/fs.py")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
