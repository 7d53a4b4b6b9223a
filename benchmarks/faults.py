"""Entry: every kind of fault, planted by seed: does the gate refuse it, and which operation does the comparison name.

Here: options and the table. Not here: the faults (tests/fakes/faults.py), the trials (tests/fakes/fault_trials.py). Environment `export`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import entry
from interlock import command

# The faults and the comparison were worked on with seeds below 100; the tests use those from 2000 on.
FIRST = 1000
FAKES = Path(__file__).resolve().parent.parent / "tests"


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    summary = "faults planted into toy packages: refused by the gate, named by the comparison, per kind"
    parser = command.parser("benchmarks.faults", summary, "python -m benchmarks.faults --seeds 5")
    parser.add_argument("--seeds", type=int, default=2, help="faults of each kind in each package (%(default)s)")

    def work(options: argparse.Namespace) -> dict[str, Any]:
        sys.path.insert(0, str(FAKES))
        import torch
        from fakes.fault_bases import BASES
        from fakes.fault_trials import cases, trials

        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            return counted(trials(cases(BASES, range(FIRST, FIRST + options.seeds)), Path(folder), BASES))

    return entry.run(parser, given, work, table)


def counted(trials: Iterable[Any]) -> dict[str, dict[str, int]]:
    """By kind and in all: planted, observable, refused by the gate, named against a sound package and against the student."""
    report: dict[str, dict[str, int]] = {}
    for trial in trials:
        for key in (trial.kind, "all"):
            row = report.setdefault(key, dict.fromkeys(("planted", "observable", "refused", "package", "student"), 0))
            row["planted"] += 1
            if trial.observable:
                row["observable"] += 1
                row["refused"] += trial.refused
                row["package"] += trial.named(trial.against_package)
                row["student"] += trial.named(trial.against_student)
    return report


def table(report: dict[str, dict[str, int]]) -> list[str]:
    """The report as lines of text."""
    lines = [f"{'kind':28} {'planted':>8} {'observable':>11} {'refused':>8} {'named: package':>15} {'student':>8}"]
    for kind, row in sorted(report.items(), key=lambda item: (item[0] == "all", item[0])):
        lines.append(f"{kind:28} {row['planted']:>8} {row['observable']:>11} {row['refused']:>8} {row['package']:>15} {row['student']:>8}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
