"""How much each environment takes on disk: as a folder that the lock fills, as an image, as a package of Nix, where these have been made.

Here: the measurement. Run: `envs/train/.venv/bin/python -m benchmarks.sizes`. Not here: making any (`make environments`, `interlock build --launcher
container` or `nix`). A folder's size is that of its files; on one file system most of them are links to those of uv's cache and of other folders.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.entry import run as run_entry
from interlock import command
from interlock.environments import Environment, environments

if TYPE_CHECKING:
    import argparse

GREATEST = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.sizes`."""
    parser = command.parser("python -m benchmarks.sizes", "what each environment takes on disk", "python -m benchmarks.sizes")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    return {name: {"folder": folder(env), "image": _image(env), "nix": _package(env)} for name, env in environments().items()}


def folder(env: Environment) -> dict[str, Any] | None:
    """Bytes of `envs/<name>/.venv`, and of the packages that take most of it."""
    venv = env.folder / ".venv"
    if not env.synced:
        return None
    sizes = {file: file.lstat().st_size for file in venv.rglob("*") if not file.is_dir() or file.is_symlink()}
    (site,) = venv.glob("lib/python3*/site-packages")
    tops: defaultdict[str, int] = defaultdict(int)
    for file, size in sizes.items():
        if file.is_relative_to(site):
            tops[file.relative_to(site).parts[0]] += size
    greatest = sorted(tops.items(), key=lambda item: -item[1])[:GREATEST]
    return {"bytes": sum(sizes.values()), "packages": len(list(site.glob("*.dist-info"))), "greatest": dict(greatest)}


def _image(env: Environment) -> dict[str, Any] | None:
    """Bytes of the image that launcher `container` last built."""
    from interlock.errors import EnvironmentRefused
    from pipeline.launchers import container
    from pipeline.launchers.container_engine import engine

    try:
        identity = container.image(env)
        said = engine().ask("image", "inspect", "--format", "{{.Size}}", identity) if identity else None
    except EnvironmentRefused:
        return None
    return {"bytes": int(said.stdout)} if said and said.returncode == 0 else None


def _package(env: Environment) -> dict[str, Any] | None:
    """Bytes of the package that launcher `nix` last built, and of all that it refers to."""
    from pipeline.launchers import nix

    path = nix.image(env)
    if path is None:
        return None
    words = [*nix.NIX, "path-info", "--closure-size", path]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    return {"bytes": int(said.stdout.split()[-1])} if said.returncode == 0 else None


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    lines = []
    for name, found in report.items():
        for what, size in found.items():
            shown = f"{size['bytes'] / 1e9:.2f} GB" if size else "not made"
            lines.append(f"{name:<7} {what:<7} {shown}")
            if size and "greatest" in size:
                parts = ", ".join(f"{top} {bytes_ / 1e6:.0f} MB" for top, bytes_ in size["greatest"].items())
                lines.append(f"{'':<15} {size['packages']} packages; most of it: {parts}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
