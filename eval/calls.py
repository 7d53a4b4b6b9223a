"""Calls of tools, as an item expects them and as a model makes them.

Here: the records. Not here: finding them in a text (runtime/tools/calls.py), their results (broker), how they are judged (scoring/calls.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """`arguments` by name."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A call that a model made, with canonical arguments. result: what was replayed, None where nothing is recorded; digest: what a fixture was
    looked for by; problems: why the call is none that the tool takes."""

    name: str
    arguments: dict[str, Any]
    result: dict[str, Any] | None
    digest: str
    problems: tuple[str, ...] = ()
