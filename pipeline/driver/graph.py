"""The stages that a recipe asks for, as a graph: equal steps of different cells are one node.

Here: nodes and what they take from each other. Not here: keys, running (build.py), what recipes may say (pipeline/recipe.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from interlock.canonical import canonical_json
from interlock.errors import UsageError
from pipeline.driver import registry
from pipeline.recipe import Loaded, Recipe


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
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        what = [self.stage.name, self.params, {name: one.identity for name, one in self.inputs.items()}, self.toy]
        object.__setattr__(self, "identity", hashlib.sha256(canonical_json(what)).hexdigest())


@dataclass(frozen=True)
class Target:
    """What one cell of a recipe is to yield: its named steps, and where outputs are placed (none where a matrix only compares)."""

    cell: str
    values: dict[str, Any]
    steps: dict[str, Node]
    placed: dict[Path, Node]
    final: Node

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


def build_graph(loaded: Loaded) -> Graph:
    """The graph of a recipe's cells. Raises UsageError for steps that do not fit together."""
    known: dict[str, Node] = {}
    targets = [_target(loaded, cell.name, cell.values, cell.recipe, known) for cell in loaded.cells]
    return Graph(loaded.name, tuple(known.values()), tuple(targets), loaded.has_matrix, str(loaded.file), loaded.sets)


def _target(loaded: Loaded, cell: str, values: dict[str, Any], recipe: Recipe, known: dict[str, Node]) -> Target:
    steps: dict[str, Node] = {}
    for node in _own_steps(recipe):
        steps[node.title] = known.setdefault(node.identity, node)
    for party in recipe.stages:
        node = _third_party(party, steps, recipe.toy)
        if node.title in steps:
            raise UsageError(f"two steps are called `{node.title}`", remedy="give one another `name` in its [[stages]] table")
        steps[node.title] = known.setdefault(node.identity, node)
    base = Path(recipe.output)
    folders = {"checkpoint": "import", "exported": "export", "package": "convert", "compressed": "compress", "deployed": "deploy"}
    placed = {}
    if not loaded.has_matrix:
        for name in recipe.outputs:
            title = folders.get(name, name)
            if title in steps:
                folder = f"package-{recipe.compress.method}" if name == "compressed" else name
                placed[base / folder] = steps[title]
    return Target(cell, values, steps, placed, steps.get("deploy") or list(steps.values())[-1])


def _own_steps(recipe: Recipe) -> Iterator[Node]:
    if recipe.source is None:
        return
    checkpoint: Node | Given
    spec, toy = recipe.source.checkpoint, recipe.toy
    tokenizer = Path(recipe.source.tokenizer) if recipe.source.tokenizer else None
    if (Path(spec) / "checkpoint_contract.json").is_file():
        checkpoint = Given(Path(spec), "checkpoint")
    else:
        named = {"tokenizer": str(tokenizer)} if tokenizer else {}
        checkpoint = Node("import", registry.find("import"), {"source": spec, **named}, {}, (spec, tokenizer), toy)
        yield checkpoint
    asked = {"lengths": recipe.export.lengths, "primary": recipe.export.primary}
    export = Node("export", registry.find("export"), _given(asked), {"checkpoint": checkpoint}, toy=toy)
    yield export
    package: Node | None = None
    gates = _given(msgspec.structs.asdict(recipe.gates))
    if recipe.convert.enabled:
        convert = {"layout": recipe.convert.layout, "lane": recipe.convert.lane, "cache_length": recipe.convert.cache_length, "gates": gates or None}
        package = Node("convert", registry.find("convert"), _given(convert), {"source": export, "checkpoint": checkpoint}, toy=toy)
        yield package
        if recipe.compress.method != "none":
            compress = msgspec.structs.asdict(recipe.compress)
            wanted = {"compress": compress.pop("method"), "layout": recipe.convert.layout, "gates": gates or None} | compress
            package = Node("compress", registry.find("compress"), _given(wanted), {"source": package, "checkpoint": checkpoint}, toy=toy)
            yield package
    claims = {"caws_tier": recipe.deploy.tier, "latent_mode": recipe.deploy.latent_mode, "halt_head": recipe.deploy.halt_head}
    parts: dict[str, Node | Given] = {"export": export}
    if package is not None:
        parts["package"] = package
    yield Node("deploy", registry.find("deploy"), claims, parts, toy=toy)


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _third_party(party: Any, steps: dict[str, Node], toy: bool) -> Node:
    entry = registry.find(party.stage)
    title = party.name or party.stage
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
    return Node(title, entry, dict(party.params), inputs, toy=toy)


def import_graph(spec: str, tokenizer: Path | None, out: Path) -> Graph:
    """The graph that brings one source in and places it at `out`."""
    named = {"tokenizer": str(tokenizer)} if tokenizer else {}
    node = Node("import", registry.find("import"), {"source": spec, **named}, {}, (spec, tokenizer))
    return Graph("import", (node,), (Target("", {}, {"import": node}, {out: node}, node),))
