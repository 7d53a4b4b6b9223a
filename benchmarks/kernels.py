"""Entry: what the matrix products of one model cost on packed weights, beside torch's in fp32.

Here: options and the table. Not here: the measurement (matrices.py), whole decoding steps (decode.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import entry
from interlock import command


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    summary = "processor time of the 121 matrix products of SmolLM2-135M on packed weights, beside torch's in fp32"
    parser = command.parser("benchmarks.kernels", summary, "python -m benchmarks.kernels --rounds 20")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 128], metavar="T", help="rows of activations (1 8 128)")
    parser.add_argument("--rounds", type=int, default=12, help="rounds for one row, all forms in turns; a quarter for more (%(default)s)")

    def work(options: argparse.Namespace) -> dict[str, Any]:
        from benchmarks.matrices import measure  # torch, only now: --help is instant

        return measure(options.rows, options.rounds)

    return entry.run(parser, given, work, table)


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    rows = [f"{f'T={count}':>12} {'ratio':>6}" for count in report["rows"]]
    lines = [
        f"{report['kernels']}; {report['cpu']}, one thread",
        f"process milliseconds for all matrices, minima of {report['rounds']} rounds in turns; ratios to {report['base']}",
        "",
        f"{'form':28} {'MB':>6} {'pack ms':>8} {' '.join(rows)}",
    ]
    for name, form in report["forms"].items():
        times = [f"{time['cpu_ms']:>12.1f} {time['ratio']:>6.2f}" for time in form["times"]]
        lines.append(f"{name:28} {form['megabytes']:>6.0f} {form['pack_ms']:>8.0f} {' '.join(times)}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
