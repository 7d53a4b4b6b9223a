"""Stage reports on stdout: rich on a terminal, the same tables in plain characters elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.box import ASCII2, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interlock.contracts.base import Contract
from interlock.contracts.checkpoint import CheckpointContract
from interlock.contracts.deployment import DeploymentContract
from interlock.contracts.export import ExportContract, ShapeResult
from interlock.contracts.package import PackageContract
from interlock.voice import human, plain
from pipeline.driver.stage import Report
from pipeline.reports.compression import compression_rows, frontier_table
from pipeline.reports.drift import drift_table
from pipeline.reports.gate import evidence_table, headroom_rows


def show(reports: Iterable[Report]) -> None:
    """What was made, by each stage; a summary of all where there are several."""
    console = _console()
    reports = list(reports)
    for report in reports:
        _one(console, report)
    if len(reports) > 1:
        console.print(_summary(reports))


def show_verified(directory: Path, contract: Contract) -> None:
    """The outcome of `verify`."""
    console = _console()
    size = sum(entry.bytes for entry in contract.files)
    line = f"{contract.kind} {directory}: {len(contract.files)} files, {human(size, 'B')}, digest {contract.digest[:16]}"
    console.print(_mark(True), Text(plain(f"verified {line}")))
    console.print(_facts(contract))


def _console() -> Console:
    # Without a terminal there is no width to adapt to: wide enough that no path is broken.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _mark(ok: bool) -> Text:
    return Text("✓", style="bold green") if ok else Text("✗", style="bold red")


def _one(console: Console, report: Report) -> None:
    contract = report.contract
    size = sum(entry.bytes for entry in contract.files)
    how = "up to date, made in" if report.reused else "made in"
    console.print()
    title = f"{report.stage} → {report.out}  {human(size, 'B')}, {how} {report.wall_s:.1f} s, peak memory {human(report.peak_rss_bytes, 'B')}"
    console.print(_mark(True), Text(plain(title), style="bold"))
    if contract.toy:
        console.print(Text("  toy: not for production; everything made from it is toy as well", style="yellow"))
    console.print(_facts(contract))
    if isinstance(contract, ExportContract):
        console.print(_shapes(contract))
    if isinstance(contract, PackageContract):
        console.print(evidence_table(contract.gate, SIMPLE_HEAD if sys.stdout.isatty() else ASCII2))
        if contract.drift:
            console.print(drift_table(contract.drift, SIMPLE_HEAD if sys.stdout.isatty() else ASCII2))
        if contract.compression.frontier:
            console.print(frontier_table(contract.compression, SIMPLE_HEAD if sys.stdout.isatty() else ASCII2))


def _grid() -> Table:
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    return grid


def _facts(contract: Contract) -> Table:
    grid = _grid()
    for name, value in _rows(contract):
        grid.add_row(name, Text(plain(value)))
    grid.add_row("digest", contract.digest[:16])
    return grid


def _rows(contract: Contract) -> list[tuple[str, str]]:
    if isinstance(contract, CheckpointContract):
        arch = contract.arch
        kinds: dict[str, int] = {}
        for kind in contract.source.quantization.values():
            kinds[kind] = kinds.get(kind, 0) + 1
        blocks = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items())) or "dense"
        shape = f"{arch.n_layers} layers, {arch.n_heads} heads ({arch.n_kv_heads} kv), width {arch.d_model}, vocabulary {arch.vocab_size}"
        return [
            ("source", f"{contract.source.form} {contract.source.name} ({blocks})"),
            ("model", f"{contract.parameters / 1e6:.1f} M parameters, {shape}"),
            ("heads", _heads(contract.model_arch.use_halt_head, contract.model_arch.use_self_evaluation)),
        ]
    if isinstance(contract, ExportContract):
        return [("mode", f"{contract.mode}, {', '.join(contract.signatures)}"), ("halt head", "yes" if contract.use_halt_head else "no")]
    if isinstance(contract, PackageContract):
        facts = contract.facts
        unknown = [message for message in contract.messages if message.harmless is None]
        said = f"{len(contract.messages)} kinds of converter message, " + (
            f"{len(unknown)} not known: {unknown[0].text[:80]}" if unknown else "all known to be harmless"
        )
        return [
            ("lane", contract.lane + (", compared with export" if contract.drift else "")),
            ("layout", f"{contract.layout}, {len(facts.functions)} functions: {', '.join(facts.functions)}"),
            ("weights", f"{human(facts.weight_bytes, 'B')} shared by all functions, specification {facts.specification_version}"),
            *compression_rows(contract.compression),
            *headroom_rows(contract.gate),
            ("messages", said),
            ("verified on hardware", "no (needs a Mac)"),
        ]
    if isinstance(contract, DeploymentContract):
        able = [name for name, has in contract.capabilities.model_dump().items() if has]
        parts = [name for name in contract.artifacts.model_dump().values() if name]
        return [("artifacts", ", ".join(parts)), ("capabilities", ", ".join(able) or "none")]
    return []


def _heads(halt: bool, quality: bool) -> str:
    return ", ".join(name for name, has in (("halt", halt), ("self-evaluation", quality)) if has) or "none beside the language head"


def _shapes(contract: ExportContract) -> Table:
    table = Table(
        box=SIMPLE_HEAD if sys.stdout.isatty() else ASCII2, title="enumerated lengths, saved files against the eager student", title_justify="left"
    )
    for name in ("T", "", "PSNR dB", "KL max", "flips", "decode steps", "decode PSNR dB"):
        table.add_column(name, justify="right")
    for length, result in sorted(contract.shape_validation.results.items(), key=lambda item: int(item[0])):
        primary = " *" if int(length) == contract.shape_validation.primary_shape else ""
        table.add_row(f"{length}{primary}", _mark(result.status == "ok"), *_numbers(result))
    table.caption = "* primary"
    return table


def _number(value: float | int | None, form: str) -> Text:
    """A figure, or a dash where there is none."""
    return Text("-" if value is None or math.isnan(value) else format(value, form))


def _numbers(result: ShapeResult) -> list[Text]:
    if result.error is not None:
        return [Text(plain(result.error)[:100])]

    return [
        _number(result.psnr_db, ".1f"),
        _number(result.kl_max, ".1e"),
        _number(result.argmax_flips, "d"),
        _number(result.decode_steps, "d"),
        _number(result.decode_psnr_db, ".1f"),
    ]


def _summary(reports: list[Report]) -> Table:
    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else ASCII2)
    for name in ("stage", "", "time", "peak memory", "size", "output"):
        table.add_column(name, justify="right" if name in ("time", "peak memory", "size") else "left")
    for report in reports:
        size = sum(entry.bytes for entry in report.contract.files)
        state = "up to date" if report.reused else "made"
        table.add_row(report.stage, state, f"{report.wall_s:.1f} s", human(report.peak_rss_bytes, "B"), human(size, "B"), plain(report.out))
    return table
