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
from pipeline.installed.launched import prove
from pipeline.launchers import LAUNCHERS, default_launcher
from pipeline.verbs.env import named

# What makes an environment anew, under each launcher. `{}` are the names.
REPAIRS = {
    "uv": "make them anew: `ci/sync --force {}`",
    "tox": "make them anew: `ci/sync --force {}`, then `ci/env tox run --recreate -e NAME` for each",
    "ssh": "make them anew there: `ci/sync --force {}` in that clone",
    "nix": "let nix build them: interlock build RECIPE --launcher nix; what lies damaged in its store: `nix store repair PATH`",
    "container": "let the engine build them: interlock build RECIPE --launcher container; one that is damaged: remove its image first",
    "current": "use the environment itself: `interlock env shell NAME`, or --launcher uv; `ci/sync --force {}` makes it anew",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="which environments (default: all)")
    parser.add_argument("--launcher", choices=[*LAUNCHERS], default=default_launcher(), help="whose environments; as given to `interlock build`")
    parser.add_argument(
        "--paranoid", action="store_true", help="read every file, also those unchanged since the last look, and compile modules again"
    )


def run(args: argparse.Namespace, session: Session) -> int:
    proofs = {}
    for env in named(args.names):
        index = Index(project_folder() / "installed" / f"{env.name}.json")
        proofs[env.name] = prove(env, args.launcher, index, session.voice, paranoid=args.paranoid)
        index.save()
    wrong = [name for name, proof in proofs.items() if proof.differences]
    code = EnvironmentRefused.exit_code if wrong else 0
    remedy = REPAIRS[args.launcher].format(" ".join(wrong))
    if args.json:
        told = {"remedy": remedy} if wrong else {}
        emit({"exit_code": code, "environments": {name: asdict(proof) for name, proof in proofs.items()}, **told})
        return code
    from pipeline.reports import environments as report

    for name, proof in proofs.items():
        report.show_proof(name, proof)
    if wrong:
        raise EnvironmentRefused(
            f"not what the lock says: {', '.join(wrong)}",
            required=f"every file of {' and '.join(f'envs/{name}/requirements.lock' for name in wrong)}, and no other",
            running=f"what differs is named above ({sum(len(proofs[name].differences) for name in wrong)})",
            remedy=remedy,
        )
    return 0
