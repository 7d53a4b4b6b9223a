"""The stages that a recipe asks for, as a graph: equal steps of different cells are one node.

Here: nodes and what they take from each other. Not here: keys, running (build.py), what recipes may say (pipeline/recipe.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from eval.shipped import read_suite
from eval.suite import Claim, Suite, changed
from interlock.canonical import canonical_json
from interlock.errors import UsageError
from pipeline.driver import registry
from pipeline.driver.extensions import AskedGate, Extensions
from pipeline.halting.shipped import find
from pipeline.recipe import Cell, Loaded
from pipeline.recipe_tables import Evaluate, Recipe, ThirdParty, Train


@dataclass(frozen=True)
class Given:
    """An artifact directory that the user named: it is read where it lies."""

    path: Path
    kind: str

    @property
    def identity(self) -> str:
        return f"given:{self.kind}:{self.path}"


@dataclass(frozen=True)
class Node:
    """One step. `params` are the stage's, without directories; `inputs` says which directory each of the others gets; `foreign` names what the step
    reads from outside by itself (a source spec and a tokenizer), for its key. `title` is the step's name in its recipe."""

    title: str
    stage: registry.Entry
    params: dict[str, Any]
    inputs: dict[str, Node | Given]
    foreign: tuple[str, Path | None] | None = None
    toy: bool = False
    gates: tuple[AskedGate, ...] = ()
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        gates = [[gate.entry.name, gate.params] for gate in self.gates]
        what = [self.stage.name, self.params, {name: one.identity for name, one in self.inputs.items()}, self.toy, gates]
        object.__setattr__(self, "identity", hashlib.sha256(canonical_json(what)).hexdigest())


@dataclass(frozen=True)
class Target:
    """What one cell of a recipe is to yield: its named steps, and where outputs are placed (none where a matrix only compares)."""

    cell: str
    values: dict[str, Any]
    steps: dict[str, Node]
    placed: dict[Path, Node]
    final: Node
    last: tuple[Node, ...] = ()
    """Steps of other packages that no other step takes: they are made even where nothing is placed."""
    judge: Node | None = None
    """The evaluation without whose verdict no deployment is placed."""

    @property
    def wanted(self) -> list[Node]:
        """The steps that have to be made: what is placed, with its judge, or the last ones where nothing is."""
        wanted = list(self.placed.values()) if self.placed else [self.final, *self.last]
        return [*wanted, self.judge] if self.judge is not None and any(self.waits(node) for node in wanted) else wanted

    def waits(self, node: Node) -> bool:
        """Whether `node` is placed only once the judge has been heard."""
        return self.judge is not None and node.stage.name == "deploy"

    @property
    def compared(self) -> Node:
        """The step whose artifact is compared in a matrix: the package that is shipped, else the last one."""
        return self.steps.get("compress") or self.steps.get("convert") or self.final


@dataclass(frozen=True)
class Graph:
    """`nodes` in an order in which every input stands before what takes it. `file` and `sets` are the recipe's, for whoever asks later."""

    name: str
    nodes: tuple[Node, ...]
    targets: tuple[Target, ...]
    is_matrix: bool = False
    file: str = ""
    sets: tuple[str, ...] = ()


def build_graph(loaded: Loaded, launcher: str) -> Graph:
    """The graph of a recipe's cells; `launcher` says where stages of other packages are looked for.

    Raises UsageError for steps that do not fit together, EnvironmentRefused for packages that are not where they must be.
    """
    known: dict[str, Node] = {}
    extensions = Extensions(loaded, launcher)
    targets = [_target(loaded, cell, extensions, known) for cell in loaded.cells]
    return Graph(loaded.name, tuple(known.values()), tuple(targets), loaded.has_matrix, str(loaded.file), loaded.sets)


