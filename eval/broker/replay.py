"""Replayed tools: a result for a call whose canonical arguments were recorded, and a loud miss for any other. Nothing here opens a network.

Here: looking up, counting, coverage, stubs for what is missing. Not here: what a fixture is (tools.py), the dialogue around a call (asking/tools.py).
Results are found by what is asked, never by when: a model that reorders its calls gets the right results.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.broker.tools import Fixture, Registry, Tool, canonical, digest, fixture, wrong_arguments
from eval.calls import Call, Made
from interlock.contracts.dataset import DatasetContract
from interlock.contracts.io import open_regular
from interlock.contracts.strict import MAX_BYTES, parse_json, validate
from interlock.errors import UsageError

REMEDY = "make the dataset again: `interlock data make`; `interlock data check` tells what is wrong with its tools"
MAX_FIXTURES = 1 << 30  # bytes


@dataclass(frozen=True)
class Broker:
    """`fixtures` by their digests."""

    registry: Registry
    fixtures: Mapping[str, Fixture]

    def call(self, call: Call) -> Made:
        """The result that was recorded for these arguments, or None; what is wrong with the call beside."""
        tool = self.registry.get(call.name)
        if tool is None:
            return Made(call.name, call.arguments, None, digest(call.name, call.arguments), (f"`{call.name}`: no such tool",))
        key = canonical(tool, call.arguments)
        wrong = tuple(f"{name}: expected {expected}, found {found}" for name, expected, found in wrong_arguments(tool, key))
        found = self.fixtures.get(digest(call.name, key))
        return Made(call.name, key, found.result if found else None, digest(call.name, key), wrong)


def opened(directory: Path, contract: DatasetContract) -> Broker:
    """The tools of a dataset whose files are proven. Raises UsageError where it has none, ContractError for what cannot be read."""
    if contract.tools is None:
        raise UsageError(f"`{directory}` has no tools to replay", remedy="name a dataset with tools: `interlock data make contextual`")
    with open_regular(directory / contract.tools.registry) as stream:
        document = parse_json(stream.read(MAX_BYTES + 1), contract.tools.registry, remedy=REMEDY)
    registry = {name: validate(Tool, tool, f"{contract.tools.registry} at /{name}", remedy=REMEDY) for name, tool in document.items()}
    fixtures: dict[str, Fixture] = {}
    for file in contract.tools.fixtures:
        with open_regular(directory / file) as stream:
            for line in stream:
                one = validate(Fixture, parse_json(line, file, remedy=REMEDY), file, remedy=REMEDY)
                fixtures[one.digest] = one
    return Broker(registry, fixtures)


def uncovered(broker: Broker, calls: Iterable[Call]) -> list[Made]:
    """Expected calls for which no result is recorded: an item that has one cannot be answered rightly."""
    made = {one.digest: one for one in map(broker.call, calls)}
    return [one for one in made.values() if one.result is None]


def stubs(missed: Iterable[Made]) -> list[dict[str, Any]]:
    """A line of a fixture file for each call that has none, `result` left to be filled in; none twice, in order of name and arguments."""
    found = {one.digest: {"name": one.name, "key": one.arguments, "digest": one.digest, "result": None} for one in missed}
    return sorted(found.values(), key=lambda one: (str(one["name"]), json.dumps(one["key"], sort_keys=True)))


def recorded(registry: Registry, results: Iterable[tuple[Call, dict[str, Any]]]) -> list[Fixture]:
    """Fixtures of real calls with their results, as a log of a live system has them. Recording is an act of its own: no replay records.

    Raises UsageError for a tool that is none, for arguments that it does not take, and for one call with two results.
    """
    found: dict[str, Fixture] = {}
    for call, result in results:
        tool = registry.get(call.name)
        if tool is None:
            raise UsageError(f"there is no tool `{call.name}`", remedy=f"the registry has {', '.join(registry)}")
        one = fixture(tool, call, result)
        if wrong := next(wrong_arguments(tool, one.key), None):
            raise UsageError(f"`{call.name}`: {wrong[0]} is {wrong[2]}", remedy=f"give {wrong[1]}")
        if found.setdefault(one.digest, one) != one:
            raise UsageError(f"`{call.name}` has two results for {json.dumps(one.key)}", remedy="a replay has one: keep the one that is meant")
    return [found[name] for name in sorted(found)]
