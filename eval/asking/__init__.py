"""How an item is put to a model: one module for each way, all of them `opened` by one record of settings.

Here: the settings. Not here: the table of ways (table.py), a way itself, running many items (eval/running.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from eval.answers import Answered
from eval.items import Item
from eval.suite import Asking
from interlock.contracts.base import Frozen

Ask = Callable[[Item], dict[str, Answered]]
"""The answers to an item by the name of each way in which it was asked."""


class Model(Frozen):
    """A deployed directory and what runs it. `mode`: of backend `reference`."""

    directory: Path
    backend: Literal["eager", "torchscript", "reference", "coreml"]
    mode: Literal["fp16", "fp32", "fast"] | None = None


class Settings(Frozen):
    """Everything that a process needs to answer items. `against` is the second model of a comparison, `dataset` the directory of replayed tools."""

    asks: Asking
    max_new_tokens: int
    model: Model
    against: Model | None = None
    dataset: Path | None = None
