"""What a build would run and why, what it would take by history, and what was decided last: the answers of `plan`, `status` and `why`.

Here: looking and naming. Not here: doing (build.py), showing (reports/build.py).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from pipeline.driver import records, why
from pipeline.driver.graph import Node
from pipeline.driver.plan import Step
from pipeline.driver.session import Session


@dataclass
class Forecast:
    """One step as a build would treat it now. `state` is kept, run, waits (its key depends on a step that would run), rejected or blocked.

    `why` names what changed, down to the leaf, through the steps before it where it lies there. Times in seconds, sizes in bytes, by history.
    """

    title: str
    node: Node
    state: str
    why: list[str] = field(default_factory=list)
    wall_s: float | None = None
    bytes: int | None = None
    last: dict[str, Any] = field(default_factory=dict)


def forecast(session: Session) -> list[Forecast]:
    """Every step of the recipe, in order; `session` has looked."""
    state = records.load(session.state_file).get("steps", {})
    history = _History(session)
    found: list[Forecast] = []
    by_identity: dict[str, Forecast] = {}
    for step in session.planner.steps.values():
        title = session.name(step.node)
        last = state.get(title, {})
        made = Forecast(title, step.node, {"known": "kept", "to run": "run"}.get(step.status, step.status), last=last)
        if made.state == "run":
            made.why = _reasons(session, step)
        elif made.state == "waits":
            made.why = [
                f"{by_identity[source.identity].title} runs before it"
                for source in step.node.inputs.values()
                if isinstance(source, Node) and by_identity[source.identity].state in ("run", "waits")
            ]
        if made.state in ("run", "waits"):
            made.wall_s, made.bytes = history.of(step, last)
        by_identity[step.node.identity] = made
        found.append(made)
    return found


def _reasons(session: Session, step: Step) -> list[str]:
    if step.fresh:
        return ["asked for on the command line"]
    old = session.before(step.node)
    if old is None or step.preimage is None:
        return ["never made here before"]
    new = session.planner.details(step)
    store = session.project.store
    leaves = why.leaves(old, step.preimage, lambda digest: new.get(digest) or store.detail(digest))
    return _followed(session, step, leaves) or ["what it had made is gone from the store"]


def _followed(session: Session, step: Step, leaves: list[str]) -> list[str]:
    """An input that changed is explained by the step that makes it, where the last build says why that ran."""
    state = records.load(session.state_file).get("steps", {})
    found = []
    for leaf in leaves:
        name = leaf.removeprefix("input ").partition(":")[0] if leaf.startswith("input ") else None
        source = step.node.inputs.get(name) if name else None
        because = state.get(session.name(source), {}).get("why", []) if isinstance(source, Node) else []
        found += [f"{leaf}, because of {source.title}: {reason}" for reason in because] if because and isinstance(source, Node) else [leaf]
    return found


class _History:
    """Times and sizes of earlier runs of the same step, or else of the same stage."""

    def __init__(self, session: Session) -> None:
        self._store = session.project.store
        self._stages: dict[str, list[dict[str, Any]]] | None = None

    def of(self, step: Step, last: dict[str, Any]) -> tuple[float | None, int | None]:
        action = self._store.action(last["key"]) if last.get("key") else None
        runs = [action] if action else self._of_stage(step.node.stage.name)
        times = [run["wall_s"] for run in runs if isinstance(run.get("wall_s"), float | int)]
        sizes = [run["output"]["bytes"] for run in runs if isinstance(run.get("output", {}).get("bytes"), int)]
        return (statistics.median(times) if times else None), (int(statistics.median(sizes)) if sizes else None)

    def _of_stage(self, stage: str) -> list[dict[str, Any]]:
        if self._stages is None:
            self._stages = {}
            for action in self._store.actions():
                self._stages.setdefault(str(action.get("stage")), []).append(action)
        return self._stages.get(stage, [])


def explain(session: Session, item: Forecast) -> dict[str, Any]:
    """The whole answer of `why` for one step: what was decided in the last build and for what reason, and what would be decided now."""
    decided = {"made": "it ran", "kept": "it was kept", "rejected": "its gate refused it", "failed": "it failed", "skipped": "it was not reached"}
    state = item.last.get("state")
    last = None if state is None else {"state": state, "told": decided.get(state, state), "why": item.last.get("why") or _kept_because(state)}
    now = item.why if item.why else _kept_because("kept") if item.state == "kept" else [f"a step before it {item.state}"]
    return {"step": item.title, "last": last, "now": {"state": item.state, "why": now}, "key": session.planner.steps[item.node.identity].key}


def _kept_because(state: str) -> list[str]:
    return ["source, environment, parameters and inputs are those that it was made from"] if state == "kept" else []
