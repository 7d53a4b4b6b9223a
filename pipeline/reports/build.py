"""How a build ended, for a person: what was made and why, what was kept, where the outputs are.

Here: tables. Not here: what happened (driver/session.py), each artifact's own report (reports/text.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from interlock.voice import human, plain
from pipeline.driver.graph import Node
from pipeline.driver.plan import Result
from pipeline.driver.session import Report
from pipeline.driver.store import Store

if TYPE_CHECKING:
    from pipeline.driver import stage


def show(report: Report, store: Store, name: Callable[[Node], str]) -> None:
    """The artifacts that were made, each with its evidence, and one line per step."""
    if not report.worked:
        # The common case, and the one that must be quick: no table is needed to say that nothing was to be done.
        for out, digest in report.placed.items():
            sys.stdout.write(plain(f"up to date: {out}  {digest[:16]}") + "\n")
        return
    from pipeline.reports import text

    made = [result for result in report.results if result.state == "made" and result.digest]
    text.show([_artifact(result, store) for result in made])
    text.show_steps([row(result, store, name) for result in report.results if result.state != "waiting"])
    for out, digest in report.placed.items():
        text.show_place(str(out), digest)


def _artifact(result: Result, store: Store) -> stage.Report:
    from interlock.contracts import io
    from pipeline.driver import stage

    assert result.digest is not None
    directory = store.object_path(result.digest)
    kind = result.node.stage.produces
    contract = io.read_contract(io.contract_path(directory, kind), io.KINDS[kind][1])
    return stage.Report(result.node.title, directory, contract, result.wall_s or 0.0, result.peak_rss_bytes or 0)


def row(result: Result, store: Store, name: Callable[[Node], str]) -> tuple[str, ...]:
    """step, state, time, memory, reason."""
    took = f"{result.wall_s:.1f} s" if result.wall_s is not None else ""
    memory = human(result.peak_rss_bytes, "B") if result.peak_rss_bytes else ""
    reason = result.error.problem if result.error else "; ".join(result.why[:3])
    return name(result.node), result.state, took, memory, reason
