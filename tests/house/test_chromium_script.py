"""ci/chromium: one browser for the tests of pages, or a refusal that says how to get one; nothing is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from interlock.environments import ROOT


def run(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The script with nothing on PATH but what `folder` holds."""
    environment = {"PATH": str(folder), "TMPDIR": str(folder), **environ}
    return subprocess.run(["/bin/sh", ROOT / "ci" / "chromium"], env=environment, capture_output=True, text=True, check=False)


def tool(folder: Path, name: str, script: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def test_a_browser_on_path_is_taken(tmp_path: Path) -> None:
    browser = tool(tmp_path, "google-chrome", "exit 0")
    said = run(tmp_path)
    assert said.returncode == 0 and said.stdout.split() == [str(browser)]


def test_a_named_browser_comes_first(tmp_path: Path) -> None:
    tool(tmp_path, "chromium", "exit 0")
    other = tool(tmp_path, "mine", "exit 0")
    assert run(tmp_path, INTERLOCK_CHROMIUM=str(other)).stdout.split() == [str(other)]


def test_without_one_and_without_the_right_to_install_it_says_how(tmp_path: Path) -> None:
    tool(tmp_path, "id", "echo 1000")
    (tmp_path / "cat").symlink_to(str(shutil.which("cat")))
    said = run(tmp_path)
    assert said.returncode == 4 and said.stdout == "" and "hint: install it" in said.stderr and "apt-get install chromium" in said.stderr


def test_root_on_debian_installs_it_once(tmp_path: Path) -> None:
    tool(tmp_path, "id", "echo 0")
    for name in ("flock", "cat", "chmod"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    tool(
        tmp_path,
        "apt-get",
        f'case "$1" in install) printf "#!/bin/sh\\n" > {tmp_path}/chromium; chmod +x {tmp_path}/chromium; echo ran >> {tmp_path}/log ;; esac',
    )
    for _ in range(2):
        said = run(tmp_path)
        assert said.returncode == 0 and said.stdout.split() == [str(tmp_path / "chromium")], said.stderr
    assert (tmp_path / "log").read_text() == "ran\n" and os.access(tmp_path / "chromium", os.X_OK)
