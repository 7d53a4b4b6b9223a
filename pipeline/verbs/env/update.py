"""Action `update` of `interlock env`: move locked versions, after the probe and the recipe `random` ran under both locks.

Here: the options, asking, the lines of the report. Not here: proposing, trying, judging, writing (pipeline/updating).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from interlock import voice
from interlock.command import Session, emit
from interlock.environments import ROOT
from interlock.errors import GateFailed
from interlock.voice import plain

if TYPE_CHECKING:
    from pipeline.updating.update import Update


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="the environments to move together")
    parser.add_argument("--package", metavar="NAME", help="move this package alone, and what it needs (default: all that the definition allows)")
    parser.add_argument("--to", metavar="VERSION", help="move it to this version; a definition that does not allow it is changed to it")
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument("--yes", action="store_true", help="write a lock that passes without asking")
    answer.add_argument("--keep", action="store_true", help="write nothing: only try and report (default where nobody can be asked)")


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.driver.store import project_folder
    from pipeline.updating.proposal import Wish
    from pipeline.updating.update import refusal, updated

    asks = sys.stdin.isatty() and not (args.yes or args.keep or args.json)

    def accept(update: Update) -> bool:
        if not asks:
            return bool(args.yes)
        print("\n".join(lines(update)), flush=True)
        return input("write this lock? [y/N] ").strip().lower() in ("y", "yes")

    wish = Wish(tuple(dict.fromkeys(args.names)), args.package, args.to)
    update = updated(wish, ROOT, project_folder(), accept, session.voice)
    if args.json:
        emit(update.as_dict())
    else:
        asked = asks and update.outcome in ("accepted", "proposed")
        print("\n".join([*([] if asked else lines(update)), ending(update)]))
    if update.verdict.refusals:
        voice.tell(refusal(update))
        return GateFailed.exit_code
    return 0


def lines(update: Update) -> Iterator[str]:
    """What changed, each fact on a line."""
    for name, moved in update.proposal.moved.items():
        for package, (old, new) in moved.items():
            yield plain(f"{name}: {package} {old} → {new}")
    for case, words in update.verdict.operations.items():
        yield f"operations of `{case}`: {words}"
    changed = {name: pair for name, pair in update.verdict.db.items() if pair[0] != pair[1]}
    for name, (before, after) in changed.items():
        yield f"{name}: {number(before)} → {number(after)}"
    if update.verdict.db:
        yield f"accuracy: {len(update.verdict.db) - len(changed)} of {len(update.verdict.db)} figures as before"
    for name, (before_s, after_s) in update.verdict.seconds.items():
        yield f"time of the {name}: {before_s:.0f} s → {after_s:.0f} s ({after_s / before_s:.2f} times)"


def number(db: float | None) -> str:
    return "none" if db is None else f"{db:.1f} dB"


def ending(update: Update) -> str:
    if update.outcome == "nothing to move":
        return "nothing to move: the lock has the newest versions that the definition allows"
    if update.outcome == "refused":
        return "\n".join(f"lost: {each.subject}: {each.measured}, wanted {each.threshold}" for each in update.verdict.refusals)
    if update.outcome == "accepted":
        return f"written: {', '.join(f'envs/{name}' for name in update.wish.names)}; what was measured is in {update.evidence}"
    return f"nothing is lost; the proposed files are in {update.evidence}, and `{update.wish.command} --yes` tries again and writes them"
