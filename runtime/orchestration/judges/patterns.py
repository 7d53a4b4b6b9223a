"""Regular expressions over an answer, in a child with a time limit: a pattern that backtracks for ever ends with its child.

Here: both sides of that child; it imports nothing but `re`, so that it starts fast. Not here: what a match means (rules.py).
A child and not a linear-time engine: none is among the locked packages, and patterns are people's own, with look-around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime.engine import forks, sandbox

_LIMITS = sandbox.Limits(cpu_s=1, wall_s=10.0, memory_bytes=256 << 20, output_bytes=1 << 20)


def found(patterns: Sequence[str], text: str, *, ignore_case: bool) -> list[bool]:
    """Whether each pattern is found in `text`. Raises runtime.engine.sandbox.ChildFailed: `time` where one takes too long."""
    request = {"patterns": list(patterns), "text": text, "ignore_case": ignore_case}
    answer = forks.call("runtime.orchestration.judges.patterns:found_in_child", request, limits=_LIMITS)
    assert isinstance(answer, list)
    return [bool(one) for one in answer]


def found_in_child(request: dict[str, object]) -> list[bool]:
    """The child's side."""
    patterns, text = request["patterns"], request["text"]
    assert isinstance(patterns, list) and isinstance(text, str)
    flags = re.IGNORECASE if request["ignore_case"] else 0
    return [re.search(pattern, text, flags) is not None for pattern in patterns]
