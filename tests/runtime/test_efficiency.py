"""What an answer costs: counts of the engine, and memory that is the request's own where the kernel can say so."""

from __future__ import annotations

import mmap
import statistics
import sys

import numpy as np

from runtime.efficiency import Efficiency, Meter, summary, told
from runtime.engine.latent import Span, Trace
from runtime.engine.turn import Generation


def generation(tokens: int, trace: Trace | None = None) -> Generation:
    return Generation("x", (1,) * tokens, "eos", 5, 1.0, 2.0, 3.0, trace)


def test_attempts_add_up() -> None:
    trace = Trace(spans=[Span(0, 4, "halt"), Span(9, 2, "limit")], steps=8)
    made = Meter().read([generation(3, trace), generation(2)])
    counts = (made.prompt_tokens, made.generated_tokens, made.latent_spans_used, made.latent_slots, made.forward_passes, made.refinement_loops)
    assert counts == (10, 5, 2, 6, 13, 2) and made.wall_clock_time_ms > 0


def test_memory_of_an_earlier_request_is_not_a_later_ones() -> None:
    """100 MB that are written to, and given back. Mapped, not allocated: a large process may have as much free memory of its own, which is resident
    already. Only Linux can start counting anew."""
    first = Meter()
    with mmap.mmap(-1, 100 << 20) as block:
        np.frombuffer(block, np.uint8)[:] = 1
    large = first.read([generation(1)])
    small = Meter().read([generation(1)])
    assert large.peak_rss_bytes - small.peak_rss_bytes > (60 << 20 if sys.platform == "linux" else -1)


def test_a_summary_is_of_each_figure() -> None:
    rows = [Efficiency(1, tokens, 0, 0, tokens, 1, wall, 10 * wall).as_dict() for tokens, wall in ((1, 5), (2, 7), (6, 30))]
    found = summary(rows)
    assert found["generated_tokens"] == {"total": 9, "mean": 3.0, "median": 2, "most": 6}
    assert found["wall_clock_time_ms"]["median"] == statistics.median([5, 7, 30]) and "total" not in found["peak_rss_bytes"]
    lines = [*told(found)]
    assert lines[0].startswith("9 tokens in 9 passes") and len(lines) == 2  # no latent slots, no loops to speak of
