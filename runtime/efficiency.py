"""What answers cost: tokens, latent slots, forward passes, loops, time, memory; for one request and for many.

Here: the figures and how they are taken. Not here: speed of a backend (benchmarks), comparing two ways of answering (eval).
Tokens and passes are the engine's own counts, not words of a text.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.engine.turn import Generation

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Efficiency:
    """Of one request, all its attempts together. forward_passes: the prompt's is one, each token and each slot after it another; refinement_loops:
    attempts; peak_rss_bytes: of the process while it answered where the kernel can start counting anew (Linux), else since it began."""

    prompt_tokens: int
    generated_tokens: int
    latent_spans_used: int
    latent_slots: int
    forward_passes: int
    refinement_loops: int
    wall_clock_time_ms: float
    peak_rss_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Meter:
    """Time and memory from its making on."""

    def __init__(self) -> None:
        self._counts_anew = _start_counting()
        self._started = time.perf_counter()

    def read(self, generations: Sequence[Generation]) -> Efficiency:
        """Of what was generated since."""
        wall_ms = (time.perf_counter() - self._started) * 1e3
        traces = [one.latent for one in generations if one.latent is not None]
        return Efficiency(
            prompt_tokens=sum(one.prompt_tokens for one in generations),
            generated_tokens=sum(len(one.tokens) for one in generations),
            latent_spans_used=sum(len(trace.spans) for trace in traces),
            latent_slots=sum(trace.slots for trace in traces),
            forward_passes=sum(one.passes for one in generations),
            refinement_loops=len(generations),
            wall_clock_time_ms=wall_ms,
            peak_rss_bytes=_peak(self._counts_anew),
        )


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of at least one request's figures (`Efficiency.as_dict`), by name: `total`, `mean`, `median`, `most`; memory has no total."""
    found = {}
    for name in (field.name for field in fields(Efficiency)):
        values = [row[name] for row in rows]
        one = {"total": sum(values), "mean": statistics.fmean(values), "median": statistics.median(values), "most": max(values)}
        found[name] = {key: value for key, value in one.items() if key != "total" or name != "peak_rss_bytes"}
    return found


def told(found: dict[str, dict[str, float]]) -> Iterator[str]:
    """A summary for people."""
    tokens, passes, wall = (found[name] for name in ("generated_tokens", "forward_passes", "wall_clock_time_ms"))
    yield f"{tokens['total']:.0f} tokens in {passes['total']:.0f} passes and {wall['total'] / 1e3:.1f} s; a request {wall['median']:.0f} ms (median)"
    if found["latent_slots"]["total"]:
        yield f"{found['latent_slots']['total']:.0f} latent slots in {found['latent_spans_used']['total']:.0f} spans"
    if found["refinement_loops"]["most"] > 1:
        yield f"{found['refinement_loops']['mean']:.2f} loops a request"
    yield f"at most {found['peak_rss_bytes']['most'] / 1e6:.0f} MB of memory"


def _start_counting() -> bool:
    """Forget the peak so far. Source: proc_pid_clear_refs(5), value 5."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")
        return _high_water() is not None
    return False


def _peak(counts_anew: bool) -> int:
    found = _high_water() if counts_anew else None
    return found if found is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _high_water() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return next((int(line.split()[1]) * 1024 for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")), None)
    return None
