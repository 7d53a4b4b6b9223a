"""What goes wrong with an environment ends in the right message, and the command that the message names repairs it. All with real tools."""

from __future__ import annotations

import json
import os
import pty
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

    project.interlock("build", "random").refused(4, "idna/core.py (edited)", "ci/sync --force")
    project.interlock("export", "--checkpoint", "x", "--out", "y").refused(4, "environment `export` is not as it was installed", "idna/core.py")
    told = project.interlock("env", "check")
    told.refused(4, "not what the lock says: export, train")
    assert told.out.count("idna/core.py") == 2

    assert project.run(*remedy(told.err)).code == 0
    assert project.interlock("env", "check").code == 0
    assert project.installed("train", "idna/core.py").read_bytes() == whole
    started = project.interlock("build", "random")
    assert "is not as it was installed" not in started.err and "torch" in started.err, "the stage was started: it misses its tensor library"


def test_an_added_file_is_refused_until_it_is_gone(project: LeanClone) -> None:
    file = project.installed("train", "idna").parent / "usercustomize.py"
    file.write_text("")
    project.interlock("build", "random").refused(4, "usercustomize.py (added)")
    file.unlink()
    assert "usercustomize" not in project.interlock("build", "random").err


def test_a_build_with_nothing_to_do_does_not_look(project: LeanClone) -> None:
    """Looking is for what is about to run: `recipes` and `plan` run nothing."""
    file = project.installed("train", "idna").parent / "usercustomize.py"
    file.write_text("")
    assert project.interlock("plan", "random").code == 0
    file.unlink()


def test_a_hash_that_no_file_has_is_refused_by_uv_in_our_words(project: LeanClone) -> None:
    """Also where the version is installed already: uv looks at hashes only of what it installs."""
    lock = project.env("train").lock_file
    whole = lock.read_text()
    lock.write_text(re.sub(r"(idna==\S+ \\\n    --hash=sha256:)[0-9a-f]{4}(.*\\\n    --hash=sha256:)[0-9a-f]{4}", r"\g<1>0000\g<2>0000", whole))
    assert lock.read_text() != whole
    said = project.interlock("build", "random")
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


def test_a_lock_that_is_not_what_its_definition_asks_for_is_named_and_made(project: LeanClone) -> None:
    """`--check` changes nothing; `env lock` is what the message names; the next command installs what it made."""
    folder = project.root / "envs" / "export"
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert project.interlock("env", "lock", "export", "train").code == 0  # what is cut out of the real locks has no list of wheels yet
    assert project.interlock("env", "lock", "export", "--check").code == 0
    made = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    definition = folder / "pyproject.toml"
    definition.write_text(definition.read_text().replace('"idna"', '"idna<3.10"'))
    stale = project.interlock("env", "lock", "export", "--check")
    stale.refused(4, "envs/export/requirements.lock is not what envs/export/pyproject.toml asks for", "< idna==3.2", "> idna==3.9", "env lock export")
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == made | {"pyproject.toml": definition.read_bytes()}

    told = project.interlock("env", "lock", "export", "--json")
    assert "envs/export/requirements.lock" in json.loads(told.out)["changed"]
    assert project.run("ci/sync", "export").code == 0 and project.installed("export", "idna-3.9*.dist-info").is_dir()
    for name, data in before.items():
        (folder / name).write_bytes(data)
    assert project.run("ci/sync", "export").code == 0


def test_a_shell_has_the_environment_first_and_passes_the_exit_code_on(project: LeanClone) -> None:
    words = "import os, shutil, sys; print(sys.prefix, shutil.which('markdown-it'), os.environ['VIRTUAL_ENV']); sys.exit(7)"
    said = project.interlock("env", "shell", "export", "--", "python", "-c", words)
    venv = project.root / "envs" / "export" / ".venv"
    assert (said.code, said.out.split()) == (7, [str(venv), str(venv / "bin" / "markdown-it"), str(venv)])
    project.interlock("env", "shell", "export", "--", "no-such-program").refused(2, "`no-such-program` cannot be run")
    project.interlock("env", "shell", "--launcher", "current", "export", "--", "true").refused(4, "`env shell` belongs to environment `export`")
    project.interlock("env", "shell", "export", "--launcher", "current").refused(2, "`--launcher` stands after the environment's name")
    project.interlock("env", "shell", "neither").refused(2, "there are export, train")


def test_an_interactive_shell_says_where_it_is(project: LeanClone) -> None:
    """A terminal of its own, and bash with a start-up file that sets PATH itself."""
    home = project.root / "home"
    home.mkdir()
    (home / ".bashrc").write_text("PS1='> '; PATH=/usr/bin:/bin\n")
    words = [str(project.env("train").python), "-I", "-m", "pipeline.cli", "env", "shell", "export"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.root)
        os.execve(words[0], words, {"PATH": "/usr/bin:/bin", "HOME": str(home), "SHELL": "/bin/bash", "TERM": "dumb"})
    said = b""
    os.write(terminal, b"python -c 'import sys; print(sys.prefix)'; exit 3\n")
    try:
        while data := os.read(terminal, 4096):
            said += data
    except OSError:  # what Linux says when the other end is closed
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert b"(export) > " in said and str(project.root / "envs" / "export" / ".venv").encode() in said, said
