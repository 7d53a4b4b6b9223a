"""Compare two artifact directories, part by part, and say whether they are the same.

Here: which look is taken at which part. Not here: the looks themselves (fields.py, tensors.py, graphs.py, texts.py), tables (reports).
Every file is proven by its contract first: a TorchScript file is a program and is opened to read its weights.
"""

from __future__ import annotations

from pathlib import Path

from interlock.contracts import checkpoint, deployment, export, io, package
from interlock.contracts.base import Contract
from interlock.errors import UsageError
from interlock.voice import Task, Voice, path_text
from pipeline.comparison.fields import compare_fields
from pipeline.comparison.records import Comparison, File, Found, Side, outcome_of, reasons_of
from pipeline.driver.stage import read_whole


def compare(a: Path, b: Path, bound: float, voice: Voice) -> Comparison:
    """bound: the greatest difference of an element, over its tensor's greatest, that counts as numerically same.

    Raises ContractError where a directory is not what its contract says, UsageError for two kinds.
    """
    kinds = [io.read_any(directory).kind for directory in (a, b)]
    if kinds[0] != kinds[1]:
        told = f"`{a}` is of kind `{kinds[0]}`, `{b}` of kind `{kinds[1]}`"
        raise UsageError(f"two kinds cannot be compared: {told}", remedy="name two of one kind; `interlock lineage` shows what each was made from")
    one, other = (_proven(directory, kind, voice) for directory, kind in zip((a, b), kinds, strict=True))
    files = _files(one, other)
    found = Found() if one.digest == other.digest else _parts(a, b, one, other, files, bound, voice).worst_first()
    reasons = reasons_of(found, files)
    return Comparison(
        a=_side(a, one),
        b=_side(b, other),
        outcome=outcome_of(reasons, found, files),
        bound=bound,
        reasons=reasons,
        files=files,
        **{name: getattr(found, name) for name in Found.model_fields},
    )


def _proven(directory: Path, kind: str, voice: Voice) -> Contract:
    contract: Contract = read_whole(directory, io.KINDS[kind][1], voice)
    return contract


def _side(directory: Path, contract: Contract) -> Side:
    return Side(directory=path_text(directory), kind=contract.kind, digest=contract.digest, bytes=sum(entry.bytes for entry in contract.files))


def _files(a: Contract, b: Contract) -> tuple[File, ...]:
    # Version 1 listed the contracts of its parts: those are compared as what they are.
    one, other = ({entry.path: entry for entry in contract.files if entry.path not in io.BY_FILE} for contract in (a, b))
    return tuple(
        File(
            path=path,
            a=one[path].bytes if path in one else None,
            b=other[path].bytes if path in other else None,
            equal=path in one and path in other and one[path].sha256 == other[path].sha256,
            explained=path in one and path in other and _is_explained(path),
        )
        for path in dict.fromkeys((*one, *other))
    )


def _is_explained(path: str) -> bool:
    """Whether a look is taken at its content; signatures beside exported files stand in the export's contract as well."""
    looked_at = (checkpoint.WEIGHTS, checkpoint.BLOCKS, checkpoint.TOKENIZER, export.PREFILL, export.DECODE, deployment.RUNTIME_CONFIG)
    signatures = (export.signature_file(export.PREFILL), export.signature_file(export.DECODE))
    return path in (*looked_at, *signatures) or path.startswith(f"{package.PACKAGE}/")


def _parts(a: Path, b: Path, one: Contract, other: Contract, files: tuple[File, ...], bound: float, voice: Voice) -> Found:
    found = compare_fields(one.kind, one, other)
    mine, theirs = io.read_parts(a, one), io.read_parts(b, other)
    for name in sorted(mine.keys() & theirs.keys()):
        found += compare_fields(mine[name].kind, mine[name], theirs[name])
    changed = {file.path for file in files if not file.equal and file.explained}
    with voice.task("compare") as task:
        for name in (checkpoint.WEIGHTS, checkpoint.BLOCKS):
            if name in changed:
                found += _safetensors(a / name, b / name, bound, task)
        for name in (export.PREFILL, export.DECODE):
            if name in changed:
                found += _torchscript(a / name, b / name, bound, task)
        if any(path.startswith(f"{package.PACKAGE}/") for path in changed):
            found += _packages(a / package.PACKAGE, b / package.PACKAGE, bound, task)
        found += _texts(a, b, changed)
    return found


def _safetensors(a: Path, b: Path, bound: float, task: Task) -> Found:
    from pipeline.comparison.tensors import compare_tensors, safetensors

    return compare_tensors(a.name, safetensors(a), safetensors(b), bound, task.note)


def _torchscript(a: Path, b: Path, bound: float, task: Task) -> Found:
    """Both files are in memory whole, as stored: TorchScript has no way to read a tensor alone."""
    task.note("load torch")
    from pipeline.comparison.graphs import compare_methods
    from pipeline.comparison.tensors import compare_tensors, torchscript
    from runtime.backends.torchscript_file import stored_torchscript

    one, other = stored_torchscript(a), stored_torchscript(b)
    return compare_methods(a.name, one, other) + compare_tensors(a.name, torchscript(one), torchscript(other), bound, task.note)


def _packages(a: Path, b: Path, bound: float, task: Task) -> Found:
    task.note("read the packages")
    from pipeline.comparison.graphs import compare_programs
    from runtime.mil import open_package

    return compare_programs(a.name, open_package(a), open_package(b), bound, task.note)


def _texts(a: Path, b: Path, changed: set[str]) -> Found:
    from pipeline.comparison.texts import compare_configs, compare_tokenizers

    found = Found()
    if checkpoint.TOKENIZER in changed:
        found += compare_tokenizers(a / checkpoint.TOKENIZER, b / checkpoint.TOKENIZER)
    if deployment.RUNTIME_CONFIG in changed:
        found += compare_configs(a / deployment.RUNTIME_CONFIG, b / deployment.RUNTIME_CONFIG)
    return found
