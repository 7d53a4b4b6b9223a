"""What a build would do: every step's key, what is known about it, and what is still to be made.

Here: looking, without changing anything but the table of file digests. Not here: doing it (build.py), comparing preimages (why.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from interlock import environments, errors
from interlock.environments import Environment
from interlock.errors import InterlockError, UsageError
from interlock.producers import check_producer
from pipeline.driver import keys, source_digest
from pipeline.driver.extensions import AskedGate
from pipeline.driver.graph import Given, Graph, Node
from pipeline.driver.index import Index
from pipeline.driver.outputs import Outputs
from pipeline.driver.registry import Offer
from pipeline.driver.store import Store
from pipeline.launchers import Launcher, default_launcher

Status = Literal["known", "rejected", "blocked", "to run", "waits"]


@dataclass
class Step:
    """What is known of one node: `digest` of what it makes, once that is known, and the `action` that says so. `rejected`: its gate refused it;
    `blocked`: one before it was; `waits`: its key is not known before another has run."""

    node: Node
    status: Status = "waits"
    key: str | None = None
    preimage: dict[str, Any] | None = None
    digest: str | None = None
    action: dict[str, Any] | None = None
    fresh: bool = False
    """To be made again whatever is known: the user said so."""


class View(Protocol):
    """Who is told what a build does."""

    def step(self, node: Node, state: str, detail: str = "") -> None:
        """`state` is one of waiting, running, kept, made, rejected, failed, skipped."""
        ...

    def line(self, node: Node, text: str) -> None: ...

    def figures(self, node: Node, figures: dict[str, Any]) -> None:
        """What a step that takes long has come to (pipeline.training.told.Told), every second or so."""
        ...

    def started(self, node: Node, pid: int) -> None: ...

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...


@dataclass(frozen=True)
class Options:
    """How to build. `jobs` stages run at a time; with `keep_going` a failure stops only what rests on it; `paranoid` reads outputs
    instead of trusting their sizes and times."""

    jobs: int = 1
    keep_going: bool = False
    launcher: str = field(default_factory=default_launcher)
    paranoid: bool = False


@dataclass
class Result:
    """How one step ended. `error` where it did not."""

    node: Node
    state: str = "waiting"
    digest: str | None = None
    key: str | None = None
    why: list[str] = field(default_factory=list)
    wall_s: float | None = None
    peak_rss_bytes: int | None = None
    log: Path | None = None
    error: InterlockError | None = None


def keep(result: Result, step: Step) -> None:
    """Take over what is known under the step's key."""
    if step.action is None:
        result.state = "skipped" if step.status == "blocked" else result.state
        return
    result.key, result.digest = step.key, step.digest
    result.wall_s, result.peak_rss_bytes = step.action.get("wall_s"), step.action.get("peak_rss_bytes")
    result.state = "rejected" if step.status == "rejected" else "kept"
    if step.status == "rejected":
        result.error = known_rejection(step)


def known_rejection(step: Step) -> InterlockError:
    """The error of a gate that refused the same candidate before."""
    assert step.action is not None
    error = errors.from_dict(step.action["rejected"])
    error.remedy += "; nothing has changed since, so it was not run again (--force does)"
    return error


