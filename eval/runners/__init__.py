"""What answers an item: one module for each kind of model, all of them asked in one way.

Here: that way, and an item that got no answer. Not here: which kinds there are (table.py), what a run says of its model (eval/asking).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from eval.answers import Answered
from eval.items import Item
from interlock.errors import StageFailed

NAMES = ("deployment", "orchestrator", "coreml", "openai_http", "hf_local")


class Runner(Protocol):
    """A model that is ready to be asked."""

    def say(self, item: Item, messages: Sequence[Mapping[str, str]] | None = None) -> Answered:
        """One greedy answer: to a dialogue about the item, or to the item as it is given.

        Raises UsageError, naming the item, for what the model cannot be asked, and NotAnswered.
        """


class NotAnswered(StageFailed):
    """A model that may fail by itself, somewhere else, gave no answer to one item. Others may get theirs."""
