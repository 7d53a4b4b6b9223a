"""A boundary takes what an environment made as it is defined, and a toy of anybody; of every kind, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.makers import PYTHONS, maker

from interlock.contracts import io
from interlock.contracts.base import Contract, CreatedBy, EnvironmentRecord
from interlock.environments import environment, environments
from interlock.errors import EnvironmentRefused
from interlock.producers import HOMES, check_producer
from pipeline.driver.registry import OURS

GOLDEN = Path(__file__).parent / "contracts" / "golden" / "v2"
FILES = sorted(GOLDEN.rglob("*_contract.json")) + sorted(GOLDEN.rglob("deployment_manifest.json"))
KINDS = {file.name: file for file in FILES if file.name in io.BY_FILE}
STAGES = {"dataset": "data", "checkpoint": "import", "export": "export", "package": "convert", "deployment": "deploy"}


def contract_of(kind: str, made: CreatedBy, *, toy: bool = False) -> Contract:
    """A whole contract of one kind, by another maker."""
    file, model = io.KINDS[kind]
    document: dict[str, Any] = json.loads(KINDS[file].read_bytes()) | {"created_by": made.model_dump(), "toy": toy}
    return model.model_validate(document, strict=False).sealed()


def refused(kind: str, made: CreatedBy) -> str:
    with pytest.raises(EnvironmentRefused) as told:
        check_producer(Path("out") / io.KINDS[kind][0], contract_of(kind, made))
    error = told.value
    assert error.exit_code == 4 and f"{io.KINDS[kind][0]} at /created_by/environment" in error.running and "make it again" in error.remedy
    return f"{error.required} | {error.running}"


def with_version(stage: str, package: str, version: str, **others: object) -> CreatedBy:
    packages = maker(stage).environment.packages | {package: version}
    return maker(stage, packages=packages, **others)


def test_the_stages_homes_are_what_the_driver_says() -> None:
    """`compress` is stage `convert` with a package for its input."""
    assert {entry.name: entry.environment for entry in OURS.values() if entry.name != "compress"} == HOMES
    assert OURS["compress"].environment == HOMES["convert"] and OURS["compress"].module == OURS["convert"].module


@pytest.mark.parametrize("kind", sorted(io.KINDS))
def test_what_its_own_environment_made_is_taken(kind: str) -> None:
    check_producer(Path("x"), contract_of(kind, maker(STAGES.get(kind, "eval"))))


@pytest.mark.parametrize("kind", sorted(io.KINDS))
@pytest.mark.parametrize(
    ("others", "texts"),
    [
        ({"python": "3.9.18"}, ["Python >=3", "Python 3.9.18"]),
        ({"python": "not a version"}, ["Python >=3", "Python not a version"]),
        ({"name": "elsewhere"}, ["environment `elsewhere`"]),
        ({"platform": "win32-AMD64"}, ["a system of x86_64-linux", "win32-AMD64"]),
        ({"packages": {}}, ["torch 2.13.0 (requirements.lock)", "torch absent"]),
        ({"packages": {}, "lock_digest": "0" * 64}, ["torch ==2.13.0", "torch absent"]),
    ],
)
def test_another_maker_is_refused_for_every_kind_and_taken_as_a_toy(kind: str, others: dict[str, object], texts: list[str]) -> None:
    made = maker(STAGES.get(kind, "eval"), **others)
    told = refused(kind, made)
    assert all(text in told for text in texts)
    check_producer(Path("x"), contract_of(kind, made, toy=True))


@pytest.mark.parametrize(("kind", "stage"), STAGES.items())
def test_the_other_environment_is_refused(kind: str, stage: str) -> None:
    """Each under its own name, and under the right name with the other's interpreter."""
    (other,) = set(environments()) - {HOMES[stage]}
    strange = CreatedBy(**{**maker(stage).model_dump(), "environment": maker("x", name=other).environment})
    assert f"environment `{HOMES[stage]}` | " in refused(kind, strange)
    assert f"Python {PYTHONS[other]}" in refused(kind, maker(stage, python=PYTHONS[other]))


def test_under_todays_lock_a_package_has_the_locked_version() -> None:
    locked = maker("import").environment.packages["numpy"]
    other = f"{locked.rpartition('.')[0]}.99"
    assert f"numpy {locked} (requirements.lock)" in refused("checkpoint", with_version("import", "numpy", other))


def test_under_another_lock_a_package_has_a_version_that_the_definition_asks_for() -> None:
    """A lock moves; what was made under an earlier one is taken as long as the definition would have admitted it."""
    (numpy,) = [need for need in environment("train").needs("3.13.0") if need.name == "numpy"]
    check_producer(Path("x"), contract_of("checkpoint", with_version("import", "numpy", "2.0.1", lock_digest="0" * 64)))
    told = refused("checkpoint", with_version("import", "numpy", "1.26.4", lock_digest="0" * 64))
    assert f"numpy {numpy.specifier}" in told and "numpy 1.26.4" in told
    assert "torch 2.12.1" in refused("export", with_version("export", "torch", "2.12.1", lock_digest="0" * 64))


def test_a_dependency_that_only_an_older_python_has_is_asked_of_that_one() -> None:
    record = maker("export").environment
    assert "tomli" not in record.packages
    older = EnvironmentRecord(**{**record.model_dump(), "python": "3.10.13", "lock_digest": "0" * 64})
    assert "tomli absent" in refused("export", maker("export").model_copy(update={"environment": older}))


def test_every_reason_is_told_at_once() -> None:
    told = refused("export", with_version("export", "torch", "2.12.1", python="3.13.0"))
    assert "Python 3.13.0" in told and "torch 2.12.1" in told
