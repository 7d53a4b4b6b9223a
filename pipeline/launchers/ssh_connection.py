"""The other machine: its name, how it is reached, and what it means when that fails.

Here: the words of ssh, and its refusals. Not here: what is said through it (ssh.py, ssh_here.py).
`INTERLOCK_SSH_HOST` is `user@host` or a Host of ssh's configuration, `INTERLOCK_SSH_ROOT` the clone there, absolute or from the home folder.
`INTERLOCK_SSH` is ssh with further words, where its configuration does not have them: `ssh -p 2222 -i key`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass

from interlock.environments import Environment
from interlock.errors import EnvironmentRefused
from pipeline.launchers import on_path

AGENT = "SSH_AUTH_SOCK"
# The first value that ssh reads of an option counts, so no other words and no configuration weaken these. Nobody is there to answer a question, a key
# of another machine is never taken, and a stage gets neither the agent nor a port of this machine. Half a minute of silence is the end.
OPTIONS = ("-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ClearAllForwardings=yes", "-o", "ConnectTimeout=15",
           "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")  # fmt: skip

REASONS = (
    (r"(?i)host key verification failed|remote host identification has changed|no .*host key is known|host key .*(changed|known)",
     "its host key is not known here, or is another than the known one",
     "compare the key's fingerprint with one that you got in another way, then let ssh note it: `ssh {host}`"),
    (r"(?i)permission denied|too many authentication failures", "it does not let you in without a question",
     "give it your key (`ssh-copy-id {host}`), or load it into an agent: interlock never asks for a password"),
    (r"(?i)could not resolve hostname", "nobody knows that name", "correct INTERLOCK_SSH_HOST, or add the name to ssh's configuration"),
    (r"(?i)connection refused|timed out|no route to host|network is unreachable|connection (closed|reset)", "it cannot be reached",
     "see that it runs and that `ssh {host}` answers"),
    (r"(?i)bad configuration option|illegal option|unknown option|command-line|terminating, \d+ bad|identity file .* not accessible",
     "ssh does not take these words", "correct INTERLOCK_SSH"),
    (r"(?i)no module named|modulenotfounderror|importerror", "the clone there is another version of interlock, or its environment is broken",
     "bring it to the state of this one, then `ssh {host} 'cd {root} && ci/sync {env}'`"),
    (r"(?i)no such file or directory|not found|cannot execute", "there is no such environment",
     "make it: `ssh {host} 'cd {root} && ci/sync {env}'`"),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A clone on another machine. words: the program, by its full path, and what the user adds."""

    host: str
    root: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """All that tells it from another, for a note."""
        return shlex.join((*self.words, self.host, self.root))

    def python(self, environment: str) -> str:
        return f"{self.root}/envs/{environment}/.venv/bin/python"

    def command(self, *words: str) -> list[str]:
        """The argument list that runs `words` there."""
        program, *further = self.words
        return [*with_agent(), program, *OPTIONS, *further, "--", self.host, f"exec {shlex.join(words)}"]

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run what prints little."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)


def with_agent() -> list[str]:
    """What to put before a command that is to find the user's agent: a stage's process gets no variable that names it."""
    return ["/usr/bin/env", f"{AGENT}={os.environ[AGENT]}"] if AGENT in os.environ else []


def place() -> Place:
    """What the user named. Raises EnvironmentRefused where that is not enough."""
    host, root = (os.environ.get(f"INTERLOCK_SSH_{name}", "") for name in ("HOST", "ROOT"))
    if not host or host.startswith("-") or not root:
        raise EnvironmentRefused(
            "launcher `ssh` does not know where to go",
            required="INTERLOCK_SSH_HOST, user@host or a Host of ssh's configuration, and INTERLOCK_SSH_ROOT, a clone of this project there",
            running=f"INTERLOCK_SSH_HOST={host!r}, INTERLOCK_SSH_ROOT={root!r}",
            remedy="set both, or use another launcher: --launcher uv",
        )
    given = os.environ.get("INTERLOCK_SSH", "")
    try:
        program, *further = shlex.split(given) or ["ssh"]
    except ValueError as error:
        raise EnvironmentRefused(
            f"INTERLOCK_SSH is no command ({error})", required="words as a shell takes them", running=given, remedy="correct INTERLOCK_SSH"
        ) from None
    found = on_path(program)
    if found is None:
        raise EnvironmentRefused(
            "there is no ssh",
            required=f"`{program}` (INTERLOCK_SSH)" if program != "ssh" else "ssh on PATH",
            running="none found",
            remedy="install it (Debian, Ubuntu: apt-get install openssh-client), or use another launcher: --launcher uv",
        )
    return Place(host, root.removeprefix("~/").rstrip("/") or "/", (found, *further))


def refused(to: Place, env: Environment, code: int, said: str) -> EnvironmentRefused:
    """Why the clone did not answer, from what ssh or the machine said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = [(why, remedy, line) for pattern, why, remedy in REASONS for line in lines if re.search(pattern, line)]
    last = lines[-1] if lines else f"it ended with {code} and said nothing"
    why, remedy, told = found[0] if found else ("it failed", "see that `ssh {host}` answers, then run the same command again", last)
    return EnvironmentRefused(
        f"environment `{env.name}` on {to.host} cannot be used: {why}",
        required=f"a clone of this project in {to.root} there, with its environment made",
        running=told[:300],
        remedy=remedy.format(host=to.host, root=to.root, env=env.name),
    )
