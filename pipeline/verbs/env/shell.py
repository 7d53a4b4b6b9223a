"""`env shell`: a shell, or one command, in an environment.

Here: what a person's shell gets of an environment, by launcher. Not here: how stages are started (pipeline/launchers).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from interlock import environments
from interlock.command import Session
from interlock.environments import ROOT, Environment
from interlock.errors import UsageError
from pipeline.launchers import LAUNCHERS, default_launcher, launcher
from pipeline.verbs.env import named


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--launcher", choices=[*LAUNCHERS], default=default_launcher(), help="as given to `interlock build`")
    parser.add_argument("name", metavar="NAME", help="the environment")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …", help="run this instead of a shell; its exit code is passed on")


def run(args: argparse.Namespace, session: Session) -> NoReturn:
    """It takes over this process: signals, terminal and exit code are its own."""
    (env,) = named([args.name])
    words = args.command[1:] if args.command[:1] == ["--"] else args.command  # some versions of argparse leave it there
    if words and words[0].startswith("-"):
        raise UsageError(
            f"`{words[0]}` stands after the environment's name",
            remedy="options stand before it, a command after `--`: interlock env shell --launcher uv train -- python -V",
        )
    entered = launcher(args.launcher)
    if args.launcher == "ssh":
        raise UsageError("launcher `ssh` opens no shell", remedy=f"log in there, and run `interlock env shell {env.name}` in the clone")
    if args.launcher == "current":
        environments.admit(env, "env shell", [env.name, *args.command])
    elif not entered.ready(env):
        entered.prepare(env)
    if not words:
        session.voice.step(f"environment {env.name}: `exit` leaves it")
    if args.launcher == "nix":
        from pipeline.launchers.nix import NIX

        _become([*NIX, "develop", f"{ROOT}#{env.name}", *(["-c", *words] if words else [])], dict(os.environ))
    if args.launcher == "container":
        *run, image = entered.command(env, [])
        program, *rest = words or ["sh"]
        tty = ["--tty"] if sys.stdin.isatty() else []
        _become([*run, *tty, f"--entrypoint={program}", image, *rest], dict(os.environ))
    python = Path(entered.command(env, [])[0])
    _become(words or _shell(env), _surroundings(python.parent))


def _surroundings(folder: Path) -> dict[str, str]:
    """The programs of the environment before all others. Nothing that would let another Python's packages in."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    return environ | {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "VIRTUAL_ENV": str(folder.parent)}


def _shell(env: Environment) -> list[str]:
    """The user's own shell. bash is told once more after its start-up file, which may set PATH and prompt itself; others get the variables alone."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    if Path(shell).name != "bash":
        return [shell]
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    lines = ["[ -f ~/.bashrc ] && . ~/.bashrc", 'PATH="$VIRTUAL_ENV/bin:$PATH"', f'PS1="({env.name}) $PS1"']
    os.write(writer, "\n".join(lines).encode() + b"\n")
    os.close(writer)
    return [shell, "--rcfile", f"/dev/fd/{reader}"]


def _become(words: list[str], environ: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    try:
        os.execvpe(words[0], words, environ)  # noqa: S606 - an argument list, no shell
    except OSError as error:
        raise UsageError(f"`{words[0]}` cannot be run ({(error.strerror or str(error)).lower()})", remedy="name a program that is there") from None
