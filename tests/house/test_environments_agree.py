"""One statement per fact: interpreters, locks and the definitions they were made from agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from interlock.environments import environments
from pipeline import ci

LOCKS = [(name, lock) for name in ("export", "train") for lock in ("requirements.lock", "dev.lock")] + [("train", "hf.lock")]


def pins(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_there_are_two_environments() -> None:
    assert set(environments()) == {"export", "train"}


def test_tox_asks_for_interpreters_that_the_environments_allow() -> None:
    installing = [work for work in ci.works().values() if work.environment]
    assert {work.environment for work in installing} == {"export", "train"}
    for work in installing:
        assert SpecifierSet(environments()[str(work.environment)].requires_python).contains(f"{work.python}.5"), work.name


def test_no_stage_checks_a_version_by_itself(root: Path) -> None:
    rooms = [file for room in ("interlock", "pipeline", "runtime", "eval") for file in (root / room).rglob("*.py")]
    assert len(rooms) > 50
    assert [str(file) for file in rooms if "version_info" in file.read_text()] == []


@pytest.mark.parametrize(("name", "lock"), LOCKS)
def test_a_lock_pins_every_file_by_hash_and_names_no_index(root: Path, name: str, lock: str) -> None:
    text = (root / "envs" / name / lock).read_text()
    assert text.startswith("--require-hashes\n") and "://" not in text
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2])
    assert len(entries) > 30 and all("--hash=sha256:" in entry for entry in entries)
    assert not {"llm", "llama-cpp-python"} & pins(text).keys()


@pytest.mark.parametrize("name", ["export", "train"])
def test_a_lock_satisfies_its_definition_and_extras_add_to_it(root: Path, name: str) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    env = environments()[name]
    locked = pins(env.lock_file.read_text())
    more = [pins(file.read_text()) for file in env.folder.glob("*.lock")]
    for line in env.definition["project"]["dependencies"]:
        need = Requirement(line)
        assert all(need.specifier.contains(Version(version)) for version in locked[canonicalize_name(need.name)]), line
    assert len(more) > 1 and all(one[package] == versions for one in more for package, versions in locked.items())


def test_one_torch_new_enough_to_read_weights_safely() -> None:
    versions = {version for env in environments().values() for version in pins(env.lock_file.read_text())["torch"]}
    assert len(versions) == 1 and Version(versions.pop()) >= Version("2.10")  # CVE-2025-32434, CVE-2026-24747


def test_what_bootstraps_is_pinned_by_hash(root: Path) -> None:
    text = (root / "ci" / "requirements.txt").read_text()
    assert {"uv", "tox", "tox-uv"} <= pins(text).keys() and text.startswith("--require-hashes\n") and "://" not in text
