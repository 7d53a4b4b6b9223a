"""Clients that are wrong, gone, slow, too many or strangers: each gets a proper error or nothing, and the others do not notice."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.served import Served, served, write_student

pytestmark = pytest.mark.train

KEY = "a-key-of-some-length"
BODY = {"model": "student", "prompt": "q", "max_tokens": 4}
ENDLESS = {**BODY, "max_tokens": 30_000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "keys").write_text(f"another-key-1\n{KEY}\n")
    model = write_student(folder / "student", ends=False, max_position=32_768)
    options = ("--parallel", "2", "--queue", "1", "--api-key-file", str(folder / "keys"), "--shutdown-timeout", "4")
    with served(model, *options) as running:
        yield running


def send(server: Served, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, http.client.HTTPResponse]:
    """Status, JSON document, response. A body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    full = {"Authorization": f"Bearer {KEY}", **({"Content-Type": "application/json"} if data is not None else {}), **headers}
    connection.request(method, path, data, full)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text) if text.startswith(b"{") else text, response


def raw(server: Served, body: Any, path: str = "/v1/completions") -> socket.socket:
    """A connection on which a request was sent and nothing is read."""
    data = json.dumps(body).encode()
    connection = socket.socket()
    connection.settimeout(30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
    return connection


def until(server: Served, **wanted: int) -> None:
    """Wait for what /health says of generations."""
    deadline = time.monotonic() + 60
    while any(send(server, "GET", "/health")[1][name] != value for name, value in wanted.items()):
        assert time.monotonic() < deadline, wanted
        time.sleep(0.02)


def test_a_key_is_wanted_where_something_is_answered(server: Served) -> None:
    for key in ("", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xff"):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/metrics"), ("GET", "/nothing")):
            status, document, response = send(server, method, path, BODY if method == "POST" else None, Authorization=key)
            assert status == 401 and document["error"]["code"] == "invalid_api_key" and response.headers["WWW-Authenticate"] == "Bearer"
    for key in (f"Bearer {KEY}", "bearer another-key-1"):
        assert send(server, "POST", "/v1/completions", BODY, Authorization=key)[0] == 200
    assert send(server, "GET", "/health", Authorization="")[0] == send(server, "GET", "/", Authorization="")[0] == 200


def test_another_name_is_refused(server: Served) -> None:
    """A site whose name was made to point to this machine asks under its own name."""
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", ""):
        assert send(server, "GET", "/v1/models", Host=host)[0] == 403
    for host in ("localhost", f"LOCALHOST:{server.port}", "[::1]:80"):
        assert send(server, "GET", "/v1/models", Host=host)[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None), (b"{", 400, None), (b"[]", 400, None), (b'{"a": NaN}', 400, None), (b'{"model": "student", "model": "student"}', 400, None),
        (b"\xff", 400, None), (b"[" * 100_000, 400, None), (b'{"a": "' + b"x" * (5 << 20) + b'"}', 413, None), ({}, 400, "model"),
        ({**BODY, "prompt": 5}, 400, "prompt"), ({**BODY, "prompt": []}, 400, "prompt"), ({**BODY, "max_tokens": 0}, 400, "max_tokens"),
        ({**BODY, "max_tokens": "4"}, 400, "max_tokens"), ({**BODY, "stop": ["a", ""]}, 400, "stop[1]"), ({**BODY, "stream": 1}, 400, "stream"),
        ({**BODY, "logit_bias": {"5": 100}}, 400, "logit_bias"), ({**BODY, "best_of": 3}, 400, "best_of"),
        ({**BODY, "suffix": "x"}, 400, "suffix"), ({**BODY, "frequency_penalty": 0.1}, 400, "frequency_penalty"),
        ({**BODY, "nonsense": 1}, 400, "nonsense"),
        ({**BODY, "prompt": ""}, 400, None), ({**BODY, "prompt": "x" * 40_000}, 400, None), ({**BODY, "stream_options": {}}, 400, None),
        ({**BODY, "n": 4}, 429, None),  # two run and one waits: four at a time there is never room for
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_name(server: Served, body: Any, status: int, param: str | None) -> None:
    found, document, _ = send(server, "POST", "/v1/completions", body)
    error = document["error"]
    assert (found, error["param"]) == (status, param) and error.keys() == {"message", "type", "param", "code"}
    assert len(error["message"]) < 1000


