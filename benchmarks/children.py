"""What a limited child costs a chat request: a fresh interpreter for each, beside the fork of one that is kept, in turns.

Here: both ways over one template, the table. Run: `envs/train/.venv/bin/python -m benchmarks.children models/student/checkpoint`. Seconds are of the
processor, of this process and its children. Not here: the rest of a request (serving.py).
"""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.entry import run as run_entry
from interlock import command
from interlock.contracts.checkpoint import CHAT_TEMPLATE
from interlock.errors import UsageError

if TYPE_CHECKING:
    import argparse

FUNCTION = "runtime.engine.chat:render_in_child"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m benchmarks.children`."""
    example = "python -m benchmarks.children models/student/checkpoint"
    parser = command.parser("python -m benchmarks.children", "what the child of a chat request costs", example)
    parser.add_argument("model", type=Path, help="deployed directory or checkpoint that has a chat template")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turns (default %(default)s)")
    parser.add_argument("--requests", type=int, default=40, help="in each round (default %(default)s)")
    return run_entry(parser, command.words(argv), _measure, table)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from runtime.engine import forks, sandbox

    file = options.model / CHAT_TEMPLATE
    if not file.is_file():
        raise UsageError(f"`{options.model}` has no chat template", remedy="name a directory that has one")
    context = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "add_generation_prompt": True}
    request = {"template": file.read_text(encoding="utf-8"), "contexts": [context], "today": None}
    ways: dict[str, Callable[[], object]] = {
        "fresh": lambda: sandbox.call(FUNCTION, request),
        "forked": lambda: forks.call(FUNCTION, request, ready="ready"),
    }
    # What is kept is counted when it ends: in its round, with its start.
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            spent[name].append(_seconds(way, options.requests, forks.end_all))
    fresh, forked = (statistics.median(found) for found in spent.values())
    return {"requests": options.requests, "fresh_s": fresh, "forked_s": forked, "ratio": fresh / forked}


def _seconds(way: Callable[[], object], requests: int, end: Callable[[], None]) -> float:
    """Of the processor, each."""
    before = _used()
    for _ in range(requests):
        way()
    end()
    return (_used() - before) / requests


def _used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def table(report: dict[str, Any]) -> list[str]:
    return [
        f"processor milliseconds of a template, {report['requests']} at a time, the start of what is kept included",
        f"a fresh interpreter  {report['fresh_s'] * 1e3:8.1f}",
        f"forked               {report['forked_s'] * 1e3:8.1f}   {report['ratio']:.1f}x less",
    ]


if __name__ == "__main__":
    sys.exit(main())
