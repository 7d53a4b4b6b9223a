"""The other ways into an environment: Nix, containers, tox, another machine. Only the one that is named must be there.

Here: whether each could be used. Not here: environments made by uv (environments.py), what an engine's refusals mean (launchers/container_engine.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from interlock.environments import python_version_in
from interlock.errors import EnvironmentRefused
from interlock.voice import human
from pipeline.doctor.asking import Answer, ask
from pipeline.doctor.finding import Finding, error, info, optional, warning
from pipeline.doctor.place import Place, free_bytes
from pipeline.launchers import on_path

# An image with torch and CUDA takes 5 GB, and as much again while it is made (launchers/container_engine.py).
IMAGE_BYTES = 10 << 30


def named(place: Place) -> Iterator[Finding]:
    """The launcher that builds here use."""
    from pipeline.launchers import LAUNCHERS

    where = "INTERLOCK_LAUNCHER" if os.environ.get("INTERLOCK_LAUNCHER") else "the default"
    if place.launcher in LAUNCHERS:
        yield info(f"builds enter environments by `{place.launcher}`: {LAUNCHERS[place.launcher]}", where)
    else:
        known = ", ".join(LAUNCHERS)
        yield error(f"there is no launcher `{place.launcher}`", expected=f"one of {known}", remedy="unset INTERLOCK_LAUNCHER", evidence=where)


def nix(place: Place) -> Iterator[Finding]:
    path = on_path("nix")
    if path is None:
        yield _absent(place, "nix", "there is no nix", "apt-get install nix-bin (elsewhere: https://nixos.org/download)", "PATH")
        return
    version = ask([path, "--version"])
    store = ask([path, "--extra-experimental-features", "nix-command", "store", "ping"]) if version.ok else version
    if not store.ok:
        remedy = "start its daemon (systemctl start nix-daemon), or give yourself the right to its store"
        yield _absent(place, "nix", f"nix cannot be used: {store.why}", remedy, path)
        return
    yield info(f"{version.out.strip()}; its store answers", path)
    flakes = ask([path, "eval", "--expr", "builtins ? getFlake"])
    if flakes.out.strip() == "true":
        yield info("flakes are enabled", "nix eval")
        return
    yield optional(
        "flakes are not enabled: launcher `nix` does that for itself, `nix develop` and `nix run` do not",
        expected="experimental-features = nix-command flakes",
        remedy="mkdir -p ~/.config/nix && echo 'experimental-features = nix-command flakes' >> ~/.config/nix/nix.conf",
        evidence=flakes.why,
    )


def tox(place: Place) -> Iterator[Finding]:
    """Its own environments, which the first build by it makes."""
    for env in place.environments().values():
        folder = place.root / ".tox" / env.name
        if env.made(folder):
            yield info(f"tox has environment `{env.name}`: Python {python_version_in(folder)}, filled from its lock", str(folder))
        else:
            found, remedy = f"tox has no environment `{env.name}` of the lock as it is", f"ci/env tox run -e {env.name} -- --help"
            yield optional(found, expected="one, for launcher `tox`; its first build makes it", remedy=remedy, evidence=str(folder))


def container(place: Place) -> Iterator[Finding]:
    from pipeline.launchers.container_engine import engine, refused

    try:
        by = engine()
    except EnvironmentRefused as problem:
        yield _refusal(place, problem)
        return
    told = ask(by.command("info", "--format", "{{json .}}"))
    if not told.ok:
        yield _refusal(place, refused(None, by, told.err or told.why))
        return
    yield info(f"container engine {by.name} answers", " ".join(by.words))
    room = _room(told)
    if room is not None and room[0] < IMAGE_BYTES:
        found = f"{human(room[0], 'B')} free for images"
        remedy = f"{by.name} image prune, or move its storage to a larger file system"
        make = warning if place.launcher == "container" else optional
        yield make(found, expected=f"{human(IMAGE_BYTES, 'B')} to make an image", remedy=remedy, evidence=room[1])


def ssh(place: Place) -> Iterator[Finding]:
    """Only where a host is named, or builds go there: whether its clone answers, one environment after the other."""
    if place.launcher != "ssh" and "INTERLOCK_SSH_HOST" not in os.environ:
        yield info("no other machine is named", "INTERLOCK_SSH_HOST")
        return
    from pipeline.launchers import ssh_connection

    try:
        to = ssh_connection.place()
    except EnvironmentRefused as problem:
        yield _refusal(place, problem, "ssh")
        return
    for env in place.environments().values():
        told = ask(to.command(to.python(env.name), "-I", "-c", "import pipeline.launchers.ssh_there"), limit_s=20.0)
        if told.ok:
            yield info(f"environment `{env.name}` answers on {to.host}", to.root)
        else:
            yield _refusal(place, ssh_connection.refused(to, env, told.code or 255, told.err or told.why), "ssh")
            return


def _room(told: Answer) -> tuple[int, str] | None:
    """Bytes that are free where the engine keeps images, if it says where and that is here."""
    try:
        document = json.loads(told.out)
        folder = document.get("DockerRootDir") or document.get("store", {}).get("graphRoot")
        return free_bytes(folder), str(folder)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _refusal(place: Place, problem: EnvironmentRefused, launcher: str = "container") -> Finding:
    return _absent(place, launcher, problem.problem, problem.remedy, problem.running)


def _absent(place: Place, launcher: str, found: str, remedy: str, evidence: str) -> Finding:
    """An error where builds use it; otherwise a fact with the way out."""
    make = error if place.launcher == launcher else optional
    return make(found, expected=f"what launcher `{launcher}` needs", remedy=remedy, evidence=evidence)
