"""What follows from an artifact's contents, derived again and compared with what its contract says.

Here: one function per kind, for a directory whose files are known to be those that the contract lists; what must agree between an artifact and one
that it was made from. Not here: finding and hashing files (pipeline/verify.py), running a model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from interlock.contracts import checkpoint, dataset, deployment, evaluation, export, package, strict
from interlock.contracts.base import Contract, FileEntry, InputRef
from interlock.contracts.io import BY_FILE, KINDS
from interlock.errors import ContractError, Violation

REMEDY = "the directory is not what was published: make it again (`make deploy-full`), or restore the file named"
# Of an artifact and what it was made from, whatever their kinds.
_INHERITED = ("arch", "model_arch", "step", "tokenizer")


def content_violations(directory: Path, contract: Contract, parts: dict[str, Contract]) -> list[Violation]:
    """Where a contract's fields do not follow from the files beside it. `parts` are the contracts that the directory also holds."""
    try:
        return list(_content(directory, contract, parts))
    except ContractError as error:  # of a reader of one of the files
        return list(error.violations)


def inheritance_violations(file: Path, child: Contract, parent: Contract) -> Iterator[Violation]:
    """What an artifact must have from one that it was made from. `file` is the child's contract."""
    if parent.toy and not child.toy:
        yield Violation(str(file), "/toy", f"true: it was made from the toy {parent.kind} {parent.digest}", "false")
    for field in _INHERITED:
        mine, theirs = getattr(child, field, None), getattr(parent, field, None)
        if mine is not None and theirs is not None and mine != theirs:
            yield Violation(str(file), f"/{field}", f"{theirs}, as the {parent.kind} that it was made from", str(mine))
    yield from _training_violations(file, child, parent)


def _training_violations(file: Path, child: Contract, parent: Contract) -> Iterator[Violation]:
    """How the weights came about goes with them, and so does what a package of them must be able to run."""
    if isinstance(child, export.ExportContract) and isinstance(parent, checkpoint.CheckpointContract) and child.training != parent.training:
        yield Violation(str(file), "/training", f"{parent.training}, as the checkpoint that it was made from", str(child.training))
    if isinstance(child, package.PackageContract) and isinstance(parent, export.ExportContract):
        wanted = parent.latent is not None and child.layout == "multifunction"
        if (package.LATENT in child.facts.functions) != wanted:
            expected = f"{'a' if wanted else 'no'} function `{package.LATENT}`, as the export that it was made from"
            yield Violation(str(file), "/facts/functions", expected, ", ".join(child.facts.functions))


def _content(directory: Path, contract: Contract, parts: dict[str, Contract]) -> Iterator[Violation]:
    if isinstance(contract, checkpoint.CheckpointContract):
        yield from _checkpoint(directory, contract)
    elif isinstance(contract, export.ExportContract):
        yield from _export(directory, contract)
    elif isinstance(contract, package.PackageContract):
        yield from _package(directory, contract)
    elif isinstance(contract, deployment.DeploymentContract):
        yield from _deployment(directory, contract, parts)
    elif isinstance(contract, dataset.DatasetContract):
        for name, split in contract.splits.items():
            rows = sum(_lines(directory / file) for file in split.files)
            if rows != split.rows:
                yield Violation(str(directory / dataset.FILE), f"/splits/{name}/rows", f"{rows}, the lines of its files", str(split.rows))
    elif isinstance(contract, evaluation.EvaluationContract):
        items = _lines(directory / evaluation.RESULTS)
        if items != contract.items:
            yield Violation(str(directory / evaluation.FILE), "/items", f"{items}, the lines of {evaluation.RESULTS}", str(contract.items))


