"""Every stage and gate by name: where it lives, which environment it needs, what it makes and reads.

Here: interlock's own stages, a table that imports nothing; and what other packages offer under the entry point groups `interlock.stages` and
`interlock.gates`, asked of the interpreters that will run it and remembered until a package or its source changes. Not here: loading one (offers.py).
The driver's interpreter imports no foreign package: it may be another Python, and importing costs seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from interlock import environments
from interlock.canonical import canonical_json
from interlock.environments import Environment
from interlock.errors import EnvironmentRefused, StageFailed, UsageError, from_dict
from pipeline.driver import keys, records
from pipeline.driver.index import Index
from pipeline.launchers import Launcher

STAGES, GATES = "interlock.stages", "interlock.gates"


@dataclass(frozen=True)
class Offer:
    """Whose a stage or gate is: its distribution, the versions and the source that its key has. All empty for what is interlock's own."""

    distribution: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """`module` has the stage as `attribute`; its import closure is the stage's source. `inputs` maps the parameter that gets a directory to its kind;
    `reads` are the parameters that name files or folders from outside; `resumes`: it takes long, and keeps what a killed run goes on from in the
    folder that its parameter `state` names."""

    name: str
    module: str
    environment: str
    produces: str
    inputs: dict[str, str]
    attribute: str = "STAGE"
    reads: tuple[str, ...] = ()
    offer: Offer = field(default_factory=Offer)
    resumes: bool = False


@dataclass(frozen=True)
class GateEntry:
    """A gate as one environment offers it."""

    name: str
    module: str
    attribute: str
    kind: str
    offer: Offer


OURS = {
    entry.name: entry
    for entry in (
        Entry("data", "pipeline.stages.data", "train", "dataset", {}),
        Entry("data-import", "pipeline.stages.data_import", "train", "dataset", {}, reads=("source",)),
        Entry("teach", "pipeline.stages.teach", "train", "dataset", {"dataset": "dataset", "teacher": "checkpoint"}, resumes=True),
        Entry("data-record", "pipeline.stages.data_record", "train", "dataset", {"dataset": "dataset"}, reads=("results",)),
        Entry("import", "pipeline.stages.import_", "train", "checkpoint", {}, reads=("halt_head",)),
        Entry(
            "train",
            "pipeline.stages.train",
            "train",
            "checkpoint",
            {"dataset": "dataset", "start": "checkpoint", "teacher": "checkpoint"},
            resumes=True,
        ),
        Entry("export", "pipeline.stages.export", "export", "export", {"checkpoint": "checkpoint"}),
        Entry("convert", "pipeline.stages.convert", "export", "package", {"source": "export", "checkpoint": "checkpoint"}),
        Entry("compress", "pipeline.stages.convert", "export", "package", {"source": "package", "checkpoint": "checkpoint"}),
        Entry("deploy", "pipeline.stages.deploy", "train", "deployment", {"export": "export", "package": "package"}),
        Entry("calibrate", "pipeline.stages.calibrate", "train", "deployment", {"deployed": "deployment"}),
        Entry("eval", "pipeline.stages.eval", "train", "evaluation", {"deployment": "deployment", "dataset": "dataset"}),
    )
}


def find(name: str) -> Entry:
    """The entry of a stage of interlock's own."""
    return OURS[name]


@dataclass(frozen=True)
class Wanted:
    """A stage or gate that a recipe names, with its params; `where` is the place in the recipe, for messages."""

    name: str
    params: dict[str, Any]
    where: str


