"""Stage convert by either lane, and by both: what is published, what is recorded, what a drift does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.toy_exports import toy_export

from interlock.contracts import io, package
from interlock.errors import GateFailed, UsageError
from interlock.voice import SilentVoice

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_export(tmp_path_factory.mktemp("lanes"), halt_head=True, lengths=(32, 64))


def convert(source: Path, out: Path, **fields: object) -> package.PackageContract:
    from pipeline.driver import stage
    from pipeline.stages import convert

    stage.run(convert.STAGE, convert.Params(out=out, toy=True, source=source, **fields), SilentVoice())  # type: ignore[arg-type]
    return io.read_artifact(out, package.PackageContract)


@pytest.mark.parametrize("layout", ["multifunction", "single"])
def test_both_publishes_the_first_lane_and_records_the_drift(exported: Path, tmp_path: Path, layout: str) -> None:
    made = {lane: convert(exported, tmp_path / lane, layout=layout, lane=lane) for lane in ("trace", "export", "both")}
    assert {name: contract.lane for name, contract in made.items()} == {"trace": "trace", "export": "export", "both": "trace"}
    assert made["both"].tree_digest == made["trace"].tree_digest != made["export"].tree_digest
    assert made["trace"].drift is None and made["export"].drift is None
    drift = made["both"].drift
    assert drift is not None and set(drift.operations) == set(made["trace"].facts.functions)
    for name, counts in drift.operations.items():
        first, second = (made[lane].facts.functions[name].operations for lane in ("trace", "export"))
        assert {kind: first.get(kind, 0) + counts.get(kind, 0) for kind in {*first, *second}} == {
            kind: second.get(kind, 0) for kind in {*first, *second}
        }
        outputs = {output.name for output in made["trace"].facts.functions[name].outputs}
        assert {(item.output, item.against) for item in drift.evidence if item.function == name} == {(o, a) for o in outputs for a in (None, "trace")}
    assert all(item.psnr_db is not None and item.psnr_db > 55 for item in drift.evidence)


def test_lanes_that_disagree_are_kept_and_not_published(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A front end that reads the rotation of every key and query the wrong way round, in the second lane only."""
    import runtime.student.model as model
    from pipeline.coreml import lanes

    right = lanes.convert_export

    def wrong(*args: object) -> tuple[str, ...]:
        with pytest.MonkeyPatch.context() as patch:
            rotate = model.apply_rope
            patch.setattr(model, "apply_rope", lambda x, cos, sin: rotate(x, cos, -sin))
            return right(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(lanes, "convert_export", wrong)
    with pytest.raises(GateFailed) as failed:
        convert(exported, tmp_path / "package", lane="both", checkpoint=exported.parent / "checkpoint")
    kept = tmp_path / "rejected" / "package"
    assert not (tmp_path / "package").exists() and str(kept) in failed.value.remedy
    record = json.loads((kept / "drift.json").read_text())
    assert record["findings"] and "--lane both" in record["command"]
    assert (kept / package.PACKAGE / "Manifest.json").is_file() and (kept / "other.mlpackage" / "Manifest.json").is_file()


def test_a_lane_of_a_finished_package_is_refused(exported: Path, tmp_path: Path) -> None:
    convert(exported, tmp_path / "package")
    with pytest.raises(UsageError, match="--lane belongs to a conversion"):
        convert(tmp_path / "package", tmp_path / "small", lane="export", compress="int8", checkpoint=exported.parent / "checkpoint")
