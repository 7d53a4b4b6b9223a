"""`python -m pipeline.conformance MODULE:STAGE`: hold a stage to what interlock's own stages are held to.

Here: options and the list on stdout. Not here: the checks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from interlock.command import emit, guarded, parser, words
from interlock.errors import GateFailed, UsageError
from interlock.voice import plain
from pipeline.conformance import Candidate, Result, check

EXAMPLE = "python -m pipeline.conformance interlock_smoke.smoke:STAGE --input deployment=models/smoke/deployed --toy"


def main(argv: list[str] | None = None) -> int:
    given = words(argv)
    return guarded(lambda: _main(given), json_output="--json" in given)


def _main(given: list[str]) -> int:
    options = parser("python -m pipeline.conformance", "hold a stage to what interlock's own stages are held to", EXAMPLE)
    options.add_argument("stage", help="the stage, as an entry point names it: MODULE:ATTRIBUTE")
    options.add_argument("--input", dest="inputs", action="append", default=[], metavar="NAME=DIR", help="an artifact directory for a parameter")
    options.add_argument("--param", dest="params", action="append", default=[], metavar="NAME=VALUE", help="another parameter; JSON, else a text")
    options.add_argument("--toy", action="store_true", help="run it in whichever environment this is")
    options.add_argument("--points", type=int, metavar="N", help="kill and fail at N calls only, spread evenly (default: at every call)")
    args = options.parse_args(given)
    results = []
    for result in check(_candidate(args)):
        results.append(result)
        if not args.json:
            _show(result)
    wrong = [result for result in results if result.reasons]
    if args.json:
        emit({"stage": args.stage, "checks": [result.__dict__ for result in results], "conforms": not wrong})
        return GateFailed.exit_code if wrong else 0
    if wrong:
        raise GateFailed(
            f"{args.stage} does not conform",
            measured=f"{len(results) - len(wrong)} of {len(results)} checks hold",
            threshold="all of them",
            remedy="see the reasons above and docs/plugins.md",
        )
    return 0


def _candidate(args: argparse.Namespace) -> Candidate:
    module, mark, attribute = args.stage.partition(":")
    if not (mark and module and attribute):
        raise UsageError(f"`{args.stage}` names no stage", remedy="write MODULE:ATTRIBUTE, as the entry point does")
    if args.points is not None and args.points < 1:
        raise UsageError(f"--points {args.points}: at least one is needed", remedy="give a positive number")
    inputs = {name: Path(value) for name, value in map(_assignment, args.inputs)}
    params = {name: _value(value) for name, value in map(_assignment, args.params)}
    candidate = Candidate(module, attribute, inputs, params, args.toy, args.points)
    try:
        stage = candidate.stage
    except (ImportError, AttributeError) as error:
        raise UsageError(f"`{args.stage}` cannot be imported: {error}", remedy=f"install its package for {sys.executable}") from None
    if missing := [name for name in getattr(stage, "inputs", {}) if name not in inputs]:
        raise UsageError(f"stage `{stage.name}` takes a {stage.inputs[missing[0]]} as `{missing[0]}`", remedy=f"give --input {missing[0]}=DIR")
    return candidate


def _assignment(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise UsageError(f"`{text}` is no assignment", remedy="write NAME=VALUE")
    return name, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _show(result: Result) -> None:
    print(plain(f"{'✗' if result.reasons else '✓'} {result.name}" + (f"  ({result.trials} runs)" if result.trials else "")), flush=True)
    for reason in result.reasons[:8]:
        print(plain(f"    {reason}"))
    if len(result.reasons) > 8:
        print(f"    and {len(result.reasons) - 8} more")


if __name__ == "__main__":
    sys.exit(main())
