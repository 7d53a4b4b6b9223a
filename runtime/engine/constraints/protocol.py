"""What a turn asks of a constraint.

Here: the seam between the token loop and whatever says which tokens may come. Not here: one that does (compiled.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runtime.backends.protocol import Vector


class Constraint(Protocol):
    """The state of one answer. Every token of it is told by `accept` or was given by `forced`."""

    def mask(self, logits: Vector) -> None:
        """Set the logits [V] fp32 of tokens that may not come next to -inf, in place. Never all of them while the answer is not `complete`."""

    def accept(self, token: int) -> None:
        """The token that was chosen among those."""

    def forced(self) -> list[int]:
        """Tokens that come next whatever the model says, often none. They count as accepted."""

    @property
    def may_end(self) -> bool:
        """Whether what was accepted is a whole answer; it may still go on."""

    @property
    def complete(self) -> bool:
        """Whether it is a whole answer that cannot go on."""


Begin = Callable[[], Constraint]
"""A constraint at the beginning of an answer; called once for each turn."""
