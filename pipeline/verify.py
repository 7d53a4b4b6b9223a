"""Prove that a directory is what its contract says, and that derived fields follow from the artifacts.

Here: everything that can be proven without running a model. Not here: numeric gates (they run before publication).
"""

from __future__ import annotations

from pathlib import Path

from interlock.contracts import checkpoint, deployment, export, io, strict
from interlock.contracts.base import Contract
from interlock.errors import ContractError, Violation
from interlock.voice import Voice
from pipeline.driver.stage import digesting

REMEDY = "the directory is not what was published: make it again (`make deploy-full`), or restore the file named"


def verify(directory: Path, voice: Voice) -> Contract:
    """The contract of `directory`, proven. Raises ContractError with every violation found."""
    contract = io.read_any(directory)
    with digesting(directory, voice) as progress:
        wrong = io.file_violations(directory, contract, progress)
    if not wrong:  # contents are only read once their digests are known
        wrong = _content(directory, contract)
    if wrong:
        raise ContractError(*wrong, remedy=REMEDY)
    return contract


def _content(directory: Path, contract: Contract) -> list[Violation]:
    if isinstance(contract, checkpoint.CheckpointContract):
        return _checkpoint(directory, contract)
    if isinstance(contract, export.ExportContract):
        return _signatures(directory, contract)
    if isinstance(contract, deployment.DeploymentContract):
        return _deployment(directory, contract)
    return []


def _checkpoint(directory: Path, contract: checkpoint.CheckpointContract) -> list[Violation]:
    from pipeline.sources.safetensors import check_header

    file = directory / checkpoint.WEIGHTS
    wanted = contract.arch.weight_shapes(contract.model_arch)
    found = {name: tuple(entry.shape) for name, entry in check_header(file).items()}
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return [Violation(str(file), name, f"shape {wanted.get(name)}", f"shape {found.get(name)}") for name in names]


def _signatures(directory: Path, contract: export.ExportContract) -> list[Violation]:
    wrong = []
    for artifact, signature in contract.signatures.items():
        file = directory / export.signature_file(artifact)
        beside = strict.validate(export.Signature, strict.parse_json(file.read_bytes(), str(file), remedy=REMEDY), str(file), remedy=REMEDY)
        if beside != signature:
            wrong.append(Violation(str(file), "", f"the signature in {export.FILE}", "another one"))
    return wrong


def _deployment(directory: Path, manifest: deployment.DeploymentContract) -> list[Violation]:
    from pipeline.stages.deploy import derive, read_parts
    from runtime.config import RuntimeConfig

    exported, packaged = read_parts(directory, manifest)
    listed = {entry.path: entry for entry in manifest.files}
    wrong = []
    for part in filter(None, (exported, packaged)):
        file = io.KINDS[part.kind][0]
        differing = [entry for entry in part.files if listed.get(entry.path) != entry]
        wrong += [Violation(str(directory / entry.path), "", f"sha256 {entry.sha256} ({file})", "another in the manifest") for entry in differing]
    expected = derive(exported, packaged)
    for field, value in expected.items():
        told = getattr(manifest, field)
        if told != value:
            wrong.append(Violation(str(directory / deployment.FILE), f"/{field}", f"{value} (derived from the artifacts)", str(told)))
    wrong += _signatures(directory, exported)
    config = RuntimeConfig.from_file(directory / deployment.RUNTIME_CONFIG)
    if config.halt_head_enabled and not manifest.capabilities.halt_head:
        wrong.append(Violation(str(directory / deployment.RUNTIME_CONFIG), "/halt_head_enabled", "false: the artifacts have no halt head", "true"))
    if config.latent_mode_enabled and not manifest.capabilities.latent_reasoning:
        wrong.append(
            Violation(str(directory / deployment.RUNTIME_CONFIG), "/latent_mode_enabled", "false: no latent reasoning in the artifacts", "true")
        )
    return wrong
