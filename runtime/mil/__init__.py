"""Core ML packages on any platform: read a saved `.mlpackage` (ML Program) and run it.

    program = open_package(Path("model.mlpackage"))
    runner = Runner(program, mode="fp16")
    state = runner.new_state("prefill_512")
    outputs = runner.run("prefill_512", {"input_ids": ids, "position_ids": positions, "last_index": last}, state)

Here: the library's public names. Reading needs numpy only; running needs torch, which is imported with `Runner`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.mil.program import Program
from runtime.mil.reader import open_package

if TYPE_CHECKING:
    from runtime.mil.runner import Runner, State

__all__ = ["Program", "Runner", "State", "open_package"]


def __getattr__(name: str) -> object:
    """torch takes a second to import: who only reads packages does not wait for it."""
    if name in ("Runner", "State"):
        from runtime.mil import runner

        return getattr(runner, name)
    raise AttributeError(name)
