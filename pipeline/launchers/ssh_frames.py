"""What travels through a connection: frames, and files in them.

Here: the form. Not here: who says what (ssh_here.py, ssh_there.py).
A frame is one letter, eight bytes of length and as many bytes: J a document, D a part of an archive, E its end, P nothing: a sign of life. An archive
is a stream of tar with regular files and folders alone, under names that this module checks.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interlock import fs
from interlock.errors import StageFailed

CHUNK = 1 << 20
LONGEST = 1 << 26
PING_S = 5.0
SILENCE_S = 60.0


class Lost(Exception):
    """The other side is gone, or has been silent for too long."""


class Told(Exception):
    """A document came where an archive was to come."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self.document = document


class Channel:
    """Both directions of a connection, by descriptors. Writing is safe from several threads."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._lock = threading.Lock()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Raises Lost."""
        data = memoryview(kind + len(payload).to_bytes(8, "big") + payload)
        try:
            with self._lock:
                while data:
                    data = data[os.write(self._target, data) :]
        except OSError:
            raise Lost from None

    def say(self, document: dict[str, Any]) -> None:
        self.send(b"J", json.dumps(document).encode())

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame that is no sign of life. Raises Lost."""
        while True:
            head = self._exactly(9)
            kind, length = head[:1], int.from_bytes(head[1:], "big")
            if kind not in b"JDEP" or length > LONGEST:
                raise Lost
            payload = self._exactly(length)
            if kind != b"P":
                return kind, payload

    def document(self) -> dict[str, Any]:
        """The next frame, which must be a document. Raises Lost."""
        kind, payload = self.receive()
        if kind != b"J":
            raise Lost
        found: dict[str, Any] = json.loads(payload)
        return found

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Give signs of life."""
        done = threading.Event()
        threading.Thread(target=self._ping, args=(done,), daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _ping(self, done: threading.Event) -> None:
        with contextlib.suppress(Lost):
            while not done.wait(PING_S):
                self.send(b"P")

    def _exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            readable, _, _ = select.select([self._source], [], [], SILENCE_S)
            data = os.read(self._source, min(CHUNK, count - len(found))) if readable else b""
            if not data:
                raise Lost
            found += data
        return bytes(found)


class _Outgoing(io.RawIOBase):
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._channel.send(b"D", bytes(data))
        return len(data)


class _Incoming(io.RawIOBase):
    def __init__(self, channel: Channel) -> None:
        self._channel, self._left, self._ended = channel, memoryview(b""), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and not self._ended:
            kind, payload = self._channel.receive()
            if kind == b"J":
                raise Told(json.loads(payload))
            self._left, self._ended = memoryview(payload), kind != b"D"
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def drain(self) -> None:
        while self.read(CHUNK):
            pass


def pack(channel: Channel, files: dict[str, Path]) -> None:
    """Send files and folders, each under its name; links are followed. Raises Lost."""
    with tarfile.open(fileobj=_Outgoing(channel), mode="w|", bufsize=CHUNK, dereference=True) as archive:
        for name, path in files.items():
            archive.add(path, name, filter=lambda member: member if member.isreg() or member.isdir() else None)
    channel.send(b"E")


def unpack(channel: Channel, target: Callable[[str], Path]) -> None:
    """Receive what `pack` sends; `target` is where the file or folder of a name goes. Raises Lost, Told, StageFailed."""
    incoming = _Incoming(channel)
    with tarfile.open(fileobj=io.BufferedReader(incoming, CHUNK), mode="r|", bufsize=CHUNK) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if not parts or ".." in parts or parts[0] == "/" or not (member.isreg() or member.isdir()):
                raise StageFailed(f"`{member.name}` came from the other machine, which is no file of ours", remedy="see what runs there")
            path = target(parts[0]).joinpath(*parts[1:])
            with fs.named_failures(path):
                fs.make_parents(fs.Fs(), path if member.isdir() else path.parent)
                if (content := archive.extractfile(member)) is not None:
                    fs.Fs().receive(content, path)
    incoming.drain()


def walk(value: Any, change: Callable[[str], str]) -> Any:
    """A document with every string changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [walk(item, change) for item in value]
    return {name: walk(item, change) for name, item in value.items()} if isinstance(value, dict) else value
