"""`env check`: the proof that what is installed is what is locked.

Here: which environments, by which launcher, and what to do about a difference. Not here: the proof (pipeline/installed).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from interlock.command import Session, emit
from interlock.errors import EnvironmentRefused
from pipeline.driver.index import Index
from pipeline.driver.store import project_folder
from pipeline.installed.check import check
from pipeline.verbs.env import named


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="which environments (default: all)")
    parser.add_argument(
        "--paranoid", action="store_true", help="read every file, also those unchanged since the last look, and compile modules again"
    )


def run(args: argparse.Namespace, session: Session) -> int:
    proofs = {}
    for env in named(args.names):
        index = Index(project_folder() / "installed" / f"{env.name}.json")
        proofs[env.name] = check(env, env.python, index=index, paranoid=args.paranoid, voice=session.voice)
        index.save()
    wrong = [name for name, proof in proofs.items() if proof.differences]
    if args.json:
        emit({"exit_code": EnvironmentRefused.exit_code if wrong else 0, "environments": {name: asdict(proof) for name, proof in proofs.items()}})
        return EnvironmentRefused.exit_code if wrong else 0
    from pipeline.reports import environments as report

    for name, proof in proofs.items():
        report.show_proof(name, proof)
    if wrong:
        raise EnvironmentRefused(
            f"not what the lock says: {', '.join(wrong)}",
            required=f"every file of {' and '.join(f'envs/{name}/requirements.lock' for name in wrong)}, and no other",
            running=f"{sum(len(proofs[name].differences) for name in wrong)} differences, named above",
            remedy=f"make them anew: `ci/sync --force {' '.join(wrong)}`",
        )
    return 0