def test_parameters_that_ask_for_nothing_are_taken(server: Served) -> None:
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "best_of": 1, "echo": False, "suffix": None, "user": "somebody"}
    assert send(server, "POST", "/v1/completions", {**BODY, **neutral})[0] == 200
    chat = {"model": "student", "messages": [{"role": "developer", "content": [{"type": "text", "text": "q"}]}], "max_completion_tokens": 2}
    assert send(server, "POST", "/v1/chat/completions", {**chat, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}})[0] == 200
    for name, value in (("logit_bias", {"5": 1}), ("store", True), ("reasoning_effort", "high"), ("functions", [{"name": "f"}])):
        status, document, _ = send(server, "POST", "/v1/chat/completions", {**chat, name: value})
        assert (status, document["error"]["param"], document["error"]["code"]) == (400, name, "unsupported_parameter")


def test_paths_methods_and_types_that_are_not_there(server: Served) -> None:
    assert send(server, "GET", "/v1/nothing")[0] == 404
    status, document, response = send(server, "GET", "/v1/completions")
    assert status == 405 and "POST" in response.headers["Allow"] and document["error"]["type"] == "invalid_request_error"
    assert send(server, "POST", "/v1/completions", BODY, **{"Content-Type": "text/plain"})[0] == 415


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place_at_once(server: Served, stream: bool) -> None:
    with raw(server, {**ENDLESS, "stream": stream}) as gone:
        until(server, running=1)
        if stream:
            assert b"200 OK" in gone.recv(100)
    left = time.monotonic()
    until(server, running=0)
    assert time.monotonic() - left < 20  # and not when the time of the request is over
    assert send(server, "POST", "/v1/completions", BODY)[0] == 200


def test_a_client_that_leaves_a_refinement_ends_it(server: Served) -> None:
    body = {"model": "student", "messages": [{"role": "user", "content": "q"}], "max_tokens": 30_000, "refine": True}
    with raw(server, body, "/v1/chat/completions"):
        until(server, running=1)
    left = time.monotonic()
    until(server, running=0)
    assert time.monotonic() - left < 20


def test_a_reader_that_does_not_read_holds_nobody_up(server: Served) -> None:
    with raw(server, {**ENDLESS, "max_tokens": 500, "stream": True, "logprobs": 5}) as slow:
        assert send(server, "POST", "/v1/completions", BODY)[0] == 200
        until(server, running=0)  # its answer is finished, and waits for it
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += slow.recv(1 << 16)
    # All of it, however late: far more than the buffers between the two hold.
    assert received.count(b'"finish_reason": "length"') == 1 and b"[DONE]" in received and len(received) > 200_000


def test_more_than_may_wait_are_told_to_come_again(server: Served) -> None:
    held = [raw(server, ENDLESS) for _ in range(3)]
    until(server, running=2, waiting=1)
    status, document, response = send(server, "POST", "/v1/completions", BODY)
    assert (status, document["error"]["code"], response.headers["Retry-After"]) == (429, "queue_full", "1")
    for one in held:
        one.close()
    until(server, running=0, waiting=0)


def test_metrics_count_what_happened(server: Served) -> None:
    def value(name: str) -> float:
        text = send(server, "GET", "/metrics")[1].decode()
        return float(next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"interlock_{name} ")))

    names = ('tokens_total{kind="completion"}', 'requests_total{path="/v1/completions",status="200"}', 'requests_total{path="other",status="404"}')
    send(server, "GET", "/x")
    before = [value(name) for name in names]
    send(server, "POST", "/v1/completions", BODY)
    send(server, "GET", "/y")
    assert [value(name) - old for name, old in zip(names, before, strict=True)] == [4, 1, 1]
    assert value("running") == 0 and value("first_token_seconds_count") > 0


def test_at_the_end_what_runs_may_finish_and_no_more(server: Served) -> None:
    """The last test of this server: one answer is short, one would take longer than the four seconds that there are."""
    with raw(server, ENDLESS) as long, raw(server, {**BODY, "max_tokens": 150, "stream": True}) as short:
        until(server, running=1)
        received = short.recv(10)
        started = time.monotonic()
        code, log = server.stop()
        assert code == 0 and 4 <= time.monotonic() - started < 30
        while piece := short.recv(1 << 16):
            received += piece
        assert received.startswith(b"HTTP/1.1 200") and b"[DONE]" in received
        assert b"200" not in long.recv(100)
    assert log.endswith("stopped\n") and "Traceback" not in log
    assert any(" POST /v1/completions 200 " in line and line.endswith(" 1+150 tokens (0 cached, 0 latent) length") for line in log.splitlines())
