"""The state of a project: its outputs as they lie there, its builds as they ended, its store.

Here: one document. Not here: showing it (reports/build.py).
"""

from __future__ import annotations

from typing import Any

from pipeline.driver import records
from pipeline.driver.gc import stored_bytes
from pipeline.driver.session import Project


def status(project: Project, *, paranoid: bool = False) -> dict[str, Any]:
    """Outputs with their state (`in place`, `changed`, `gone`), the last build of each recipe, the size of the store in bytes."""
    base = project.folder.parent
    outputs = []
    for record in project.outputs.records():
        out = base / record["path"]
        lies = project.outputs.in_place(out, record["digest"], paranoid=paranoid)
        state = "in place" if lies else "changed" if out.exists() else "gone"
        outputs.append({"path": record["path"], "digest": record["digest"], "state": state, "earlier": len(record.get("history", []))})
    builds = []
    for file in sorted((project.folder / "builds").glob("*.json")):
        if document := records.load(file):
            states = [step.get("state") for step in document["steps"].values()]
            counts = {name: states.count(name) for name in sorted({str(state) for state in states})}
            builds.append({"recipe": document.get("recipe"), "ended_unix_s": document.get("ended_unix_s"), "steps": counts})
    return {"outputs": outputs, "builds": builds, "store": {"path": str(project.store.root), "bytes": stored_bytes(project.store)}}
