"""How fast one backend reads a prompt and decodes, and what it holds: the figures of `interlock bench`.

Here: the measurement of one loaded model. Not here: options, several configurations, the table (pipeline/verbs/bench.py), engines side by side in one
process (benchmarks/).
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interlock.errors import UsageError
from runtime.backends.protocol import Backend


@dataclass(frozen=True)
class Lengths:
    """prompts: tokens in each prompt that is read; answers: tokens decoded one by one, after `depth` positions; rounds: of everything, in turns."""

    prompts: tuple[int, ...]
    answers: tuple[int, ...]
    depth: int
    rounds: int


@dataclass(frozen=True)
class Rate:
    """Tokens per second of the clock, median, least and greatest of the rounds, and processor milliseconds per token, the least: what a core that
    does nothing else would need."""

    test: str
    tokens_per_s: float
    least: float
    greatest: float
    cpu_ms_per_token: float


def measure(backend: Backend[Any], vocabulary: int, lengths: Lengths) -> dict[str, Any]:
    """Rates by test, as `pp512` (a prompt of 512) and `tg128` (128 tokens), and the first prompt's milliseconds, while nothing was warm.

    Raises UsageError for lengths that are no lengths, or more than the model has.
    """
    longest = max([*lengths.prompts, *(lengths.depth + count for count in lengths.answers)], default=0)
    if min([lengths.rounds, *lengths.prompts, *lengths.answers], default=0) < 1 or lengths.depth < 0 or not (lengths.prompts or lengths.answers):
        raise UsageError("a length or a number of rounds is below 1", remedy="ask for at least one token and one round")
    if longest > backend.capacity:
        raise UsageError(f"{longest} positions are asked for, the model has {backend.capacity}", remedy="shorten --prompts, --answers or --depth")
    # Time does not depend on what the tokens are; a prime step meets many rows of the embedding.
    ids = [7919 * place % vocabulary for place in range(longest + 1)]
    tests: dict[str, tuple[int, Callable[[], tuple[float, float]]]] = {
        f"pp{count}": (count, _prompt(backend, ids[:count])) for count in lengths.prompts
    }
    tests |= {f"tg{count}": (count, _answer(backend, ids[: lengths.depth], ids[:count])) for count in lengths.answers}
    first_ms = 1e3 * next(iter(tests.values()))[1]()[0]
    times = {name: [run() for _ in range(lengths.rounds)] for name, (_, run) in tests.items()}
    rates = [_rate(name, tests[name][0], spent) for name, spent in times.items()]
    return {"rates": [asdict(rate) for rate in rates], "first_ms": first_ms, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _prompt(backend: Backend[Any], ids: Sequence[int]) -> Callable[[], tuple[float, float]]:
    return lambda: _timed(lambda: backend.prefill(ids, backend.new_cache()))


def _answer(backend: Backend[Any], before: Sequence[int], ids: Sequence[int]) -> Callable[[], tuple[float, float]]:
    def run() -> tuple[float, float]:
        cache = backend.new_cache()
        if before:
            backend.prefill(before, cache)
        return _timed(lambda: [backend.decode(token, cache) for token in ids])

    return run


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def _rate(name: str, count: int, spent: list[tuple[float, float]]) -> Rate:
    speeds = [count / clock for clock, _ in spent]
    return Rate(name, statistics.median(speeds), min(speeds), max(speeds), 1e3 * min(processor for _, processor in spent) / count)