def _checkpoint(directory: Path, contract: checkpoint.CheckpointContract) -> Iterator[Violation]:
    from pipeline.sources.safetensors import check_header

    file = directory / checkpoint.WEIGHTS
    wanted = contract.arch.weight_shapes(contract.model_arch)
    tensors = check_header(file)
    found = {name: entry.shape for name, entry in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            yield Violation(str(file), name, f"shape {wanted.get(name)}", f"shape {found.get(name)}")
    dtype = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[contract.dtype]
    for name, entry in tensors.items():
        if entry.dtype != dtype:
            yield Violation(str(file), name, f"dtype {dtype}, as the contract says", f"dtype {entry.dtype}")
    if (count := sum(map(math.prod, found.values()))) != contract.parameters:
        yield Violation(str(directory / checkpoint.FILE), "/parameters", f"{count}, the elements of {file.name}", str(contract.parameters))
    if contract.has_blocks and (blocks := set(check_header(directory / checkpoint.BLOCKS))) != set(contract.source.quantization):
        odd = sorted(blocks ^ set(contract.source.quantization))[0]
        yield Violation(str(directory / checkpoint.BLOCKS), odd, "the tensors of /source/quantization", "others")
    yield from _tokenizer(directory, checkpoint.FILE, contract, contract.tokenizer)


def _tokenizer(directory: Path, name: str, contract: Contract, info: checkpoint.TokenizerInfo | None) -> Iterator[Violation]:
    digests = {entry.path: entry.sha256 for entry in contract.files}
    file = str(directory / name)
    if digests.get(checkpoint.TOKENIZER) != (info.sha256 if info else None):
        told = info.sha256 if info else "null"
        yield Violation(file, "/tokenizer/sha256", f"{digests.get(checkpoint.TOKENIZER)}, that of {checkpoint.TOKENIZER}", told)
    if (checkpoint.CHAT_TEMPLATE in digests) != bool(info and info.has_chat_template):
        there = "there is one" if checkpoint.CHAT_TEMPLATE in digests else "there is none"
        yield Violation(file, "/tokenizer/has_chat_template", f"{there}: {checkpoint.CHAT_TEMPLATE}", str(bool(info and info.has_chat_template)))


def _export(directory: Path, contract: export.ExportContract) -> Iterator[Violation]:
    for artifact, signature in contract.signatures.items():
        file = directory / export.signature_file(artifact)
        beside = strict.validate(export.Signature, strict.parse_json(file.read_bytes(), str(file), remedy=REMEDY), str(file), remedy=REMEDY)
        if beside != signature:
            yield Violation(str(file), "", f"the signature in {export.FILE}", "another one")
        if signature.artifact != artifact or not (directory / artifact).is_file():
            yield Violation(str(directory / export.FILE), f"/signatures/{artifact}", "a file of the directory, by its name", signature.artifact)
    yield from _tokenizer(directory, export.FILE, contract, contract.tokenizer)


def _package(directory: Path, contract: package.PackageContract) -> Iterator[Violation]:
    from runtime.mil.facts import read_facts

    file = str(directory / package.FILE)
    facts = read_facts(directory / contract.artifact)
    for field in package.PackageFacts.model_fields:
        told, found = getattr(contract.facts, field), getattr(facts, field)
        if told != found:
            yield Violation(file, f"/facts/{field}", f"{found} (read from {contract.artifact})", str(told))
    if contract.use_halt_head and not facts.has_output("halt_logits"):
        yield Violation(file, "/use_halt_head", "false: no function returns halt_logits", "true")
    digest = _tree_digest(contract.artifact, contract.files)
    if digest != contract.tree_digest:
        yield Violation(file, "/tree_digest", f"{digest}, of the files of {contract.artifact}", contract.tree_digest)


def _tree_digest(folder: str, files: Iterable[FileEntry]) -> str:
    """As pipeline.coreml.normal.tree_digest, from the digests of files that were hashed already."""
    inside = {PurePosixPath(entry.path).relative_to(folder): entry.sha256 for entry in files if entry.path.startswith(f"{folder}/")}
    whole = hashlib.sha256()
    for path in sorted(inside):
        whole.update(path.as_posix().encode() + b"\0" + bytes.fromhex(inside[path]))
    return whole.hexdigest()


def _deployment(directory: Path, manifest: deployment.DeploymentContract, parts: dict[str, Contract]) -> Iterator[Violation]:
    from pipeline.stages.deploy import derive, halt_threshold
    from runtime.config import RuntimeConfig
    from runtime.limits import limit_violations

    exported, packaged = parts[export.FILE], parts.get(package.FILE)
    assert isinstance(exported, export.ExportContract) and isinstance(packaged, package.PackageContract | None)
    file = str(directory / deployment.FILE)
    listed = {entry.path: entry for entry in manifest.files}
    given = {entry.path: (entry, part) for part in parts.values() for entry in part.files}
    for name, (entry, part) in given.items():
        if listed.get(name) != entry:
            yield Violation(str(directory / name), "", f"sha256 {entry.sha256} ({KINDS[part.kind][0]})", "another in the manifest")
    for name in sorted(set(listed) - set(given) - set(BY_FILE) - {deployment.RUNTIME_CONFIG}):
        yield Violation(file, "/files", "the files of the parts and the runtime configuration", name)
    derived = {**derive(exported, packaged), "inputs": tuple(InputRef(kind=part.kind, digest=part.digest) for part in (exported, packaged) if part)}
    for field, value in derived.items():
        told = getattr(manifest, field)
        if told != value:
            yield Violation(file, f"/{field}", f"{value} (derived from the artifacts)", str(told))
    for part in parts.values():
        yield from _content(directory, part, {})
    config_file = str(directory / deployment.RUNTIME_CONFIG)
    config = RuntimeConfig.from_file(directory / deployment.RUNTIME_CONFIG)
    if config.halt_head_enabled and not manifest.capabilities.halt_head:
        yield Violation(config_file, "/halt_head_enabled", "false: the artifacts have no halt head", "true")
    threshold = halt_threshold(exported, manifest.halt_calibration)
    if manifest.schema_version > 1 and config.halt_probability_threshold != threshold:
        told = str(config.halt_probability_threshold)
        yield Violation(config_file, "/halt_probability_threshold", f"{threshold}, as the head or its calibration says", told)
    if config.latent_mode_enabled and not manifest.capabilities.latent_reasoning:
        yield Violation(config_file, "/latent_mode_enabled", "false: no latent reasoning in the artifacts", "true")
    else:
        yield from limit_violations(config, exported.training, config_file)


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
