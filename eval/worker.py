"""A process that answers items: settings on the first line of its standard input, an item on each further one, an answer on each of its output.

Here: both ends of that pipe. Not here: who gets which item (running.py). A process ends when its input does, so none outlives the one that asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from eval.items import Item, from_record
from interlock.errors import InterlockError, StageFailed
from interlock.errors import from_dict as error_of


@contextlib.contextmanager
def started(settings: Any, count: int) -> Iterator[list[Callable[[Item], dict[str, Any]]]]:
    """Functions that ask one process each; the processes end with the block. They raise what asking raised there, StageFailed where one died."""
    processes = [_start(settings.model_dump_json()) for _ in range(count)]
    try:
        yield [_asker(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdin and process.stdout
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.stdout.close()


def _start(settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-m", __name__]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True, encoding="utf-8")
    assert process.stdin
    process.stdin.write(f"{settings}\n")
    process.stdin.flush()
    return process


def _asker(process: subprocess.Popen[str]) -> Callable[[Item], dict[str, Any]]:
    def ask(item: Item) -> dict[str, Any]:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(f"{json.dumps(item.record())}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        if not line:
            raise StageFailed(f"a process that was asked item {item.id} ended", remedy="see the lines above; the same command goes on from there")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise error_of(said)
        return said

    return ask


def main() -> int:
    """The process. A mistake of the user goes back as a document; anything else is a bug and keeps its traceback on stderr."""
    from eval.answers import record
    from eval.asking import Settings
    from eval.asking.table import opened

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked decides: its end is the end of our input
    out, sys.stdout = sys.stdout, sys.stderr
    settings = Settings.model_validate_json(sys.stdin.readline())
    ask = None
    for line in sys.stdin:
        try:
            ask = ask or opened(settings)
            said = record(ask(from_record(json.loads(line))))
        except InterlockError as error:
            said = error.as_dict()
        out.write(f"{json.dumps(said)}\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
