"""One build from a recipe's name to its report: the object behind `interlock build` and `pipeline.build`.

Here: putting recipe, graph, plan and builder together; the record that `status` and `why` read. Not here: how each works, what is shown.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from interlock.errors import GateFailed, InterlockError, StageFailed, UsageError
from pipeline.driver import records
from pipeline.driver.graph import Graph, Node
from pipeline.driver.index import Index
from pipeline.driver.matrix import Row
from pipeline.driver.outputs import Outputs
from pipeline.driver.plan import Options, Planner, Result, View, keep, state_file
from pipeline.driver.store import Store, project_folder
from pipeline.launchers import launcher
from pipeline.recipe import FOLDER

if TYPE_CHECKING:
    from pipeline.driver.build import Builder


@dataclass(frozen=True)
class Selection:
    """Which steps to make anew: `only` just that one, `first` that one and all that rests on it, `force` all."""

    only: str | None = None
    first: str | None = None
    force: bool = False


@dataclass
class Report:
    """How a build ended. `error` is the first failure; `placed` maps each output that lies in its place to its digest."""

    recipe: str
    results: list[Result]
    placed: dict[Path, str]
    wall_s: float
    worked: bool
    interrupted: int | None = None
    unplaced: list[InterlockError] = field(default_factory=list)

    @property
    def error(self) -> InterlockError | None:
        return next((result.error for result in self.results if result.error is not None), next(iter(self.unplaced), None))

    @property
    def hard_error(self) -> InterlockError | None:
        """The first failure that is not a gate's."""
        found = [result.error for result in self.results if result.error is not None and not isinstance(result.error, GateFailed)]
        return next(iter([*found, *self.unplaced]), None)

    @property
    def exit_code(self) -> int:
        return self.interrupted or (self.error.exit_code if self.error else 0)

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "exit_code": self.exit_code,
            "wall_s": round(self.wall_s, 3),
            "outputs": {str(path): digest for path, digest in self.placed.items()},
            "steps": [step_dict(result) for result in self.results],
            **({"error": self.error.as_dict()} if self.error else {}),
        }


def step_dict(result: Result) -> dict[str, Any]:
    """One step of a report, in JSON."""
    return {
        "step": result.node.title,
        "stage": result.node.stage.name,
        "state": result.state,
        "digest": result.digest,
        "key": result.key,
        "why": result.why,
        "wall_s": result.wall_s,
        "peak_rss_bytes": result.peak_rss_bytes,
        "log": str(result.log) if result.log else None,
    }


class Project:
    """What builds of one project share: its folder, the store, the table of file digests, the outputs."""

    def __init__(self, folder: Path | None = None, store: Store | None = None) -> None:
        self.folder = folder or project_folder()
        self.store = store or Store.here()
        self.index = Index(self.folder / "index.json")
        self.outputs = Outputs(self.folder, self.store)


