"""Entry: what the halt head of SmolLM2 saves and costs on dialogues that it has never seen, beside simpler rules.

Here: options and the table. Not here: the figures (halting_figures.py), the rules that it is compared with (halting_rules.py).
Answers are kept: what was asked once is not asked again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import entry
from interlock import command


def main(argv: Sequence[str] | None = None) -> int:
    given = command.words(argv)
    summary = "what a halt head saves and cuts on fresh dialogues, beside simpler rules, by family, and on families that it does not know"
    parser = command.parser("benchmarks.halting", summary, "python -m benchmarks.halting models/student/checkpoint")
    parser.add_argument("checkpoint", type=Path, help="checkpoint directory that the head was fitted on (a head in it is not read)")
    parser.add_argument("--head", default="smollm2", help="a head that comes with interlock, or its file (%(default)s)")
    parser.add_argument(
        "--answers", type=Path, default=Path("models/answers"), metavar="DIR", help="with folders development and fresh (%(default)s)"
    )
    parser.add_argument("--unknown", action="store_true", help="also fit a head without each family, and judge it on that (minutes)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")

    def work(options: argparse.Namespace) -> dict[str, Any]:
        from benchmarks.halting_figures import measure  # torch, only now: --help is instant

        return measure(options.checkpoint, options.head, options.answers, options.threads, unknown=options.unknown)

    return entry.run(parser, given, work, table)


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    fresh, head = report["fresh"], report["head"]
    lines = [
        f"head {report['name']}: threshold {head['threshold']:.4f}, fitted on {head['answers']} answers; fresh: {fresh['answers']:.0f} answers to "
        f"{fresh['templates']:.0f} templates, {report['ended']:.0%} of them ended by the model within 48 tokens",
        "shares of tokens with 95 % intervals over templates, cuts with Wilson's",
        "",
        f"{'':34} {'cut':>26} {'saved of after completion':>28} {'AUC at ends':>12} {'hard':>7} {'Brier':>7} {'ECE':>7}",
        _figures("development, out of fold", report["development"]),
        _figures("fresh", fresh),
        f"{'':34} lost content: {report['lost']} answers; of all tokens saved {fresh['saved_of_all_tokens']:.1%}",
        "",
        "reliability on fresh answers (places, said, true): " + "  ".join(f"{n}: {said:.2f} {true:.2f}" for n, said, true in report["reliability"]),
        "",
        f"{'rule, threshold from development':34} {'cut':>12} {'saved':>8} {'hard AUC':>9} {'head saves more, points, paired':>34}",
    ]
    for name, rule in report["rules"].items():
        low, high = rule["gain"]
        lines.append(f"{name:34} {_count(rule):>12} {rule['saved']:>8.1%} {rule['auc_without_own_ends']:>9.3f} {f'+{low:.1%} to +{high:.1%}':>34}")
    lines += ["", f"{'family':12} {'answers':>8} {'complete':>9} {'cut':>5} {'saved':>14}"]
    for name, family in report["families"].items():
        lines.append(f"{name:12} {family['answers']:>8} {family['complete']:>9} {family['cut']:>5} {family['saved']:>7}/{family['after']:<6}")
    if report["unknown"]:
        lines += [
            "",
            "a family's development answers, by a head that was fitted on all others",
            f"{'family':12} {'cut':>7} {'saved':>7} {'hard AUC':>9}",
        ]
    for name, left in report["unknown"].items():
        area = "-" if left["auc_without_own_ends"] is None else f"{left['auc_without_own_ends']:.3f}"
        lines.append(f"{name:12} {left['cut']:>7.1%} {left['saved']:>7.1%} {area:>9}")
    return lines


def _count(figures: dict[str, float]) -> str:
    return f"{figures['cut'] * figures['answers']:.0f}/{figures['answers']:.0f}"


def _figures(name: str, found: dict[str, float]) -> str:
    cut = f"{_count(found)} = {found['cut']:.2%} [≤ {found['cut_high']:.2%}]"
    saved = f"{found['saved']:.1%} [{found['saved_low']:.1%} - {found['saved_high']:.1%}]"
    return f"{name:34} {cut:>26} {saved:>28} {found['auc']:>12.3f} {found['auc_without_own_ends']:>7.3f} {found['brier']:>7.3f} {found['ece']:>7.3f}"


if __name__ == "__main__":
    sys.exit(main())
