"""`baseline compare`: two evaluations of the same items, score by score."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interlock.command import Session, emit
from interlock.contracts import evaluation
from interlock.contracts.evaluation import EvaluationContract
from interlock.errors import ContractError, GateFailed, UsageError, Violation
from pipeline.driver import stage
from pipeline.verbs.baseline import FOLDER
from pipeline.verbs.pages import add_page_option, page_file, save_page

Rows = Sequence[dict[str, Any]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("evaluation", type=Path, help="evaluation directory, the new one")
    parser.add_argument("baseline", type=Path, nargs="?", help=f"the one that it is compared with (default: {FOLDER}/SUITE)")
    parser.add_argument("--margin", type=float, default=0.05, metavar="M",
                        help="what may be lost and still count as no worse; of numbers, in parts of that before (default %(default)s)")  # fmt: skip
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="of all scores together (default %(default)s)")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write test cases for CI")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a comment for a pull request")
    add_page_option(parser, "compared")


def run(args: argparse.Namespace, session: Session) -> int:
    from eval.comparison import compare
    from interlock.fs import save_file
    from pipeline.reports import evaluation as shown
    from pipeline.reports.evaluation_page import comment, evaluation_page, junit
    from pipeline.reports.evaluation_view import compared, view

    if not 0 < args.confidence < 1 or not 0 <= args.margin <= 1:
        raise UsageError(f"--confidence {args.confidence:g} or --margin {args.margin:g} is no share", remedy="give numbers between 0 and 1")
    now, rows = _read(args.evaluation, session)
    base, before = _read(args.baseline or FOLDER / now.suite, session)
    _check_comparable(args.evaluation, (now.suite, rows), (base.suite, before))
    if other := {row["id"] for row in rows} ^ {row["id"] for row in before}:
        session.voice.warn(f"{len(other)} items were asked in one of the two evaluations alone, and are left out")
    found = compare(rows, before, args.confidence, args.margin)
    told = json.loads((args.evaluation / shown.SUMMARY).read_bytes())
    page = compared(view({name: getattr(now, name) for name in EvaluationContract.model_fields}, rows, told), rows, before, found, base.subject.name)
    if args.html:
        save_page(page_file(args.html, args.evaluation, "compared"), evaluation_page(page), session)
    if args.junit:
        save_file(args.junit, junit(page))
    if args.markdown:
        save_file(args.markdown, comment(page).encode("utf-8", "replace"))
    worse = [one for one in found if one.verdict == "worse"]
    if args.json:
        emit({"now": now.digest, "before": base.digest, "worse": [one.score for one in worse],
              "scores": [{**asdict(one), "change": one.change._asdict()} for one in found], "exit_code": 6 if worse else 0})  # fmt: skip
    else:
        shown.show_compared(found)
    if worse:
        raise GateFailed(
            f"{len(worse)} of {len(found)} scores got worse",
            measured="; ".join(f"{one.score} {one.before:.4g} → {one.now:.4g}, lost {', '.join(one.lost[:8])}".rstrip(", ") for one in worse),
            threshold=f"probability by chance above {1 - args.confidence:.2g} after Holm's correction",
            remedy="see the items that flipped: add --html",
        )
    return 0


def _read(directory: Path, session: Session) -> tuple[EvaluationContract, Rows]:
    contract = stage.read_whole(directory, EvaluationContract, session.voice)
    return contract, [json.loads(line) for line in (directory / evaluation.RESULTS).read_bytes().splitlines()]


def _check_comparable(directory: Path, now: tuple[str, Rows], base: tuple[str, Rows]) -> None:
    """By what was asked: two versions of interlock may make the same rows under another digest.

    Raises ContractError for evaluations of other items."""
    remedy = "evaluate both models with the same suite and --dataset"
    if now[0] != base[0]:
        raise ContractError(Violation(str(directory), "/suite", f"{base[0]}, as in the baseline", now[0]), remedy=remedy)
    file, asked = str(directory / evaluation.RESULTS), {row["id"]: row for row in base[1]}
    both = [(row, asked[row["id"]]) for row in now[1] if row["id"] in asked]
    if not both:
        raise ContractError(Violation(file, "", "items of the baseline", "none of them"), remedy=remedy)
    if wrong := [pair for pair in both if any(pair[0][name] != pair[1][name] for name in ("given", "wanted"))]:
        (row, old), more = wrong[0], f" ({len(wrong)} items differ)"
        raise ContractError(Violation(file, row["id"], f"{old['given'][:80]!r}, as in the baseline", f"{row['given'][:80]!r}{more}"), remedy=remedy)