class Session:
    """One recipe in one project, looked at and ready to be built."""

    def __init__(self, graph: Graph, project: Project, selection: Selection | None = None, options: Options | None = None) -> None:
        selection, options = selection or Selection(), options or Options()
        self.project, self.options = project, options
        self.labels = _labels(graph)
        self.state_file = state_file(project.folder, graph.name, [str(out) for target in graph.targets for out in target.placed])
        chosen = _chosen(graph, selection)
        self._targets = graph.targets  # of all steps: what --only rests on is made too
        self.graph = graph if selection.only is None else _only(graph, selection.only)
        self._builder: Builder | None = None
        self.planner = Planner(graph, project.store, project.index, launcher(options.launcher), lambda node: node.identity in chosen)

    def prepare(self) -> None:
        """Bring the environments that the graph needs up to date. Raises EnvironmentRefused."""
        for env in {node.stage.environment: self.planner.environment(node) for node in self.graph.nodes}.values():
            if not self.planner.launcher.ready(env):
                self.planner.launcher.prepare(env)

    def look(self) -> None:
        """Find out what is known; afterwards `planner.steps` say what would run."""
        self.planner.look()
        self.project.index.save()

    @cached_property
    def _last_steps(self) -> dict[str, Any]:
        """What the last build wrote of its steps: read once, a matrix asks for thousands of them."""
        steps: dict[str, Any] = records.load(self.state_file).get("steps", {})
        return steps

    def before(self, node: Node) -> dict[str, Any] | None:
        """The preimage under which the last build of this recipe made or kept the same step."""
        key = self._last_steps.get(self.labels[node.identity], {}).get("key")
        action = self.project.store.action(key) if key else None
        return action["preimage"] if action else None

    def name(self, node: Node) -> str:
        """The step's title, with its cell in a matrix."""
        return self.labels[node.identity]

    def again(self, node: Node) -> str | None:
        """The command that makes a step again; None where the build is of no recipe."""
        if not self.graph.file.endswith(".toml"):
            return None
        file = Path(self.graph.file)
        target = next(target for target in self._targets if node in target.steps.values())
        sets = [*self.graph.sets, *(f"{key}={msgspec.json.encode(value).decode()}" for key, value in target.values.items())]
        given = [word for one in sets for word in ("--set", one)]
        return shlex.join(["interlock", "build", file.stem if file.parent == FOLDER else str(file), *given, "--only", node.title, "--force"])

    def up_to_date(self) -> Report | None:
        """The report of a build that has nothing to do, or None where there is something."""
        started = time.monotonic()
        self.prepare()
        self.look()
        results = self.planner.untouched(self.graph, self.project.outputs, paranoid=self.options.paranoid)
        if results is None:
            return None
        return Report(self.graph.name, results, dict(self._wanted()), time.monotonic() - started, worked=False)

    def build(self, view: View) -> Report:
        """Do what `up_to_date` found wanting. Failures of stages are in the report; raises InterlockError for what concerns the whole."""
        from pipeline.driver.build import Builder, Interrupted, Recall

        started = time.monotonic()
        logs = self.project.folder / "logs" / self.state_file.stem
        builder = self._builder = Builder(self.planner, self.project.outputs, view, self.options, logs, Recall(self.before, self.again))
        interrupted = None
        try:
            builder.run(self.graph)
        except Interrupted as stop:
            interrupted = stop.exit_code
        for identity, result in builder.results.items():
            if result.state == "waiting" and self.planner.steps[identity].status == "known":
                keep(result, self.planner.steps[identity])  # nothing needed it
        self.project.index.save()
        self._record(builder.results)
        placed = {out: digest for out, digest in self._wanted() if self.project.outputs.record(out).get("digest") == digest}
        return Report(self.graph.name, list(builder.results.values()), placed, time.monotonic() - started, True, interrupted, builder.unplaced)

    def interrupt(self) -> None:
        """End `build`, which runs in another thread, as Ctrl-C does."""
        if self._builder is not None:
            self._builder.interrupt(signal.SIGINT)

    def missing_outputs(self) -> list[Path]:
        """Outputs that do not lie in their place, or whose content is not known yet."""
        steps, outputs = self.planner.steps, self.project.outputs
        placed = [(out, steps[node.identity].digest) for target in self.graph.targets for out, node in target.placed.items()]
        return [out for out, digest in placed if digest is None or not outputs.in_place(out, digest)]

    def rows(self, report: Report) -> list[Row]:
        """The cells of a matrix with their figures, after a build."""
        results = {result.node.identity: result for result in report.results}
        rows = []
        for target in self.graph.targets:
            step = self.planner.steps[target.compared.identity]
            mine = [results[node.identity] for node in target.steps.values()]
            told = {
                state: next((result.error.problem if result.error else state for result in mine if result.state == state), None)
                for state in ("rejected", "failed")
            }
            known = (step.action or {}).get("output", {}).get("figures", {})
            rows.append(Row(target.cell, target.values, known, told["rejected"], told["failed"], self.planner.steps[target.final.identity].digest))
        return rows

    def _wanted(self) -> list[tuple[Path, str]]:
        steps = self.planner.steps
        found = [(out, steps[node.identity].digest) for target in self.graph.targets for out, node in target.placed.items()]
        return [(out, digest) for out, digest in found if digest is not None]

    def _record(self, results: dict[str, Result]) -> None:
        """What `status` and `why` tell of this build. Without it they know less; the build does not need it."""
        steps = records.load(self.state_file).get("steps", {})
        for identity, result in results.items():
            label = self.labels[identity]
            if result.state == "waiting":
                continue
            known = {key: value for key, value in step_dict(result).items() if key != "step"}
            known["key"] = result.key or steps.get(label, {}).get("key")
            known["error"] = result.error.as_dict() if result.error else None
            steps[label] = known
        document = {
            "recipe": self.graph.name,
            "file": self.graph.file,
            "sets": list(self.graph.sets),
            "ended_unix_s": int(time.time()),
            "outputs": [str(out) for target in self.graph.targets for out in target.placed],
            "steps": steps,
        }
        try:
            records.save(self.state_file, document)
        except StageFailed:
            return


def last_build(project: Project) -> dict[str, Any]:
    """What the last build of this project recorded; empty where there was none."""
    found = [records.load(file) for file in (project.folder / "builds").glob("*.json")]
    return max(filter(None, found), key=lambda document: document.get("ended_unix_s", 0), default={})


def _labels(graph: Graph) -> dict[str, str]:
    """Each step's title; in a matrix with its first cell, unless all cells share it."""
    labels: dict[str, str] = {}
    uses = Counter(node.identity for target in graph.targets for node in target.steps.values())
    for target in graph.targets:
        for title, node in target.steps.items():
            shared = uses[node.identity] == len(graph.targets)
            labels.setdefault(node.identity, title if shared else f"{title}@{target.cell}")
    return labels


def _chosen(graph: Graph, selection: Selection) -> set[str]:
    """The identities of the steps that are to be made anew."""
    title = selection.only or selection.first
    titles = {name for target in graph.targets for name in target.steps}
    if title is not None and title not in titles:
        raise UsageError(f"there is no step `{title}` in recipe `{graph.name}`", remedy=f"there are {', '.join(sorted(titles))}")
    if selection.force and title is None:
        return {node.identity for node in graph.nodes}
    named = {target.steps[title].identity for target in graph.targets if title in target.steps} if title else set()
    if selection.first is None:
        return named if selection.force else set()
    for node in graph.nodes:  # inputs stand before what takes them
        if any(isinstance(source, Node) and source.identity in named for source in node.inputs.values()):
            named.add(node.identity)
    return named


def _only(graph: Graph, title: str) -> Graph:
    """The graph cut down to one step and what it rests on; its output is not placed unless it is one of the recipe's."""
    from dataclasses import replace

    targets = tuple(
        replace(
            target,
            placed={out: node for out, node in target.placed.items() if node.identity == target.steps[title].identity},
            final=target.steps[title],
            last=(),
            steps={name: node for name, node in target.steps.items() if name == title},
        )
        for target in graph.targets
        if title in target.steps
    )
    return replace(graph, targets=targets)
