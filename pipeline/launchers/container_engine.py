"""The container engine: which one, its settings, and what it means when it refuses.

Here: the words before and after a verb of podman or docker. Not here: images and stages (container.py).
An engine has settings of its own (containers.conf, the docker context); three variables add words where these do not reach:
`INTERLOCK_CONTAINER_ENGINE` is the engine with its global flags, `INTERLOCK_CONTAINER_BUILD` and `INTERLOCK_CONTAINER_RUN` are further flags of
`build` and `run`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from interlock.environments import Environment
from interlock.errors import EnvironmentRefused
from pipeline.launchers import on_path

# What an engine is told by its own environment. A stage's process gets none of these, so they are set for the engine alone.
ITS_OWN = ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR", "DBUS_SESSION_BUS_ADDRESS", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF",
           "CONTAINER_HOST", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "BUILDAH_ISOLATION")  # fmt: skip

# The first line that fits tells why. In an engine's words, and in those of pip and uv inside a build.
REASONS = (
    (r"(?i)cannot connect to (the docker daemon|podman)|docker daemon running|connect to the podman socket", "its daemon does not answer",
     "start it (`systemctl start docker`, Docker Desktop, `podman machine start`), or choose the other engine by INTERLOCK_CONTAINER_ENGINE"),
    (r"(?i)permission denied while trying to connect|docker\.sock: .*permission denied", "you may not speak to its daemon",
     "join the group `docker`, or use podman, which has no daemon: INTERLOCK_CONTAINER_ENGINE=podman"),
    (r"(?i)no space left on device|disk quota exceeded", "no space is left for its images",
     "free some: `podman image prune` or `docker image prune`; an image with torch and CUDA takes 5 GB, and as much again while it is made"),
    (r"incompatible with the project's Python requirement", "the Python of the base image is not one that the environment admits",
     "name a base image that fits: INTERLOCK_CONTAINER_BASE"),
    (r"(?i)certificate (verify failed|signed by unknown authority)|CERTIFICATE_VERIFY_FAILED|UnknownIssuer|invalid peer certificate",
     "a certificate on the way to a registry or a package index is not trusted",
     "name a bundle that the base image has: INTERLOCK_CONTAINER_BUILD=\"--build-arg SSL_CERT_FILE=/path/in/the/image\""),
    (r"(?i)dial tcp|no such host|temporary failure in name resolution|dns error|network is unreachable|i/o timeout|failed to establish a new conn",
     "the registry of the base image, or the package index, cannot be reached",
     "connect to the network for the build (a stage needs none), or make a base image of this machine's Python: ci/base-image"),
    (r"(?i)manifest unknown|pull access denied|image not known|no such image|initializing source|failed to resolve source metadata|short-name"
     r"|requested access to the resource is denied|not found: does not exist|not known",
     "there is no such base image", "pull it, make one of this machine's Python (ci/base-image), or name another: INTERLOCK_CONTAINER_BASE"),
    (r"(?i)container-init binary not found|catatonit", "it lacks the small init that passes signals on",
     "install it (Debian: apt-get install catatonit)"),
    (r"(?i)rlimit", "it may not set the limits on open files and processes that it wants",
     "give lower ones: INTERLOCK_CONTAINER_RUN=\"--ulimit nofile=4096:4096 --ulimit nproc=4096:4096\", for builds INTERLOCK_CONTAINER_BUILD"),
    (r"(?i)newuidmap|newgidmap|subuid|subgid", "this account has no range of user ids to give to containers",
     "add one: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\", then `podman system migrate`"),
    (r"(?i)cgroup", "it cannot use the control groups of this machine",
     "choose how: INTERLOCK_CONTAINER_ENGINE=\"podman --cgroup-manager cgroupfs --runtime runc\""),
)  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """An engine by its words: `podman --runtime runc`. The first is a full path."""

    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return Path(self.words[0]).name

    @property
    def is_podman(self) -> bool:
        return "podman" in self.name

    def command(self, *words: str) -> list[str]:
        """A verb of the engine as an argument list that carries what the engine reads from its environment."""
        own = [f"{name}={os.environ[name]}" for name in ITS_OWN if name in os.environ]
        return [*(["/usr/bin/env", *own] if own else []), *self.words, *words]

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb that prints little."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)

    @cache  # noqa: B019 - an engine lives as long as the program
    def as_caller(self) -> tuple[str, ...]:
        """Flags that let a container's process be the user who started interlock: what it makes is theirs, and it can do what they can.

        Raises EnvironmentRefused where docker does not answer.
        """
        mine = f"{os.getuid()}:{os.getgid()}"
        if self.is_podman:
            return ("--user", mine) if os.getuid() == 0 else ("--userns=keep-id", "--user", mine)
        told = self.ask("info", "--format", "{{.SecurityOptions}}")
        if told.returncode:
            raise refused(None, self, told.stderr)
        return ("--user", "0:0" if "rootless" in told.stdout else mine)


def engine() -> Engine:
    """`$INTERLOCK_CONTAINER_ENGINE`, or podman, or docker. Raises EnvironmentRefused where there is none."""
    named = shlex.split(os.environ.get("INTERLOCK_CONTAINER_ENGINE", ""))
    for words in [named] if named else [["podman"], ["docker"]]:
        if (found := on_path(words[0])) is not None:
            return Engine((found, *words[1:]))
    raise EnvironmentRefused(
        "there is no container engine",
        required=f"`{named[0]}` (INTERLOCK_CONTAINER_ENGINE)" if named else "podman or docker on PATH",
        running="none found",
        remedy="install podman (Debian, Ubuntu: apt-get install podman; Fedora: dnf install podman), or use another launcher: --launcher uv",
    )


def flags(verb: str) -> list[str]:
    """Further flags of `build` or `run` that the user gave."""
    return shlex.split(os.environ.get(f"INTERLOCK_CONTAINER_{verb.upper()}", ""))


def refused(env: Environment | None, by: Engine, said: str, base: str = "") -> EnvironmentRefused:
    """Why an engine did not do what it was asked, from what it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = [(why, remedy, line) for pattern, why, remedy in REASONS for line in lines if re.search(pattern, line)]
    last = lines[-1] if lines else "it said nothing"
    why, remedy, told = found[0] if found else (f"{by.name} failed", "mend what its lines name, then run the same command again", last)
    if env is None:
        return EnvironmentRefused(f"{by.name} cannot be used: {why}", required=f"{by.name} that works", running=told[:300], remedy=remedy)
    return EnvironmentRefused(
        f"the image of environment `{env.name}` cannot be made or run: {why}",
        required=f"Python {env.requires_python} (requires-python of envs/{env.name}/pyproject.toml) with envs/{env.name}/requirements.lock",
        running=f"base image {base}: {told[:300]}",
        remedy=remedy,
    )
