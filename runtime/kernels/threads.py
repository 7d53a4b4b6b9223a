"""How many processor threads a model is run with: one number for the C here and for torch, which is not imported to ask it.

Here: that number. Not here: the options that set it (`--threads`), what is divided among threads (csrc/step.h).
"""

from __future__ import annotations

import os
import sys

_VARIABLE = "OMP_NUM_THREADS"  # of OpenMP: torch takes its first number from it


def use(number: int) -> None:
    """From now on, in this process and its children."""
    os.environ[_VARIABLE] = str(number)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(number)


def count() -> int:
    """torch's number where it is loaded, so that whoever asked torch for fewer has fewer; else what it would be."""
    if torch := sys.modules.get("torch"):
        number: int = torch.get_num_threads()
        return number
    asked = os.environ.get(_VARIABLE, "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else available()


def available() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
