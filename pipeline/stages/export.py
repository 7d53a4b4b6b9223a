"""Stage `export`: checkpoint in, TorchScript prefill and decode out, each proven at every enumerated length on the saved files.

Here: what is asked for, the gate, the contract's body. Not here: tracing and comparing (pipeline/export).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from interlock.contracts import checkpoint, export
from interlock.contracts.base import InputRef
from interlock.errors import GateFailed
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
    with voice.task("load torch"):
        from pipeline.export import shapes, torchscript
        from runtime.student.checkpoint import load_student
    source = stage.read_input(params.checkpoint, checkpoint.CheckpointContract, voice)
    require_space(params.out.parent, 4 * source.parameters + (256 << 20))
    with voice.task("load the student"):
        student = load_student(params.checkpoint, source)
    methods = {}
    for artifact in _artifacts(params.mode):
        with voice.task(f"trace {artifact}"):
            work.produce(artifact, partial(torchscript.save, artifact, student))
            methods[artifact] = torchscript.methods(work.path / artifact, source.arch)
    with voice.task("validate lengths", total=sum(params.lengths), unit="tokens") as task:
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
