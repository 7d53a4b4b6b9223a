"""Stage `convert`: exported TorchScript in, one Core ML package out, published only after the saved file was run and compared.

Here: what is asked for, the order of work, the contract's body, what is kept of a rejected package. Not here: converting, merging, reading packages
(pipeline/coreml), running and judging them (pipeline/gates).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from interlock.contracts import checkpoint, export, package
from interlock.contracts.base import InputRef
from interlock.errors import ContractError, GateFailed, UsageError, Violation
from interlock.fs import Workspace, publish, require_space, workspace
from interlock.voice import Task, Voice
from pipeline.driver import stage

if TYPE_CHECKING:
    from runtime.student.model import Student

# Tokens that can follow the longest prefill, unless --cache-length says otherwise.
DECODE_MARGIN = 256
REJECTED = "evidence.json"


class Params(stage.Params):
    """`source` is an export directory, `checkpoint` the one that it was made from: the package is compared with it.

    `cache_length` is the number of KV slots of the package's state, for the layout that has one.
    """

    source: Path
    checkpoint: Path | None = None
    layout: package.Layout = "multifunction"
    cache_length: int | None = None


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    with voice.task("load coremltools"):
        from pipeline.coreml.facts import read_package
        from pipeline.coreml.messages import classified
        from pipeline.coreml.normal import tree_digest
    source = stage.read_input(params.source, export.ExportContract, voice)
    _check(params, source)
    size = sum(entry.bytes for entry in source.files)
    require_space(params.out.parent, 3 * size + (64 << 20))
    slots = _slots(params, source) if params.layout == "multifunction" else None
    with voice.task(f"convert {params.layout}") as task:
        said = _convert_multifunction(params, source, slots, work, task) if slots else _convert_single(params, source, work, task)
    made = work.path / package.PACKAGE
    with voice.task("read the package back"):
        facts = read_package(made)
        digest = tree_digest(made)
    _promise_kept(facts, source, params.layout)
    gate = _gate(params, source, facts, work, voice)
    body = {
        "artifact": package.PACKAGE,
        "layout": params.layout,
        "arch": source.arch,
        "model_arch": source.model_arch,
        "step": source.step,
        "use_halt_head": source.use_halt_head,
        "enumerated_T": source.enumerated_T,
        "cache_length": slots,
        "facts": facts,
        "gate": gate,
        "messages": classified(said),
        "tokenizer": source.tokenizer,
        "tree_digest": digest,
    }
    return stage.Outcome(body, (InputRef(kind="export", digest=source.digest),), toy=source.toy)


STAGE = stage.Stage("convert", "export", "package", Params, work, __name__)


def _check(params: Params, source: export.ExportContract) -> None:
    file = str(params.source / export.FILE)
    wanted = "both" if params.layout == "multifunction" else "prefill"
    if source.mode not in (wanted, "both"):
        raise ContractError(
            Violation(file, "/mode", f"`both`{'' if wanted == 'both' else ' or `prefill`'}", f"`{source.mode}`"),
            remedy=f"export again with --mode {wanted}",
        )
    if source.toy and not params.toy:
        raise ContractError(
            Violation(file, "/toy", "false, or an explicit --toy", "true: a toy export"), remedy="add --toy; the package will be marked"
        )


def _slots(params: Params, source: export.ExportContract) -> int:
    """Raises UsageError for a cache that cannot hold the longest prefill or that the Neural Engine refuses."""
    from pipeline.coreml.functions import CACHE_MULTIPLE, cache_length

    if params.cache_length is None:
        return cache_length(source.enumerated_T, DECODE_MARGIN, source.arch.max_position)
    longest = max(source.enumerated_T)
    if params.cache_length % CACHE_MULTIPLE or not longest < params.cache_length <= source.arch.max_position:
        raise UsageError(
            f"--cache-length {params.cache_length} is no multiple of {CACHE_MULTIPLE} between {longest} and {source.arch.max_position}",
            remedy=f"leave it out for {cache_length(source.enumerated_T, DECODE_MARGIN, source.arch.max_position)}",
        )
    return params.cache_length


def _convert_multifunction(params: Params, source: export.ExportContract, slots: int, work: Workspace, task: Task) -> tuple[str, ...]:
    from pipeline.coreml.functions import convert_stateful, plan_functions
    from pipeline.coreml.merge import merge_functions

    files = {name: params.source / name for name in source.signatures}
    scratch = work.scratch
    parts, said = convert_stateful(files, source.signatures, plan_functions(source.enumerated_T), slots, scratch, task.note)
    work.produce(package.PACKAGE, lambda path: merge_functions(parts, "decode", path, task.note))
    return said


def _convert_single(params: Params, source: export.ExportContract, work: Workspace, task: Task) -> tuple[str, ...]:
    from pipeline.coreml.functions import convert_single

    said: list[str] = []
    primary = source.shape_validation.primary_shape
    signature = source.signatures[export.PREFILL]
    prefill = params.source / export.PREFILL
    work.produce(
        package.PACKAGE, lambda path: said.extend(convert_single(prefill, signature, source.enumerated_T, primary, "iOS18", path, task.note))
    )
    return tuple(said)


def _reference(params: Params, source: export.ExportContract, voice: Voice) -> tuple[Student, Literal["checkpoint", "export"], str]:
    """What the package is compared with. Raises ContractError for a checkpoint that the export was not made from."""
    from runtime.backends.torchscript_file import load_torchscript
    from runtime.student.checkpoint import load_student, student_from

    if params.checkpoint is None:
        # The export's own weights, fp16 as stored: how far those are from the checkpoint stands in the export's contract.
        parameters = load_torchscript(params.source / export.PREFILL).named_parameters()
        weights = {name.removeprefix("student."): tensor.data for name, tensor in parameters}
        return student_from(source.arch, source.model_arch, weights), "export", source.digest
    contract = stage.read_input(params.checkpoint, checkpoint.CheckpointContract, voice)
    made_from = next((ref.digest for ref in source.inputs if ref.kind == "checkpoint"), None)
    if made_from != contract.digest:
        found = Violation(str(params.checkpoint / checkpoint.FILE), "/digest", f"{made_from}, which the export was made from", contract.digest)
        raise ContractError(found, remedy="name the checkpoint of this export, or leave out --checkpoint")
    return load_student(params.checkpoint, contract), "checkpoint", contract.digest


def _gate(params: Params, source: export.ExportContract, facts: package.PackageFacts, work: Workspace, voice: Voice) -> package.Gate:
    """Run the saved package and compare; nothing is published before this evidence is in. Raises GateFailed, and keeps package and evidence."""
    from pipeline.export.shapes import prompt_ids
    from pipeline.gates.package import THRESHOLDS, failures, measure

    student, reference, digest = _reference(params, source, voice)
    with voice.task("run the package") as task:
        evidence, repeatable = measure(work.path / package.PACKAGE, facts, student, prompt_ids(params.source, source), task)
    gate = package.Gate(reference=reference, reference_digest=digest, thresholds=THRESHOLDS, repeatable=repeatable, evidence=evidence)
    if wrong := failures(evidence, repeatable):
        kept = _keep_rejected(params, work, gate, wrong)
        raise GateFailed(
            f"the saved package does not compute what the {reference} computes ({len(wrong)} findings)",
            measured="; ".join(wrong[:4]),
            threshold=f"{THRESHOLDS.psnr_db:g} dB, KL mean {THRESHOLDS.kl_mean:g}, greatest {THRESHOLDS.kl_max:g}, no decided flip, repeatable",
            remedy=f"nothing was published; the package and all evidence are in `{kept}`",
        )
    return gate


def _keep_rejected(params: Params, work: Workspace, gate: package.Gate, wrong: list[str]) -> Path:
    """Package, evidence and the command that makes it again, under `rejected/` beside the output."""
    kept = params.out.parent / "rejected" / params.out.name
    again = f"interlock convert --in {params.source} --layout {params.layout} --out {params.out}"
    again += f" --checkpoint {params.checkpoint}" if params.checkpoint else ""
    document = {"findings": wrong, "command": again, "gate": gate.model_dump(mode="json")}
    with workspace(kept, work.fs) as rejected:
        rejected.copy(work.path / package.PACKAGE, package.PACKAGE)
        rejected.write(REJECTED, json.dumps(document, indent=2).encode())
        publish(rejected, kept)
    return kept


def _promise_kept(facts: package.PackageFacts, source: export.ExportContract, layout: package.Layout) -> None:
    """The saved package has the functions and outputs that the export promises. Raises GateFailed."""
    wanted = {"logits"} | ({"halt_logits"} if source.use_halt_head else set()) | ({"hidden"} if layout == "multifunction" else set())
    for name, function in facts.functions.items():
        found = {output.name for output in function.outputs}
        if found != wanted:
            raise GateFailed(
                f"function `{name}` of the saved package has other outputs than the export promises",
                measured=", ".join(sorted(found)),
                threshold=", ".join(sorted(wanted)),
                remedy="nothing was published; the converter changed its naming: compare the locked versions (`interlock verify` on the export)",
            )
