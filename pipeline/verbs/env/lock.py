"""`env lock`: make the locks anew from the definitions, or see whether that would change one.

Here: the options and the exit code. Not here: how (ci/lock, which `make lock` and CI call too).
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from interlock.command import Session, emit
from interlock.environments import ROOT
from interlock.errors import EnvironmentRefused
from pipeline.verbs.env import named

STALE = 1  # what ci/lock --check ends with where a lock is not what its definition asks for


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="which environments (default: all, and the locks of the tools)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--upgrade", action="store_true", help="move every pin; without it what is pinned stays as far as the definition allows")
    how.add_argument("--check", action="store_true", help="change nothing: exit 4 where a lock is not what its definition asks for")


def run(args: argparse.Namespace, session: Session) -> int:
    named(args.names)
    how = [word for word, given in (("--upgrade", args.upgrade), ("--check", args.check)) if given]
    before = _digests()
    with session.voice.task("resolve the locks"):
        code = subprocess.run([ROOT / "ci" / "lock", *how, *args.names], stdout=sys.stderr, check=False).returncode
    again = " ".join(["interlock env lock", *args.names])
    if args.check and code == STALE:
        raise EnvironmentRefused(
            "a lock is not what its definition asks for",
            required="locks that `ci/lock` would leave as they are",
            running="those named above",
            remedy=f"make them again: `{again}`, and commit what changes",
        )
    if code:
        raise EnvironmentRefused(
            "the locks could not be made",
            required="a resolution of every definition, by uv and a package index",
            running="see the lines above",
            remedy=f"mend what they name, then run `{again}`",
        )
    changed = sorted(name for name, digest in _digests().items() if before.get(name) != digest)
    if args.json:
        emit({"exit_code": 0, "changed": changed})
    else:
        print("\n".join(f"changed: {name}" for name in changed) or "no lock changed")
    return 0


def _digests() -> dict[str, bytes]:
    """Every file that ci/lock writes."""
    files = [*ROOT.glob("envs/*/*.lock"), *ROOT.glob("envs/*/wheels-*.json"), *ROOT.glob("ci/*.txt")]
    return {str(file.relative_to(ROOT)): file.read_bytes() for file in files}
