"""One question over HTTP: a JSON document there, one back, within a time and a size, tried again where that may help.

Here: the address, the key, the connection. Not here: what is asked and answered (a teacher's, a judge's).
http.client and not a package: it is one POST without redirects, cookies or pools, and a deadline over the whole answer is ours in any case.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from interlock.errors import StageFailed, UsageError

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


Failed = Callable[[str, object], StageFailed]
"""Of what was expected and what was found (text, or a `Refusal`): the error that says whose answer it was."""


@dataclass(frozen=True)
class Refusal:
    """An answer other than 200: its status, and the beginning of what it said."""

    status: int
    reply: bytes

    def __str__(self) -> str:
        return f"{self.status} {http.client.responses.get(self.status, '')}: {excerpt(self.reply)}"


def completions(url: str) -> SplitResult:
    """The address of an OpenAI-compatible endpoint's chat completions. Raises UsageError."""
    try:
        place = urlsplit(url)
        sound = place.scheme in ("http", "https") and place.hostname and not place.query and not place.fragment and not place.username
        _ = place.port
    except ValueError:
        sound = False
    if not sound or any(not "!" <= char <= "~" for char in url):
        raise UsageError(f"`{url}` is no address of an endpoint", remedy="give one such as http://localhost:8000/v1, without a name, key or query")
    path = place.path.rstrip("/")
    return place._replace(path=path if path.endswith("/chat/completions") else f"{path}/chat/completions")


def endpoint_key(variable: str, url: SplitResult) -> str | None:
    """The key that an environment variable holds, None where it is not set. Raises UsageError for one that would travel in the clear, or is none."""
    key = os.environ.get(variable)
    if key and url.scheme == "http" and not is_here(url.hostname or ""):
        raise UsageError(f"the key in {variable} would be sent unencrypted to `{url.hostname}`", remedy="use https, or unset that variable")
    if key and not all("!" <= char <= "~" for char in key):
        raise UsageError(f"what {variable} holds is no key", remedy="a key has letters, digits and signs, no spaces and no line ends")
    return key


def post(url: SplitResult, key: str | None, document: dict[str, Any], patience: Patience, failed: Failed) -> bytes:
    """The body of a 200, without the key, should it stand there. Raises what `failed` makes of what was found at the last attempt, or at the first
    where another would be the same."""
    body = json.dumps(document, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    for attempt in range(patience.retries + 1):
        last = attempt == patience.retries
        try:
            status, wait, reply = _attempt(url, headers, body, patience.timeout_s)
        except (OSError, http.client.HTTPException) as error:
            if last:
                raise failed(f"an answer within {patience.timeout_s:g} s", f"{_told(error)}, {attempt + 1} times") from None
            wait = None
        else:
            reply = reply.replace(key.encode(), b"[key]") if key else reply  # some servers show what they refuse
            if status == 200:
                if len(reply) > MAX_REPLY:
                    raise failed(f"an answer of at most {MAX_REPLY} bytes", "more")
                return reply
            if last or status not in PASSING:
                raise failed("status 200", Refusal(status, reply))
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


def is_here(host: str) -> bool:
    """Whether a host's name is one of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def excerpt(reply: bytes) -> str:
    """The beginning of a reply, for a message."""
    text = " ".join(reply[:400].decode("utf-8", "replace").split())
    return f"`{text[:160]}{'…' if len(text) > 160 else ''}`" if text else "nothing"
