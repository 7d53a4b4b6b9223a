"""What becomes of a package: compared with its reference, published or kept as rejected.

Here: the reference of a package, the promise of its functions, the rejected folder. Not here: running and comparing (package.py), thresholds
(thresholds.py), the stage (pipeline/stages/convert.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from interlock.contracts import checkpoint, export, io, package
from interlock.contracts.base import InputRef
from interlock.contracts.checkpoint import LatentTraining
from interlock.errors import ContractError, GateFailed, Violation
from interlock.fs import Workspace, publish, workspace
from interlock.voice import Voice, human
from pipeline.driver import stage
from pipeline.gates.rejected import EVIDENCE, Rejection

if TYPE_CHECKING:
    from runtime.student.model import Student

# The search measures one text in fp32; the gate adds fp16 rounding and other positions.
MIXED_SHARE = 0.5


@dataclass(frozen=True)
class Reference:
    """What a package is compared with. digest: of the contract that `kind` names; checkpoint: where it is one, its contract; latent: what it was
    taught of latent spans."""

    student: Student
    kind: Literal["checkpoint", "export"]
    digest: str
    checkpoint: checkpoint.CheckpointContract | None
    latent: LatentTraining | None


@dataclass(frozen=True)
class Run:
    """A package that is judged: where it lies in the workspace, where it is kept if it fails, the command that makes it again, what it must reach.

    mixed: for a package whose forms were too coarse, the frontier of finer ones, its chosen point within a mean KL; None where there are none.
    """

    work: Workspace
    rejected: Path
    command: str
    thresholds: package.Thresholds
    mixed: Callable[[float], tuple[package.FrontierPoint, ...]] | None = None


def from_checkpoint(directory: Path, made_from: str | None, voice: Voice, *, toy: bool = False) -> Reference:
    """made_from: the digest that the checkpoint must have, None where nothing says so. Raises ContractError for another one."""
    from runtime.student.checkpoint import load_student

    contract = stage.read_input(directory, checkpoint.CheckpointContract, voice, toy=toy)
    if made_from not in (None, contract.digest):
        found = Violation(str(directory / checkpoint.FILE), "/digest", f"{made_from}, which the input was made from", contract.digest)
        raise ContractError(found, remedy="name the checkpoint that it was made from")
    return Reference(load_student(directory, contract), "checkpoint", contract.digest, contract, contract.latent)


def from_export(directory: Path, contract: export.ExportContract) -> Reference:
    """The export's own weights, fp16 as stored: how far those are from the checkpoint stands in the export's contract."""
    from runtime.backends.torchscript_file import load_torchscript
    from runtime.student.checkpoint import student_from

    parameters = load_torchscript(directory / export.PREFILL).named_parameters()
    weights = {name.removeprefix("student."): tensor.data for name, tensor in parameters}
    return Reference(student_from(contract.arch, contract.model_arch, weights), "export", contract.digest, None, contract.latent)


def checkpoint_of(inputs: Sequence[InputRef]) -> str | None:
    """The digest of the checkpoint that an export was made from."""
    return next((ref.digest for ref in inputs if ref.kind == "checkpoint"), None)


def judge(
    run: Run, reference: Reference, facts: package.PackageFacts, compression: package.Compression, prompt: Sequence[int], voice: Voice
) -> package.Gate:
    """Run the package in the workspace and compare; nothing is published before this evidence is in. Raises GateFailed, and keeps package and
    evidence under `run.rejected`."""
    from pipeline.gates.package import failures, measure

    least = run.thresholds
    with voice.task("run the package") as task:
        slots = reference.latent.max_slots if reference.latent else 0
        found = measure(run.work.path / package.PACKAGE, facts, reference.student, prompt, task, least, slots)
    gate = package.Gate(
        reference=reference.kind,
        reference_digest=reference.digest,
        thresholds=least,
        repeatable=found.repeatable,
        evidence=found.evidence,
        headroom=found.headroom,
    )
    if wrong := [*found.refused, *failures(found.evidence, found.repeatable, least)]:
        instead = run.mixed(MIXED_SHARE * least.kl_mean) if run.mixed else ()
        kept = _keep_rejected(run, gate, compression, wrong, instead)
        raise GateFailed(
            f"the saved package does not compute what the {reference.kind} computes ({len(wrong)} findings)",
            measured="; ".join(wrong[:4]),
            threshold=f"{least.psnr_db:g} dB, KL mean {least.kl_mean:g}, greatest {least.kl_max:g}, no decided flip, repeatable",
            remedy=f"nothing was published; the package and all evidence are in `{kept}`{_advice(instead, least)}",
        )
    return gate


def _advice(points: Sequence[package.FrontierPoint], least: package.Thresholds) -> str:
    for point in points:
        if point.chosen:
            forms = ", ".join(f"{count} {form}" for form, count in point.forms.items())
            return f"; --target-kl {MIXED_SHARE * least.kl_mean:g} mixes forms to {human(point.weight_bytes, 'B')} ({forms})"
    return ""


def _keep_rejected(
    run: Run, gate: package.Gate, compression: package.Compression, wrong: list[str], instead: Sequence[package.FrontierPoint]
) -> Path:
    """Package, evidence and the command that makes it again."""
    kept = run.rejected
    why = Rejection(findings=tuple(wrong), command=run.command, gate=gate, compression=compression, mixed=tuple(instead))
    with workspace(kept, run.work.fs) as rejected:
        rejected.copy(run.work.path / package.PACKAGE, package.PACKAGE)
        rejected.write(EVIDENCE, io.pretty(why))
        publish(rejected, kept)
    return kept


def promise_kept(facts: package.PackageFacts, use_halt_head: bool, layout: package.Layout, *, latent: bool) -> None:
    """The saved package has the functions and outputs that the export promises. latent: whether it was trained with latent slots.

    Raises GateFailed."""
    if (package.LATENT in facts.functions) != (latent and layout == "multifunction"):
        raise GateFailed(
            f"`{package.LATENT}` does not follow from the training of the student",
            measured=", ".join(facts.functions),
            threshold=f"{package.LATENT} in layout multifunction of a student that was trained with latent slots, and in no other",
            remedy="nothing was published; convert the export of the same checkpoint (`interlock verify` on both)",
        )
    wanted = {"logits"} | ({"halt_logits"} if use_halt_head else set()) | ({"hidden"} if layout == "multifunction" else set())
    for name, function in facts.functions.items():
        found = {output.name for output in function.outputs}
        if found != wanted:
            raise GateFailed(
                f"function `{name}` of the saved package has other outputs than the export promises",
                measured=", ".join(sorted(found)),
                threshold=", ".join(sorted(wanted)),
                remedy="nothing was published; the converter changed its naming: compare the locked versions (`interlock verify` on the export)",
            )
