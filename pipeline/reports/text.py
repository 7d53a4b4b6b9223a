"""Stage reports on stdout: rich on a terminal, the same tables in plain characters elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.contracts.base import Contract
from interlock.contracts.checkpoint import CheckpointContract
from interlock.contracts.export import ExportContract
from interlock.contracts.package import PackageContract
from interlock.voice import human, plain
from pipeline.driver.stage import Report
from pipeline.reports.compression import frontier_table
from pipeline.reports.drift import drift_table
from pipeline.reports.facts import facts_of
from pipeline.reports.gate import evidence_table
from pipeline.reports.shapes import shapes_table
from pipeline.reports.terminal import box, console, grid, mark
from pipeline.reports.training import accuracy_table
from pipeline.verify import Verified


def show(reports: Iterable[Report], *, where: bool = True) -> None:
    """What was made, each with its evidence; `where` it lies, unless that is the store."""
    out = console()
    for report in reports:
        _one(out, report, where)


def show_verified(proven: Verified) -> None:
    """The outcome of `verify`: the artifact, what it was made from and was proven too, and what nobody could show."""
    out = console()
    for one in proven.reached:
        contract = one.contract
        size = sum(entry.bytes for entry in contract.files)
        line = f"verified {contract.kind} {one.directory}: {len(contract.files)} files, {human(size, 'B')}, digest {contract.digest[:16]}"
        out.print(mark(True), Text(plain(line)))
    kinds = {one.contract.digest: one.contract.kind for one in proven.reached}
    for digest, reasons in proven.not_admitted.items():
        told = f"no stage takes {kinds[digest]} {digest[:16]}: it was made by another environment than is defined now ({'; '.join(reasons)})"
        out.print(Text(plain(told), style="yellow"))
    for ref in proven.missing:
        why = "a foreign file, known by its digest alone" if ref.kind == "source" else "neither in the directory nor in the store"
        out.print(Text(plain(f"not reached: {ref.kind} {ref.digest[:16]}, {why}"), style="dim" if ref.kind == "source" else "yellow"))
    out.print(_facts(proven.contract))


def _one(out: Console, report: Report, where: bool) -> None:
    contract = report.contract
    size = sum(entry.bytes for entry in contract.files)
    out.print()
    name = f"{report.stage} → {report.out}" if where else report.stage
    title = f"{name}  {human(size, 'B')}, made in {report.wall_s:.1f} s, peak memory {human(report.peak_rss_bytes, 'B')}"
    out.print(mark(True), Text(plain(title), style="bold"))
    if contract.toy:
        out.print(Text("  toy: not for production; everything made from it is toy as well", style="yellow"))
    out.print(_facts(contract))
    for table in tables_of(contract):
        out.print(table)


def _facts(contract: Contract) -> Table:
    return grid([*facts_of(contract), ("digest", contract.digest[:16])])


def tables_of(contract: Contract) -> Iterator[Table]:
    """The figures of a contract."""
    if isinstance(contract, CheckpointContract) and contract.training and contract.training.accuracy:
        yield accuracy_table(contract.training, box())
    if isinstance(contract, ExportContract):
        yield shapes_table(contract.shape_validation, box())
    if isinstance(contract, PackageContract):
        yield evidence_table(contract.gate, box())
        if contract.drift:
            yield drift_table(contract.drift, box())
        if contract.compression.frontier:
            yield frontier_table(contract.compression, box())
