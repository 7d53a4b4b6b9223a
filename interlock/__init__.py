"""The foundation: what every other room stands on, and what a script imports. Light and torch-free.

Here: errors, the voice, contracts, environments, the one module that writes artifacts, `open` for scripts. Not here: anything that knows a tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from interlock.opening import Artifact

__version__ = "0.1.0"


def open(directory: str | Path) -> Artifact:
    """The artifact directory `directory` as a typed, read-only value; any kind, either interpreter, no torch.

        >>> import interlock
        >>> student = interlock.open("models/student/deployed")
        >>> student
        <deployment `models/student/deployed`: 13 files of 380,415,318 bytes, parts export and package, digest 6f603f115e81>
        >>> student.parts["package"].facts.functions["decode"].outputs[0].name
        'logits'
        >>> student.verify().contract.capabilities.halt_head
        False

    Reads and proves the contracts; `verify()` reads the files. Raises ContractError with every violation: no contract, damaged, edited, of a newer
    version.
    """
    from interlock.opening import open_artifact

    return open_artifact(directory)
