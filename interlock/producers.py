"""The boundary's question about an artifact's maker: was it an environment as its definition says?

Here: a contract's record of an environment against `envs/`. Not here: the environment that is running (environments.py), files and digests
(contracts/io.py). Policy, as admission is: another toolchain could work, and nothing here says what it made is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.environments import Environment, environments
from interlock.errors import EnvironmentRefused

if TYPE_CHECKING:
    from interlock.contracts.base import Contract, EnvironmentRecord

# The environment of each stage of interlock's own; a stage of another package names one of those that are defined.
HOMES = {
    "data": "train", "data-import": "train", "data-record": "train", "teach": "train", "import": "train", "train": "train", "export": "export",
    "convert": "export", "deploy": "train", "calibrate": "train", "eval": "train",
}  # fmt: skip


def check_producer(file: Path, contract: Contract) -> None:
    """Refuse an artifact that its environment's definition does not admit, toys excepted. `file` is its contract. Raises EnvironmentRefused."""
    if contract.toy:
        return
    made = contract.created_by
    if wrong := list(unfit(made.stage, made.environment)):
        raise EnvironmentRefused(
            f"what stage `{made.stage}` made was not made by environment `{HOMES.get(made.stage, made.environment.name)}` as it is defined",
            required="; ".join(required for required, _ in wrong),
            running=f"when it was made: {'; '.join(found for _, found in wrong)} ({file} at /created_by/environment)",
            remedy=f"make it again, in its environment: {_again(contract.kind)}; or use it as a toy: --toy marks all that is made from it",
        )


def unfit(stage: str, record: EnvironmentRecord) -> Iterator[tuple[str, str]]:
    """Each way in which the maker is not the stage's environment: what is required, what is recorded."""
    defined = environments()
    home = HOMES.get(stage, record.name)
    if record.name != home or record.name not in defined:
        yield f"environment `{home}`" if home in defined else f"one of the environments {', '.join(defined)}", f"environment `{record.name}`"
        return
    env = defined[record.name]
    yield from _interpreter(env, record)
    yield from _packages(env, record)


def _interpreter(env: Environment, record: EnvironmentRecord) -> Iterator[tuple[str, str]]:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        fits = SpecifierSet(env.requires_python).contains(record.python, prereleases=True)
    except InvalidVersion:
        fits = False
    if not fits:
        yield f"Python {env.requires_python} (requires-python of envs/{env.name}/pyproject.toml)", f"Python {record.python}"
    systems = env.definition["tool"]["interlock"]["systems"]
    if _system(record.platform) not in systems:
        yield f"a system of {', '.join(systems)} (envs/{env.name}/pyproject.toml)", record.platform


def _packages(env: Environment, record: EnvironmentRecord) -> Iterator[tuple[str, str]]:
    """Under the lock as it is now each direct dependency has the locked version; under another one a version that the definition asks for."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion

    pins = env.pins(record.python) if record.lock_digest == env.lock_digest else {}
    had = {str(canonicalize_name(name)): version for name, version in record.packages.items()}
    for need in env.needs(record.python):
        name = str(canonicalize_name(need.name))
        found = had.get(name, "absent")
        try:
            fits = pins[name] == found if name in pins else need.specifier.contains(found, prereleases=True)
        except InvalidVersion:  # `absent`
            fits = False
        if not fits:
            yield f"{name} {pins[name]} (requirements.lock)" if name in pins else f"{name} {need.specifier}", f"{name} {found}"


def _system(platform: str) -> str:
    """`linux-x86_64` as definitions write it: `x86_64-linux`."""
    name, _, machine = platform.partition("-")
    return f"{ {'arm64': 'aarch64', 'amd64': 'x86_64'}.get(machine.lower(), machine.lower()) }-{name}"


def _again(kind: str) -> str:
    from interlock.contracts.io import MADE_BY

    return f"`{MADE_BY[kind]} …`"
