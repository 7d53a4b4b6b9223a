"""Stage convert: what the gate rejects is not published, and is kept with its evidence and the command that makes it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.toy_exports import toy_export

from interlock.contracts import io, package
from interlock.errors import GateFailed
from interlock.voice import SilentVoice

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_export(tmp_path_factory.mktemp("convert"))


@pytest.mark.parametrize("layout", ["multifunction", "single"])
def test_both_layouts_are_published_with_their_evidence(exported: Path, tmp_path: Path, layout: package.Layout) -> None:
    from pipeline.driver import stage
    from pipeline.stages import convert
    from pipeline.verify import verify

    params = convert.Params(out=tmp_path / "package", toy=True, source=exported, checkpoint=exported.parent / "checkpoint", layout=layout)
    stage.run(convert.STAGE, params, SilentVoice())
    held = {io.read_any(exported.parent / name).digest: exported.parent / name for name in ("checkpoint", "exported")}
    # The facts in the contract were read by coremltools; verify reads the package by itself.
    proven = verify(tmp_path / "package", SilentVoice(), held.get)
    assert [one.contract.kind for one in proven.reached] == ["package", "export", "checkpoint"]
    made = proven.contract
    assert isinstance(made, package.PackageContract)
    assert made.gate.reference == "checkpoint" and made.gate.repeatable and made.gate.evidence
    assert {item.function for item in made.gate.evidence} == set(made.facts.functions)
    if layout == "single":
        assert [output.name for output in made.facts.functions["main"].outputs] == ["logits"]


def test_a_rejected_package_is_kept_and_not_published(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.driver import stage
    from pipeline.gates import thresholds
    from pipeline.gates.rejected import EVIDENCE
    from pipeline.stages import convert

    # No fp16 package reaches 190 dB: the gate's own path is taken, with real evidence.
    monkeypatch.setitem(thresholds.THRESHOLDS, "none", package.Thresholds(psnr_db=190, kl_mean=1e-4, kl_max=1e-3))
    with pytest.raises(GateFailed) as failed:
        stage.run(convert.STAGE, convert.Params(out=tmp_path / "package", toy=True, source=exported), SilentVoice())
    assert failed.value.exit_code == 6 and "190" in failed.value.measured
    kept = tmp_path / "rejected" / "package"
    assert not (tmp_path / "package").exists() and (kept / package.PACKAGE / "Manifest.json").is_file()
    evidence = json.loads((kept / EVIDENCE).read_text())
    assert evidence["findings"] and evidence["command"].startswith("interlock convert --in ") and evidence["gate"]["reference"] == "export"
    assert str(kept) in failed.value.remedy
