"""The compatibility table: whole, in step with its locks and tox environments, and strict about what differs."""

from __future__ import annotations

import configparser
import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from interlock.environments import environments
from interlock.errors import ContractError
from pipeline.compat import table
from pipeline.compat.__main__ import compare
from pipeline.compat.cases import CASES
from pipeline.compat.results import Column, Result

TABLE = table.load()
PIN = re.compile(r"^(torch|coremltools|numpy)==(\S+)", re.MULTILINE)


def test_five_versions_of_torch_under_two_pythons_have_every_case() -> None:
    measured = {(column.versions.torch, column.versions.python) for column in TABLE.columns}
    torches, pythons = ({pair[place] for pair in measured} for place in (0, 1))
    assert len(torches) >= 5 and len(pythons) >= 2 and measured == set(product(torches, pythons))
    assert len(CASES) >= 20
    for column in TABLE.columns:
        assert list(column.cells) == [case.name for case in CASES], column.versions


def test_what_is_ok_reaches_its_floor_and_what_is_not_says_why() -> None:
    for case, cells in TABLE.rows():
        for cell in cells:
            assert cell is not None
            assert (cell.status == "ok") == (cell.db is not None and cell.db >= case.floor_db) == bool(cell.operations)
            assert bool(cell.note) == (cell.status != "ok")


def test_the_versions_of_both_environments_are_in_the_table() -> None:
    locked = environments()["export"].locked()
    column = TABLE.column_for(locked["torch"], "3.11.99", locked["coremltools"], "2.3.5")
    assert column is not None and column.versions.torch == locked["torch"]
    assert TABLE.column_for(locked["torch"] + "+cpu", "3.11", locked["coremltools"], "2.3.5") is column
    assert TABLE.column_for("2.6.0", "3.11", locked["coremltools"], "2.3.5") is None
    assert TABLE.column_for(locked["torch"], "3.11", locked["coremltools"], "2.3.5", "darwin-arm64") is None


def test_locks_tox_and_columns_name_the_same_versions(root: Path) -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(root / "tox.ini")
    (section,) = (name for name in tox.sections() if name.startswith("testenv:compat-"))
    factors, pythons = (found.split(",") for found in re.findall(r"\{([^}]+)\}", section))
    named = dict(re.findall(r"^(torch[\d.]+): TORCH = (\S+)$", tox[section]["set_env"], re.MULTILINE))
    assert list(named) == [f"torch{factor}" for factor in factors]
    locks = {path.name.removeprefix("torch-").removesuffix(".lock"): path for path in (root / "envs" / "compat").iterdir()}
    assert set(locks) == set(named.values()) == {column.versions.torch for column in TABLE.columns}
    assert {column.versions.python.replace(".", "") for column in TABLE.columns} == set(pythons)


def test_a_lock_of_the_table_holds_hashes_and_what_export_asks_for(root: Path) -> None:
    wanted = {need.name: need.specifier for need in map(Requirement, environments()["export"].definition["project"]["dependencies"])}
    for lock in (root / "envs" / "compat").iterdir():
        text = lock.read_text()
        assert text.startswith("--require-hashes\n") and "://" not in text
        assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2]))
        pins = dict(PIN.findall(text))
        assert lock.name == f"torch-{pins['torch']}.lock"
        assert wanted["coremltools"].contains(pins["coremltools"]) and wanted["numpy"].contains(pins["numpy"])
        measured = [column.versions for column in TABLE.columns if column.versions.torch == pins["torch"]]
        assert {(found.coremltools, found.numpy) for found in measured} == {(pins["coremltools"], pins["numpy"])}


def test_the_file_is_what_the_table_is_saved_as_one_line_for_each_cell(tmp_path: Path) -> None:
    copy = tmp_path / "table.json"
    table.save(TABLE, copy)
    assert copy.read_bytes() == table.FILE.read_bytes() and table.load(copy) == TABLE
    lines = copy.read_text().splitlines()
    assert sum('"status":' in line for line in lines) == len(TABLE.columns) * len(CASES) and max(map(len, lines)) < 1000


def test_a_column_takes_the_place_of_the_one_with_its_versions() -> None:
    first, *others = TABLE.columns
    other = Column(first.versions, {**first.cells, "trace_fixed": Result("failed", note="RuntimeError: x")})
    assert TABLE.with_column(other).columns == (other, *others)
    older = Column(replace(first.versions, torch="2.5.10"), first.cells)
    assert [column.versions.torch for column in TABLE.with_column(older).columns][:2] == ["2.5.10", first.versions.torch]


@pytest.mark.parametrize("damage", ["{", "[]", '{"columns": [{}], "operations": {}}', '{"columns": 1, "operations": {}}'])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "table.json"
    file.write_text(damage)
    with pytest.raises(ContractError, match=r"table\.json") as refused:
        table.load(file)
    assert "ci/compat" in refused.value.remedy


def test_what_differs_from_the_table_is_named_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    column = TABLE.columns[0]
    assert compare(Column(column.versions, {"trace_fixed": column.cells["trace_fixed"]})) == 0
    fixed = column.cells["trace_fixed"]
    assert fixed.db is not None
    worse = {
        "trace_fixed": replace(fixed, db=fixed.db - 1),
        "trace_range": Result("crashed", note="SIGSEGV"),
        "trace_decode": replace(column.cells["trace_decode"], operations={**column.cells["trace_decode"].operations, "tile": 9}),
        "trace_stateful_fp32": replace(column.cells["trace_stateful_fp32"], note="TypeError: another"),
    }
    assert compare(Column(column.versions, {**column.cells, **worse})) == 1
    said = capsys.readouterr().err
    assert f"trace_fixed: {fixed.db:.1f} → {fixed.db - 1:.1f} dB" in said and "trace_range: ok → crashed (SIGSEGV)" in said
    assert "trace_decode: operations +" in said and " tile (" in said and "trace_stateful_fp32: ValueError" in said and said.count("differs") == 4
    assert compare(Column(replace(column.versions, torch="9.9"), column.cells)) == 1
    assert "no column for torch 9.9" in capsys.readouterr().err


def test_columns_survive_json() -> None:
    from pipeline.compat.results import column_from

    column = TABLE.columns[0]
    assert column_from(json.loads(json.dumps(column.as_dict()))) == column
