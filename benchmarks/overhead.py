"""What the driver adds to a stage: the time of a step in a build, less the stage's own work and its interpreter's start.

Here: the measurement. Run: `envs/train/.venv/bin/python -m benchmarks.overhead --recipe random --rounds 5`.
A step's time runs from the wish to start it until its artifact and record are in the store. The stage's own work is timed in its process
(`pipeline.driver.stage.run`, imports of tensor libraries included, as by a direct call). The start of an interpreter with the stage's module is
timed beside, in turn with the builds.
"""

from __future__ import annotations

import json
import os
import statistics
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
from interlock.errors import StageFailed

if TYPE_CHECKING:
    import argparse


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.overhead`."""
    parser = command.parser("python -m benchmarks.overhead", "what the driver adds to a stage", "python -m benchmarks.overhead --recipe random")
    parser.add_argument("--recipe", default="random", help="what is built (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="builds from nothing (default %(default)s)")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from pipeline.driver import registry
    from pipeline.driver.store import Store

    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        for number in range(options.rounds):
            home = Path(scratch) / str(number)
            for step in _build(options.recipe, home, Path(scratch) / "out"):
                action = Store(home / "store").action(step["key"])
                assert action is not None
                entry = registry.find(step["stage"])
                start = _start(environment(entry.environment).python, entry.module)
                rows.setdefault(step["step"], []).append({"step_s": action["wall_s"], "work_s": action["work_s"], "start_s": start})
            sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    return {"recipe": options.recipe, "rounds": options.rounds, "steps": {name: _row(found) for name, found in rows.items()}}


def _build(recipe: str, home: Path, out: Path) -> list[dict[str, Any]]:
    environ = {**os.environ, "INTERLOCK_HOME": str(home), "INTERLOCK_STORE": str(home / "store")}
    words = ["build", recipe, "--json", "--force", "--set", f"output={out}"]
    done = subprocess.run([sys.executable, "-I", "-m", "pipeline.here", *words], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"the build ended with {done.returncode}: {done.stderr[-300:]}", remedy="build it by hand")
    steps: list[dict[str, Any]] = json.loads(done.stdout)["steps"]
    return steps


def _start(python: Path, module: str) -> float:
    started = time.perf_counter()
    subprocess.run([python, "-I", "-c", f"import pipeline.cli, {module}"], check=True)
    return time.perf_counter() - started


def _row(found: list[dict[str, float]]) -> dict[str, float]:
    median = {name: statistics.median(one[name] for one in found) for name in found[0]}
    added = statistics.median(one["step_s"] - one["work_s"] - one["start_s"] for one in found)
    return median | {"added_s": added, "allowed_s": 0.3 + 0.03 * median["work_s"]}


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    columns = ("step_s", "work_s", "start_s", "added_s", "allowed_s")
    lines = [f"`{report['recipe']}` from nothing, medians of {report['rounds']} builds, seconds"]
    lines += [f"{'step':<10}" + "".join(f"{name.removesuffix('_s'):>10}" for name in columns)]
    lines += [f"{name:<10}" + "".join(f"{row[column]:>10.3f}" for column in columns) for name, row in report["steps"].items()]
    return lines


if __name__ == "__main__":
    sys.exit(main())