class Planner:
    """Keys and what is known under them, for one graph."""

    def __init__(self, graph: Graph, store: Store, index: Index, launcher: Launcher, fresh: Callable[[Node], bool]) -> None:
        self.graph, self.store = graph, store
        self.launcher = launcher
        self._index = index
        self._sources: dict[tuple[tuple[str, Path], ...], keys.Sources] = {}
        self._environments = environments.environments()
        self._parts: dict[str, dict[str, str]] = {}
        self._foreign: dict[Any, dict[str, str]] = {}
        self.steps = {node.identity: Step(node, fresh=fresh(node)) for node in graph.nodes}

    def environment(self, node: Node) -> Environment:
        return self._environments[node.stage.environment]

    def look(self) -> None:
        """Find out as much as can be known without running anything."""
        for step in self.steps.values():
            if (inputs := self.input_digests(step.node)) is not None:
                self.settle(step, inputs)
            elif any(self.steps[one.identity].status in ("rejected", "blocked") for one in step.node.inputs.values() if isinstance(one, Node)):
                step.status = "blocked"

    def untouched(self, graph: Graph, outputs: Outputs, *, paranoid: bool = False) -> list[Result] | None:
        """Every step as it is known, where every wanted digest is known and every output lies in its place; else None."""
        if any(step.fresh for step in self.steps.values()):
            return None
        for target in graph.targets:
            settled = ("known",) if target.placed else ("known", "rejected", "blocked")
            if any(self.steps[node.identity].status not in settled for node in target.wanted):
                return None
            for out, node in target.placed.items():
                digest = self.steps[node.identity].digest
                if digest is None or not outputs.in_place(out, digest, paranoid=paranoid):
                    return None
        results = {identity: Result(step.node) for identity, step in self.steps.items()}
        for identity, step in self.steps.items():
            keep(results[identity], step)
        return list(results.values())

    def input_digests(self, node: Node) -> dict[str, str] | None:
        """The digest of each input, or None as long as one is not known. Raises ContractError for a given directory that is none."""
        found: dict[str, str] = {}
        for name, source in node.inputs.items():
            digest = self.given_digest(source, toy=node.toy) if isinstance(source, Given) else self.steps[source.identity].digest
            if digest is None:
                return None
            found[name] = digest
        return found

    def given_digest(self, given: Given, *, toy: bool = False) -> str:
        """The digest of an artifact directory that the user named. Raises ContractError, and EnvironmentRefused unless a toy is to be made of it."""
        from interlock.contracts import io

        file, model = io.KINDS[given.kind]

        def digest(path: Path) -> str:
            contract = io.read_contract(path, model)
            if not toy:
                check_producer(path, contract)
            return contract.digest

        return str(self._index.value(given.path.absolute() / file, "contract of a toy" if toy else "contract", digest))

    def settle(self, step: Step, inputs: dict[str, str]) -> None:
        """Give `step` its key and what is known under it."""
        step.preimage = self.preimage(step.node, inputs)
        step.key = keys.key_of(step.preimage)
        step.action = self.store.action(step.key)
        if step.action is None or step.fresh:
            step.status = "to run"
        elif "rejected" in step.action:
            step.status = "rejected"
        else:
            step.status, step.digest = "known", step.action["output"]["digest"]

    def preimage(self, node: Node, inputs: dict[str, str]) -> dict[str, Any]:
        """Everything that decides what the node makes."""
        env = self.environment(node)
        if env.name not in self._parts:
            self._parts[env.name] = keys.environment_part(env, self.launcher.python_version(env))
        foreign = self._foreign_digests(node)
        preimage = {
            "stage": node.stage.name,
            "source": self.sources(node.stage.offer).digest(node.stage.module),
            "environment": self._parts[env.name],
            "params": _without_places(node),
            "inputs": inputs | foreign | self._read_digests(node),
            "toy": node.toy,
        }
        if node.stage.offer.distribution:
            preimage |= {"object": f"{node.stage.module}:{node.stage.attribute}", "packages": node.stage.offer.packages}
        if node.gates:
            preimage["gates"] = [self._gate(gate) for gate in node.gates]
        return preimage

    def _gate(self, gate: AskedGate) -> dict[str, Any]:
        entry = gate.entry
        return {
            "gate": entry.name,
            "object": f"{entry.module}:{entry.attribute}",
            "source": self.sources(entry.offer).digest(entry.module),
            "params": gate.params,
            "packages": entry.offer.packages,
        }

    def sources(self, offer: Offer) -> keys.Sources:
        """The table of source that counts for what `offer` brings: interlock's own, and the offering package's."""
        roots = tuple(sorted(offer.roots.items()))
        if roots not in self._sources:
            self._sources[roots] = keys.Sources(self._index, offer.roots)
        return self._sources[roots]

    def _foreign_digests(self, node: Node) -> dict[str, str]:
        if node.foreign is None:
            return {}
        if node.foreign not in self._foreign:
            spec, tokenizer = node.foreign
            try:
                self._foreign[node.foreign] = source_digest.of(spec, tokenizer, self._index)
            except OSError as error:
                raise UsageError(f"`{error.filename or spec}` cannot be read ({error.strerror})", remedy="name a source that is there") from None
        return self._foreign[node.foreign]

    def _read_digests(self, node: Node) -> dict[str, str]:
        """Digests of the files that parameters of the stage name beside its source."""
        found: dict[str, str] = {}
        for name in node.stage.reads:
            if (value := node.params.get(name)) is None:
                continue
            if not Path(value).exists():
                problem = f"step `{node.title}`: there is no `{value}` to read (parameter `{name}`)"
                raise UsageError(problem, remedy="name a file or folder that is there")
            try:
                found |= source_digest.digests(name, Path(value), self._index)
            except OSError as error:
                raise UsageError(f"`{error.filename or value}` cannot be read ({error.strerror})", remedy="name a file that can be read") from None
        return found

    def keep_details(self, step: Step) -> None:
        """Store what the step's preimage names by digest only, so that it can be compared later."""
        for digest, make in self._details(step).items():
            self.store.keep_detail(digest, make)

    def details(self, step: Step) -> dict[str, dict[str, Any]]:
        """The same, without storing it."""
        return {digest: make() for digest, make in self._details(step).items()}

    def _details(self, step: Step) -> dict[str, Callable[[], dict[str, Any]]]:
        assert step.preimage is not None
        node, env = step.node, self.environment(step.node)
        made: dict[str, Callable[[], dict[str, Any]]] = {
            step.preimage["source"]: lambda: self.sources(node.stage.offer).closure(node.stage.module),
            env.lock_digest: lambda: {"packages": env.locked()},
        }
        for gate, said in zip(node.gates, step.preimage.get("gates", ()), strict=True):
            made[said["source"]] = partial(self.sources(gate.entry.offer).closure, gate.entry.module)
        return made


def _without_places(node: Node) -> dict[str, Any]:
    """The parameters, with the kind of source for a path: where a file lies does not decide what is made of it, its name and bytes do."""
    left = {name: value for name, value in node.params.items() if name not in node.stage.reads}
    if node.foreign is None:
        return left
    spec, _ = node.foreign
    scheme = spec.partition(":")[0]
    kept = spec if scheme in source_digest.NAMED else scheme if scheme in source_digest.PATHS else "a path"
    return {**{name: value for name, value in left.items() if name != "tokenizer"}, "source": kept}


def state_file(folder: Path, name: str, outputs: list[str]) -> Path:
    """Where that is kept: one file per recipe and place."""
    place = hashlib.sha256("\n".join(sorted(outputs)).encode()).hexdigest()[:8]
    return folder / "builds" / f"{name}-{place}.json"
