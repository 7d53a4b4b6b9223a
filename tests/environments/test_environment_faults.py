"""What goes wrong with an environment ends in the right message, and the command that the message names repairs it. All with real tools."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fakes.lean_clones import LeanClone, lean_clone

pytestmark = pytest.mark.e2e

EDIT = "\n# edited\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> LeanClone:
    return lean_clone(tmp_path_factory.mktemp("lean"))


def remedy(message: str) -> list[str]:
    """The first command that a message names."""
    (command,) = re.findall(r"`(ci/sync [^`]+)`", message.partition("hint: ")[2])[:1]
    return command.split()


def test_an_edited_file_is_refused_named_and_repaired(project: LeanClone) -> None:
    """The file is a hard link into uv's cache, and the other environment's too: whoever only installs again gets the edit again."""
    file = project.installed("train", "idna/core.py")
    whole = file.read_bytes()
    assert file.stat().st_nlink >= 3 and project.installed("export", "idna/core.py").samefile(file)
    with file.open("ab") as opened:
        opened.write(EDIT.encode())

    project.interlock("build", "toy").refused(4, "idna/core.py (edited)", "ci/sync --force")
    project.interlock("export", "--checkpoint", "x", "--out", "y").refused(4, "environment `export` is not as it was installed", "idna/core.py")
    told = project.interlock("env", "check")
    told.refused(4, "not what the lock says: export, train")
    assert told.out.count("idna/core.py") == 2

    assert project.run(*remedy(told.err)).code == 0
    assert project.interlock("env", "check").code == 0
    assert project.installed("train", "idna/core.py").read_bytes() == whole
    started = project.interlock("build", "toy")
    assert "is not as it was installed" not in started.err and "torch" in started.err, "the stage was started: it misses its tensor library"


def test_an_added_file_is_refused_until_it_is_gone(project: LeanClone) -> None:
    file = project.installed("train", "idna").parent / "usercustomize.py"
    file.write_text("")
    project.interlock("build", "toy").refused(4, "usercustomize.py (added)")
    file.unlink()
    assert "usercustomize" not in project.interlock("build", "toy").err


def test_a_build_with_nothing_to_do_does_not_look(project: LeanClone) -> None:
    """Looking is for what is about to run: `recipes` and `plan` run nothing."""
    file = project.installed("train", "idna").parent / "usercustomize.py"
    file.write_text("")
    assert project.interlock("plan", "toy").code == 0
    file.unlink()


def test_a_hash_that_no_file_has_is_refused_by_uv_in_our_words(project: LeanClone) -> None:
    """Also where the version is installed already: uv looks at hashes only of what it installs."""
    lock = project.env("train").lock_file
    whole = lock.read_text()
    lock.write_text(re.sub(r"(idna==\S+ \\\n    --hash=sha256:)[0-9a-f]{4}(.*\\\n    --hash=sha256:)[0-9a-f]{4}", r"\g<1>0000\g<2>0000", whole))
    assert lock.read_text() != whole
    said = project.interlock("build", "toy")
    said.refused(4, "Hash mismatch", "uv refuses envs/train/requirements.lock", "ci/lock train")
    lock.write_text(whole)
    assert project.run("ci/sync", "train").code == 0 and project.interlock("env", "check", "train").code == 0


def test_a_changed_lock_is_installed_by_the_next_command(project: LeanClone) -> None:
    lock = project.env("export").lock_file
    whole = lock.read_text()
    assert (project.installed("export", "tomlkit") / "api.py").is_file()
    lock.write_text(re.sub(r"^tomlkit==(.|\n    )*\n", "", whole, flags=re.MULTILINE))
    listed = json.loads(project.interlock("env", "list", "--json").out)
    assert {one["name"]: one["state"] for one in listed["environments"]} == {"export": "out of date", "train": "synced"}
    told = project.interlock("env", "check", "export")
    assert told.code == 4 and "envs/export/.venv/.installed" in told.out and "\n  tomlkit\n" in told.out
    project.interlock("export", "--checkpoint", "x", "--out", "y")
    assert not list((project.root / "envs" / "export" / ".venv").glob("lib/python3*/site-packages/tomlkit"))
    assert project.interlock("env", "check", "export").code == 0
    lock.write_text(whole)
    assert project.run("ci/sync", "export").code == 0


def without_export_python(project: LeanClone, tmp_path: Path) -> dict[str, str]:
    """A machine on which no Python is found but the one of environment `train`."""
    tools = tmp_path / "bin"
    tools.mkdir()
    home = project.env("train").python.resolve()
    for name in ("python3", home.name):
        (tools / name).symlink_to(home)
    system = [folder for folder in os.environ["PATH"].split(":") if not list(Path(folder).glob("python*"))]
    for name in ("sh", "sed", "cmp", "rm", "cp", "dirname", "mktemp", "echo", "tr", "grep", "env", "cat"):
        if found := next((Path(folder, name) for folder in ("/bin", "/usr/bin") if Path(folder, name).exists()), None):
            (tools / name).symlink_to(found)
    return {"PATH": ":".join([str(tools), *system]), "PYENV_ROOT": str(tmp_path), "UV_PYTHON_INSTALL_DIR": str(tmp_path), "HOME": str(tmp_path)}


def test_an_interpreter_that_is_gone_is_told_with_the_ways_to_get_it(project: LeanClone, tmp_path: Path) -> None:
    python = project.env("export").python
    there = python.readlink()
    python.unlink()
    python.symlink_to("/nowhere/python3")
    gone = without_export_python(project, tmp_path)
    said = project.interlock("export", "--checkpoint", "x", "--out", "y", **gone)
    said.refused(4, "Python 3.11 not found", "apt-get install python3.11", "environment `export` could not be made")
    python.unlink()
    python.symlink_to(there)
    assert project.interlock("env", "check", "export").code == 0
