"""Stage `convert`: exported TorchScript in, one Core ML package out, published only after the saved file was run and compared.

Here: what is asked for, the order of work, the contract's body. Not here: converting, merging, compressing, reading packages (pipeline/coreml),
running and judging them (pipeline/gates).
A finished fp16 package may stand in for the export: then it is compressed, not converted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlock.contracts import export, io, package
from interlock.contracts.base import Contract, InputRef
from interlock.errors import ContractError, UsageError, Violation
from interlock.fs import Workspace, require_space
from interlock.voice import Task, Voice
from pipeline.driver import stage
from pipeline.gates import verdict

# Tokens that can follow the longest prefill, unless --cache-length says otherwise.
DECODE_MARGIN = 256
FP16, OTHER = "fp16.mlpackage", "other.mlpackage"


class Params(stage.Params):
    """`source` is an export directory, or the directory of an fp16 package to compress; `checkpoint` the one that both come from: the package is
    compared with it.

    `lane` is what the converter reads: the exported TorchScript, torch.export programs, or both, of which the first is published and compared with
    the second. `cache_length` is the number of KV slots of the package's state, for the layout that has one. `compress`, `group` and at most one of
    the targets (bytes of the weight file; mean KL in nats) say how weights are stored. `gates` are stricter bounds than the standard ones, by name.
    """

    source: Path
    checkpoint: Path | None = None
    layout: package.Layout = "multifunction"
    lane: package.Lane | Literal["both"] = "trace"
    cache_length: int | None = None
    compress: package.Method = "none"
    group: int | None = None
    target_bytes: int | None = None
    target_kl: float | None = None
    gates: dict[str, float] | None = None


@dataclass(frozen=True)
class _Fp16:
    """An fp16 package on disk, and what its contract says that nothing below measures. made_from: its own digest, if it was published."""

    path: Path
    body: dict[str, Any]
    inputs: tuple[InputRef, ...]
    toy: bool
    made_from: str | None = None


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    with voice.task("load coremltools"):
        from pipeline.coreml.facts import read_package
        from pipeline.coreml.normal import tree_digest
    compressing = params.source.is_dir() and io.kind_of(params.source) == "package"
    _check_request(params, compressing)
    made, reference, prompt = _published(params, voice) if compressing else _converted(params, work, voice)
    compression = _compressed(params, made, reference, prompt, work, voice)
    with voice.task("read the package back"):
        facts = read_package(work.path / package.PACKAGE)
        digest = tree_digest(work.path / package.PACKAGE)
    verdict.promise_kept(facts, made.body["use_halt_head"], made.body["layout"], latent=reference.latent is not None)
    run = verdict.Run(work, params.rejected_path, _command(params), _thresholds(params), _mixed(params, made, reference, prompt, voice))
    gate = verdict.judge(run, reference, facts, compression, prompt, voice)
    body = {**made.body, "artifact": package.PACKAGE, "compression": compression, "facts": facts, "gate": gate, "tree_digest": digest}
    return stage.Outcome(body, made.inputs, toy=made.toy)


STAGE = stage.Stage("convert", "export", "package", Params, work, __name__)


def _thresholds(params: Params) -> package.Thresholds:
    """The standard bounds of the method, or the stricter ones asked for. Raises UsageError for looser or unknown ones."""
    from pipeline.gates.thresholds import THRESHOLDS, tightened

    standard = THRESHOLDS[params.compress]
    asked = params.gates or {}
    if unknown := sorted(set(asked) - set(package.Thresholds.model_fields)):
        raise UsageError(f"there is no gate `{unknown[0]}`", remedy=f"there are {', '.join(package.Thresholds.model_fields)}")
    return tightened(standard.model_copy(update=asked), params.compress)


def _check_request(params: Params, compressing: bool) -> None:
    """Raises UsageError for options that contradict each other."""
    _thresholds(params)
    targeted = params.target_bytes is not None or params.target_kl is not None
    if targeted and params.compress in ("none", "source"):
        raise UsageError(f"--compress {params.compress} leaves nothing to search", remedy="search with int8, int4 or a palette as the smallest form")
    if params.group is not None and params.compress in ("none", "source"):
        raise UsageError(f"--compress {params.compress} takes no --group", remedy="leave it out")
    if params.checkpoint is None and (compressing or params.compress == "source"):
        why = "a finished package is compared with its checkpoint" if compressing else "the source's blocks are in the checkpoint"
        raise UsageError(f"--checkpoint is missing: {why}", remedy="add --checkpoint DIRECTORY")
    if compressing and params.compress == "none":
        raise UsageError(f"`{params.source}` is a package already", remedy="say how to compress it with --compress, or name an export")
    if compressing and params.lane != "trace":
        raise UsageError("--lane belongs to a conversion, and a package is given", remedy="leave it out, or name an export")
    if compressing and params.cache_length is not None:
        raise UsageError("--cache-length belongs to a conversion, and a package is given", remedy="leave it out, or name an export")


def _published(params: Params, voice: Voice) -> tuple[_Fp16, verdict.Reference, list[int]]:
    """A finished package, to be compressed."""
    from pipeline.export.shapes import prompt_ids

    source = stage.read_input(params.source, package.PackageContract, voice, toy=params.toy)
    _allow_toy(params, source, params.source / package.FILE)
    if source.compression.method != "none":
        found = Violation(str(params.source / package.FILE), "/compression/method", "`none`", f"`{source.compression.method}`")
        raise ContractError(found, remedy="compress the fp16 package that it was made from")
    require_space(params.out.parent, 2 * sum(entry.bytes for entry in source.files) + (64 << 20))
    assert params.checkpoint is not None
    made_from = source.gate.reference_digest if source.gate.reference == "checkpoint" else None
    reference = verdict.from_checkpoint(params.checkpoint, made_from, voice, toy=params.toy)
    assert reference.checkpoint is not None
    inputs = (*(ref for ref in source.inputs if ref.kind == "export"), InputRef(kind="package", digest=source.digest))
    made = _Fp16(params.source / package.PACKAGE, _kept(source), inputs, source.toy, source.digest)
    return made, reference, prompt_ids(params.checkpoint, reference.checkpoint)


def _kept(source: package.PackageContract) -> dict[str, Any]:
    """What compressing does not change."""
    changed = {*Contract.model_fields, "artifact", "compression", "facts", "gate", "tree_digest", "hardware_verified"}
    return {name: getattr(source, name) for name in package.PackageContract.model_fields if name not in changed}


def _converted(params: Params, work: Workspace, voice: Voice) -> tuple[_Fp16, verdict.Reference, list[int]]:
    """The fp16 package of an export: under its final name, or in the scratch folder where it will be compressed."""
    from pipeline.coreml.messages import classified
    from pipeline.export.shapes import prompt_ids

    source = stage.read_input(params.source, export.ExportContract, voice, toy=params.toy)
    _check(params, source)
    size = sum(entry.bytes for entry in source.files)
    require_space(params.out.parent, 4 * size + (64 << 20))
    slots = _slots(params, source) if params.layout == "multifunction" else None
    path = work.path / package.PACKAGE if params.compress == "none" else work.scratch / FP16
    lanes: tuple[package.Lane, ...] = ("trace", "export") if params.lane == "both" else (params.lane,)
    paths = {lane: path if lane == lanes[0] else work.scratch / OTHER for lane in lanes}
    said: list[str] = []
    for lane in lanes:
        with voice.task(f"convert {params.layout}, lane {lane}") as task:
            said += _convert(lane, params, source, slots, work, paths[lane], task)
    if params.checkpoint is None:
        reference = verdict.from_export(params.source, source)
    else:
        reference = verdict.from_checkpoint(params.checkpoint, verdict.checkpoint_of(source.inputs), voice, toy=params.toy)
    prompt = prompt_ids(params.source, source)
    body = {
        "layout": params.layout,
        "lane": lanes[0],
        "drift": _drift(params, paths["trace"], paths["export"], reference, prompt, work, voice) if len(lanes) > 1 else None,
        "arch": source.arch,
        "model_arch": source.model_arch,
        "step": source.step,
        "use_halt_head": source.use_halt_head,
        "enumerated_T": source.enumerated_T,
        "cache_length": slots,
        "messages": classified(said),
        "tokenizer": source.tokenizer,
    }
    made = _Fp16(path, body, (InputRef(kind="export", digest=source.digest),), source.toy)
    return made, reference, prompt


def _compressed(params: Params, made: _Fp16, reference: verdict.Reference, prompt: list[int], work: Workspace, voice: Voice) -> package.Compression:
    """Write the package with its weights as asked for, under its final name."""
    if params.compress == "none":
        return package.Compression()
    from pipeline.coreml.compression.carried import carried
    from pipeline.coreml.compression.compress import Made, Request, compress

    request = Request(params.compress, params.group, params.target_bytes, params.target_kl)
    blocks: Iterable[tuple[str, Any]] = ()
    if params.compress == "source" and params.checkpoint is not None and reference.checkpoint is not None:
        blocks = carried(params.checkpoint, reference.checkpoint, reference.student)
    found: list[Made] = []
    with voice.task(f"compress: {params.compress}") as task:
        work.produce(package.PACKAGE, lambda into: found.append(compress(made.path, into, request, reference.student, blocks, prompt, task.note)))
    return package.Compression(
        method=params.compress,
        group=params.group,
        target_bytes=params.target_bytes,
        target_kl=params.target_kl,
        made_from=made.made_from,
        weights=found[0].weights,
        missing=found[0].missing,
        frontier=found[0].frontier,
    )


def _mixed(
    params: Params, made: _Fp16, reference: verdict.Reference, prompt: list[int], voice: Voice
) -> Callable[[float], tuple[package.FrontierPoint, ...]] | None:
    """The search that a package which was compressed without one may be offered."""
    if params.compress in ("none", "source") or params.target_bytes is not None or params.target_kl is not None:
        return None

    def find(kl: float) -> tuple[package.FrontierPoint, ...]:
        from pipeline.coreml.compression.compress import Request, search, student_weights
        from pipeline.coreml.compression.search import Target

        with voice.task("search finer forms") as task:
            weights = student_weights(made.path, reference.student, task.note)
            request = Request(params.compress, params.group)
            return search(made.path, weights, request, reference.student, prompt, task.note).find(Target(None, kl)).points

    return find


def _command(params: Params) -> str:
    """The command that makes this package again."""
    if params.again:
        return params.again
    given = {
        "--in": params.source,
        "--layout": params.layout,
        "--out": params.out,
        "--checkpoint": params.checkpoint,
        "--lane": None if params.lane == "trace" else params.lane,
        "--cache-length": params.cache_length,
        "--compress": None if params.compress == "none" else params.compress,
        "--group": params.group,
        "--target-size": params.target_bytes,
        "--target-kl": params.target_kl,
    }
    gates = [f"--gate {name}={value:g}" for name, value in (params.gates or {}).items()]
    words = [f"{name} {value}" for name, value in given.items() if value is not None]
    return " ".join(["interlock convert", *words, *gates, *(["--toy"] if params.toy else [])])


def _check(params: Params, source: export.ExportContract) -> None:
    wanted = "both" if params.layout == "multifunction" else "prefill"
    if source.mode not in (wanted, "both"):
        raise ContractError(
            Violation(str(params.source / export.FILE), "/mode", f"`both`{'' if wanted == 'both' else ' or `prefill`'}", f"`{source.mode}`"),
            remedy=f"export again with --mode {wanted}",
        )
    _allow_toy(params, source, params.source / export.FILE)


def _allow_toy(params: Params, source: Contract, file: Path) -> None:
    if source.toy and not params.toy:
        raise ContractError(
            Violation(str(file), "/toy", "false, or an explicit --toy", f"true: a toy {source.kind}"), remedy="add --toy; the package will be marked"
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


def _convert(
    lane: package.Lane, params: Params, source: export.ExportContract, slots: int | None, work: Workspace, path: Path, task: Task
) -> list[str]:
    """One lane's fp16 package at `path`. Returns what the converter said."""
    from pipeline.coreml.lanes import convert_export, convert_trace

    said: list[str] = []
    scratch = work.scratch / lane
    work.fs.mkdir(scratch)

    def write(into: Path) -> None:
        if lane == "trace":
            said.extend(convert_trace(params.source, source, slots, scratch, into, task.note))
        else:
            student = verdict.from_export(params.source, source).student
            said.extend(convert_export(student, source, slots, scratch, into, task.note))

    work.produce(path.relative_to(work.path).as_posix(), write)
    return said


def _drift(
    params: Params, published: Path, other: Path, reference: verdict.Reference, prompt: list[int], work: Workspace, voice: Voice
) -> package.Drift:
    from pipeline.coreml.facts import read_package
    from pipeline.gates.drift import judge_drift

    with voice.task("compare the lanes") as task:
        facts = read_package(published), read_package(other)
        run = verdict.Run(work, params.rejected_path, _command(params), _thresholds(params))
        return judge_drift((published, other), facts, reference.student, prompt, run, task)
