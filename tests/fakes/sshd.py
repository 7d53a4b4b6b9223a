"""A real sshd on the loopback, for one test: its own keys, its own configuration, a port that nobody else has, gone afterwards."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.environments import ROOT

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
StrictModes no
"""


def program() -> str:
    """The path of sshd. Where there is none the test is skipped, and in CI it fails."""
    found = subprocess.run([ROOT / "ci" / "sshd"], capture_output=True, text=True, check=False)
    if found.returncode and not os.environ.get("CI"):
        pytest.skip("there is no sshd here, and ci/sshd cannot install it")
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()[-1]


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which launcher `ssh` reaches it."""
    run = program()
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "authorized_keys").write_bytes((folder / "user.pub").read_bytes())
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "configuration").write_text(CONFIGURATION.format(port=port, folder=folder))
    # As root it wants a folder that is made when its service starts.
    with contextlib.suppress(OSError):
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    command = [run, "-D", "-E", folder / "log", "-f", folder / "configuration"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as server:
        try:
            _wait(port, folder)
            words = f"ssh -F none -p {port} -i {folder}/user -o IdentitiesOnly=yes -o UserKnownHostsFile={folder}/known_hosts"
            yield {"INTERLOCK_SSH_HOST": f"{getpass.getuser()}@127.0.0.1", "INTERLOCK_SSH": words}
        finally:
            server.terminate()


def _wait(port: int, folder: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError((folder / "log").read_text())
