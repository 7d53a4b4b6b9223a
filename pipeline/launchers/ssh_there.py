"""The other machine's end of launcher `ssh`: what this clone is, and one stage run in it for a driver elsewhere.

Here: a stage's places under a folder of its own, its process, what comes back. Not here: the driver's end (ssh_here.py), the stage (pipeline/driver).
Each path of the driver's machine is the same path below that folder, which nothing outlives: not the stage, not a connection that breaks, and where
the machine itself breaks down the next run removes it. Artifacts are kept beside, by the digest of their contracts, so that none is sent twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock import environments, fs
from interlock.command import guarded
from interlock.environments import ROOT
from interlock.errors import ContractError, InterlockError
from pipeline.driver import children
from pipeline.driver.store import age_s
from pipeline.launchers import ssh_frames
from pipeline.launchers.ssh_clone import serving
from pipeline.launchers.ssh_frames import Channel, Lost

BASE = ROOT / ".interlock" / "ssh"
KEPT_S = 7 * 24 * 3600.0
# Of the variables that a stage may see these are this machine's own.
ITS_OWN = ("PATH", "HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "SSL_CERT_FILE", "CC")


def main(argv: list[str]) -> int:
    """With the name of an environment: say what this clone is. Without: serve one stage."""
    if argv:
        print(json.dumps(serving(environments.environment(argv[0])).as_dict()))
        return 0
    # What anything here prints is talk: the connection's own stream carries frames.
    channel = Channel(0, os.dup(1))
    os.dup2(2, 1)
    try:
        with channel.alive(), fs.workspace(BASE / "runs" / "run") as work:
            _serve(channel, work.path)
    except Lost:
        return 1
    except InterlockError as error:
        with contextlib.suppress(Lost):
            channel.say({"ended": error.exit_code, "said": error.as_dict()})
    return 0


def _serve(channel: Channel, folder: Path) -> None:
    told = channel.document()
    env = environments.environment(told["environment"])
    channel.say({"clone": serving(env).as_dict(), "root": str(folder / "root")})
    job = channel.document()
    root = folder / "root"
    places = [root / path.lstrip("/") for path in job["reads"]]
    wanted = [at for at, contract in enumerate(job["artifacts"]) if contract is None or not _kept(contract, places[at])]
    channel.say({"wanted": wanted})
    ssh_frames.unpack(channel, lambda name: places[int(name)])
    for at in wanted:
        if job["artifacts"][at] is not None:
            _keep(job["artifacts"][at], places[at])
    for place in (job["folder"], job["here"], *job["writes"]):
        fs.make_parents(fs.Fs(), root / place.lstrip("/"))
    fs.make_parents(fs.Fs(), folder / "tmp")
    code, said = _run(channel, job, root, folder / "tmp")
    mine = root / job["folder"].lstrip("/")
    made = {f"folder/{name}": mine / name for name in ("out", "traceback") if (mine / name).exists()}
    for at, place in enumerate(job["writes"]):
        made |= {f"writes/{at}/{path.name}": path for path in (root / place.lstrip("/")).iterdir()}
    ssh_frames.pack(channel, made)
    channel.say({"ended": code, "said": said})
    _forget()


def _run(channel: Channel, job: dict[str, Any], root: Path, temporary: Path) -> tuple[int, Any]:
    """The stage's process from start to end: its code, and its answer. Raises Lost."""
    file = root / job["folder"].lstrip("/") / "request.json"
    request = job["request"] | {"params": _moved(job, root), "project": ""}
    fs.Fs().write(file, json.dumps(request).encode())
    own = {name: os.environ[name] for name in ITS_OWN if name in os.environ}
    pipe = subprocess.PIPE
    stage = subprocess.Popen(
        [sys.executable, "-I", "-m", "pipeline.here", "stage", str(file), "--json"], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True,
        cwd=root / job["here"].lstrip("/"), env=own | job["environ"] | {"TMPDIR": str(temporary)},
    )  # fmt: skip
    said, lost = bytearray(), threading.Event()
    listening = ((stage.stdout, said.extend), (stage.stderr, lambda line: os.write(2, line)))
    readers = [threading.Thread(target=_listen, args=pair, daemon=True) for pair in listening]
    threading.Thread(target=_watch, args=(channel, stage.pid, lost), daemon=True).start()
    for reader in readers:
        reader.start()
    code = stage.wait()
    children.kill_group(stage.pid)  # what it started and left
    for reader in readers:
        reader.join(children.LAST_WORDS_S)
    if lost.is_set():
        raise Lost
    try:
        return code, json.loads(bytes(said))
    except ValueError:
        return code, None


def _listen(stream: Any, take: Callable[[bytes], object]) -> None:
    for line in iter(stream.readline, b""):
        take(line)


def _watch(channel: Channel, stage: int, lost: threading.Event) -> None:
    """End the stage when the driver is gone, or was not heard of for too long."""
    with contextlib.suppress(Lost):
        while True:
            channel.receive()
    lost.set()
    children.kill_group(stage)


def _moved(job: dict[str, Any], root: Path) -> Any:
    """The stage's parameters, with each path of the job's places, bare or behind a scheme, as it is here."""
    places = tuple(Path(place) for place in (job["folder"], *job["reads"], *job["writes"]))

    def moved(text: str) -> str:
        found = re.fullmatch(r"([a-z]+:)?(/.*)", text, re.DOTALL)
        if found and any(Path(os.path.normpath(found[2])).is_relative_to(place) for place in places):
            return f"{found[1] or ''}{root}{found[2]}"
        return text

    return ssh_frames.walk(job["request"]["params"], moved)


def _kept(contract: str, place: Path) -> bool:
    """Whether the artifact with that contract is kept here, whole; then it is at `place`."""
    kept = BASE / "artifacts" / contract
    if not kept.is_dir():
        return False
    fs.Fs().chmod(kept, 0o755)  # used now: `_forget` goes by the time of the last change
    _copy(kept, place)
    if _sound(contract, place):
        return True
    for damaged in (place, kept):
        fs.remove_tree(fs.Fs(), damaged)
    return False


def _keep(contract: str, place: Path) -> None:
    """Keep what has come, if it is the artifact that was announced: otherwise the stage says what is wrong with it."""
    if _sound(contract, place):
        with fs.workspace(BASE / "artifacts" / contract) as work:
            for child in sorted(place.iterdir()):
                work.copy(child, child.name)
            fs.publish(work, BASE / "artifacts" / contract)


def _sound(contract: str, place: Path) -> bool:
    from interlock.contracts import io

    try:
        kind = io.kind_of(place)
        if kind is None or hashlib.sha256(io.contract_path(place, kind).read_bytes()).hexdigest() != contract:
            return False
        io.read_artifact(place, io.KINDS[kind][1])
    except (ContractError, OSError):
        return False
    return True


def _copy(source: Path, place: Path) -> None:
    fs.make_parents(fs.Fs(), place.parent)
    fs.Workspace(place.parent, fs.Fs()).copy(source, place.name)


def _forget() -> None:
    """Remove artifacts that nobody has used for a week."""
    for kept in (BASE / "artifacts").glob("*"):
        with contextlib.suppress(OSError):
            if age_s(kept) > KEPT_S:
                fs.remove_tree(fs.Fs(), kept)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(guarded(lambda: main(sys.argv[1:])))
