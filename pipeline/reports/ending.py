"""How a stage verb ends: its report as a table, or as JSON."""

from __future__ import annotations

from interlock.command import emit
from pipeline.driver.stage import Report


def finish(report: Report, *, as_json: bool) -> int:
    """Show what a stage made. Returns the exit code."""
    if as_json:
        emit(report.as_dict())
        return 0
    from pipeline.reports import text

    text.show([report])
    return 0
