"""Counters of a server, in the text form that Prometheus reads.

Here: what is counted, and the exposition. Not here: who counts (app.py).
Source of the form: prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4. A dozen values need no library.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
HELP = {
    "requests_total": "Requests by path and status.",
    "tokens_total": "Tokens by what they were: prompt (of which cached), completion (of which latent steps).",
    "finished_total": "Choices by the reason they ended.",
    "first_token_seconds": "From the arrival of a request to its first token, by choice.",
    "request_seconds": "From the arrival of a request to the end of its answer.",
}
GAUGES = {"running": "Generations that take turns.", "waiting": "Generations that wait for a place.", "kept_cache_bytes": "Memory of kept caches."}


class Metrics:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def add(self, name: str, amount: float = 1, **labels: Any) -> None:
        with self._lock:
            self._counters[name, tuple((label, str(value)) for label, value in labels.items())] += amount  # type: ignore[assignment]  # floats count, too

    def observe(self, name: str, seconds: float) -> None:
        with self._lock:
            self._buckets.setdefault(name, [0] * (len(SECONDS) + 1))[bisect_left(SECONDS, seconds)] += 1
            self._sums[name] += seconds  # type: ignore[assignment]

    def text(self, gauges: Mapping[str, float]) -> str:
        """gauges: the values of GAUGES now."""
        with self._lock:
            return "".join(f"{line}\n" for line in [*self._lines(), *_gauges(gauges)])

    def _lines(self) -> Iterator[str]:
        for name in sorted({name for name, _ in self._counters}):
            yield from _heading(name, HELP[name], "counter")
            for (_, labels), value in sorted((key, value) for key, value in self._counters.items() if key[0] == name):
                told = ",".join(f'{label}="{text}"' for label, text in labels)
                yield f"interlock_{name}{{{told}}} {value}"
        for name, counts in sorted(self._buckets.items()):
            yield from _heading(name, HELP[name], "histogram")
            for place, bound in enumerate((*SECONDS, "+Inf")):
                yield f'interlock_{name}_bucket{{le="{bound}"}} {sum(counts[: place + 1])}'
            yield f"interlock_{name}_sum {self._sums[name]}"
            yield f"interlock_{name}_count {sum(counts)}"


def _gauges(values: Mapping[str, float]) -> Iterator[str]:
    for name, help_text in GAUGES.items():
        yield from _heading(name, help_text, "gauge")
        yield f"interlock_{name} {values[name]}"


def _heading(name: str, help_text: str, kind: str) -> Iterator[str]:
    yield f"# HELP interlock_{name} {help_text}"
    yield f"# TYPE interlock_{name} {kind}"
