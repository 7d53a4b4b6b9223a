"""Launcher `container`: an image per environment, made from `Containerfile` by podman or docker, with its own copy of the project.

Here: when an image is that of this working tree, building it, running a verb in it. Not here: what is in it (Containerfile), the engine itself and
its refusals (container_engine.py).
A stage sees its environment and the places of its job, at the same paths, and nothing else of the machine: no network, a read-only root, no
capability, the user who started interlock. What was built is noted in `.interlock/images/`, so that nothing is asked of the engine while there is
nothing to do.
"""

from __future__ import annotations

import configparser
import csv
import hashlib
import io
import json
import os
import re
import secrets
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.canonical import canonical_json
from interlock.environments import ROOT, Environment, platform_name
from interlock.errors import EnvironmentRefused
from pipeline.driver import records
from pipeline.launchers import THREADS, Job
from pipeline.launchers.container_engine import Engine, engine, flags, refused
from pipeline.launchers.sources import digests

ELSEWHERE = True
REGISTRY = "docker.io/library/python:{python}-slim"
LABEL = "org.interlock"

_PROBE = "import json, platform, sys; print(json.dumps([platform.python_version(), f'{sys.platform}-{platform.machine()}']))"


def ready(env: Environment) -> bool:
    """Whether the image that was noted was made from this working tree as it is now."""
    note = _note(env)
    return bool(note) and note["key"] == _key(env, _sources(env))


def prepare(env: Environment) -> None:
    """Build the image of this working tree, unless it is there. Raises EnvironmentRefused."""
    if platform_name() not in ("linux-x86_64", "linux-aarch64"):
        raise EnvironmentRefused(
            "launcher `container` runs on Linux only: a key names the platform, and a container's is another than this machine's",
            required="Linux",
            running=platform_name(),
            remedy="use another launcher: --launcher uv",
        )
    by, base, sources = engine(), base_image(env), _sources(env)
    key = _key(env, sources)
    tag = f"interlock-{env.name}:{key[:16]}"
    if by.ask("image", "inspect", tag).returncode:
        _build(env, by, base, tag, sources)
    found = by.ask("image", "inspect", "--format", "{{.Id}}", tag)
    if found.returncode:
        raise refused(env, by, found.stderr, base)
    identity = "sha256:" + found.stdout.strip().removeprefix("sha256:")
    python = _python_of(env, by, identity, base)
    note = {"key": key, "image": identity, "tag": tag, "base": base, "lock": env.lock_digest, "python": python}
    fs.make_parents(fs.Fs(), _file(env).parent)
    records.save(_file(env), note)


def python_version(env: Environment) -> str | None:
    """Of the noted image, as long as neither the lock nor the base is another: a change of the project's source does not change it."""
    note = _note(env)
    return note["python"] if note and (note["lock"], note["base"]) == (env.lock_digest, base_image(env)) else None


def image(env: Environment) -> str | None:
    """The digest of the image's configuration, which names every layer: what engines call its id."""
    note = _note(env)
    return note["image"] if note else None


def command(env: Environment, argv: Sequence[str], job: Job | None = None) -> list[str]:
    """`podman run` of the noted image. Raises EnvironmentRefused where there is none any more."""
    note, by = _note(env), engine()
    if not note or (job is not None and by.ask("image", "inspect", note["image"]).returncode):
        if note:
            records.save(_file(env), {})
        raise EnvironmentRefused(
            f"the image of environment `{env.name}` is gone",
            required=note["tag"] if note else "an image that was built",
            running=f"{by.words[0]} does not have it",
            remedy="run the same command again: it is built anew, from what the engine's cache still has",
        )
    return by.command(*_run(by), *(_places(env, job) if job else ()), note["image"], *argv)


