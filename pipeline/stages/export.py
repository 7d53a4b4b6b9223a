"""Stage `export`: checkpoint in, TorchScript prefill and decode out, each proven at every enumerated length on the saved files.

Here: what is asked for, the gate, the contract's body. Not here: tracing and comparing (pipeline/export).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from interlock.command import Session
from interlock.contracts import checkpoint, export
from interlock.contracts.base import InputRef
from interlock.errors import ContractError, GateFailed, UsageError, Violation
from interlock.fs import Workspace, require_space
from interlock.voice import Voice
from pipeline.driver import stage

PRODUCTION, PRODUCTION_PRIMARY = (512, 1024, 2048, 4096), 1024
TOY, TOY_PRIMARY = (64, 128, 256), 128
# Decode steps compared after the primary length, and after each other one.
PRIMARY_STEPS, OTHER_STEPS = 128, 16


class Params(stage.Params):
    """`lengths` are the enumerated prefill lengths; `primary` must pass, the others are left out of the contract with their reason when they fail."""

    checkpoint: Path
    mode: Literal["prefill", "decode", "both"] = "both"
    lengths: tuple[int, ...] = PRODUCTION
    primary: int = PRODUCTION_PRIMARY


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    from pipeline.export import shapes, torchscript
    from runtime.student.checkpoint import load_student

    source = stage.read_input(params.checkpoint, "checkpoint", voice)
    assert isinstance(source, checkpoint.CheckpointContract)
    require_space(params.out.parent, 4 * source.parameters + (256 << 20))
    with voice.task("load the student"):
        student = load_student(params.checkpoint, source)
    methods = {}
    for artifact in _artifacts(params.mode):
        with voice.task(f"trace {artifact}"):
            work.produce(artifact, lambda path, artifact=artifact: torchscript.save(artifact, student, path))
            methods[artifact] = torchscript.methods(work.path / artifact, source.arch)
    with voice.task("validate lengths", total=len(params.lengths), unit="lengths") as task:
        results = shapes.validate_shapes(
            {artifact: work.path / artifact for artifact in methods}, student, params.lengths, shapes.prompt_ids(params.checkpoint, source),
            steps={length: PRIMARY_STEPS if length == params.primary else OTHER_STEPS for length in params.lengths}, task=task,
        )  # fmt: skip
    validation = _verdict(params, results)
    passed = tuple(length for length in params.lengths if results[str(length)].status == "ok")
    body = _body(params, source, methods, passed, validation)
    for artifact, signature in body["signatures"].items():  # type: ignore[attr-defined]
        work.write(export.signature_file(artifact), (signature.model_dump_json(indent=2) + "\n").encode())
    for name in (checkpoint.TOKENIZER, checkpoint.CHAT_TEMPLATE):
        if (params.checkpoint / name).is_file():
            work.copy(params.checkpoint / name, name)
    return stage.Outcome(body, (InputRef(kind="checkpoint", digest=source.digest),), toy=source.toy)


STAGE = stage.Stage("export", "export", "export", Params, work, __name__)


def _artifacts(mode: str) -> list[str]:
    return {"prefill": [export.PREFILL], "decode": [export.DECODE], "both": [export.PREFILL, export.DECODE]}[mode]


def _verdict(params: Params, results: dict[str, export.ShapeResult]) -> export.ShapeValidation:
    primary = results[str(params.primary)]
    if primary.status != "ok":
        raise GateFailed(
            f"the primary length {params.primary} failed: {primary.error}",
            measured=f"{primary.psnr_db} dB",
            threshold="70 dB on every output",
            remedy="nothing was published; choose another --primary, or see the error above",
        )
    return export.ShapeValidation(
        primary_shape=params.primary, primary_ok=True, all_ok=all(result.status == "ok" for result in results.values()), results=results
    )


def _body(params: Params, source: checkpoint.CheckpointContract, methods: dict[str, dict[str, export.Method]], passed: tuple[int, ...],
          validation: export.ShapeValidation) -> dict[str, object]:  # fmt: skip
    signatures = {
        artifact: export.Signature(
            artifact=artifact,
            mode="prefill" if artifact == export.PREFILL else "decode",
            methods=found,
            enumerated_T=passed,
            use_halt_head=source.model_arch.use_halt_head,
            n_layers=source.arch.n_layers,
            n_kv_heads=source.arch.n_kv_heads,
            d_head=source.arch.d_head,
        )
        for artifact, found in methods.items()
    }
    return {
        "arch": source.arch,
        "model_arch": source.model_arch,
        "step": source.step,
        "use_halt_head": source.model_arch.use_halt_head,
        "mode": params.mode,
        "enumerated_T": passed,
        "signatures": signatures,
        "shape_validation": validation,
        "tokenizer": source.tokenizer,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint directory, or a .pt file (brought in first)")
    parser.add_argument("--out", type=Path, default=Path("models/student/exported"), help="export directory to make (default %(default)s)")
    parser.add_argument("--mode", choices=["prefill", "decode", "both"], default="both", help="which files to export (default %(default)s)")
    parser.add_argument("--enumerated-T", dest="lengths", type=int, nargs="+", metavar="T", help="prefill lengths to prove (default 512 1024 2048 4096; toy 64 128 256)")
    parser.add_argument("--primary", type=int, metavar="T", help="the length that must pass (default 1024; toy 128; else the first)")
    parser.add_argument("--toy", action="store_true", help="toy lengths, any interpreter; the contract is marked and so is all that follows")


def params_from(args: argparse.Namespace) -> Params:
    """Raises UsageError on lengths that make no sense together."""
    default, usual = (TOY, TOY_PRIMARY) if args.toy else (PRODUCTION, PRODUCTION_PRIMARY)
    lengths = tuple(sorted(set(args.lengths or default)))
    if lengths[0] < 1:
        raise UsageError(f"--enumerated-T {lengths[0]}: a length is at least 1 token", remedy="name positive lengths")
    primary = args.primary or (usual if usual in lengths else lengths[0])
    if primary not in lengths:
        raise UsageError(f"--primary {primary} is not among the lengths {', '.join(map(str, lengths))}", remedy="add it to --enumerated-T")
    return Params(out=args.out, toy=args.toy, checkpoint=args.checkpoint, mode=args.mode, lengths=lengths, primary=primary)


def run(args: argparse.Namespace, session: Session) -> int:
    from pipeline.stages.import_ import finish

    params = params_from(args)
    if params.checkpoint.is_file():
        found = f"the file `{params.checkpoint.name}`"
        raise ContractError(
            Violation(str(params.checkpoint), "", "a checkpoint directory with its contract", found),
            remedy=f"bring it in first: interlock import {params.checkpoint} --out {params.checkpoint.parent / 'imported'}",
        )
    return finish(stage.run(STAGE, params, session.voice, session.argv), as_json=args.json)
