"""A head that was fitted on frozen weights, from its file to a deployed directory that stops by it, and the threshold measured anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fakes.shell import Said, interlock
from fakes.toys import write_latest, write_tokenizer

from interlock.contracts import checkpoint, io
from interlock.contracts.deployment import FILE, DeploymentContract, HaltCalibration
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.driver import stage
from pipeline.halting import head
from pipeline.stages import calibrate
from runtime.student.checkpoint import read_weights

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `deployed`: a toy with a head that says halt, by 0.982, everywhere, and declares the threshold 0.6."""
    folder = tmp_path_factory.mktemp("halt")
    source = ("import", f"pt:{write_latest(folder / 'latest.pt', halt_head=False)}", "--tokenizer", write_tokenizer(folder / "tokenizer"))
    assert interlock(*source, "--out", folder / "plain").code == 0
    plain = io.read_artifact(folder / "plain", checkpoint.CheckpointContract)
    facts = head.HeadFacts(
        backbone=head.backbone_digest(read_weights(folder / "plain", plain)),
        threshold=0.6,
        knows=("capital",),
        seed=1,
        answers=1,
        l2=0.1,
        evidence={},
    )
    head.write(folder / "always.safetensors", head.Head(torch.zeros(2, 64), torch.tensor([-2.0, 2.0]), facts))
    assert interlock(*source, "--out", folder / "checkpoint", "--halt-head", folder / "always.safetensors").code == 0
    said = deploy(folder, "deployed", "--halt-head")
    assert said.code == 0, said.err
    return folder


def deploy(folder: Path, out: str, *claims: str) -> Said:
    return interlock("deploy", "--checkpoint", folder / "checkpoint", "--out-dir", folder / out, "--export-pytorch", "--toy", *claims)


def said(folder: Path, **environ: str) -> dict[str, object]:
    words = ("infer", folder / "deployed", "--raw", "--prompt", "a", "--temperature", 3, "--seed", 0, "--max-new-tokens", 300, "--json")
    result: dict[str, object] = json.loads(interlock(*words, environ=environ).out)
    return result


def test_the_deployment_has_the_capability_and_the_heads_own_threshold(toy: Path) -> None:
    manifest = io.read_contract(toy / "deployed" / FILE, DeploymentContract)
    config = json.loads((toy / "deployed" / "runtime_config.json").read_text())
    assert manifest.capabilities.halt_head and not manifest.capabilities.latent_reasoning
    assert config["halt_head_enabled"] and config["halt_probability_threshold"] == 0.6
    assert interlock("verify", toy / "deployed").code == 0
    deploy(toy, "latent", "--latent-mode").refused(3, "latent")


def test_a_measured_threshold_replaces_it_and_the_manifest_says_where_it_comes_from(toy: Path) -> None:
    before = said(toy)
    found = HaltCalibration(threshold=0.99, most_cut=0.002, dialogues="fresh", answers=2000, evidence={"auc": 0.95})
    params = calibrate.Params(out=toy / "deployed", deployed=toy / "deployed", calibration=found, toy=True)
    stage.run(calibrate.STAGE, params, SilentVoice())
    config = json.loads((toy / "deployed" / "runtime_config.json").read_text())
    assert config["halt_probability_threshold"] == 0.99 and config["halt_head_enabled"]
    manifest = io.read_contract(toy / "deployed" / FILE, DeploymentContract)
    assert manifest.halt_calibration == found and manifest.created_by.stage == "calibrate"
    proven = interlock("verify", toy / "deployed")
    assert proven.code == 0, proven.err
    after = said(toy)
    if before["reason"] == "halt":  # else this seed's text has no end in it
        assert after["reason"] != "halt" and str(after["text"]).startswith(str(before["text"]))


def test_a_configuration_with_another_threshold_than_its_provenance_is_found(toy: Path) -> None:
    from pipeline.contents import content_violations

    manifest = io.read_contract(toy / "deployed" / FILE, DeploymentContract)
    parts = io.read_parts(toy / "deployed", manifest)
    assert content_violations(toy / "deployed", manifest, parts) == []
    (wrong,) = content_violations(toy / "deployed", manifest.model_copy(update={"halt_calibration": None}), parts)
    assert wrong.where == "/halt_probability_threshold" and "0.6" in wrong.expected


def test_a_deployment_without_such_a_head_is_not_calibrated(toy: Path) -> None:
    exported = io.read_parts(toy / "deployed", io.read_contract(toy / "deployed" / FILE, DeploymentContract))["model_contract.json"]
    with pytest.raises(ContractError, match="reads sentence ends"):
        calibrate.check_head(toy, exported.model_copy(update={"training": None}))  # type: ignore[arg-type]  # an ExportContract
