"""Stage `calibrate`: a deployed directory in, the same with a threshold that was measured on it out.

Here: the runtime configuration and the manifest that says where its threshold comes from. Not here: the measurement
(pipeline/halting/calibration.py). Everything else is copied and derived anew, so that the manifest stays true.
"""

from __future__ import annotations

from pathlib import Path

from interlock.contracts import deployment, export, io, package
from interlock.contracts.base import InputRef
from interlock.errors import refuse
from interlock.fs import Workspace, require_space
from interlock.voice import Voice
from pipeline.driver import stage
from pipeline.stages.deploy import derive
from runtime.config import RuntimeConfig


class Params(stage.Params):
    """`deployed` is the directory as it is; `out` may be the same."""

    deployed: Path
    calibration: deployment.HaltCalibration


def work(params: Params, work: Workspace, voice: Voice) -> stage.Outcome:
    manifest = stage.read_input(params.deployed, deployment.DeploymentContract, voice, toy=params.toy)
    parts = io.read_parts(params.deployed, manifest)
    exported, packaged = parts[export.FILE], parts.get(package.FILE)
    assert isinstance(exported, export.ExportContract) and isinstance(packaged, package.PackageContract | None)
    check_head(params.deployed, exported)
    require_space(params.out.parent, sum(entry.bytes for entry in manifest.files) + (16 << 20))
    kept = {path.name for path in params.deployed.iterdir()} - {deployment.FILE, deployment.RUNTIME_CONFIG}
    with voice.task("copy artifacts"):
        for name in sorted(kept):
            work.copy(params.deployed / name, name)
    config = RuntimeConfig.from_file(params.deployed / deployment.RUNTIME_CONFIG)
    config = config.model_copy(update={"halt_probability_threshold": params.calibration.threshold})
    work.write(deployment.RUNTIME_CONFIG, config.to_json())
    inputs = tuple(InputRef(kind=part.kind, digest=part.digest) for part in (exported, packaged) if part)
    return stage.Outcome(derive(exported, packaged) | {"halt_calibration": params.calibration}, inputs, toy=manifest.toy)


def check_head(directory: Path, exported: export.ExportContract) -> None:
    """Raises ContractError unless the deployment has a halt head that reads sentence and line ends."""
    head = exported.training.halt if exported.training else None
    if head is None or head.reads != "sentence_end":
        found = "none" if head is None else f"one that reads `{head.reads}`"
        raise refuse(
            directory / export.FILE,
            "/training/halt",
            expected="a halt head that reads sentence ends",
            found=found,
            remedy="deploy a checkpoint with such a head: interlock build smollm2-halt",
        )


STAGE = stage.Stage("calibrate", "train", "deployment", Params, work, __name__)
