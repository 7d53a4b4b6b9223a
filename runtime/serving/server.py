"""The process around the application: its socket, its signals, its end.

Here: binding, starting, draining. Not here: the application (app.py), options (pipeline/verbs/serve.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn

from interlock.errors import UsageError
from interlock.voice import Voice
from runtime.engine.scheduler import Limits, Scheduler
from runtime.serving.app import Service, application
from runtime.serving.gate import LOOPBACK, Access, Gate
from runtime.serving.metrics import Metrics
from runtime.serving.running import Model

# Beyond the time of generating: for sending the request and reading the answer.
SLACK_S = 30.0
# How long a reader may leave its window closed before the kernel gives the connection up.
UNREAD_S = 60
CONNECTIONS = 512


@dataclass(frozen=True)
class Settings:
    """host, port: where to listen, port 0: any that is free; request_s: the most that one request is generated for; shutdown_s: how long what runs
    may go on after the signal to stop; keys: one of which a request must bring."""

    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = field(default_factory=Limits)
    request_s: float = 300.0
    shutdown_s: float = 30.0
    keys: tuple[bytes, ...] = ()


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises UsageError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; what is accepted from this socket has it, too
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)
        bound.bind(address)
        bound.listen(CONNECTIONS)
    except (OSError, OverflowError) as error:
        problem = f"cannot listen on {settings.host} port {settings.port} ({error})"
        raise UsageError(problem, remedy="choose another --port (0 takes any that is free) or --host") from None
    return bound


def url_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(model: Model, settings: Settings, bound: socket.socket, voice: Voice, ready: Callable[[], None]) -> None:
    """Answer until SIGTERM or SIGINT; then what runs may be finished within the limit. `ready` is called when requests are taken."""
    scheduler = Scheduler(model.loaded.backend, settings.limits)
    metrics = Metrics()
    service = Service(model, scheduler, metrics, settings.request_s, int(time.time()))
    loopback = bound.getsockname()[0] in ("127.0.0.1", "::1")
    access = Access(settings.keys, LOOPBACK if loopback else None, settings.request_s + SLACK_S)
    config = uvicorn.Config(
        Gate(application(service), access, metrics, voice.step), log_config=None, log_level="critical", access_log=False, lifespan="off", ws="none",
        http="h11", loop="asyncio", server_header=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_s)),
    )  # fmt: skip
    try:
        asyncio.run(_Server(config, voice, ready, scheduler).serve(sockets=[bound]))
    finally:
        scheduler.close()
    voice.step("stopped")


class _Server(uvicorn.Server):
    """uvicorn, which says when it takes requests and that it stops, and whose end by a signal is an end and no crash."""

    def __init__(self, config: uvicorn.Config, voice: Voice, ready: Callable[[], None], scheduler: Scheduler[Any]) -> None:
        super().__init__(config)
        self._voice, self._ready, self._scheduler = voice, ready, scheduler

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        running, waiting, _ = self._scheduler.counts()
        self._voice.step(f"stopping: {running + waiting} generations may go on for {self.config.timeout_graceful_shutdown} s")
        await super().shutdown(sockets=sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
