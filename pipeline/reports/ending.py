"""How a stage verb ends: its report as a table, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.command import emit
from pipeline.driver.stage import Report


def finish(reports: Sequence[Report], *, as_json: bool) -> int:
    """Show the reports of the stages that ran, in order. Returns the exit code."""
    if as_json:
        emit(reports[-1].as_dict() if len(reports) == 1 else {"stages": [report.as_dict() for report in reports]})
        return 0
    from pipeline.reports import text

    text.show(reports)
    return 0
