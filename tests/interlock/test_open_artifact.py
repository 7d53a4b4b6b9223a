"""`interlock.open`: an artifact as a typed value, whole or refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.artifacts import resealed, write_checkpoint, write_dataset, write_evaluation

import interlock
from interlock.contracts import checkpoint, dataset, deployment, evaluation, export, io, package
from interlock.errors import ContractError

GOLDEN = Path(__file__).parent / "contracts" / "golden" / "v2"


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "deployment", tmp_path / "deployed"))


def test_a_checkpoint_opens_as_its_model_with_its_files(tmp_path: Path) -> None:
    written = write_checkpoint(tmp_path)
    opened = interlock.open(tmp_path)
    assert opened.contract == written and opened.kind == "checkpoint" and opened.digest == written.digest
    assert opened.files[checkpoint.TOKENIZER].read_bytes() == b"{}"
    assert opened.inputs == written.inputs and opened.parts == {} and opened.gate is None
    assert opened.verify() is opened


def test_a_deployment_opens_with_its_parts_and_their_gate(deployed: Path) -> None:
    opened = interlock.open(str(deployed))
    exported = opened.parts["export"]
    assert isinstance(opened.contract, deployment.DeploymentContract) and isinstance(exported, export.ExportContract)
    assert exported.digest == opened.contract.export_digest
    assert opened.gate == exported.shape_validation
    assert set(opened.files) | {export.FILE, deployment.FILE} == set(io.walk(deployed))


def test_the_gate_of_a_package_is_its_numeric_gate(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "toy" / package.FILE, tmp_path)
    gate = interlock.open(tmp_path).gate
    assert isinstance(gate, package.Gate) and gate.reference == "checkpoint"


def test_datasets_and_evaluations_open(tmp_path: Path) -> None:
    rows, judged = write_dataset(tmp_path / "rows"), write_evaluation(tmp_path / "judged")
    assert interlock.open(tmp_path / "rows").contract == rows
    opened = interlock.open(tmp_path / "judged")
    assert opened.gate == judged.gates
    assert set(interlock.open(tmp_path / "rows").verify().files) == set(io.walk(tmp_path / "rows")) - {dataset.FILE}
    assert set(opened.verify().files) == {evaluation.RESULTS}


def test_it_says_in_one_line_what_it_is(deployed: Path) -> None:
    line = repr(interlock.open(deployed))
    for word in ("deployment", str(deployed), "parts export", "6 files"):
        assert word in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["", "nothing", "file"])
def test_what_is_no_artifact_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ContractError, match="an artifact directory"):
        interlock.open(tmp_path / name)


def test_a_part_of_another_artifact_is_refused(deployed: Path) -> None:
    file = deployed / export.FILE
    file.write_text(json.dumps(resealed(json.loads(file.read_bytes()) | {"step": 7})))
    with pytest.raises(ContractError) as refused:
        interlock.open(deployed)
    assert [(violation.file, violation.where) for violation in refused.value.violations] == [(str(file), "/digest")]


def test_an_edited_part_is_refused(deployed: Path) -> None:
    file = deployed / export.FILE
    file.write_bytes(file.read_bytes().replace(b'"project_version": "0.1.0"', b'"project_version": "0.1.1"'))
    with pytest.raises(ContractError) as refused:
        interlock.open(deployed)
    assert [(violation.file, violation.where) for violation in refused.value.violations] == [(str(file), "/seal")]


def test_verify_reads_the_files(deployed: Path) -> None:
    (deployed / export.DECODE).write_bytes(b"a program of decodf")
    opened = interlock.open(deployed)
    with pytest.raises(ContractError) as refused:
        opened.verify()
    assert [violation.file for violation in refused.value.violations] == [str(deployed / export.DECODE)]


def test_importing_interlock_loads_no_pydantic_and_opening_no_torch(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    script = (
        "import sys, interlock; assert 'pydantic' not in sys.modules; "
        "interlock.open(sys.argv[1]).verify(); assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)
