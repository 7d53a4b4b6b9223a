"""`mil compare`: where a package first differs from a reference.

Here: which kind of reference a path is, text to tokens, the document and its lines. Not here: comparing (runtime/mil/compare).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.command import Session
from interlock.contracts import checkpoint, deployment, export, io
from interlock.errors import ContractError, UsageError, Violation, refuse

if TYPE_CHECKING:
    from runtime.mil import Program
    from runtime.mil.compare import Report
    from runtime.student.model import Student

NEXT = {
    "weight": "the constant is damaged or exchanged: look at how it was stored (compression, merge)",
    "constant": "another constant: look at the pass of the converter that made it",
    "operation": "another operation: look at the passes of the converter",
    "wiring": "it takes another value: look at the passes of the converter, and at how functions were merged",
    "missing": "the reference has an operation here that the package lacks",
    "added": "the package has an operation here that the reference lacks",
    "type": "the value has another type or shape",
    "outputs": "the outputs stand in another order",
    "value": "its inputs are right and its result is not: look at its constants and attributes with `mil inspect`, then at the converter",
}


def compared(args: argparse.Namespace, package: Program, session: Session) -> dict[str, Any]:
    if args.reference is None:
        raise UsageError("`mil compare` needs a reference", remedy="name another package, a checkpoint, an export or a deployed directory")
    if args.mode == "fast":
        raise UsageError("`mil compare` compares with the verifying executors", remedy="use --mode fp32 or --mode fp16")
    if args.inputs and not args.function:
        raise UsageError("--inputs are those of one function", remedy="name it with --function")
    from pipeline.verbs.mil import opened
    from pipeline.verbs.mil.execute import arrays
    from runtime.mil.compare import Options, compare_packages, compare_student

    kind = io.kind_of(args.reference) if args.reference.is_dir() else None
    options = Options(args.function, args.mode or "fp32", args.tolerance_db, _ids(args, kind), args.top)
    given = arrays(args.inputs) if args.inputs else None
    with session.voice.task(f"compare with {args.reference}") as task:
        if kind in ("checkpoint", "export", "deployment"):
            report = compare_student(package, _student(args.reference, kind), str(args.reference), options, given, task.note)
        else:
            report = compare_packages(package, opened(args.reference, session), options, given, task.note)
    return _document(report)


def _student(folder: Path, kind: str) -> Student:
    """The student of a checkpoint, or of an exported file: its weights as stored there, its files proved by their contract before they are opened."""
    from runtime.student.checkpoint import load_student, student_from

    if kind == "checkpoint":
        contract = io.read_contract(folder / checkpoint.FILE, checkpoint.CheckpointContract)
        _prove(folder, contract, checkpoint.WEIGHTS)
        return load_student(folder, contract)
    from runtime.backends.torchscript_file import load_torchscript

    exported = io.read_contract(folder / export.FILE, export.ExportContract)
    name = next(iter(sorted(exported.signatures, reverse=True)))
    # a deployment lists every file; the export's contract may be there beside it
    owner = io.read_contract(folder / deployment.FILE, deployment.DeploymentContract) if kind == "deployment" else exported
    _prove(folder, owner, name)
    weights = dict(load_torchscript(folder / name).named_parameters())
    return student_from(exported.arch, exported.model_arch, {key.removeprefix("student."): value for key, value in weights.items()})


def _prove(folder: Path, contract: Any, name: str) -> None:
    wanted, found = contract.entry(name).sha256, io.sha256_file(folder / name)
    if found != wanted:
        place = Violation(str(folder / name), "", f"sha256 {wanted}", f"sha256 {found}")
        raise ContractError(place, remedy="the file was changed after publication; make it again")


def _ids(args: argparse.Namespace, kind: str | None) -> tuple[int, ...] | None:
    """The prompt by the tokenizer beside the reference or the package."""
    if args.prompt is None:
        return None
    from runtime.engine.tokenizer import Tokenizer

    contracts: dict[str, tuple[str, Any]] = {
        "checkpoint": (checkpoint.FILE, checkpoint.CheckpointContract),
        "export": (export.FILE, export.ExportContract),
        "deployment": (deployment.FILE, deployment.DeploymentContract),
    }
    for folder in (args.reference, args.package):
        found = kind if folder is args.reference else io.kind_of(folder) if folder.is_dir() else None
        if found in contracts:
            info = io.read_contract(folder / contracts[found][0], contracts[found][1]).tokenizer
            if info is not None:
                ids = tuple(Tokenizer.load(folder, info).encode_prompt(args.prompt))
                if not ids:
                    raise UsageError("the prompt has no tokens", remedy="give a text, or leave out --prompt")
                return ids
    raise refuse(
        args.reference, checkpoint.TOKENIZER, expected="a tokenizer beside the reference or the package", found="none", remedy="leave out --prompt"
    )


def _document(report: Report) -> dict[str, Any]:
    """JSON has no infinity: an equal value has psnr_db null and max_abs 0."""
    cleaned: dict[str, Any] = _clean({**asdict(report), "diverges": report.diverges})
    cleaned["structural_differences"] = cleaned.pop("differences")
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines_of(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['package']} against {document['reference']}, mode {document['mode']}", f"  ran      {', '.join(document['calls'])}"]
    if document["not_run"]:
        lines.append(f"  not run  {', '.join(document['not_run'])} (name one with --function)")
    lines.append(f"  values   {document['compared_values']} compared, {document['unmatched_values']} without a counterpart")
    first, numbers = document["first"], document["measured"]
    if first is None:
        lines.append("  equal    no difference that rounding does not explain")
    else:
        kind = first.get("kind", "value")
        mark = "DIVERGES" if document["diverges"] else "differs "
        lines.append(f"  {mark} {first['function']}: {first['operation']} `{first['value']}`")
        if "kind" in first:
            lines.append(f"           {kind}: {first['found']}, expected {first['expected']}")
        if numbers:
            lines += _numbers(numbers)
        lines.append(f"  next     {NEXT[kind]}")
    for origin in document["origins"]:
        place = f"{origin['function']}: {origin['operation']} `{origin['value']}` in {origin['call']}"
        lines.append(f"  {origin['kind']:<8} {place}, mode {origin['mode']}, from inputs of at most {origin['input_peak']:.4g}")
    faults = [item for item in document["structural_differences"] if item != first]
    for item in faults[:5]:
        place = f"{item['function']}: {item['kind']} of {item['operation']} `{item['value']}`"
        lines.append(f"  also     {place}: {item['found']}, expected {item['expected']}")
    if len(faults) > 5:
        lines.append(f"  also     {len(faults) - 5} more differences (--json lists them)")
    lines += [f"  output   {item['function']}: `{item['value']}` {_how_far(item)}" for item in document["outputs"]]
    lines += [
        f"  {_db(item['psnr_db']):>8} {item['function']}: {item['operation']} `{item['value']}` in {item['call']}" for item in document["worst"]
    ]
    return lines


def _numbers(item: dict[str, Any]) -> list[str]:
    of = "" if item["exact"] else " of sums of elements"
    far = "not finite" if item["max_abs"] is None else f"{item['max_abs']:.4g}{of}, rounding explains {item['tolerance']:.2g}"
    return [
        f"           first wrong value `{item['value']}` ({item['operation']}) in {item['call']}",
        f"           greatest difference {far}; {_db(item['psnr_db'])}; range {_range(item['range'])}, reference {_range(item['reference_range'])}",
        f"           the reference's value: {item['reference_name']}",
    ]


def _how_far(item: dict[str, Any]) -> str:
    return "equal" if item["max_abs"] == 0 else f"at least {_db(item['psnr_db'])}"


def _db(value: float | None) -> str:
    return "no dB" if value is None else f"{value:.1f} dB"


def _range(bounds: list[float]) -> str:
    return f"{bounds[0]:.4g} to {bounds[1]:.4g}"
