"""One question over HTTP: a JSON document there, one back, within a time and a size, tried again where that may help.

Here: the connection. Not here: what is asked and answered (endpoint.py, replies.py).
http.client and not a package: it is one POST without redirects, cookies or pools, and a deadline over the whole answer is ours in any case.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

from interlock.errors import StageFailed
from pipeline.training.teaching.answers import failed

MAX_REPLY = 16 << 20
# What may be otherwise in a moment: a time-out, too many requests, a server that starts or is overloaded (RFC 9110 §15).
PASSING = {408, 425, 429, 500, 502, 503, 504}
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Patience:
    """timeout_s: of one attempt as a whole, however slowly bytes come; retries: attempts after the first; backoff_s: the first wait, doubled each
    time, and a random part of it, so that many who were refused do not come back together."""

    timeout_s: float
    retries: int
    backoff_s: float = 1.0


def post(teacher: str, url: SplitResult, key: str | None, document: dict[str, Any], patience: Patience) -> bytes:
    """The body of a 200, without the key, should it stand there. Raises StageFailed with what was found at the last attempt, or at the first where
    another would be the same."""
    body = json.dumps(document, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    for attempt in range(patience.retries + 1):
        last = attempt == patience.retries
        try:
            status, wait, reply = _attempt(url, headers, body, patience.timeout_s)
        except (OSError, http.client.HTTPException) as error:
            if last:
                raise failed(teacher, f"an answer within {patience.timeout_s:g} s", f"{_told(error)}, {attempt + 1} times") from None
            wait = None
        else:
            reply = reply.replace(key.encode(), b"[key]") if key else reply  # some servers show what they refuse
            if status == 200:
                if len(reply) > MAX_REPLY:
                    raise failed(teacher, f"an answer of at most {MAX_REPLY} bytes", "more")
                return reply
            if last or status not in PASSING:
                raise _refused(teacher, status, reply)
        time.sleep(wait if wait is not None else patience.backoff_s * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - no secret
    raise AssertionError("the last attempt returns or raises")


def _attempt(url: SplitResult, headers: Mapping[str, str], body: bytes, timeout_s: float) -> tuple[int, float | None, bytes]:
    """Status, the wait that was asked for, and at most MAX_REPLY + 1 bytes of the body. Raises OSError, HTTPException."""
    host, port = url.hostname or "", url.port
    late = threading.Event()
    if url.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def give_up() -> None:
        late.set()
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    # A socket's own time-out is for each read: a server that sends a byte now and then would hold us for ever.
    watch = threading.Timer(timeout_s, give_up)
    watch.daemon = True
    watch.start()
    try:
        connection.request("POST", url.path, body, dict(headers))
        response = connection.getresponse()
        reply = response.read(MAX_REPLY + 1)
        if late.is_set():
            raise TimeoutError
        if response.length and len(reply) <= MAX_REPLY:  # a read of so many bytes does not say that there were fewer
            raise http.client.IncompleteRead(reply, response.length)
        return response.status, _wait(response.headers.get("Retry-After")), reply
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        watch.cancel()
        connection.close()


def _wait(header: str | None) -> float | None:
    """Seconds of a Retry-After header; None where it has none that we understand (it may be a date)."""
    return min(float(header), LONGEST_WAIT_S) if header and header.isascii() and header.isdigit() else None


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "none in that time"
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return "a connection that was closed before the answer was whole"
    return f"{type(error).__name__}: {error}"[:200]


def _refused(teacher: str, status: int, reply: bytes) -> StageFailed:
    reason = http.client.responses.get(status, "")
    return failed(teacher, "status 200", f"{status} {reason}: {excerpt(reply)}")


def excerpt(reply: bytes) -> str:
    """The beginning of a reply, for a message."""
    text = " ".join(reply[:400].decode("utf-8", "replace").split())
    return f"`{text[:160]}{'…' if len(text) > 160 else ''}`" if text else "nothing"
