"""ci/release: what goes to the index is the checkout that the tag names, whole, and the same bytes each time."""

from __future__ import annotations

import os
import subprocess
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from fakes import clones

from interlock.environments import ROOT

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the working tree, with the project's own uv."""
    made = clones.clone(tmp_path_factory.mktemp("release") / "clone").root
    for tools in (".uv", ".venv"):
        (made / tools).symlink_to(ROOT / tools)
    (made / ".gitignore").write_text((ROOT / ".gitignore").read_text() + "/.uv\n/.venv\n")  # there they are no folders
    return made


def release(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INTERLOCK_"))}
    return subprocess.run([checkout / "ci" / "release", *words], capture_output=True, text=True, env=environ, check=False)


def digests(checkout: Path) -> dict[str, str]:
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in (checkout / "dist").iterdir()}


def test_two_builds_are_the_same_bytes_and_the_wheel_holds_every_file_of_its_packages(checkout: Path) -> None:
    said = release(checkout, "build", "v0.1.0")
    assert said.returncode == 0, said.stderr
    first = digests(checkout)
    assert len(first) == 2 and all(digest in said.stdout for digest in first.values())
    assert release(checkout, "build", "v0.1.0").returncode == 0 and digests(checkout) == first

    packages = [checkout / room for room in ("interlock", "pipeline", "runtime", "eval")]
    found = [file for room in packages for file in room.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    (wheel,) = (checkout / "dist").glob("*.whl")
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == {
        file.relative_to(checkout).as_posix() for file in found
    }


def test_a_tag_that_names_another_version_is_refused(checkout: Path) -> None:
    said = release(checkout, "build", "v9.9.9")
    assert said.returncode == 2 and "`v9.9.9` does not name version 0.1.0" in said.stderr and "hint: " in said.stderr
