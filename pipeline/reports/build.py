"""How a build ended, for a person: what was made and why, what was kept, where the outputs are.

Here: tables. Not here: what happened (driver/session.py), each artifact's own report (reports/text.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.voice import human, plain
from pipeline.driver.forecast import Forecast
from pipeline.driver.graph import Node
from pipeline.driver.matrix import Row, front
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
    from pipeline.reports import tables, text

    if report.exit_code == 0:  # otherwise what matters is what went wrong
        made = [result for result in report.results if result.state == "made" and result.digest]
        text.show([_artifact(result, store) for result in made], where=False)
    tables.show_steps([row(result, store, name) for result in report.results if result.state != "waiting"])
    for out, digest in report.placed.items():
        tables.show_place(str(out), digest)


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


def show_matrix(rows: list[Row], best: Row | None, placed: Report | None, report: Report) -> None:
    """The cells side by side, the front marked, the winner first in words."""
    if len(rows) > MOST_ROWS:
        shown = [row for row in rows if row.cell in front(rows) or row is best]
        sys.stdout.write(f"{len(rows)} cells, {sum(row.passes for row in rows)} pass; shown are those that no other beats\n")
    else:
        shown = rows
    from pipeline.reports import tables

    tables.show_cells([_cell_row(row, front(rows), best) for row in shown])
    if not report.worked:
        sys.stdout.write("up to date: every cell was known\n")
    if best is not None and placed is not None:
        for out, digest in placed.placed.items():
            tables.show_place(f"{out} ({best.cell})", digest)


# A terminal's worth; --json has all.
MOST_ROWS = 60


def _cell_row(row: Row, best_of: set[str], best: Row | None) -> tuple[str, ...]:
    marks = "best" if row is best else "front" if row.cell in best_of else ""
    size = human(row.figures["bytes"], "B") if "bytes" in row.figures else "-"
    forms = {"kl_mean": ".1e", "kl_max": ".1e", "psnr_db": ".1f"}
    numbers = [format(row.figures[name], form) if name in row.figures else "-" for name, form in forms.items()]
    trouble = f"rejected: {row.rejected}" if row.rejected else f"failed: {row.failed}" if row.failed else "not made"
    verdict = "passes" if row.passes else trouble
    return row.cell, marks, size, *numbers, verdict


def matrix_dict(rows: list[Row], best: Row | None, placed: Report | None) -> dict[str, Any]:
    """The same in JSON."""
    names = front(rows)
    cells = [{**asdict(row), "passes": row.passes, "front": row.cell in names} for row in rows]
    outputs = {str(out): digest for out, digest in placed.placed.items()} if placed else {}
    return {"cells": cells, "best": best.cell if best else None, "outputs": outputs}


def show_plan(found: list[Forecast], missing: list[Path]) -> None:
    """What would run, in order."""
    from pipeline.reports import tables

    rows = [item for item in found if item.state != "kept"] if len(found) > MOST_ROWS else found
    tables.show_forecast([(item.title, item.state, _about(item), "; ".join(item.why[:3])) for item in rows])
    totals = plan_dict(found, missing)["totals"]
    if not totals["runs"]:
        places = f"; {len(missing)} outputs would be placed" if missing else ""
        sys.stdout.write(f"nothing would run{places}\n")
        return
    time_left = f", about {totals['wall_s']:.0f} s by history" if totals["wall_s"] else ""
    disk = f", about {human(totals['bytes'], 'B')} on disk" if totals["bytes"] else ""
    unknown = f" ({totals['unknown']} without history)" if totals["unknown"] else ""
    sys.stdout.write(f"{totals['runs']} of {len(found)} steps would run{time_left}{disk}{unknown}\n")


def _about(item: Forecast) -> str:
    return "" if item.wall_s is None else f"{item.wall_s:.1f} s"


def plan_dict(found: list[Forecast], missing: list[Path]) -> dict[str, Any]:
    """The same in JSON."""
    steps = [{"step": i.title, "state": i.state, "why": i.why, "wall_s": i.wall_s, "bytes": i.bytes} for i in found]
    work = [item for item in found if item.state in ("run", "waits")]
    totals = {
        "runs": len(work),
        "wall_s": round(sum(item.wall_s or 0 for item in work), 3),
        "bytes": sum(item.bytes or 0 for item in work),
        "unknown": sum(item.wall_s is None for item in work),
    }
    return {"steps": steps, "totals": totals, "outputs_to_place": [str(path) for path in missing]}


def show_status(found: dict[str, Any]) -> None:
    """Outputs, builds, store."""
    for output in found["outputs"]:
        earlier = f", {output['earlier']} earlier states" if output["earlier"] else ""
        sys.stdout.write(plain(f"{output['path']}  {output['digest'][:16]}  {output['state']}{earlier}") + "\n")
    for build in found["builds"]:
        counts = ", ".join(f"{count} {state}" for state, count in build["steps"].items())
        sys.stdout.write(plain(f"last build of {build['recipe']}: {counts}") + "\n")
    if not found["outputs"] and not found["builds"]:
        sys.stdout.write("nothing was built here yet (`interlock recipes` lists what can be)\n")
    sys.stdout.write(plain(f"store {found['store']['path']}: {human(found['store']['bytes'], 'B')}") + "\n")