def _target(loaded: Loaded, cell: Cell, extensions: Extensions, known: dict[str, Node]) -> Target:
    recipe = cell.recipe
    steps: dict[str, Node] = {}
    for node in _steps(recipe, extensions, steps):
        steps[node.title] = known.setdefault(node.identity, node)
    extensions.check(recipe, {title: node.stage for title, node in steps.items()})
    taken = {source.identity for node in steps.values() for source in node.inputs.values()}
    last = [node for node in steps.values() if node.stage.offer.distribution and node.identity not in taken]
    base = Path(recipe.output)
    folders = {
        "dataset": "teach" if recipe.data is not None and recipe.data.teacher is not None else "data",
        "checkpoint": "train" if recipe.train else "import",
        "exported": "export",
        "package": "convert",
        "compressed": "compress",
        "deployed": "deploy",
        "evaluation": "eval",
    }
    placed = {}
    if not loaded.has_matrix:
        for name in dict.fromkeys([*recipe.outputs, *(node.title for node in last)]):
            title = folders.get(name, name)
            if title in steps:
                folder = f"package-{recipe.compress.method}" if name == "compressed" else name
                placed[base / folder] = steps[title]
    return Target(cell.name, cell.values, steps, placed, steps.get("deploy") or list(steps.values())[-1], tuple(last), steps.get("eval"))


def _steps(recipe: Recipe, extensions: Extensions, before: dict[str, Node]) -> Iterator[Node]:
    """The steps of one cell, each with the gates that it has to pass."""

    def step(
        title: str,
        entry: registry.Entry,
        params: dict[str, Any],
        inputs: dict[str, Node | Given],
        foreign: tuple[str, Path | None] | None = None,
    ) -> Node:
        return Node(title, entry, params, inputs, foreign, recipe.toy, extensions.gates(recipe, title, entry))

    yield from _own_steps(recipe, step)
    for number, party in enumerate(recipe.stages):
        entry = extensions.stage(number, party)
        title = party.name or party.stage
        if title in before or title in registry.OURS:
            raise UsageError(f"two steps are called `{title}`", remedy="give one another `name` in its [[stages]] table")
        yield step(title, entry, dict(party.params), _taken(title, party, entry, before))


def _own_steps(recipe: Recipe, step: Callable[..., Node]) -> Iterator[Node]:
    checkpoint: Node | Given | None = None
    if recipe.source is not None:
        spec = recipe.source.checkpoint
        tokenizer = Path(recipe.source.tokenizer) if recipe.source.tokenizer else None
        if (Path(spec) / "checkpoint_contract.json").is_file():
            if recipe.source.halt_head or recipe.source.latent_tokens:
                raise UsageError(f"`{spec}` is a finished checkpoint: nothing is added to it", remedy="name its own source as source.checkpoint")
            checkpoint = Given(Path(spec), "checkpoint")
        else:
            head = str(find(recipe.source.halt_head)) if recipe.source.halt_head else None
            named = {"tokenizer": str(tokenizer) if tokenizer else None, "halt_head": head, "latent_tokens": recipe.source.latent_tokens}
            checkpoint = step("import", registry.find("import"), {"source": spec, **_given(named)}, {}, (spec, tokenizer))
            yield checkpoint
    dataset: Node | Given | None = None
    if recipe.data is not None:
        if recipe.data.path is not None:
            dataset = Given(Path(recipe.data.path), "dataset")
        else:
            made = {"task": recipe.data.task, "seed": recipe.data.seed, "parameters": recipe.data.parameters}
            dataset = step("data", registry.find("data"), made, {})
            yield dataset
    if recipe.train is not None:
        assert dataset is not None and recipe.data is not None  # the recipe's own rule
        taught: Node | Given = dataset
        if recipe.data.teacher is not None:
            asked_for = _given(msgspec.to_builtins(recipe.data.teacher))
            teacher = Given(Path(asked_for.pop("path")), "checkpoint")
            taught = step("teach", registry.find("teach"), asked_for, {"dataset": dataset, "teacher": teacher})
            yield taught
        parts = {"dataset": taught, **({"start": checkpoint} if checkpoint is not None else {})}
        if recipe.train.teacher is not None:
            parts["teacher"] = Given(Path(recipe.train.teacher), "checkpoint")
        checkpoint = step("train", registry.find("train"), _training(recipe.train), parts)
        yield checkpoint
    if checkpoint is None:
        return
    asked = {"lengths": recipe.export.lengths, "primary": recipe.export.primary}
    export = step("export", registry.find("export"), _given(asked), {"checkpoint": checkpoint})
    yield export
    package: Node | None = None
    gates = _given({name: value for name, value in msgspec.structs.asdict(recipe.gates).items() if name != "extra"})
    if recipe.convert.enabled:
        convert = {"layout": recipe.convert.layout, "lane": recipe.convert.lane, "cache_length": recipe.convert.cache_length, "gates": gates or None}
        package = step("convert", registry.find("convert"), _given(convert), {"source": export, "checkpoint": checkpoint})
        yield package
        if recipe.compress.method != "none":
            compress = msgspec.structs.asdict(recipe.compress)
            wanted = {"compress": compress.pop("method"), "layout": recipe.convert.layout, "gates": gates or None} | compress
            package = step("compress", registry.find("compress"), _given(wanted), {"source": package, "checkpoint": checkpoint})
            yield package
    claims = {"caws_tier": recipe.deploy.tier, "latent_mode": recipe.deploy.latent_mode, "halt_head": recipe.deploy.halt_head}
    deployed: dict[str, Node | Given] = {"export": export}
    if package is not None:
        deployed["package"] = package
    deploy = step("deploy", registry.find("deploy"), claims, deployed)
    yield deploy
    if recipe.evaluate is not None:
        suite = _suite(recipe.evaluate)
        if suite.dataset is not None:
            dataset = step("suite-data", registry.find("data"), suite.dataset.model_dump(mode="json"), {})
            yield dataset
        if dataset is None:
            raise UsageError(f"suite `{suite.name}` asks the rows of [data], and the recipe has none", remedy="add [data], or choose another suite")
        told = {"suite": suite.model_dump(mode="json"), "backend": recipe.evaluate.backend, "confidence": recipe.evaluate.confidence}
        yield step("eval", registry.find("eval"), told, {"deployment": deploy, "dataset": dataset})


