"""What eight clients get beside one, how soon a first token comes, and whether a server under mixed load stays as it is.

Here: a served checkpoint or deployment as a process of its own, clients, the table. Run: `python -m benchmarks.serving models/student/deployed`; with
`--soak` clients that leave, do not read and send nonsense are mixed in for half an hour, and every answer is compared with what was answered alone.
Clients ask over HTTP with streams. Rounds of one client and of all alternate, figures are medians.
Needs environment `train` and nothing else.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.entry import run as run_entry
from interlock import command
from interlock.errors import StageFailed, from_dict

if TYPE_CHECKING:
    import argparse

TOPICS = ("rivers", "bridges", "salt", "glass", "maps", "wind", "bread", "clocks")
KINDS = ("whole", "left", "unread", "nonsense")
PREAMBLE = "The following notes were taken by a careful student who writes full sentences and gives reasons. " * 8


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.serving`."""
    parser = command.parser(
        "python -m benchmarks.serving", "throughput of a server, and a soak", "python -m benchmarks.serving models/student/deployed"
    )
    parser.add_argument("model", type=Path, help="deployed directory or checkpoint")
    parser.add_argument("--clients", type=int, default=8, help="at a time, beside one (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of one client and of all (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the server's processor threads (default %(default)s)")
    parser.add_argument("--weights", default="fp32", choices=["fp32", "bf16", "int8", "packed"], help="how it holds them (default %(default)s)")
    parser.add_argument("--soak", type=float, nargs="?", const=30.0, metavar="MINUTES", help="mixed load for so long instead (default 30)")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    words = ["--threads", str(options.threads), "--weights", options.weights, "--parallel", str(options.clients)]
    words += ["--prefix-cache-mb", "64"] if options.soak else []  # full at once: what grows then is a leak
    with tempfile.TemporaryFile("w+") as log, served(options.model, *words, log=log) as (started, _):
        server = Server(int(started["url"].rpartition(":")[2]), started["model"], started["pid"])
        report = {
            "model": started["digest"],
            "clients": options.clients,
            "tokens": options.tokens,
            "threads": options.threads,
            "weights": options.weights,
        }
        if not options.soak:
            return report | throughput(server, options)
        report |= soak(server, options.soak * 60, options.clients)
        log.seek(0)
        return report | {"tracebacks": sum(line.startswith("Traceback") for line in log)}


@contextlib.contextmanager
def served(model: Path, *words: str, log: IO[str]) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """What a server said when it was ready, and its process; what it writes to stderr goes to `log`. It is stopped with the block."""
    argv = [sys.executable, "-m", "pipeline.cli", "serve", str(model), "--port", "0", "--json", *words]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        text = "".join(itertools.takewhile(lambda line: line != "}\n", process.stdout))
        if not text or "error" in (said := json.loads(text + "}")):
            raise from_dict(said) if text else StageFailed("the server did not start", remedy=f"start it by itself: {' '.join(argv[1:])}")
        yield said, process
    finally:
        process.terminate()
        process.wait(60)


class Server:
    """A server as its clients see it."""

    def __init__(self, port: int, model: str, pid: int) -> None:
        self.port, self.model, self.pid = port, model, pid

    def ask(self, prompt: str, tokens: int, *, chat: bool = False, **more: Any) -> tuple[str, float, dict[str, Any]]:
        """Text of one answer, seconds to its first token, usage. chat: the prompt is a user's message."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        body = {
            "model": self.model,
            **({"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}),
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started, first, text = time.perf_counter(), 0.0, ""
        usage: dict[str, Any] = {}
        path = "/v1/chat/completions" if chat else "/v1/completions"
        connection.request("POST", path, json.dumps(body | more), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise StageFailed(f"status {response.status}: {response.read()[:200]!r}", remedy="see the server's log")
        for line in response:
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                first = first or time.perf_counter() - started
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content", "") if chat else choice["text"]
                usage = chunk["usage"] or usage
        connection.close()
        return text, first, usage

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def throughput(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Rates of one client and of all in turn, each with prompts of its own; then a long prompt cold and again."""
    rates: dict[int, list[float]] = {1: [], options.clients: []}
    fresh = itertools.count()
    server.ask("warm up", 8)
    for _ in range(options.rounds):
        for clients, found in rates.items():
            prompts = [f"Notes on {TOPICS[number % 8]}, part {next(fresh)}." for number in range(clients)]
            started = time.perf_counter()
            answers = together([lambda prompt=prompt: server.ask(prompt, options.tokens) for prompt in prompts])
            found.append(sum(usage["completion_tokens"] for _, _, usage in answers) / (time.perf_counter() - started))
    firsts: dict[str, list[float]] = {"cold": [], "cached": []}
    for number in range(options.rounds):
        prompt = f"{number} {PREAMBLE}"
        firsts["cold"].append(server.ask(prompt, 1)[1])
        firsts["cached"].append(server.ask(f"{prompt}So", 1)[1])
    one, many = (statistics.median(found) for found in rates.values())
    cold, cached = (statistics.median(found) for found in firsts.values())
    return {"one_tokens_per_s": one, "all_tokens_per_s": many, "ratio": many / one, "first_cold_s": cold, "first_cached_s": cached}


