"""The driver's end of launcher `ssh`: the child that stands for a stage on another machine.

Here: sending what the stage needs, passing on what it says, taking what it made. Not here: the other end (ssh_there.py), where that is
(ssh_connection.py).
What comes is received into a temporary folder, proven against its contract, and only then moved to where the driver looks.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from interlock import environments, errors, fs
from interlock.command import emit, guarded
from interlock.errors import StageFailed
from pipeline.driver import children, leash
from pipeline.launchers import THREADS, ssh, ssh_frames
from pipeline.launchers.ssh_clone import Clone
from pipeline.launchers.ssh_connection import Place, place, refused
from pipeline.launchers.ssh_frames import Channel, Lost, Told

# What a stage there gets of the variables here: how it computes and speaks, and what is meant for interlock's own code. Places are not.
PASSED = ("LANG", "LC_ALL", "TZ", "CI", *THREADS)
NOT_PASSED = ("INTERLOCK_SSH", "INTERLOCK_CONTAINER", "INTERLOCK_NIX", "INTERLOCK_HOME", "INTERLOCK_STORE", "INTERLOCK_LAUNCHER")


def main(argv: list[str]) -> int:
    """Run the stage of the job that `argv` holds. Returns its exit code."""
    job = json.loads(argv[0])
    leash.hold()
    to = place()
    quiet = subprocess.PIPE
    words = to.command(to.python(job["environment"]), "-I", "-m", ssh.THERE)
    with subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet) as connection:
        assert connection.stdin and connection.stdout and connection.stderr
        channel, last = Channel(connection.stdout.fileno(), connection.stdin.fileno()), deque[str](maxlen=20)
        root: list[str] = []
        speaker = threading.Thread(target=_pass_on, args=(connection.stderr, root, last), daemon=True)
        speaker.start()
        try:
            with channel.alive():
                return _converse(channel, to, job, root)
        except Told as told:
            raise errors.from_dict(_here(told.document, root[0])["said"]) from None
        except Lost:
            _hang_up(connection, speaker)
            raise _broken(to, job, connection.returncode, last, started=bool(root)) from None
        finally:
            _hang_up(connection, speaker)


def _hang_up(connection: subprocess.Popen[bytes], speaker: threading.Thread) -> None:
    """End the connection. Its talk is read to the end first: to close a stream that a thread reads from waits for the other side to fall silent."""
    assert connection.stdin
    connection.stdin.close()
    connection.wait()
    speaker.join(children.LAST_WORDS_S)


def _converse(channel: Channel, to: Place, job: dict[str, Any], root: list[str]) -> int:
    """From the first word to the last. Raises Lost, and Told where the other side gives up."""
    env = environments.environment(job["environment"])
    channel.say({"environment": env.name})
    hello = channel.document()
    root.append(hello["root"])
    ssh.refuse_other(to, env, Clone(**hello["clone"]))
    folder = Path(job["folder"])
    reads = [path for path in job["reads"] if Path(path).exists()]
    artifacts = [_contract(Path(path)) for path in reads]
    channel.say(job | {"reads": reads, "artifacts": artifacts, "request": json.loads((folder / "request.json").read_bytes()), "environ": _environ()})
    answer = channel.document()
    if "wanted" not in answer:
        raise Told(answer)
    for at in answer["wanted"]:
        sys.stderr.write(f"send {reads[at]} to {to.host}\n")
    try:
        ssh_frames.pack(channel, {str(at): Path(reads[at]) for at in answer["wanted"]})
    except Lost:
        raise Told(channel.document()) from None  # it has said why it listens no more, or is lost
    with fs.workspace(folder / "received") as work:
        ssh_frames.unpack(channel, lambda name: work.path / name)
        ended = _here(channel.document(), root[0])
        _take(work, job, ended)
    if ended["said"] is not None:
        emit(ended["said"])
    code = int(ended["ended"])
    return code if code >= 0 else 128 - code


def _here(document: dict[str, Any], root: str) -> dict[str, Any]:
    """The document with paths as they are here."""
    found: dict[str, Any] = ssh_frames.walk(document, lambda text: text.replace(root, ""))
    return found


def _contract(path: Path) -> str | None:
    """What an artifact goes by: the digest of its contract, which has those of all its files. None for other files and folders."""
    from interlock.contracts import io

    kind = io.kind_of(path) if path.is_dir() else None
    return hashlib.sha256(io.contract_path(path, kind).read_bytes()).hexdigest() if kind else None


def _environ() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name.startswith("INTERLOCK_") and not name.startswith(NOT_PASSED)}
    return ours | {name: os.environ[name] for name in PASSED if name in os.environ}


def _take(work: fs.Workspace, job: dict[str, Any], ended: dict[str, Any]) -> None:
    """Move what has come to its places. Raises ContractError, StageFailed where it is not what the stage has told."""
    folder, received = Path(job["folder"]), work.path
    if (out := received / "folder" / "out").exists():
        from interlock.contracts import io

        kind = io.kind_of(out)
        found = io.read_artifact(out, io.KINDS[kind][1]).digest if kind else "none"
        told = (ended["said"] or {}).get("contract", {}).get("digest")
        if found != told:
            raise StageFailed(f"artifact {found} came back, and the stage had told of {told}", remedy="run the same command again")
    for name in ("out", "traceback"):
        if (received / "folder" / name).exists():
            work.fs.rename(received / "folder" / name, folder / name)
    for at, target in enumerate(job["writes"]):
        came = received / "writes" / str(at)
        for candidate in sorted(came.iterdir()) if came.exists() else []:
            with fs.workspace(Path(target) / candidate.name) as kept:
                for child in sorted(candidate.iterdir()):
                    kept.fs.rename(child, kept.path / child.name)
                fs.publish(kept, Path(target) / candidate.name)


def _pass_on(stream: Any, root: list[str], last: deque[str]) -> None:
    for line in iter(stream.readline, b""):
        text = line.decode("utf-8", "replace")
        for there in root:
            text = text.replace(there, "")
        last.append(text)
        sys.stderr.write(text)
        sys.stderr.flush()


def _broken(to: Place, job: dict[str, Any], code: int, last: deque[str], *, started: bool) -> Exception:
    if not started:
        return refused(to, environments.environment(job["environment"]), code, "".join(last))
    told = next((line.strip() for line in reversed(last) if line.strip()), f"ssh ended with {code}")
    broke = "the connection broke" if code in (255, -signal.SIGKILL, -signal.SIGTERM) else f"what served it ended with {code}"
    return StageFailed(
        f"{broke} while the stage ran on {to.host}: {told[:300]}",
        remedy="the stage ends there and its folder is removed; run the same command again: what was finished is kept",
    )


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), json_output=True))
