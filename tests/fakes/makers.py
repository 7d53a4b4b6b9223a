"""Who made an artifact, as contracts tell it: an environment as it is defined and locked, made up without it."""

from __future__ import annotations

from packaging.utils import canonicalize_name

from interlock.contracts.base import CreatedBy, EnvironmentRecord
from interlock.environments import environment
from interlock.producers import HOMES

PYTHONS = {"train": "3.13.0", "export": "3.11.7"}


def maker(stage: str, **others: object) -> CreatedBy:
    """The maker that a boundary admits for what `stage` makes; `others` are fields of its environment that are different."""
    record = record_of(HOMES.get(stage, "train")).model_copy(update=others)
    return CreatedBy(stage=stage, project_version="0", source_digest="1" * 64, environment=record)


def record_of(name: str) -> EnvironmentRecord:
    env = environment(name)
    pins = env.pins(PYTHONS[name])
    packages = {need.name: pins[canonicalize_name(need.name)] for need in env.needs(PYTHONS[name])}
    return EnvironmentRecord(name=name, python=PYTHONS[name], platform="linux-x86_64", lock_digest=env.lock_digest, packages=packages)
