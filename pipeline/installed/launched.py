"""What proves an environment under each launcher.

Here: a folder is read (check.py); a package of Nix is verified by Nix, which has the hash of every path; an image and another machine are
asked for the proof of the folder there. Not here: the proof of a folder, entering (pipeline/launchers).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from interlock.environments import Environment
from interlock.voice import Voice
from pipeline.driver.index import Index
from pipeline.installed.check import check
from pipeline.installed.differences import Difference, Guest, Proof
from pipeline.launchers import launcher


def prove(env: Environment, name: str, index: Index, voice: Voice, *, paranoid: bool) -> Proof:
    """The proof of `env` as launcher `name` enters it. Raises EnvironmentRefused where that cannot be asked."""
    entered = launcher(name)
    if name in ("nix", "container") and not entered.ready(env):
        return _only(Difference(f"{env.name} of launcher {name}", "what this working tree and its lock make", "another or none", env.name))
    if name == "ssh" and not entered.ready(env):
        entered.prepare(env)
    if name == "nix":
        return _store_path(env, str(entered.image(env)), voice)
    if entered.ELSEWHERE:
        words = ["env", "check", env.name, "--launcher", "current", "--json", *(["--paranoid"] if paranoid else [])]
        return _asked(env, entered.command(env, words), voice)
    return check(env, Path(entered.command(env, [])[0]), index=index, paranoid=paranoid, voice=voice)


def _store_path(env: Environment, path: str, voice: Voice) -> Proof:
    """Nix has noted what each path holds when it was built; this reads all of it, and all that it refers to."""
    from pipeline.launchers.nix import NIX

    with voice.task(f"nix reads {env.name}"):
        told = subprocess.run([*NIX, "store", "verify", "--recursive", "--no-trust", path], capture_output=True, text=True, check=False)
    if told.returncode == 0:
        return _only()
    lines = [line for line in told.stderr.splitlines() if line.strip()] or ["nix does not say why"]
    return _only(*(Difference(path, "what nix built", line, env.name) for line in lines))


def _asked(env: Environment, command: list[str], voice: Voice) -> Proof:
    """The proof as another machine's or image's own interlock gives it."""
    with voice.task(f"{env.name} is read where it is"):
        told = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, check=False)
    try:
        said = json.loads(told.stdout)["environments"][env.name]
        differences = [Difference(**one) for one in said.pop("differences")]
        return Proof(differences, [Guest(**one) for one in said.pop("guests")], **said)
    except (ValueError, KeyError, TypeError):
        last = (told.stderr.strip().splitlines() or [f"it ended with {told.returncode}"])[-1]
        return _only(Difference(env.name, "an answer", last, env.name))


def _only(*differences: Difference) -> Proof:
    """A proof whose packages and files somebody else has counted."""
    return Proof(list(differences), [], 0, 0, 0)
