"""What it costs to enter an environment that is in place, by each launcher, beside the bare interpreter; and that all of them make the same bytes.

Here: the measurement and its table. Run: `envs/train/.venv/bin/python -m benchmarks.launchers`, with `--toy` for the bytes: exit 1 where they differ.
A launcher whose environment is not made yet, or whose tool is not here, is left out and named; `interlock build random --launcher NAME` makes it.
Each command is timed once in every round, in turn; figures are the least of all rounds, which other programs of the machine disturb least.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.entry import run as run_entry
from interlock import command
from interlock.environments import ROOT, environment
from interlock.errors import EnvironmentRefused, StageFailed
from pipeline.launchers import LAUNCHERS, launcher

if TYPE_CHECKING:
    import argparse

BARE = "bare interpreter"
# Seconds over the bare interpreter.
LIMITS = {"uv": 0.4, "tox": 1.5, "tox run": 1.5, "container": 0.7}
NOTHING = ("-I", "-c", "pass")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.launchers`."""
    parser = command.parser("python -m benchmarks.launchers", "what entering an environment costs", "python -m benchmarks.launchers --toy")
    parser.add_argument("--rounds", type=int, default=15, help="how often each command is timed (default %(default)s)")
    parser.add_argument("--toy", action="store_true", help="build the recipe `random` under each launcher too, and compare the digests")
    parser.add_argument("--without", nargs="*", default=[], choices=[*LAUNCHERS], help="launchers to leave out")
    digests: set[str] = set()

    def measure(options: argparse.Namespace) -> dict[str, Any]:
        report = _measure(options)
        digests.update(json.dumps(built["digests"]) for built in report.get("toy", {}).values())
        return report

    return run_entry(parser, command.words(argv), measure, table) or int(len(digests) > 1)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    named = [name for name in LAUNCHERS if name not in options.without]
    left_out = {name: why for name in named if (why := _absent(name))}
    here = [name for name in named if name not in left_out]
    report: dict[str, Any] = {"rounds": options.rounds, "left_out": left_out, "commands": _rounds(_commands(here), options.rounds)}
    if options.toy:
        with tempfile.TemporaryDirectory(prefix="launchers-") as scratch:
            report["toy"] = {name: _toy(name, Path(scratch) / name) for name in here if name != "current"}
    return report


def _absent(name: str) -> str:
    """Why a launcher cannot be entered as it is; empty where it can."""
    try:
        entered = launcher(name)
        if not all(entered.ready(environment(env)) for env in ("train", "export")):
            return "its environments are not made, or not of this working tree"
        entered.command(environment("train"), [])
    except EnvironmentRefused as refusal:
        return refusal.problem
    return ""


def _commands(names: list[str]) -> dict[str, dict[str, list[str]]]:
    """By launcher, the command that does nothing in its environment, and the one that says the version of interlock."""
    env = environment("train")
    bare = str(env.python.resolve())
    found = {BARE: {"nothing": [bare, *NOTHING], "version": [bare, "-I", "-c", _version()]}}
    for name in names:
        version = launcher(name).command(env, ["--version"])
        found[name] = {"nothing": _without_interlock(name, version), "version": version}
    if "tox" in found:  # as a person types it
        words = [str(ROOT / ".venv" / "bin" / "tox"), "run", "--quiet", "-e", "train", "--skip-pkg-install"]
        found["tox run"] = {"nothing": [*words, "--override", "testenv:train.commands=python -I -c pass"], "version": [*words, "--", "--version"]}
    return found


def _version() -> str:
    return f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['--version']; from pipeline import cli; cli.main(launch=False)"


def _without_interlock(name: str, version: list[str]) -> list[str]:
    """The command with an interpreter that does nothing in place of interlock."""
    if name == "ssh":
        from pipeline.launchers.ssh_connection import place

        return place().command(place().python("train"), *NOTHING)
    if name == "container":
        at = version.index("run") + 1
        return [*version[:at], "--entrypoint=python", *version[at:-1], *NOTHING]
    return [version[0], *NOTHING]


def _rounds(commands: dict[str, dict[str, list[str]]], rounds: int) -> dict[str, Any]:
    times: dict[str, dict[str, list[float]]] = {name: {what: [] for what in both} for name, both in commands.items()}
    for number in range(rounds + 1):
        for name, both in commands.items():
            for what, argv in both.items():
                took = _run(argv)
                if number:  # the first round warms every cache
                    times[name][what].append(took)
    return {name: _row(name, found, times[BARE]) for name, found in times.items()}


def _run(argv: list[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode:
        raise StageFailed(
            f"`{' '.join(argv[:6])} …` ended with {done.returncode}: {done.stderr[-300:]}", remedy="leave that launcher out (--without)"
        )
    return took


def _row(name: str, found: dict[str, list[float]], bare: dict[str, list[float]]) -> dict[str, Any]:
    over = {what: min(taken) - min(bare[what]) for what, taken in found.items()}
    limit = LIMITS.get(name)
    return {
        **{f"{what}_s": min(taken) for what, taken in found.items()},
        **{f"{what}_over_s": value for what, value in over.items()},
        "limit_s": limit,
        "holds": None if limit is None else max(over.values()) <= limit,
    }


def _toy(name: str, folder: Path) -> dict[str, Any]:
    """The recipe `random` from nothing: the digest of every step."""
    from pipeline.driver.store import project_folder

    home = folder / "home"
    home.mkdir(parents=True)
    if (packages := project_folder() / "nix").is_dir():
        (home / "nix").symlink_to(packages)
    words = [sys.executable, "-I", "-m", "pipeline.here", "build", "random", "--launcher", name, "--json", "--set", f"output={folder / 'random'}"]
    started = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "INTERLOCK_HOME": str(home)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"`interlock build random --launcher {name}` ended with {done.returncode}: {done.stderr[-500:]}", remedy="build it by hand")
    took = time.perf_counter() - started
    sys.stderr.write(f"toy by {name}: {took:.1f} s\n")
    return {"wall_s": took, "digests": {step["step"]: step["digest"] for step in json.loads(done.stdout)["steps"]}}


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    lines = [f"entering environment `train`, least of {report['rounds']} rounds, seconds; in brackets over the {BARE}"]
    lines += [f"{'by':<18}{'python -c pass':>22}{'interlock --version':>22}{'limit':>8}"]
    for name, row in report["commands"].items():
        cells = "".join(f"{row[f'{what}_s']:>13.3f} ({row[f'{what}_over_s']:+.3f})" for what in ("nothing", "version"))
        limit = "" if row["limit_s"] is None else f"{row['limit_s']:>8.1f} {'holds' if row['holds'] else 'does not hold'}"
        lines.append(f"{name:<18}{cells}{limit}")
    lines += [f"{name:<18}left out: {why}" for name, why in report["left_out"].items()]
    if built := report.get("toy"):
        lines += ["", f"{'toy from nothing by':<20}{'seconds':>9}  deployment"]
        lines += [f"{name:<20}{one['wall_s']:>9.1f}  {one['digests']['deploy']}" for name, one in built.items()]
        same = len({json.dumps(one["digests"]) for one in built.values()}) == 1
        lines.append("every step has the same digest under each" if same else "THE DIGESTS DIFFER")
    return lines


if __name__ == "__main__":
    sys.exit(main())
