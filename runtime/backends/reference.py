"""Backend `reference`: the `.mlpackage` itself, run by `runtime/mil` on any platform.

Here: opening it. Not here: prompts and caches (packaged.py), executing a package (runtime/mil).
"""

from __future__ import annotations

from pathlib import Path

from interlock.contracts.package import PackageFacts
from runtime.backends.packaged import PackageBackend
from runtime.mil import Runner, State, open_package
from runtime.mil.execute import Mode


def reference_backend(package: Path, facts: PackageFacts, mode: Mode) -> PackageBackend[State]:
    """mode: of the runner; `fp16` rounds as a device stores values, `fast` is for everyday use.

    Raises UsageError for a package without a decode function, ContractError for one that cannot be run.
    """
    runner = Runner(open_package(package), mode=mode)
    return PackageBackend(facts, runner.run, lambda: runner.new_state("decode"))
