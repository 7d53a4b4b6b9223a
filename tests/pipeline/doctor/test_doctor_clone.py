"""Broken clones and environments: each way of breaking one is found, named, and has its remedy. A sound one has nothing to say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fakes.clones import venv_like
from fakes.doctors import clone, looked, program, wrong

from interlock.environments import environments
from pipeline.doctor.checks import OF_MACHINE
from pipeline.doctor.place import Place
from pipeline.installed import note

pytestmark = pytest.mark.train


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return clone(tmp_path)


def lock(place: Place, env: str) -> Path:
    return place.root / "envs" / env / "requirements.lock"


def venv(place: Place, env: str) -> Path:
    """Where an environment of the clone is, with nothing there any more."""
    path = place.root / "envs" / env / ".venv"
    path.unlink()
    return path


def test_a_sound_clone_gives_no_alarm(place: Place) -> None:
    of_clone = [check.name for check in OF_MACHINE if check.group == "environments"]
    found = looked(place, "system", "interpreters", "tools", *of_clone, "launcher", "tox", "store")
    assert wrong(found) == []
    text = " ".join(one.found for one in found)
    assert all(words in text for words in ("python3.11", "python3.13", "uv ", "tox ", "torch 2.", "libmilstoragepython", "there is no store yet"))


def test_a_lock_that_was_cut_off_anywhere_is_named(place: Place) -> None:
    """Where the cut leaves whole entries only the lists tell, and they always do."""
    whole = lock(place, "export").read_text()
    start, by_text = len(whole) // 3, 0
    for end in range(start, start + 700, 23):
        lock(place, "export").write_text(whole[:end])
        found = wrong(looked(place, "locks"))
        by_text += any("envs/export/requirements.lock: cut off" in one.found and "make lock" in one.remedy for one in found)
        assert found or whole[:end].endswith("\n")
    assert by_text >= 28
    lock(place, "export").write_text(whole[: whole.rindex("\nnumpy==") + 1])
    lists = wrong(looked(place, "wheel-lists"))
    assert any("made from another lock" in one.found for one in lists) and all("wheels-" in one.found for one in lists)


def test_a_version_edited_in_a_lock_is_told_by_the_lists_and_by_the_environment(place: Place) -> None:
    text = lock(place, "export").read_text()
    lock(place, "export").write_text(text.replace("\nrich==15.0.0 ", "\nrich==14.9.9 "))
    assert lock(place, "export").read_text() != text
    found = wrong(looked(place, "locks", "wheel-lists", "virtual-environments"))
    assert {one.check for one in found} == {"wheel-lists", "virtual-environments"} and all(one.level == "error" for one in found)
    assert any("envs/export/wheels-x86_64-linux.json was made from another lock" in one.found for one in found)
    assert any("was not filled from its lock" in one.found and one.remedy == "ci/sync export" for one in found)


def test_a_lock_without_hashes_or_with_another_line_is_told_by_its_line(place: Place) -> None:
    lines = lock(place, "train").read_text().splitlines(keepends=True)
    lock(place, "train").write_text("".join(lines[1:]))
    assert any(f"line 1 is `{lines[1][:10]}" in one.found for one in wrong(looked(place, "locks")))
    lock(place, "train").write_text("".join([*lines[:1], "torch==2.13.0\n", *lines[1:]]))
    assert any("line 2 is `torch==2.13.0`" in one.found for one in wrong(looked(place, "locks")))
    lock(place, "train").unlink()
    assert any("cannot be read: No such file" in one.found for one in wrong(looked(place, "locks")))


def test_two_torches_are_told_apart(place: Place) -> None:
    text = lock(place, "train").read_text()
    lock(place, "train").write_text(text.replace("\ntorch==2.13.0 ", "\ntorch==2.12.0 "))
    found = {one.found for one in wrong(looked(place, "locks"))}
    assert any("torch differs" in one and "2.13.0 in `export`" in one and "2.12.0 in `train`" in one for one in found)
    assert any("not locked: torch==2.13.0" in one for one in found)


def test_an_environment_that_is_not_made_or_whose_python_is_gone(place: Place) -> None:
    venv(place, "export")
    train = venv(place, "train")
    (train / "bin").mkdir(parents=True)
    (train / "bin" / "python").symlink_to("/opt/python-3.13/bin/python3.13")
    shutil.copy(lock(place, "train"), train / ".synced")
    export, gone = wrong(looked(place, "virtual-environments"))
    assert export.found == "environment `export` is not made" and export.remedy == "ci/sync export"
    assert "leads to no file" in gone.found and "/opt/python-3.13" in gone.evidence and "ci/sync" in gone.remedy
    assert all(one.level == "error" for one in (export, gone))
    elsewhere = Place(place.root, place.store, "nix")
    assert wrong(looked(elsewhere, "virtual-environments")) == []  # builds there do not enter it


def test_a_python_that_does_not_answer_or_is_another(place: Place) -> None:
    train = venv(place, "train")
    program(train / "bin", "python", "sleep 60")
    export = venv(place, "export")
    export.symlink_to(environments()["train"].folder / ".venv")
    other, stuck = wrong(looked(place, "virtual-environments"))
    assert "gave no answer in 4 s" in stuck.found
    assert "environment `export` has Python 3.13" in other.found and ">=3.10,<3.12" in other.expected


def test_compiled_parts_that_do_not_load_are_named_with_the_loaders_words(place: Place, tmp_path: Path) -> None:
    venv(place, "export")
    venv_like(environments()["export"], place.root)
    assert wrong(looked(place, "native-libraries")) == []
    (site,) = (place.root / "envs" / "export" / ".venv").glob("lib/python3*/site-packages")
    (real,) = (environments()["export"].folder / ".venv").glob("lib/python3*/site-packages/coremltools")
    (site / "coremltools").mkdir()
    shutil.copy(real / "__init__.py", site / "coremltools")
    (site / "coremltools" / "libmilstoragepython.so").write_bytes(b"of another machine" * 100)
    found = {one.found.split()[1]: one for one in wrong(looked(place, "native-libraries"))}
    assert set(found) == {"libmilstoragepython", "libmodelpackage"}
    assert "invalid ELF header" in found["libmilstoragepython"].found and "it is not there" in found["libmodelpackage"].found
    # One that was cut off ends the process that maps it.
    (site / "coremltools" / "libmilstoragepython.so").write_bytes((real / "libmilstoragepython.so").read_bytes()[:4096])
    (ended,) = wrong(looked(place, "native-libraries"))
    assert "libmilstoragepython" in ended.found and "ci/sync --force export" in ended.remedy


def test_code_that_was_added_to_an_environment_is_named(place: Place) -> None:
    venv(place, "export")
    venv_like(environments()["export"], place.root)
    made = place.root / "envs" / "export" / ".venv"
    (unknown,) = wrong(looked(place, "installed"))
    assert unknown.level == "warning" and "has no note" in unknown.found
    note.write(made, lock(place, "export"), "interlock")
    assert wrong(looked(place, "installed")) == []
    (site,) = made.glob("lib/python3*/site-packages")
    (site / "sitecustomize.py").write_text("")
    (added,) = wrong(looked(place, "installed"))
    assert added.level == "error" and "sitecustomize.py (added)" in added.found and "ci/sync --force export" in added.remedy


def test_versions_that_nobody_has_measured(place: Place) -> None:
    (known,) = looked(place, "compatibility")
    assert known.level == "info" and "torch 2.13.0, Python 3.11" in known.found and "27 conversions" in known.found
    lock(place, "export").write_text(lock(place, "export").read_text().replace("\nnumpy==2.3.5 ", "\nnumpy==2.3.4 "))
    (unknown,) = wrong(looked(place, "compatibility"))
    assert unknown.level == "warning" and "nobody has measured" in unknown.found and "numpy 2.3.4" in unknown.found


def test_tools_of_other_versions_or_none(place: Place) -> None:
    (place.root / ".uv").unlink()
    program(place.root / ".uv" / "bin", "uv", "echo 'uv 0.1.0'")
    (place.root / ".venv").unlink()
    found = wrong(looked(place, "tools"))
    assert [one.found.split(" in ")[0] for one in found] == ["uv 0.1.0", "uv is not there", "tox is not there, tox-uv is not there"]
    assert [one.remedy for one in found] == ["rm -rf .uv && make environments", "make environments", "make environments"]


def test_a_clone_whose_definitions_cannot_be_read(place: Place) -> None:
    (place.root / "tox.ini").unlink()
    (place.root / "envs" / "train" / "pyproject.toml").write_text("[project\n")
    found = wrong(looked(place, "interpreters", "locks", "system", "clock"))
    assert {one.check for one in found} == {"interpreters", "locks", "system"} and all(one.level == "error" for one in found)
    assert any("tox.ini" in one.found for one in found)
    assert any("`envs/train/pyproject.toml` cannot be read" in one.found and one.remedy.startswith("git checkout") for one in found)
    assert not any("the check itself failed" in one.found for one in found)
    shutil.rmtree(place.root / "envs")
    assert any("no environment is defined" in one.found for one in wrong(looked(place, "virtual-environments")))
