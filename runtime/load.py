"""Open a directory for inference: a deployed one, or a checkpoint.

Here: which files a backend needs, and the proof that they are what the contract says before any is opened. Not here: running them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlock.contracts import checkpoint, deployment, export, io, package
from interlock.contracts.base import Contract
from interlock.contracts.checkpoint import Arch, ModelArch, TokenizerInfo, Training
from interlock.errors import ContractError, UsageError, Violation, refuse
from interlock.producers import check_producer
from runtime.backends.coreml import Units, coreml_backend, require_core_ml
from runtime.backends.protocol import Backend
from runtime.config import RuntimeConfig
from runtime.engine.tokenizer import Tokenizer
from runtime.limits import check_limits

BackendName = Literal["eager", "torchscript", "reference", "coreml"]
WeightsName = Literal["fp32", "bf16", "int8", "packed"]
PackageMode = Literal["fp16", "fp32", "fast"]


@dataclass(frozen=True)
class Loaded:
    """A model ready to run. `config` is the directory's runtime configuration, None for a checkpoint; `training`: what its heads and slots were
    taught."""

    backend: Backend[Any]
    backend_name: BackendName
    tokenizer: Tokenizer
    info: TokenizerInfo
    config: RuntimeConfig | None
    digest: str
    training: Training | None = None


def load(
    directory: str | Path,
    backend: BackendName = "eager",
    *,
    weights: WeightsName = "fp32",
    units: Units | None = None,
    mode: PackageMode | None = None,
) -> Loaded:
    """The model of a deployed directory or a checkpoint. weights: how backend `eager` holds them (runtime/backends/held.py). units: what Core ML may
    run on, for backend `coreml`; None leaves it the choice. mode: of backend `reference`; None is the fast one.

    Raises ContractError, UsageError where the backend cannot run it, or EnvironmentRefused where this machine cannot run the backend.
    """
    if backend == "coreml":
        require_core_ml()
    elif units is not None:
        raise UsageError(f"backend `{backend}` has no choice of --compute-units", remedy="leave it out, or use --backend coreml")
    if mode is not None and backend != "reference":
        raise UsageError(f"backend `{backend}` has no choice of --mode", remedy="leave it out, or use --backend reference")
    folder = Path(directory)
    kind = io.kind_of(folder) if folder.is_dir() else None
    if kind == "deployment":
        return _deployed(folder, backend, weights, units or "all", mode or "fast")
    if kind == "checkpoint":
        return _checkpoint(folder, backend, weights)
    found = f"a directory of kind `{kind}`" if kind else ("no contract in it" if folder.is_dir() else "no such directory")
    raise refuse(folder, "", expected="a deployed directory or a checkpoint", found=found, remedy="make one: `make deploy-full`, or interlock import")


def _deployed(folder: Path, name: BackendName, weights: WeightsName, units: Units, mode: PackageMode) -> Loaded:
    manifest = io.read_contract(folder / deployment.FILE, deployment.DeploymentContract)
    parts = io.read_parts(folder, manifest)
    for file, contract in {deployment.FILE: manifest, **parts}.items():
        check_producer(folder / file, contract)
    if manifest.artifacts.pytorch_decode is None:
        raise UsageError(f"`{folder}` has no decode file, so it cannot generate", remedy="deploy an export made with --mode both")
    files = [manifest.artifacts.pytorch_export, manifest.artifacts.runtime_config, checkpoint.TOKENIZER]
    files += [manifest.artifacts.pytorch_decode] if name == "torchscript" else []
    files += [checkpoint.CHAT_TEMPLATE] if manifest.tokenizer.has_chat_template else []
    files += _package_files(folder, manifest, name) if name in ("reference", "coreml") or weights == "packed" else []
    _prove(folder, manifest, files)
    exported = parts[export.FILE]
    assert isinstance(exported, export.ExportContract)
    config = RuntimeConfig.from_file(folder / manifest.artifacts.runtime_config)
    check_limits(config, exported.training, str(folder / manifest.artifacts.runtime_config))
    arch, heads = manifest.model_info.arch, ModelArch(use_halt_head=manifest.model_info.use_halt_head)
    made: Backend[Any]
    if name == "torchscript":
        from runtime.backends.torchscript import TorchScriptBackend

        _only_fp32(name, weights)
        prefill, decode = folder / manifest.artifacts.pytorch_export, folder / manifest.artifacts.pytorch_decode
        made = TorchScriptBackend(prefill, decode, arch, use_halt_head=heads.use_halt_head)
    elif name in ("reference", "coreml"):
        _only_fp32(name, weights)
        packaged = parts[package.FILE]
        assert isinstance(packaged, package.PackageContract)
        facts = packaged.facts
        made = _packaged(folder / package.PACKAGE, facts, name, units, mode)
    else:
        load_weight, codes = exported_weights(folder / export.PREFILL), None
        if weights == "packed":
            from runtime.backends.package_codes import package_codes
            from runtime.mil import open_package

            codes = package_codes(open_package(folder / package.PACKAGE), load_weight)
        made = _eager(arch, heads, load_weight, weights, codes)
    return Loaded(made, name, Tokenizer.load(folder, manifest.tokenizer), manifest.tokenizer, config, manifest.digest, exported.training)


def _checkpoint(folder: Path, name: BackendName, weights: WeightsName) -> Loaded:
    contract = io.read_contract(folder / checkpoint.FILE, checkpoint.CheckpointContract)
    check_producer(folder / checkpoint.FILE, contract)
    if name != "eager":
        raise UsageError(f"backend `{name}` runs exported files, `{folder}` is a checkpoint", remedy="use --backend eager, or deploy it first")
    if contract.tokenizer is None:
        raise UsageError(f"`{folder}` has no tokenizer", remedy="import it again with --tokenizer DIR")
    files = [checkpoint.WEIGHTS, checkpoint.TOKENIZER, *([checkpoint.CHAT_TEMPLATE] if contract.tokenizer.has_chat_template else [])]
    files += [checkpoint.BLOCKS] if weights == "packed" and contract.has_blocks else []
    _prove(folder, contract, files)
    codes = None
    if weights == "packed":
        from runtime.backends.checkpoint_codes import checkpoint_codes

        codes = checkpoint_codes(folder, contract)
    made = _eager(contract.arch, contract.model_arch, checkpoint_weights(folder, contract).__getitem__, weights, codes)
    return Loaded(made, name, Tokenizer.load(folder, contract.tokenizer), contract.tokenizer, None, contract.digest, contract.training)


def _eager(arch: Arch, heads: ModelArch, load_weight: Callable[[str], Any], weights: WeightsName, codes: Callable[[str], Any] | None) -> Backend[Any]:
    from runtime.backends.eager import EagerBackend
    from runtime.backends.held import Held

    return EagerBackend(arch, heads, Held(load_weight, weights, codes))


def _packaged(path: Path, facts: package.PackageFacts, name: BackendName, units: Units, mode: PackageMode) -> Backend[Any]:
    if name == "coreml":
        return coreml_backend(path, facts, units)
    from runtime.backends.reference import reference_backend

    return reference_backend(path, facts, mode)


def _package_files(folder: Path, manifest: deployment.DeploymentContract, name: BackendName) -> list[str]:
    if manifest.artifacts.coreml_export is None:
        raise UsageError(f"`{folder}` has no Core ML package for backend `{name}`", remedy="deploy with --export-coreml")
    return [entry.path for entry in manifest.files if entry.path.startswith(f"{package.PACKAGE}/")]


def _only_fp32(name: BackendName, weights: WeightsName) -> None:
    if weights != "fp32":
        raise UsageError(f"backend `{name}` has no choice of --weights", remedy="leave out --weights, or use --backend eager")


def exported_weights(file: Path) -> Callable[[str], Any]:
    """Weights by the student's names from an exported file, in fp16 as stored: what eager multiplies is then bit for bit what torchscript does."""
    from runtime.backends.mapped import exported

    parameters = exported(file, "write the file again: interlock export --checkpoint <directory> --out <directory>")
    return lambda name: parameters[f"student.{name}"]


def checkpoint_weights(folder: Path, contract: checkpoint.CheckpointContract) -> dict[str, Any]:
    """Every tensor by name as stored, mapped from the file, checked against the contract. Raises ContractError."""
    from runtime.backends.mapped import NAMES, safetensors
    from runtime.student.fit import REMEDY, check_fit

    path = folder / checkpoint.WEIGHTS
    weights = safetensors(path, REMEDY)
    check_fit(weights, {name: NAMES[weight.dtype] for name, weight in weights.items()}, contract, path)
    return weights


def _prove(folder: Path, contract: Contract, names: list[str]) -> None:
    """The digests of the files that will be opened, before they are: a TorchScript file is a program. Raises ContractError."""
    wrong = []
    for name in names:
        entry = contract.entry(name)
        actual = io.sha256_file(folder / name)
        if actual != entry.sha256:
            wrong.append(Violation(str(folder / name), "", f"sha256 {entry.sha256}", f"sha256 {actual}"))
    if wrong:
        raise ContractError(*wrong, remedy="the file was changed after publication; deploy again (`make deploy-full`)")