def _suite(asked: Evaluate) -> Suite:
    """The suite as the recipe asks it: all of it is in the step's key, wherever it is written. Raises UsageError and ContractError."""
    claims = {name: {"at_least": one} if isinstance(one, float) else msgspec.to_builtins(one) for name, one in asked.gates.items()}
    try:
        gates = {name: Claim.model_validate(one) for name, one in claims.items()}
    except ValidationError as error:
        raise UsageError(f"[evaluate.gates]: {error.errors(include_url=False)[0]['msg']}", remedy="write `NAME = {at_least = 0.9}`") from None
    suite = changed(read_suite(asked.suite), items=asked.items, split=asked.split, max_new_tokens=asked.max_new_tokens, gates=gates)
    if suite.compares:
        raise UsageError(
            f"suite `{suite.name}` compares two models, and a recipe makes one", remedy=f"run it after the build: interlock eval DIR {suite.name}"
        )
    return suite


def _training(train: Train) -> dict[str, Any]:
    """The parameters of stage `train`: settings, and the student to start from scratch with."""
    settings = msgspec.to_builtins(train)
    scratch = settings.pop("scratch")
    settings.pop("teacher")  # an input
    return _given({"scratch": scratch, "settings": settings})


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _taken(title: str, party: ThirdParty, entry: registry.Entry, steps: dict[str, Node]) -> dict[str, Node | Given]:
    """The inputs of a step of another package, from the steps before it."""
    if set(party.inputs) != set(entry.inputs):
        wanted = ", ".join(f"{name} ({kind})" for name, kind in entry.inputs.items()) or "none"
        raise UsageError(f"step `{title}` takes other inputs than given: it takes {wanted}", remedy='write `inputs = {name = "step"}` in its table')
    inputs: dict[str, Node | Given] = {}
    for name, source in party.inputs.items():
        if source not in steps:
            raise UsageError(
                f"step `{title}` takes `{name}` from `{source}`, which is no step before it", remedy=f"there are {', '.join(steps) or 'none'}"
            )
        if steps[source].stage.produces != entry.inputs[name]:
            found = steps[source].stage.produces
            raise UsageError(f"step `{title}` takes a {entry.inputs[name]} as `{name}`; `{source}` makes a {found}", remedy="name another step")
        inputs[name] = steps[source]
    return inputs


def import_graph(spec: str, tokenizer: Path | None, out: Path) -> Graph:
    """The graph that brings one source in and places it at `out`."""
    named = {"tokenizer": str(tokenizer)} if tokenizer else {}
    node = Node("import", registry.find("import"), {"source": spec, **named}, {}, (spec, tokenizer))
    return Graph("import", (node,), (Target("", {}, {"import": node}, {out: node}, node),))
