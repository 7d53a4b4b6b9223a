"""What gates of other packages found, in a contract: part of what the artifact is, absent where none was asked, never a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import resealed, write_evaluation

from interlock.contracts import evaluation, io, strict
from interlock.errors import ContractError

PASSED = {
    "gate": "size-budget",
    "distribution": "interlock-smoke",
    "findings": [{"text": "bytes", "passed": True, "value": 3.0, "threshold": 4.0}],
}


def written(directory: Path, **fields: Any) -> dict[str, Any]:
    """The contract of a small evaluation, with other fields, sealed again."""
    write_evaluation(directory)
    file = directory / evaluation.FILE
    document = resealed(json.loads(file.read_bytes()) | fields)
    file.write_text(json.dumps(document))
    return document


def test_a_contract_without_gates_has_no_such_field(tmp_path: Path) -> None:
    assert "gates_passed" not in json.loads((written(tmp_path) and (tmp_path / evaluation.FILE)).read_bytes())


def test_findings_are_read_back_and_part_of_the_digest(tmp_path: Path) -> None:
    without = written(tmp_path / "without")
    document = written(tmp_path / "with", gates_passed=[PASSED])
    contract = io.read_artifact(tmp_path / "with", evaluation.EvaluationContract)
    assert contract.gates_passed[0].findings[0].value == 3.0
    assert contract.model_dump(mode="json")["gates_passed"] == [PASSED]
    assert contract.digest == document["digest"] != without["digest"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"findings": [{"text": "bytes", "passed": False, "value": 5.0, "threshold": 4.0}]}, "what a gate refuses is not published"),
        ({"findings": []}, "at least 1 item"),
        ({"findings": [{"text": "", "passed": True}]}, "at least 1 character"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_passed_gate_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    written(tmp_path, gates_passed=[PASSED | change])
    with pytest.raises(ContractError) as refused:
        io.read_contract(tmp_path / evaluation.FILE, evaluation.EvaluationContract)
    assert any(told in violation.expected for violation in refused.value.violations)


def test_version_1_knows_none(root: Path) -> None:
    file = next(root.glob("tests/interlock/contracts/golden/v1/**/checkpoint_contract.json"))
    document = resealed(json.loads(file.read_bytes()) | {"gates_passed": [PASSED]})
    _, model = io.KINDS["checkpoint"]
    with pytest.raises(ContractError, match="no gates of other packages"):
        strict.validate(model, document, "old", remedy="none")
