"""The table of tasks: every generator by name.

Here: imports of all of them, so that the key of stage `data` has their source. Not here: any generator.
"""

from __future__ import annotations

from interlock.errors import UsageError
from pipeline.datasets import arithmetic, automaton, contextual, needles, passages, questions, toolcalls
from pipeline.datasets.tasks import Task

TASKS = {task.name: task for task in (automaton.TASK, arithmetic.TASK, toolcalls.TASK, contextual.TASK, questions.TASK, needles.TASK, passages.TASK)}


def task(name: str) -> Task:
    """The generator of this name. Raises UsageError."""
    if name not in TASKS:
        raise UsageError(f"there is no task `{name}`", remedy=f"there are {', '.join(TASKS)}")
    return TASKS[name]