class Registry:
    """What other packages offer to one build. `stages` and `gates` are all that the build names: each environment is asked about them once.

    folder: where answers are remembered; index: the table of source files.
    """

    def __init__(self, launcher: Launcher, folder: Path, index: Index, stages: Iterable[Wanted] = (), gates: Iterable[Wanted] = ()) -> None:
        self._launcher, self._folder, self._index = launcher, folder, index
        self._asked = {"stage": _distinct(stages), "gate": _distinct(gates)}
        self._places = {what: {canonical_json(one): place for place, one in enumerate(asked)} for what, asked in self._asked.items()}
        self._answers: dict[str, dict[str, Any]] = {}

    def stage(self, wanted: Wanted) -> Entry:
        """The stage that a recipe names. Raises UsageError where there is none or its params do not fit, EnvironmentRefused where it cannot run."""
        if wanted.name in OURS:
            remedy = f"the recipe's own tables ask for it; [[stages]] is for stages of other packages ({STAGES})"
            raise UsageError(f"{wanted.where}: `{wanted.name}` is a stage of interlock", remedy=remedy)
        elsewhere = None
        for env in self._environments:
            offer = self._answer(env)["stage"].get(wanted.name)
            if offer is not None and offer["problem"] is None and offer["environment"] != env.name:
                elsewhere = offer
            elif offer is not None:
                self._check("stage", wanted, env, offer)
                reads = tuple(offer["reads"])
                return Entry(wanted.name, offer["module"], env.name, offer["produces"], offer["inputs"], offer["attribute"], reads, _offer(offer))
        if elsewhere is not None:
            raise _not_installed(wanted, elsewhere, elsewhere["environment"])
        raise self._unknown("stage", wanted)

    def gate(self, wanted: Wanted, environment: str) -> GateEntry:
        """The gate that a recipe names, as it is installed in `environment`. Raises what `stage` raises."""
        envs = {env.name: env for env in self._environments}
        offer = self._answer(envs[environment])["gate"].get(wanted.name)
        if offer is None:
            others = (self._answer(env)["gate"].get(wanted.name) for env in envs.values() if env.name != environment)
            if (other := next((one for one in others if one is not None), None)) is not None:
                raise _not_installed(wanted, other, environment)
            raise self._unknown("gate", wanted)
        self._check("gate", wanted, envs[environment], offer)
        return GateEntry(wanted.name, offer["module"], offer["attribute"], offer["kind"], _offer(offer))

    def gate_kind(self, wanted: Wanted) -> str:
        """What kind of artifact a gate is asked about. Raises what `stage` raises."""
        for env in self._environments:
            if (offer := self._answer(env)["gate"].get(wanted.name)) is not None:
                self._check("gate", wanted, env, offer)
                return str(offer["kind"])
        raise self._unknown("gate", wanted)

    def everything(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By environment, `stage` and `gate`, every offer by name; environments that were not made yet are left out."""
        ready = [env for env in self._environments if self._launcher.ready(env)]
        return {env.name: {what: self._answer(env)[what] for what in ("stage", "gate")} for env in ready}

    def _check(self, what: str, wanted: Wanted, env: Environment, offer: dict[str, Any]) -> None:
        if offer["problem"] is not None:
            raise EnvironmentRefused(
                f"{wanted.where}: {what} `{wanted.name}` cannot be used: {offer['problem']}",
                required=f"a {what} that {offer['distribution']} {offer['version']} offers rightly as `{offer['module']}:{offer['attribute']}`",
                running=f"environment `{env.name}`",
                remedy=f"mend or remove that package, then look with `interlock stages`; {install(offer['distribution'], env.name)}",
            )
        wrong = self._answer(env)["wrong"][what][self._places[what][canonical_json(_question(wanted))]]
        if wrong:
            told = "; ".join(f"{wanted.where}/params{f'/{place}' if place else ''}: {why}" for place, why in wrong)
            shown = ", ".join(f"{name}: {kind}" for name, kind in offer["parameters"].items()) or "none"
            raise UsageError(told, remedy=f"the parameters of {what} `{wanted.name}` are {shown}")

    def _unknown(self, what: str, wanted: Wanted) -> UsageError:
        known = sorted({name for env in self._environments if self._launcher.ready(env) for name in self._answer(env)[what]})
        group = STAGES if what == "stage" else GATES
        there = f"installed are {', '.join(known)}" if known else f"no installed package offers any ({group})"
        return UsageError(f"{wanted.where}: there is no {what} `{wanted.name}`", remedy=f"{there}; {install('PACKAGE', 'ENVIRONMENT')}")

    @cached_property
    def _environments(self) -> Sequence[Environment]:
        """Those that are made already first: the others are made only if these do not have what is wanted."""
        return sorted(environments.environments().values(), key=lambda env: not self._launcher.ready(env))

    def _answer(self, env: Environment) -> dict[str, Any]:
        if env.name not in self._answers:
            if not self._launcher.ready(env):
                self._launcher.prepare(env)
            question = {"environment": env.name, "taken": sorted(OURS), "asked": self._asked}
            # One file for the same names, whatever their params: a recipe that is built in many ways leaves one behind.
            names = {what: sorted({one["name"] for one in asked}) for what, asked in self._asked.items()}
            name = hashlib.sha256(canonical_json([names, self._launcher.command(env, [])])).hexdigest()[:16]
            file = self._folder / f"{env.name}-{name}.json"
            # What another machine has installed nobody sees from here, unless all of it goes by one name.
            seen = not self._launcher.ELSEWHERE or self._launcher.image(env) is not None
            found = self._remembered(file) if seen else None
            if found is None:
                found = self._ask(env, question)
                with contextlib.suppress(StageFailed):  # a place that cannot be written costs the next run its time
                    records.save(file, {"now": self._now(found), "answer": found})
            self._answers[env.name] = found
            self._index.save()
        return self._answers[env.name]

    def _remembered(self, file: Path) -> dict[str, Any] | None:
        try:
            document = records.load(file)
            return dict(document["answer"]) if document["now"] == self._now(document["answer"]) else None
        except (OSError, ValueError, KeyError, TypeError, StageFailed):
            return None

    def _now(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What an answer holds for: what is installed, and the source of what is offered."""
        named = [answer[what].get(one["name"]) for what, asked in self._asked.items() for one in asked]
        offers = [offer for offer in named if offer is not None]
        # What cannot be used is looked at anew each time, and so is everything for who asks about nothing: how it is mended nobody knows.
        lasting = bool(named) and all(offer["problem"] is None for offer in offers)
        modules = {offer["module"]: offer for offer in offers}  # a matrix asks about one stage a thousand times
        source = [keys.Sources(self._index, _offer(one).roots).digest(name) for name, one in modules.items()] if lasting else os.urandom(8).hex()
        return {
            "asked": self._asked,
            "installed": [_installed(folder) for folder in answer["folders"]],
            "source": source,
            "project": keys.Sources(self._index).digest("pipeline.driver.offers"),
        }

    def _ask(self, env: Environment, question: dict[str, Any]) -> dict[str, Any]:
        """What the interpreter of an environment says. Raises EnvironmentRefused, and StageFailed where it says nothing."""
        from pipeline.driver.children import surroundings

        command = self._launcher.command(env, ["stages", "--answer", "--json"])
        ended = subprocess.run(command, input=canonical_json(question), capture_output=True, check=False, env=surroundings())
        try:
            document = json.loads(ended.stdout)
        except ValueError:
            document = None
        if isinstance(document, dict) and "error" in document:
            raise from_dict(document)
        if ended.returncode or not isinstance(document, dict) or "folders" not in document:
            last = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"it ended with {ended.returncode}"]
            raise StageFailed(
                f"environment `{env.name}` does not say which stages it has: {last[0][:300]}",
                remedy="a package installed there stops its interpreter; remove it, or make the environment anew (`ci/sync`)",
            )
        return document


