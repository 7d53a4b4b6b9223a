"""Backend `reference`: the `.mlpackage` itself, run by `runtime/mil` on any platform.

Here: opening it. Not here: prompts and caches (packaged.py), executing a package (runtime/mil).
"""

from __future__ import annotations

from pathlib import Path

from interlock.contracts.package import PackageFacts
from runtime.backends.packaged import PackageBackend
from runtime.mil import Runner, State, open_package


def reference_backend(package: Path, facts: PackageFacts) -> PackageBackend[State]:
    """fp16 as a device stores it. Raises UsageError for a package without a decode function, ContractError for one that cannot be run."""
    runner = Runner(open_package(package), mode="fp16")
    return PackageBackend(facts, runner.run, lambda: runner.new_state("decode"))
