"""Stage `export`: checkpoint in, TorchScript prefill and decode out, each proven at every enumerated length on the saved files.

Here: what is asked for, the gate, the contract's body. Not here: tracing and comparing (pipeline/export).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from interlock.contracts import checkpoint, export
from interlock.contracts.base import InputRef
from interlock.errors import GateFailed, UsageError
from interlock.fs import Workspace, require_space
from interlock.voice import Voice
from pipeline.driver import stage

PRODUCTION, PRODUCTION_PRIMARY = (512, 1024, 2048, 4096), 1024
TOY, TOY_PRIMARY = (64, 128, 256), 128
# Decode steps compared after the primary length, and after each other one.
PRIMARY_STEPS, OTHER_STEPS = 128, 16


class Params(stage.Params):
    """`lengths` are the enumerated prefill lengths; `primary` must pass, the others are left out of the contract with their reason when they fail.
    None is the usual choice."""

    checkpoint: Path
    mode: Literal["prefill", "decode", "both"] = "both"
    lengths: tuple[int, ...] | None = None
    primary: int | None = None

    def chosen(self) -> Chosen:
        """Raises UsageError on lengths that make no sense together."""
        default, usual = (TOY, TOY_PRIMARY) if self.toy else (PRODUCTION, PRODUCTION_PRIMARY)
        lengths = tuple(sorted(set(self.lengths or default)))
        if lengths[0] < 1:
            raise UsageError(f"length {lengths[0]}: a length is at least 1 token", remedy="name positive lengths")
        primary = self.primary or (usual if usual in lengths else lengths[0])
        if primary not in lengths:
            raise UsageError(f"the primary length {primary} is not among the lengths {', '.join(map(str, lengths))}", remedy="add it to them")
        return Chosen(lengths, primary)


class Chosen(NamedTuple):
    """The lengths of one run, ascending, and the one that must pass."""

    lengths: tuple[int, ...]
    primary: int


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    chosen = params.chosen()
    with voice.task("load torch"):
        from pipeline.export import shapes, torchscript
        from runtime.student.checkpoint import load_student
    source = stage.read_input(params.checkpoint, checkpoint.CheckpointContract, voice, toy=params.toy)
    require_space(params.out.parent, 4 * source.parameters + (256 << 20))
    with voice.task("load the student"):
        student = load_student(params.checkpoint, source)
    methods = {}
    for artifact in _artifacts(params.mode):
        with voice.task(f"trace {artifact}"):
            work.produce(artifact, partial(torchscript.save, artifact, student, latent=source.latent is not None))
            methods[artifact] = torchscript.methods(work.path / artifact, source.arch)
    with voice.task("validate lengths", total=sum(chosen.lengths), unit="tokens") as task:
        results = shapes.validate_shapes(
            {artifact: work.path / artifact for artifact in methods}, student, chosen.lengths, shapes.prompt_ids(params.checkpoint, source),
            steps={length: PRIMARY_STEPS if length == chosen.primary else OTHER_STEPS for length in chosen.lengths},
            latent_slots=source.latent.max_slots if source.latent else 0, task=task,
        )  # fmt: skip
    validation = _verdict(chosen.primary, results)
    passed = tuple(length for length in chosen.lengths if results[str(length)].status == "ok")
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


def _verdict(primary: int, results: dict[str, export.ShapeResult]) -> export.ShapeValidation:
    found = results[str(primary)]
    if found.status != "ok":
        raise GateFailed(
            f"the primary length {primary} failed: {found.error}",
            measured=f"{found.psnr_db} dB",
            threshold="70 dB on every output",
            remedy="nothing was published; choose another --primary, or see the error above",
        )
    return export.ShapeValidation(
        primary_shape=primary, primary_ok=True, all_ok=all(result.status == "ok" for result in results.values()), results=results
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
        "training": source.training,
    }
