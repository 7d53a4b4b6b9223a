"""A matrix of many cells with nothing to do: how long `interlock build` takes to say so.

Here: the measurement, on stub stages without tensors. Run: `envs/train/.venv/bin/python -m benchmarks.cells --cells 1000`
(the cells are made first, a process each: minutes).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.entry import run as run_entry
from interlock import command
from interlock.environments import ROOT

if TYPE_CHECKING:
    import argparse


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.cells`."""
    parser = command.parser("python -m benchmarks.cells", "a matrix with nothing to do", "python -m benchmarks.cells --cells 100")
    parser.add_argument("--cells", type=int, default=1000, help="cells of the matrix (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="how often it is asked (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time while the cells are made (default %(default)s)")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "tests"))  # the stub stages are the tests'
    from fakes.stub_builds import StubProject, interpreter

    with tempfile.TemporaryDirectory(prefix="cells-") as scratch:
        project = StubProject(Path(scratch) / "project", interpreter(Path(scratch) / "python"))
        project.write("cells", more=f'\n[matrix]\n"stages.loudest.params.times" = {list(range(1, options.cells + 1))}\n')
        started = time.perf_counter()
        project.build("cells.toml", "--jobs", str(options.jobs))
        made = time.perf_counter() - started
        times = []
        for _ in range(options.rounds + 1):
            started = time.perf_counter()
            assert project.run("build", "cells.toml", "--launcher", "current").code == 0
            times.append(time.perf_counter() - started)
    return {"cells": options.cells, "made_s": made, "rounds": options.rounds, "median_s": statistics.median(times[1:]), "least_s": min(times)}


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    return [
        f"{report['cells']} cells, made in {report['made_s']:.0f} s",
        f"with nothing to do: median {report['median_s']:.2f} s, least {report['least_s']:.2f} s of {report['rounds']} runs",
    ]


if __name__ == "__main__":
    sys.exit(main())
