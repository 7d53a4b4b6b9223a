"""Every stage by name: where it lives, which environment it needs, what it makes and what it reads. A table that imports nothing.

Here: interlock's own stages, and those that installed packages offer under the entry point group `interlock.stages`. Not here: their work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interlock.errors import UsageError

GROUP = "interlock.stages"


@dataclass(frozen=True)
class Entry:
    """`module` has the stage as `STAGE`; its import closure is the stage's source. `inputs` maps the parameter that gets a directory to its kind."""

    name: str
    module: str
    environment: str
    produces: str
    inputs: dict[str, str]


OURS = {
    entry.name: entry
    for entry in (
        Entry("import", "pipeline.stages.import_", "train", "checkpoint", {}),
        Entry("export", "pipeline.stages.export", "export", "export", {"checkpoint": "checkpoint"}),
        Entry("convert", "pipeline.stages.convert", "export", "package", {"source": "export", "checkpoint": "checkpoint"}),
        Entry("compress", "pipeline.stages.convert", "export", "package", {"source": "package", "checkpoint": "checkpoint"}),
        Entry("deploy", "pipeline.stages.deploy", "train", "deployment", {"export": "export", "package": "package"}),
    )
}


def find(name: str) -> Entry:
    """The entry of a stage. Raises UsageError for a name that nobody offers."""
    if name in OURS:
        return OURS[name]
    offered = _offered()
    if name in offered:
        return offered[name]
    known = ", ".join([*OURS, *offered])
    raise UsageError(f"there is no stage `{name}`", remedy=f"there are {known}; others come with packages that offer `{GROUP}`")


def _offered() -> dict[str, Entry]:
    from importlib.metadata import entry_points

    return {point.name: _entry(point) for point in entry_points(group=GROUP)}


def _entry(point: Any) -> Entry:
    stage = point.load()
    return Entry(point.name, point.module, stage.environment, stage.produces, dict(stage.inputs))
