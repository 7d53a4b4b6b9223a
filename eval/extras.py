"""What some ways of an evaluation need beside the locked train environment: a package of an extra of envs/train, with a lock of its own."""

from __future__ import annotations

import importlib
import sys

from interlock.environments import environment
from interlock.errors import EnvironmentRefused


def require(package: str, asked: str, extra: str, example: str) -> None:
    """asked: what needs it; example: arguments of `interlock eval`. Raises EnvironmentRefused where it is not installed."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        env = environment("train")
        lock = env.folder / f"{extra}.lock"
        raise EnvironmentRefused(
            f"{asked} needs the package `{package}`",
            required=f"{package} {env.pins(lock=lock)[package]} of envs/train/{lock.name}",
            running=f"{sys.executable} without it ({type(error).__name__}: {error})",
            remedy=f"run it in the environment that has it: ci/env tox run -e {extra} -- {example}",
        ) from None
