"""An environment is what its lock says, or the difference has a name: a package, a file, the interpreter."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import py_compile
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.small_environments import PACKAGES, Small, small

from pipeline.driver.index import Index
from pipeline.installed import note
from pipeline.installed.check import check
from pipeline.installed.differences import Difference, Proof


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def one(whole: Small, tmp_path: Path) -> Small:
    return whole.copy(tmp_path)


def proof(it: Small, *, paranoid: bool = False, index: Index | None = None) -> Proof:
    return check(it.env, it.venv / "bin" / "python", index=index, paranoid=paranoid)


def only(it: Small, *, paranoid: bool = False) -> Difference:
    (found,) = proof(it, paranoid=paranoid).differences
    return found


def test_what_uv_installed_is_what_is_locked(whole: Small) -> None:
    told = proof(whole, paranoid=True)
    assert told.differences == [] and told.guests == []
    assert told.dists == len(PACKAGES) + 1
    records = [len(file.read_text().splitlines()) - 1 for file in whole.site.glob("*.dist-info/RECORD")]
    assert told.files == sum(records) > 100


def test_an_edited_file_is_named_with_its_package(one: Small) -> None:
    file = one.site / "idna" / "core.py"
    file.write_text(file.read_text() + "\n")
    assert (only(one).where, only(one).distribution) == (str(file), "idna")


def test_a_missing_file_is_named(one: Small) -> None:
    (one.site / "idna" / "core.py").unlink()
    assert (only(one).where, only(one).found) == (str(one.site / "idna" / "core.py"), "nothing")


def test_a_link_is_not_the_file_that_it_names(one: Small, tmp_path: Path) -> None:
    file = one.site / "idna" / "core.py"
    file.rename(tmp_path / "core.py")
    file.symlink_to(tmp_path / "core.py")
    assert only(one).where == str(file) and "a link to" in only(one).found


def test_an_edited_script_is_named(one: Small) -> None:
    (one.venv / "bin" / "markdown-it").write_text("#!/bin/sh\n")
    assert only(one).distribution == "markdown-it-py"


def test_a_record_that_was_edited_with_its_file_is_named(one: Small) -> None:
    file = one.site / "idna" / "core.py"
    file.write_text("pass\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"pass\n").digest()).rstrip(b"=").decode()
    (record,) = one.site.glob("idna-*.dist-info/RECORD")
    record.write_text(re.sub(r"idna/core.py,.*", f"idna/core.py,sha256={digest},5", record.read_text()))
    assert (only(one).where, only(one).distribution) == (str(record), "idna")


@pytest.mark.parametrize(
    "name", ["evil.py", "evil.pth", "idna/evil.py", "evil.so", "evil/__init__.py", "sitecustomize.py", "idna/__pycache__/evil.pyc"]
)
def test_a_file_that_no_package_brought_is_named(one: Small, name: str) -> None:
    file = one.site / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    assert only(one).where == str(file)


def test_a_program_that_no_package_brought_is_named(one: Small) -> None:
    (one.venv / "bin" / "ls").write_text("#!/bin/sh\n")
    assert only(one).where == str(one.venv / "bin" / "ls")


def test_a_package_that_is_missing_is_named(one: Small) -> None:
    subprocess.run(["rm", "-r", *one.site.glob("idna*")], check=True)
    found = proof(one).differences
    assert [(item.where, item.found) for item in found if item.where == "idna"] == [("idna", "not installed")]


def test_a_package_in_another_version_and_one_that_is_not_locked_are_named(one: Small) -> None:
    (folder,) = one.site.glob("idna-*.dist-info")
    metadata = folder / "METADATA"
    metadata.write_text(re.sub(r"^Version: .*$", "Version: 0.1", metadata.read_text(), flags=re.MULTILINE))
    other = one.site / "stray-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 1.0\n")
    (other / "RECORD").write_text("stray-1.0.dist-info/METADATA,,\nstray-1.0.dist-info/RECORD,,\n")
    found = {(item.where, item.found) for item in proof(one).differences}
    assert {("idna", "0.1"), ("stray", "version 1.0, of which requirements.lock knows nothing")} <= found


def test_a_lock_that_changed_since_is_named(one: Small) -> None:
    lock = one.env.lock_file
    lock.write_text(lock.read_text() + "# one more line\n")
    assert only(one).where == str(one.venv / note.FILE) and hashlib.sha256(lock.read_bytes()).hexdigest()[:16] in only(one).expected


def test_without_its_note_nothing_is_proven(one: Small) -> None:
    (one.venv / note.FILE).write_text((one.venv / note.FILE).read_text().replace("idna", "adni"))
    assert (only(one).where, only(one).found) == (str(one.venv / note.FILE), "none")


@pytest.mark.parametrize(("setting", "value"), [("version_info", "3.9.1"), ("include-system-site-packages", "true"), ("home", "/usr/local/nowhere")])
def test_an_interpreter_that_is_another_is_named(one: Small, setting: str, value: str) -> None:
    file = one.venv / "pyvenv.cfg"
    file.write_text(re.sub(rf"^{setting} = .*$", f"{setting} = {value}", file.read_text(), flags=re.MULTILINE))
    assert any(value in f"{item.found} {item.expected}" for item in proof(one).differences)


def compiled(it: Small, source: str, **options: object) -> Path:
    """A compiled module where Python looks for that of idna.core, made from other source."""
    file = it.site / "idna" / "core.py"
    target = Path(importlib.util.cache_from_source(str(file)))
    other = it.root / "other.py"
    other.write_text(source)
    py_compile.compile(str(other), cfile=str(target), **options)  # type: ignore[arg-type]
    return target


def test_a_compiled_module_of_a_source_that_is_proven_is_no_difference(one: Small) -> None:
    subprocess.run([one.venv / "bin" / "python", "-c", "import idna"], check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
    assert list(one.site.rglob("*.pyc"))
    assert proof(one, paranoid=True).differences == []


def test_other_code_under_the_header_of_its_source_is_found_by_compiling_again(one: Small) -> None:
    status = (one.site / "idna" / "core.py").stat()
    target = compiled(one, "print('not idna')\n")
    data = target.read_bytes()
    header = data[:8] + int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little")
    target.write_bytes(header + data[16:])
    ran = subprocess.run([one.venv / "bin" / "python", "-c", "import idna.core"], capture_output=True, text=True, check=False)
    assert "not idna" in ran.stdout, "Python no longer runs it: then this test shows nothing"
    assert proof(one).differences == []  # what docs/environments.md says of a check without --paranoid
    assert only(one, paranoid=True).where == str(target)


def test_a_compiled_module_that_python_would_not_run_is_none(one: Small) -> None:
    compiled(one, "print('another time and size')\n")
    assert proof(one, paranoid=True).differences == []


def test_a_compiled_module_whose_source_nobody_would_look_at_is_named(one: Small) -> None:
    target = compiled(one, "print('not idna')\n", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert only(one).where == str(target)


@pytest.mark.parametrize("change", [lambda file: file.write_text("#" * file.stat().st_size), lambda file: file.write_text("pass\n")])
def test_a_warm_check_finds_a_change_whose_time_was_put_back(one: Small, change: Callable[[Path], object]) -> None:
    file = one.site / "idna" / "core.py"
    index = Index()
    proof(one, index=index)
    before = file.stat()
    change(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [item.where for item in proof(one, index=index).differences] == [str(file)]