def base_image(env: Environment) -> str:
    """`$INTERLOCK_CONTAINER_BASE` or the Python image of the registry; `{python}` in it is the version that tox.ini gives to the environment."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    mine = next(tox[name] for name in tox.sections() if env.name in re.findall(r"[\w-]+", name.removeprefix("testenv:")))
    return (os.environ.get("INTERLOCK_CONTAINER_BASE") or REGISTRY).replace("{python}", mine["base_python"].removeprefix("python"))


def _run(by: Engine) -> list[str]:
    """What every container of ours is: held by its standard input, gone when it has ended, without network, rights and a place to write."""
    own = ["--read-only-tmpfs=false"] if by.is_podman else []
    passed = [*THREADS, *sorted(name for name in os.environ if name.startswith("INTERLOCK_") and not name.startswith("INTERLOCK_CONTAINER_"))]
    return [
        "run", "--rm", "--interactive", "--init", "--log-driver=none", "--network=none", "--cap-drop=all", "--security-opt=no-new-privileges",
        "--security-opt=label=disable", "--read-only", *own, "--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777", *by.as_caller(),
        *(word for name in passed for word in ("--env", name)), *flags("run"),
    ]  # fmt: skip


def _places(env: Environment, job: Job) -> Iterator[str]:
    """The mounts of a job: what it reads, read-only; its folder and what it writes; the folder it works in, empty where none of them makes it."""
    for folder in job.writes:
        with fs.named_failures(folder):
            fs.make_parents(fs.Fs(), folder)
    mounts = {path: True for path in job.reads if path.exists()} | dict.fromkeys((job.folder, *job.writes), False)
    yield f"--name=interlock-{env.name}-{re.sub('[^A-Za-z0-9_.-]', '-', job.folder.name)}-{secrets.token_hex(4)}"
    for path, read_only in sorted(mounts.items(), key=lambda item: len(item[0].parts)):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(["type=bind", f"source={path}", f"destination={path}", *(["readonly"] if read_only else [])])
        yield f"--mount={line.getvalue()}"
    if job.here != Path("/") and not any(path == job.here or path.is_relative_to(job.here) or job.here.is_relative_to(path) for path in mounts):
        yield f"--tmpfs={job.here}:ro,mode=0555"
    yield f"--workdir={job.here}"


def _build(env: Environment, by: Engine, base: str, tag: str, sources: dict[str, str]) -> None:
    labels = {
        "org.opencontainers.image.title": f"interlock {env.name}",
        "org.opencontainers.image.base.name": base,
        f"{LABEL}.environment": env.name,
        f"{LABEL}.lock-digest": env.lock_digest,
        f"{LABEL}.source-digest": hashlib.sha256(canonical_json(sources)).hexdigest(),
    }
    words = ["build", "--tag", tag, "--build-arg", f"BASE={base}", "--build-arg", f"ENV={env.name}", "--file", str(ROOT / "Containerfile")]
    words += [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    print(f"image: environment `{env.name}` from {base} and envs/{env.name}/requirements.lock", file=sys.stderr)
    last: deque[str] = deque(maxlen=100)
    command, quiet = by.command(*words, *flags("build"), str(ROOT)), subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as building:
        for line in building.stdout or ():
            last.append(line)
            sys.stderr.write(line)
    if building.returncode:
        raise refused(env, by, "".join(last), base)


def _python_of(env: Environment, by: Engine, identity: str, base: str) -> str:
    """What runs in the image, asked of the image itself, as a stage will run. Raises EnvironmentRefused."""
    told = by.ask(*_run(by), "--entrypoint=python", identity, "-I", "-c", _PROBE)
    if told.returncode:
        raise refused(env, by, told.stderr, base)
    python, platform = json.loads(told.stdout)
    if platform != platform_name():
        raise EnvironmentRefused(
            f"the base image {base} is of another platform",
            required=platform_name(),
            running=str(platform),
            remedy="name another base image: INTERLOCK_CONTAINER_BASE",
        )
    return str(python)


def _sources(env: Environment) -> dict[str, str]:
    """The digest of every file that the Containerfile copies into the image of `env`, by its name."""
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Containerfile").read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for line in copied for name in line.replace("${ENV}", env.name).split()]
    return digests(ROOT, names)


def _key(env: Environment, sources: dict[str, str]) -> str:
    """What decides an image: the recipe, all that it copies, the base."""
    recipe = hashlib.sha256((ROOT / "Containerfile").read_bytes()).hexdigest()
    return hashlib.sha256(canonical_json([env.name, recipe, sources, base_image(env), engine().words])).hexdigest()


def _file(env: Environment) -> Path:
    return ROOT / ".interlock" / "images" / f"{env.name}.json"


def _note(env: Environment) -> dict[str, Any]:
    """What was noted of the image of `env`; empty where nothing was, or not in this form."""
    note = records.load(_file(env))
    fields = ("key", "image", "tag", "base", "lock", "python")
    return note if all(isinstance(note.get(name), str) for name in fields) else {}
