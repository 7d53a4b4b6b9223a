"""Stage `deploy`: exported files and a package in, one deployed directory with a manifest out.

Here: the directory's content, the manifest's derivation. Not here: the chain that makes the parts (pipeline/verbs/deploy.py),
proving a directory (pipeline/verify.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interlock.contracts import deployment, export, package
from interlock.contracts.base import Contract, InputRef
from interlock.contracts.checkpoint import Training
from interlock.errors import ContractError, Violation
from interlock.fs import Workspace, require_space
from interlock.voice import Voice
from pipeline.driver import stage
from runtime.config import CawsTier, RuntimeConfig
from runtime.limits import trained_limits, usual_config


class Params(stage.Params):
    """`export` and `package` are artifact directories. `latent_mode` and `halt_head` are claims: the artifacts must bear them out."""

    export: Path
    package: Path | None = None
    latent_mode: bool
    halt_head: bool
    caws_tier: CawsTier


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    exported = stage.read_input(params.export, export.ExportContract, voice, toy=params.toy)
    packaged = stage.read_input(params.package, package.PackageContract, voice, toy=params.toy) if params.package else None
    _check(params, exported, packaged)
    contracts: list[Contract] = [exported, *([packaged] if packaged else [])]
    require_space(params.out.parent, sum(entry.bytes for contract in contracts for entry in contract.files) + (16 << 20))
    with voice.task("copy artifacts"):
        for folder in filter(None, (params.export, params.package)):
            for child in sorted(folder.iterdir()):
                work.copy(child, child.name)
    work.write(deployment.RUNTIME_CONFIG, _config(params, exported.training, exported.use_halt_head).to_json())
    inputs = tuple(InputRef(kind=contract.kind, digest=contract.digest) for contract in contracts)
    return stage.Outcome(derive(exported, packaged), inputs, toy=any(contract.toy for contract in contracts))


STAGE = stage.Stage("deploy", "train", "deployment", Params, work, __name__)


def _config(params: Params, training: Training | None, halts: bool) -> RuntimeConfig:
    """Temperature 0: what is deployed answers the same question the same way until somebody decides otherwise. Limits are those of the training."""
    return RuntimeConfig(
        latent_mode_enabled=params.latent_mode, halt_head_enabled=halts, caws_tier=params.caws_tier, temperature=0.0, **trained_limits(training)
    )


def derive(exported: export.ExportContract, packaged: package.PackageContract | None) -> dict[str, Any]:
    """Every field of the manifest's body from the contracts of the artifacts; `interlock verify` derives them again and compares."""
    assert exported.tokenizer is not None
    latent = not _missing_for_latent(exported, packaged)
    halts = exported.use_halt_head and (packaged is None or packaged.facts.has_output("halt_logits"))
    return {
        "model_info": deployment.ModelInfo(
            checkpoint_step=exported.step,
            use_halt_head=exported.use_halt_head,
            use_self_evaluation=exported.model_arch.use_self_evaluation,
            arch=exported.arch,
        ),
        "artifacts": deployment.Artifacts(
            pytorch_export=export.PREFILL,
            pytorch_decode=export.DECODE if export.DECODE in exported.signatures else None,
            coreml_export=packaged.artifact if packaged else None,
            runtime_config=deployment.RUNTIME_CONFIG,
        ),
        "capabilities": deployment.Capabilities(latent_reasoning=latent, halt_head=halts, code_mode=export.DECODE in exported.signatures),
        "tokenizer": exported.tokenizer,
        "enumerated_T": exported.enumerated_T,
        "export_digest": exported.digest,
        "package_digest": packaged.digest if packaged else None,
    }


def halt_threshold(exported: export.ExportContract, calibration: deployment.HaltCalibration | None) -> float:
    """The threshold that a deployment's runtime configuration has: measured on it, else the one that its head declares, else the guide's."""
    return calibration.threshold if calibration else usual_config(exported.training).halt_probability_threshold


def _missing_for_latent(exported: export.ExportContract, packaged: package.PackageContract | None) -> list[tuple[str, str, str]]:
    """What keeps the artifacts from running a latent span: JSON path, what is expected, what is found."""
    if exported.latent is None or export.DECODE not in exported.signatures:
        return [("/signatures", "a latent decode method", "none: this checkpoint has no latent training" if exported.latent is None else "none")]
    missing = []
    tokenizer = exported.tokenizer
    if tokenizer is None or tokenizer.bot_id is None or tokenizer.eot_id is None:
        missing.append(("/tokenizer", "the tokens `<bot>` and `<eot>`", "a tokenizer without them" if tokenizer else "none"))
    if packaged and package.LATENT not in packaged.facts.functions:
        missing.append(("/signatures", f"function `{package.LATENT}` in the package", f"a package of layout `{packaged.layout}` without it"))
    return missing


def _check(params: Params, exported: export.ExportContract, packaged: package.PackageContract | None) -> None:
    wrong: list[Violation] = []
    here = str(params.export / export.FILE)
    if exported.mode != "both":
        wrong.append(Violation(here, "/mode", "`both` (a deployment prefills and decodes)", f"`{exported.mode}`"))
    if exported.tokenizer is None:
        wrong.append(Violation(here, "/tokenizer", "a tokenizer (`interlock import … --tokenizer DIR`)", "none"))
    if params.halt_head and not exported.use_halt_head:
        wrong.append(Violation(here, "/use_halt_head", "true, because --halt-head was given", "false: this checkpoint has no halt head"))
    if params.latent_mode:
        wrong += [Violation(here, place, f"{expected}, because --latent-mode was given", found) for place, expected, found in
                  _missing_for_latent(exported, packaged)]  # fmt: skip
    if packaged:
        made_from = next((ref.digest for ref in packaged.inputs if ref.kind == "export"), None)
        if made_from != exported.digest:
            there = str(params.package / package.FILE) if params.package else package.FILE
            wrong.append(Violation(there, "/inputs", f"made from this export ({exported.digest})", f"made from {made_from}"))
    if (exported.toy or (packaged is not None and packaged.toy)) and not params.toy:
        wrong.append(Violation(here, "/toy", "false, or an explicit --toy", "true: a toy artifact"))
    if wrong:
        raise ContractError(*wrong, remedy="leave out the flag, or make the part that is missing; capabilities are what the artifacts have")
