"""A lineage and a report on stdout: rich on a terminal, the same in plain characters elsewhere.

Here: order and layout. Not here: what is said (document.py, ancestry.py), the tables of a contract (terminal.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.voice import human, plain
from pipeline.reports.ancestry import candidate_lines, lines, tree_of
from pipeline.reports.compression import frontier_table
from pipeline.reports.document import Artifact, Candidate, Document, Evaluation, Package, Verdict, counted
from pipeline.reports.drift import drift_table
from pipeline.reports.gate import evidence_table
from pipeline.reports.shapes import shapes_table
from pipeline.reports.terminal import box, cell, console, grid, mark
from pipeline.reports.training import Trained, accuracy_table, training_rows

# Files of an artifact that are shown by name; the rest are counted.
LARGEST = 8


def show_lineage(artifacts: Sequence[Artifact], rejected: Sequence[Candidate]) -> None:
    out = console()
    _tree(out, artifacts)
    _candidates(out, rejected)


def show_report(document: Document) -> None:
    """Verdict first, then where it comes from, then figures."""
    out, root = console(), document.root
    state = {"verified": "verified", "toy": "verified, toy", "broken": "NOT what its contract says"}[document.verdict.state]
    out.print(mark(document.verdict.state != "broken"), Text(plain(f"{root.kind} {document.directory}: {state}"), style="bold"))
    out.print(_verdict(document.verdict))
    out.print(grid([(fact.name, fact.value) for fact in root.facts]))
    out.print()
    _tree(out, document.artifacts)
    for trained in document.trainings:
        _training(out, trained, told=trained.digest == root.digest)
    for shapes in document.shapes:
        out.print(shapes_table(shapes.validation, box()))
    for package in document.packages:
        _package(out, package)
    for evaluation in document.evaluations:
        out.print(_claims(evaluation))
    out.print(_sizes(document.artifacts))
    out.print(_runs(document) if document.runs else Text("times and memory: the build left no record here"))
    _candidates(out, document.rejected)


def _verdict(verdict: Verdict) -> Table:
    wrong = [f"{item.file} {item.where}: expected {item.expected}, found {item.found}" for item in verdict.wrong]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for title, points, style in (
        ("wrong", wrong, "red"),
        ("proven now", verdict.proven, "green"),
        ("recorded by the build", verdict.recorded, "green"),
        ("not checked", verdict.not_checked, "yellow"),
    ):
        for index, point in enumerate(points):
            table.add_row(Text("" if index else title, style=style), cell(point))
    return table


def _tree(out: Console, artifacts: Sequence[Artifact]) -> None:
    for line in lines(tree_of(artifacts), ascii_only=not sys.stdout.isatty()):
        style = "bold cyan" if line.heading else "dim"
        out.print(Text.assemble((line.guides, "dim"), (line.name, style), " ", line.value), soft_wrap=True)


def _candidates(out: Console, rejected: Sequence[Candidate]) -> None:
    for candidate in rejected:
        rows = candidate_lines(candidate)
        out.print(mark(False), Text.assemble(("rejected ", "bold red"), plain(rows[0][1])), soft_wrap=True)
        for name, value in rows[1:]:
            out.print(Text.assemble((f"    {name:<9}", "dim"), plain(value)), soft_wrap=True)


def _training(out: Console, trained: Trained, *, told: bool) -> None:
    """told: its facts stand above already."""
    if not told:
        out.print(Text(plain(f"trained {trained.kind} {trained.digest[:12]}"), style="bold"))
        out.print(grid(training_rows(trained.training)))
    if trained.training.accuracy:
        out.print(accuracy_table(trained.training, box()))
    if trained.problem:
        out.print(Text(plain(f"its log cannot be shown: {trained.problem}"), style="yellow"))


def _package(out: Console, package: Package) -> None:
    out.print(evidence_table(package.gate, box()))
    if package.drift:
        out.print(drift_table(package.drift, box()))
    if package.compression.frontier:
        out.print(frontier_table(package.compression, box()))
    if package.messages:
        table = Table(box=box(), title="converter messages", title_justify="left")
        for name in ("times", "message", "harmless because"):
            table.add_column(name, justify="right" if name == "times" else "left", overflow="fold")
        for message in package.messages:
            table.add_row(str(message.count), cell(message.text), cell(message.harmless or "not known"))
        out.print(table)


def _claims(evaluation: Evaluation) -> Table:
    table = Table(box=box(), title=cell(f"evaluation {evaluation.suite}, {evaluation.items} items: {evaluation.verdict}"), title_justify="left")
    for name in ("gate", "claim", "measured", "interval", "items", "verdict"):
        table.add_column(name, justify="right" if name in ("measured", "interval", "items") else "left", overflow="fold")
    for gate in evaluation.gates:
        measured, interval = ("-", "-") if gate.measured is None else (f"{gate.measured:.4g}", f"{gate.low:.4g} to {gate.high:.4g}")
        verdict = f"{gate.verdict}, waived: {gate.waived}" if gate.waived else gate.verdict
        table.add_row(cell(gate.name), cell(f"{gate.metric} {gate.claim} {gate.threshold:g}"), measured, interval, str(gate.n), cell(verdict))
    return table


def _sizes(artifacts: Sequence[Artifact]) -> Table:
    table = Table(box=box(), title="sizes", title_justify="left")
    for name in ("artifact", "file", "size"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for artifact in artifacts:
        if artifact.files:
            table.add_row(f"{artifact.kind} {artifact.digest[:12]}", counted(len(artifact.files), "file"), human(artifact.bytes, "B"), style="bold")
            largest = sorted(artifact.files, key=lambda entry: (-entry.bytes, entry.path))
            for entry in largest[:LARGEST]:
                table.add_row("", cell(entry.path), human(entry.bytes, "B"))
            if rest := largest[LARGEST:]:
                table.add_row("", counted(len(rest), "smaller file"), human(sum(entry.bytes for entry in rest), "B"))
    return table


def _runs(document: Document) -> Table:
    table = Table(box=box(), title="times and memory", title_justify="left")
    for name in ("stage", "artifact", "time", "peak memory"):
        table.add_column(name, justify="right" if name in ("time", "peak memory") else "left")
    for run in document.runs:
        peak = "-" if run.peak_rss_bytes is None else human(run.peak_rss_bytes, "B")
        table.add_row(cell(run.stage), run.digest[:12], f"{run.wall_s:.1f} s", peak)
    return table
