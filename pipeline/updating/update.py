"""One update from the wish to the lock: propose, try before and after, judge, write or refuse.

Here: the order, the evidence, writing. Not here: each of the steps, asking a person (the verb).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.environments import environments
from interlock.errors import GateFailed
from interlock.locks import Lock
from interlock.voice import Voice
from pipeline.updating.proposal import Proposal, Wish, check, propose
from pipeline.updating.trial import Trial, tried
from pipeline.updating.verdict import Verdict, judged, mixed

Try = Callable[[Path, str, Path, Sequence[str], Voice], Trial]


@dataclass(frozen=True)
class Update:
    """What came of a wish. evidence: the folder with the report and the proposed files; None where nothing moved."""

    wish: Wish
    proposal: Proposal
    verdict: Verdict
    evidence: Path | None
    accepted: bool = False

    @property
    def outcome(self) -> str:
        if self.verdict.refusals:
            return "refused"
        return "nothing to move" if self.proposal.empty else "accepted" if self.accepted else "proposed"

    def as_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "environments": list(self.wish.names),
            "moved": self.proposal.moved,
            "refusals": [asdict(refusal) for refusal in self.verdict.refusals],
            "db": self.verdict.db,
            "operations": self.verdict.operations,
            "seconds": self.verdict.seconds,
            "evidence": str(self.evidence) if self.evidence else None,
        }


def updated(wish: Wish, root: Path, home: Path, accept: Callable[[Update], bool], voice: Voice, try_: Try = tried) -> Update:
    """Propose a lock and try it. `accept` is asked about one that passes; the project's files change only after it agreed.

    home: the project's records; evidence of what was tried stays in `home/updates`. Raises UsageError for a wish that cannot be, StageFailed where
    no lock or environment can be made.
    """
    check(wish, root)
    with Lock(home / "locks" / "env-update.lock").held(voice.warn), fs.workspace(home / "updates" / "work") as work:
        with voice.task("lock anew in a copy of the project"):
            tree = work.path / "project"
            work.fs.mkdir(tree)
            proposal = propose(wish, root, tree, work)
        if proposal.empty:
            return Update(wish, proposal, Verdict(), None)
        verdict = Verdict(mixed(environments(tree)))
        if not verdict.refusals:
            verdict = judged(*(_tried(try_, place, label, work, voice) for place, label in ((root, "present"), (tree, "proposed"))))
        update = Update(wish, proposal, verdict, home / "updates" / f"{'-'.join(wish.names)}-{time.strftime('%Y%m%d-%H%M%S')}")
        _keep(update)
        if not verdict.refusals and accept(update):
            write(proposal, root)
            update = Update(wish, proposal, verdict, update.evidence, accepted=True)
            _keep(update)
        return update


def _tried(try_: Try, tree: Path, label: str, work: fs.Workspace, voice: Voice) -> Trial:
    folder = work.path / label
    work.fs.mkdir(folder)
    return try_(tree, label, folder, (), voice)


def files(proposal: Proposal, name: str) -> list[Path]:
    """What makes a lock of environment `name`, in the order of writing: the lock itself, which all others are checked against, comes last."""
    folder = proposal.tree / "envs" / name
    lock = folder / "requirements.lock"
    extras = sorted(file for file in folder.glob("*.lock") if file != lock)
    return [*sorted(folder.glob("wheels-*.json")), *extras, folder / "pyproject.toml", lock]


def write(proposal: Proposal, root: Path) -> None:
    """Put the proposal in the place of the project's locks, each file whole. After a kill between two, `ci/wheels.py check` says so."""
    for name in proposal.moved:
        for file in files(proposal, name):
            fs.save_file(root / "envs" / name / file.name, file.read_bytes())


def _keep(update: Update) -> None:
    """The evidence: the report, and the proposed files."""
    assert update.evidence
    fs.save_file(update.evidence / "report.json", json.dumps(update.as_dict(), indent=2, ensure_ascii=False).encode())
    for name in update.proposal.moved:
        for file in files(update.proposal, name):
            fs.save_file(update.evidence / name / file.name, file.read_bytes())


def refusal(update: Update) -> GateFailed:
    """The error that a refused update ends with."""
    first, *others = update.verdict.refusals
    more = f", and {len(others)} more" if others else ""
    return GateFailed(
        f"the proposed lock of {', '.join(f'`{name}`' for name in update.wish.names)} is refused: {first.subject}{more}",
        measured=first.measured,
        threshold=first.threshold,
        remedy=f"the locks are as they were; everything measured is in `{update.evidence}`; try single packages with --package",
    )
