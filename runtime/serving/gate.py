"""What every request passes before and after the application: who may ask, how long it may take, one line in the log.

Here: the host name, the key, the time limit, the record. Not here: what paths do (app.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interlock.errors import UsageError
from runtime.serving.metrics import Metrics
from runtime.serving.refusals import Refused

# What nginx logs for a client that left before its answer.
LEFT = 499
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Open to everybody: the page holds no secret, and whoever watches over a server has no key.
OPEN = frozenset({"/", "/health"})
KEY_BYTES = 64 << 10


@dataclass
class Record:
    """What a request was, for the log. On `stack` lies what ends with it."""

    note: str = ""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


@dataclass(frozen=True)
class Access:
    """keys: one of which a request must bring, empty: none; hosts: names by which the server may be called, None: any; seconds: for everything."""

    keys: tuple[bytes, ...] = ()
    hosts: frozenset[str] | None = LOOPBACK
    seconds: float = 330.0


def read_keys(file: Path) -> tuple[bytes, ...]:
    """A key on each line. Raises UsageError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"`{file}` cannot be read ({error.strerror})", remedy="name a file with a key on each line") from None
    keys = tuple(line.strip() for line in data[:KEY_BYTES].splitlines() if line.strip())
    if not keys or len(data) > KEY_BYTES or any(len(key) < 8 or not key.isascii() or b" " in key for key in keys):
        raise UsageError(f"`{file}` holds no keys", remedy="write a key of at least 8 ASCII characters on each line, without spaces")
    return keys


class Gate:
    """The application as the server sees it."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics, log: Callable[[str], None]) -> None:
        self._app, self._access, self._metrics, self._log = app, access, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), LEFT
        record = scope.setdefault("state", {})["record"] = Record()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            with record.stack:
                await asyncio.wait_for(self._passed(scope, receive, noted), self._access.seconds)
        except ClientDisconnect:
            pass
        except asyncio.TimeoutError:
            if status == LEFT:
                late = Refused(408, f"the request took longer than {self._access.seconds:.0f} s", remedy="send it faster, or read faster")
                await late.response()(scope, receive, noted)
        except Exception:  # a bug: told in the log, and to the client as far as that can still be
            traceback.print_exc()
            if status == LEFT:
                await Refused(500, "the server failed", remedy="see its log").response()(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.add("requests_total", path=_known(scope), status=status)
            self._metrics.observe("request_seconds", seconds)
            client = (scope.get("client") or ("-",))[0]
            self._log(f"{client} {scope['method']} {scope['path'][:100]} {status} {seconds:.3f} s{record.note}")

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if (refusal := self._refusal(scope, headers)) is not None:
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Refused | None:
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._access.hosts is not None and name not in self._access.hosts:
            # A page of another site whose name was made to point here (DNS rebinding) asks under that name.
            return Refused(403, "this server is asked under a name that is not its own", remedy="use its address, or start it with --host")
        given = headers.get("authorization", "")
        key = given[7:].strip().encode() if given[:7].lower() == "bearer " else b""
        if self._access.keys and scope["path"] not in OPEN and not any(hmac.compare_digest(key, known) for known in self._access.keys):
            challenge = {"WWW-Authenticate": "Bearer"}
            return Refused(401, "no key, or a wrong one", remedy="send `Authorization: Bearer KEY`", code="invalid_api_key", headers=challenge)
        return None


def _known(scope: Scope) -> str:
    """A path of ours, so that nobody fills the memory with others."""
    return str(scope["route"].path) if "route" in scope else "other"