def together(work: Sequence[Any]) -> list[Any]:
    """Results of all, each in a thread of its own. The first error is raised."""
    results: dict[int, Any] = {}

    def one(number: int) -> None:
        try:
            results[number] = work[number]()
        except Exception as problem:  # raised below, in the caller's thread
            results[number] = problem

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return [results[number] for number in range(len(work))]


def soak(server: Server, seconds: float, clients: int, count: int = 40, seed: int = 0) -> dict[str, Any]:
    """Mixed load of `count` prompts, every third a chat. Every whole answer is compared with the one that was given alone before, and one that
    differs with those of all other prompts. Memory is read ten times: growth is that from the second tenth, when as many sequences have run at once
    as may, to the last. Raises StageFailed for an answer that did not come."""
    prompts = [
        (f"{PREAMBLE[: 100 * (number % 5)]}Notes on {TOPICS[number % 8]}, {number}.", 4 + number % 40, number % 3 == 0) for number in range(count)
    ]

    def ask(prompt: str, tokens: int, chat: bool) -> str:
        return server.ask(prompt, tokens, chat=chat)[0]

    alone = {prompt[0]: ask(*prompt) for prompt in prompts}
    started, end = time.monotonic(), time.monotonic() + seconds
    counts = dict.fromkeys(("whole", "left", "unread", "nonsense", "differs", "anothers"), 0)
    memory, lock = [0] * 10, threading.Lock()  # the most that was seen in each tenth

    def client(number: int) -> None:
        draw = random.Random(seed * 1000 + number)  # noqa: S311 - load, no secret
        while time.monotonic() < end:
            prompt = draw.choice(prompts)
            kind = draw.choices(KINDS, (6, 2, 1, 2))[0]
            found = []
            if kind == "whole":
                text = ask(*prompt)
                if text != alone[prompt[0]]:
                    found = ["differs", *(["anothers"] if text in alone.values() else [])]
            else:
                _misbehave(server, kind, prompt[0], draw)
            with lock:
                tenth = min(9, int(10 * (time.monotonic() - started) / seconds))
                memory[tenth] = max(memory[tenth], server.resident_bytes())
                for name in (kind, *found):
                    counts[name] += 1

    together([lambda number=number: client(number) for number in range(clients)])
    seen = [one for one in memory if one]  # where an answer takes longer than a tenth, there are fewer
    return {"seconds": seconds, **counts, "resident_bytes": seen, "growth": seen[-1] / seen[min(1, len(seen) - 1)] - 1}


def _misbehave(server: Server, kind: str, prompt: str, draw: random.Random) -> None:
    """A client that leaves in the middle, one that does not read for a while, or one that sends what is no request."""
    body = json.dumps({"model": server.model, "prompt": prompt, "max_tokens": 200, "stream": draw.random() < 0.5}).encode()
    if kind == "nonsense":
        place = draw.randrange(len(body))
        body = bytes(body[:place]) + draw.randbytes(draw.randrange(1, 9)) + bytes(body[place + 1 :])
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
        connection.sendall(head + body)
        time.sleep(draw.random() * (1.0 if kind == "unread" else 0.2))
        if kind == "nonsense" and not connection.recv(20).startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 200")):
            raise StageFailed("nonsense was not refused properly", remedy="see the server's log")


def table(report: dict[str, Any]) -> list[str]:
    asked = f"{report['clients']} clients, {report['threads']} threads, {report['weights']}"
    if "growth" in report:
        done = ", ".join(f"{report[kind]} {kind}" for kind in KINDS)
        return [
            f"{asked}: {report['seconds']:.0f} s of mixed load: {done}",
            f"of the whole ones {report['differs']} are not what was answered alone, {report['anothers']} are another prompt's answer",
            f"failures told in the server's log: {report['tracebacks']}",
            f"memory by tenths of the time, MB: {' '.join(f'{one / 1e6:.0f}' for one in report['resident_bytes'])}; {report['growth']:+.1%}",
        ]
    return [
        f"{asked}, answers of {report['tokens']} tokens",
        f"one client     {report['one_tokens_per_s']:8.1f} tokens/s",
        f"all clients    {report['all_tokens_per_s']:8.1f} tokens/s   {report['ratio']:.2f}x",
        f"first token    {report['first_cold_s'] * 1e3:8.1f} ms cold, {report['first_cached_s'] * 1e3:.1f} ms with its beginning cached",
    ]


if __name__ == "__main__":
    sys.exit(main())
