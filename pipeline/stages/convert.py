"""Stage `convert`: exported TorchScript in, one Core ML package out, its facts read back from the saved file.

Here: what is asked for, the order of work, the contract's body. Not here: converting, merging, reading packages (pipeline/coreml).
"""

from __future__ import annotations

from pathlib import Path

from interlock.contracts import export, package
from interlock.contracts.base import InputRef
from interlock.errors import ContractError, GateFailed, UsageError, Violation
from interlock.fs import Workspace, require_space
from interlock.voice import Task, Voice
from pipeline.driver import stage

# Tokens that can follow the longest prefill, unless --cache-length says otherwise.
DECODE_MARGIN = 256
SLOT_MULTIPLE = 32


class Params(stage.Params):
    """`source` is an export directory. `cache_length` is the number of KV slots of the package's state, for the layout that has one."""

    source: Path
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
    from pipeline.coreml.functions import cache_length

    if params.cache_length is None:
        return cache_length(source.enumerated_T, DECODE_MARGIN, source.arch.max_position)
    longest = max(source.enumerated_T)
    if params.cache_length % SLOT_MULTIPLE or not longest < params.cache_length <= source.arch.max_position:
        raise UsageError(
            f"--cache-length {params.cache_length} is no multiple of {SLOT_MULTIPLE} between {longest} and {source.arch.max_position}",
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


def _promise_kept(facts: package.PackageFacts, source: export.ExportContract, layout: package.Layout) -> None:
    """The saved package has the functions and outputs that the export promises. The numeric gate of the reference runner stands here next.

    Raises GateFailed.
    """
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
