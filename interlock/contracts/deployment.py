"""Deployment contract: the manifest of a deployed directory (`deployment_manifest.json`).

Here: the guide's fields, derived from artifacts, with the common header. Not here: how they are derived (pipeline/stages/deploy).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from interlock.contracts import export, package
from interlock.contracts.base import Contract, Frozen, RelativePath, Sha256
from interlock.contracts.checkpoint import Arch, TokenizerInfo

FILE = "deployment_manifest.json"
RUNTIME_CONFIG = "runtime_config.json"


class ModelInfo(Frozen):
    """The guide's `model_info`."""

    checkpoint_step: int
    use_halt_head: bool
    use_self_evaluation: bool
    arch: Arch


class Artifacts(Frozen):
    """File names inside the directory; null where the artifact was not asked for."""

    pytorch_export: RelativePath
    pytorch_decode: RelativePath | None
    coreml_export: RelativePath | None
    runtime_config: RelativePath


class Capabilities(Frozen):
    """What the artifacts can do, never what a flag asked for. `code_mode` is a tool protocol over plain text: any artifact that generates has it."""

    latent_reasoning: bool
    halt_head: bool
    code_mode: bool


class HaltCalibration(Frozen):
    """Where the threshold of the runtime configuration comes from, where it is not the one that the halt head declares.

    It is the smallest that cut at most the share `most_cut` of `answers` answers of this deployment. `dialogues` names what was asked; `evidence`
    are the figures, by name.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)]
    most_cut: Annotated[float, Field(gt=0, lt=1)]
    dialogues: str
    answers: Annotated[int, Field(ge=1)]
    evidence: dict[str, float]


class DeploymentContract(Contract):
    """The body. `export_digest` and `package_digest` name the contracts that stand in the same directory."""

    kind: Literal["deployment"] = "deployment"
    model_info: ModelInfo
    artifacts: Artifacts
    capabilities: Capabilities
    tokenizer: TokenizerInfo
    enumerated_T: tuple[int, ...]
    export_digest: Sha256
    package_digest: Sha256 | None
    hardware_verified: None = None
    halt_calibration: HaltCalibration | None = None

    SINCE_2: ClassVar[tuple[str, ...]] = ("halt_calibration",)

    def parts(self) -> dict[str, str]:
        return {export.FILE: self.export_digest} | ({package.FILE: self.package_digest} if self.package_digest else {})
