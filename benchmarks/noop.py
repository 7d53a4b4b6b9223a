"""A build with nothing to do: interlock beside make, ninja, doit, DVC and Snakemake on the same graph of the same files.

Here: the measurement and its table. Not here: the other tools' files (graphs.py), their versions (noop.lock).
Run: `envs/train/.venv/bin/python -m benchmarks.noop --recipe smollm2` (builds the recipe first where it is not built; `random` is quick).
Every tool is asked in turn within each round, a process each time; figures are medians, ratios are medians of ratios within a round.
"""

from __future__ import annotations

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
from interlock.environments import ROOT
from interlock.errors import StageFailed

if TYPE_CHECKING:
    import argparse

BASE = "interlock"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.noop`."""
    parser = command.parser(
        "python -m benchmarks.noop", "time of a build with nothing to do", "python -m benchmarks.noop --recipe random --rounds 15"
    )
    parser.add_argument("--recipe", default="random", help="what is built (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="how often each tool is asked (default %(default)s)")
    parser.add_argument("--without", nargs="*", default=[], metavar="TOOL", help="tools to leave out: make, ninja, doit, dvc, snakemake")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks import graphs

    built = _interlock(options.recipe)
    with tempfile.TemporaryDirectory(prefix="noop-") as scratch:
        tools = _tools(Path(scratch) / "tools")
        steps = graphs.steps_of(built)
        asked = {BASE: ([sys.executable, "-I", "-m", "pipeline.here", "build", options.recipe], ROOT)}
        for name, write in graphs.GRAPHS.items():
            if name in options.without:
                continue
            folder = Path(scratch) / name
            folder.mkdir()
            asked[name] = (write(folder, steps, tools), folder)
            _run(*asked[name], quiet=False)
        return _rounds(asked, options.rounds) | {
            "recipe": options.recipe,
            "steps": len(steps),
            "files": sum(len(step.files) for step in steps),
            "bytes": sum(step.bytes for step in steps),
        }


def _interlock(recipe: str) -> list[dict[str, Any]]:
    import json

    done = subprocess.run([sys.executable, "-I", "-m", "pipeline.here", "build", recipe, "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise StageFailed(f"`interlock build {recipe}` ended with {done.returncode}", remedy="see its message above")
    steps: list[dict[str, Any]] = json.loads(done.stdout)["steps"]
    return steps


def _tools(folder: Path) -> Path:
    """The other tools in an environment of their own, from the lock. Returns its folder of programs."""
    lock = Path(__file__).with_name("noop.lock")
    for words in (["venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
                  ["pip", "sync", "--quiet", "--require-hashes", "--python", str(folder / "bin" / "python"), str(lock)]):  # fmt: skip
        subprocess.run([ROOT / "ci" / "env", "uv", *words], check=True)
    return folder / "bin"


def _run(argv: list[str], folder: Path, *, quiet: bool = True) -> float:
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode:
        raise StageFailed(
            f"`{' '.join(argv[:6])}` ended with {done.returncode}: {done.stderr[-300:]}", remedy="run it by hand, or leave it out (--without)"
        )
    if not quiet:
        sys.stderr.write(f"built with {Path(argv[0]).name} in {took:.1f} s\n")
    return took


def _rounds(asked: dict[str, tuple[list[str], Path]], rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(rounds + 1):
        for name, (argv, folder) in asked.items():
            took = _run(argv, folder)
            if number:  # the first round warms every cache
                times[name].append(took)
    rows = {
        name: {
            "median_s": statistics.median(taken),
            "least_s": min(taken),
            "ratio": statistics.median(one / base for one, base in zip(taken, times[BASE], strict=True)),
        }
        for name, taken in times.items()
    }
    return {"rounds": rounds, "tools": rows}


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    what = f"{report['steps']} steps, {report['files']} files, {report['bytes'] / 1e6:.0f} MB; {report['rounds']} rounds"
    lines = [f"a build of `{report['recipe']}` with nothing to do: {what}", f"{'tool':<12}{'median s':>10}{'least s':>10}{'of interlock':>14}"]
    lines += [f"{name:<12}{row['median_s']:>10.3f}{row['least_s']:>10.3f}{row['ratio']:>13.2f}x" for name, row in report["tools"].items()]
    return lines


if __name__ == "__main__":
    sys.exit(main())
