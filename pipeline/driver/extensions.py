"""What a recipe takes from other packages: its [[stages]] and [[gates.extra]], found, and their places in the recipe kept for messages.

Here: from a recipe's tables to entries of the registry. Not here: the steps themselves (graph.py), asking interpreters (registry.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interlock.canonical import canonical_json
from interlock.errors import UsageError
from pipeline.driver.registry import Entry, GateEntry, Registry, Wanted
from pipeline.recipe import Loaded
from pipeline.recipe_tables import ExtraGate, Recipe, ThirdParty


@dataclass(frozen=True)
class AskedGate:
    """A gate of another package before one step's publication."""

    entry: GateEntry
    params: dict[str, Any]


class Extensions:
    """What all cells of one recipe take from other packages, asked for at once. Raises UsageError and EnvironmentRefused for what does not fit."""

    def __init__(self, loaded: Loaded, launcher: str) -> None:
        self._file = str(loaded.file)
        recipes = [cell.recipe for cell in loaded.cells]
        stages = [self._stage(number, party) for recipe in recipes for number, party in enumerate(recipe.stages)]
        gates = [self._gate(number, extra) for recipe in recipes for number, extra in enumerate(recipe.gates.extra)]
        self._registry = _registry(launcher, stages, gates) if stages or gates else None

    def _stage(self, number: int, party: ThirdParty) -> Wanted:
        return _wanted(party.stage, party.params, f"{self._file} at /stages/{number}")

    def _gate(self, number: int, extra: ExtraGate) -> Wanted:
        return _wanted(extra.gate, extra.params, f"{self._file} at /gates/extra/{number}")

    def stage(self, number: int, party: ThirdParty) -> Entry:
        """The stage that the recipe's [[stages]] table with this number names."""
        assert self._registry is not None
        return self._registry.stage(self._stage(number, party))

    def gates(self, recipe: Recipe, title: str, stage: Entry) -> tuple[AskedGate, ...]:
        """The gates that a step has to pass: those of the kind that it makes, unless their table names other steps."""
        found = []
        for number, extra in enumerate(recipe.gates.extra):
            wanted = self._gate(number, extra)
            assert self._registry is not None
            if extra.steps is not None and title not in extra.steps:
                continue
            kind = self._registry.gate_kind(wanted)
            if kind == stage.produces:
                found.append(AskedGate(self._registry.gate(wanted, stage.environment), extra.params))
            elif extra.steps is not None:
                raise UsageError(f"{wanted.where}/steps: `{title}` makes a {stage.produces}, the gate is asked about a {kind}", remedy="name others")
        return tuple(found)

    def check(self, recipe: Recipe, steps: dict[str, Entry]) -> None:
        """Every gate of the recipe guards a step: one that guards none would be a promise that nobody keeps. Raises UsageError."""
        for number, extra in enumerate(recipe.gates.extra):
            wanted = self._gate(number, extra)
            assert self._registry is not None
            kind = self._registry.gate_kind(wanted)
            makers = [title for title, stage in steps.items() if stage.produces == kind]
            if missing := [title for title in extra.steps or () if title not in steps]:
                raise UsageError(f"{wanted.where}/steps: there is no step `{missing[0]}`", remedy=f"there are {', '.join(steps)}")
            if not makers:
                raise UsageError(f"{wanted.where}: the gate is asked about a {kind}, and no step makes one", remedy="leave it out")


def _wanted(name: str, params: dict[str, Any], where: str) -> Wanted:
    try:
        canonical_json(params)
    except (TypeError, ValueError):
        raise UsageError(f"{where}/params: dates, times, NaN and infinities are no parameters", remedy="give texts and finite numbers") from None
    return Wanted(name, params, where)


def _registry(launcher: str, stages: Iterable[Wanted], gates: Iterable[Wanted]) -> Registry:
    from pipeline.driver.index import Index
    from pipeline.driver.store import project_folder
    from pipeline.launchers import launcher as named

    folder = project_folder() / "offers"
    return Registry(named(launcher), folder, Index(folder / "index.json"), stages, gates)