def _question(wanted: Wanted) -> dict[str, Any]:
    return {"name": wanted.name, "params": wanted.params}


def _distinct(wanted: Iterable[Wanted]) -> list[dict[str, Any]]:
    found = {json.dumps(_question(one), sort_keys=True): _question(one) for one in wanted}
    return list(found.values())


def _offer(offer: dict[str, Any]) -> Offer:
    return Offer(offer["distribution"], offer["packages"], {name: Path(folder) for name, folder in offer["roots"].items()})


def _not_installed(wanted: Wanted, offer: dict[str, Any], environment: str) -> EnvironmentRefused:
    return EnvironmentRefused(
        f"{wanted.where}: `{wanted.name}` runs in environment `{environment}`, and {offer['distribution']} is not installed there",
        required=f"{offer['distribution']} in environment `{environment}`",
        running="it is installed in another environment only",
        remedy=install(offer["distribution"], environment),
    )


def install(distribution: str, environment: str) -> str:
    """The command that brings a package into an environment, without touching what the lock has put there."""
    return f"`ci/env uv pip install --no-deps --python envs/{environment}/.venv {distribution}` installs one (a folder: `--editable FOLDER`)"


def _installed(folder: str) -> list[Any]:
    """What changes when a package is installed into a folder of the import path, or removed from it."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".dist-info", ".egg-info", ".pth")):
                stats = [entry.stat().st_mtime_ns]
                with contextlib.suppress(OSError):
                    stats.append((Path(entry.path) / "entry_points.txt").stat().st_mtime_ns)
                found.append([entry.name, *stats])
    return sorted(found)
