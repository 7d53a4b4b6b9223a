"""What every benchmark's entry does with its options: measure, then print a table or, with `--json`, the report.

Here: that order, and errors told as elsewhere. Not here: options, measurements, tables (one module per benchmark).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from interlock import command


def run(
    parser: argparse.ArgumentParser, given: list[str], measure: Callable[[argparse.Namespace], dict[str, Any]], table: Callable[[Any], Sequence[str]]
) -> int:
    """The exit code. `measure` imports what is heavy, so that --help is instant."""

    def work() -> int:
        options = parser.parse_args(given)
        report = measure(options)
        if options.json:
            command.emit(report)
        else:
            print("\n".join(table(report)))
        return 0

    return command.guarded(work, json_output="--json" in given)
