"""The command line: find the verb, start it in its environment.

Here: dispatch. Not here: any verb's options or work; nothing heavy is imported before the verb is known.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from interlock import __version__, errors
from interlock.command import Session, guarded, parser, words
from interlock.voice import for_terminal
from pipeline.verbs import VERBS, Verb


def overview() -> str:
    """The text of `interlock --help`."""
    width = max(len(verb.name) for verb in VERBS)
    rows = "\n".join(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS)
    examples = "\n".join(f"  {verb.example}" for verb in VERBS)
    return f"""interlock {__version__}: from a training checkpoint to a verified on-device package

usage: interlock VERB [options]      interlock VERB --help      interlock --version

verbs
{rows}

examples
{examples}

exit codes
  0 done   2 usage   3 contract   4 environment   5 stage failed   6 gate failed   130 interrupted
"""


def main(argv: Sequence[str] | None = None, *, launch: bool = True) -> int:
    """Run one command line; `launch` False keeps it in this interpreter. Returns the exit code."""
    # A thread that waits for the others gives its core away: beside another program, waiting actively slows every product several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = words(argv)
    return guarded(lambda: _dispatch(given, launch), json_output="--json" in given)


def _dispatch(given: list[str], launch: bool) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if given[0] == "--version":
        sys.stdout.write(f"interlock {__version__}\n")
        return 0
    verb = _find(given[0])
    session = Session(verb.name, for_terminal(), tuple(given[1:]), launch)
    asks_help = bool({"-h", "--help"} & set(session.argv))
    if verb.environment and not launch and not asks_help and "--toy" not in session.argv:
        session.admit(verb.environment)  # before the verb's module: a foreign interpreter may not even import it
    try:
        module = importlib.import_module(verb.module)
    except ModuleNotFoundError:
        if not (verb.environment and launch):
            raise
        _elsewhere(verb.environment, session)  # an interpreter without packages cannot even read the verb's options
    options = parser(f"interlock {verb.name}", verb.summary, verb.example)
    module.add_options(options)
    args = options.parse_args(session.argv)
    if verb.environment and launch:
        enter(verb.environment, session)
    return int(module.run(args, session))


def _find(name: str) -> Verb:
    for verb in VERBS:
        if verb.name == name:
            return verb
    from difflib import get_close_matches

    near = get_close_matches(name, [verb.name for verb in VERBS], 1)
    known = ", ".join(verb.name for verb in VERBS)
    raise errors.UsageError(
        f"there is no verb `{name}`" + (f"; did you mean `{near[0]}`?" if near else f"; there are {known}"), remedy="see `interlock --help`"
    )


def enter(environment: str, session: Session) -> None:
    """Go on in the interpreter of `environment`: returns in it, and in another starts the same words there. Raises EnvironmentRefused where the
    session may not launch."""
    try:
        session.admit(environment)
    except errors.EnvironmentRefused:
        if not session.launch:
            raise
        _elsewhere(environment, session)


def _elsewhere(environment: str, session: Session) -> NoReturn:
    """Run the verb in that interpreter. It takes over this process, so that signals and the terminal are its own."""
    from interlock import environments
    from pipeline.launchers import default_launcher, launcher

    entered = launcher(default_launcher())
    if entered.ELSEWHERE:
        raise errors.UsageError(
            f"`{session.verb}` by itself cannot be started by launcher `{default_launcher()}`: it would see no file of this machine",
            remedy=f"start it here (INTERLOCK_LAUNCHER=uv interlock {session.verb} …), or build a recipe, which sends its inputs along",
        )
    env = environments.environment(environment)
    entered.prepare(env)
    command = entered.command(env, [session.verb, *session.argv])
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    sys.exit(main())
