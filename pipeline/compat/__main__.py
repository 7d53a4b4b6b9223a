"""`python -m pipeline.compat [--check | --record] [CASE…]`: measure the torch and coremltools of the running interpreter.

Here: the entry for tox, ci/compat and `interlock env update`. Not here: measuring (probe.py), the table's file (table.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from interlock.command import guarded, parser
from interlock.errors import UsageError
from pipeline.compat import table
from pipeline.compat.cases import BY_NAME
from pipeline.compat.results import Column, Result
from pipeline.driver.store import project_folder

DIFFERS = 1


def main(argv: Sequence[str] | None = None) -> int:
    options = parser("python -m pipeline.compat", "measure which conversions work with the packages of this interpreter", "python -m pipeline.compat")
    options.add_argument("cases", nargs="*", metavar="CASE", help="only these cases (default all)")
    against = options.add_mutually_exclusive_group()
    against.add_argument("--check", action="store_true", help="compare with the table of the repository; exit code 1 where they differ")
    against.add_argument("--record", action="store_true", help="put the column into the table of the repository")
    return guarded(lambda: run(options.parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    if unknown := [name for name in args.cases if name not in BY_NAME]:
        raise UsageError(f"no case {unknown}", remedy=f"there are {', '.join(BY_NAME)}")
    if args.record and args.cases:
        raise UsageError("a column is recorded whole", remedy="leave the cases out")
    from pipeline.compat.probe import measure

    column = measure(args.cases or list(BY_NAME), project_folder(), tell)
    if args.json:
        print(json.dumps(column.as_dict()))
    if args.record:
        table.save(table.load().with_column(column))
    return compare(column) if args.check else 0


def tell(name: str, result: Result) -> None:
    count = f"{sum(result.operations.values())} operations" if result.operations else ""
    print(f"{name:28} {table.brief(result):>12}  {count:16} {result.seconds:5.1f} s  {result.note}".rstrip(), file=sys.stderr, flush=True)


def compare(column: Column) -> int:
    """Tell how the stored column of the same versions differs."""
    kept = table.load().column_for(**vars(column.versions))
    if kept is None:
        print(f"the table has no column for {column.versions.text()}; `--record` adds this one", file=sys.stderr)
        return DIFFERS
    measured = Column(kept.versions, {name: result for name, result in kept.cells.items() if name in column.cells})
    differences = measured.differences(column)
    for name, words in differences.items():
        print(f"differs from the table: {name}: {words}", file=sys.stderr)
    if not differences:
        print(f"{len(column.cells)} cases as in the table: {column.versions.text()}", file=sys.stderr)
    return DIFFERS if differences else 0


if __name__ == "__main__":
    sys.exit(main())
