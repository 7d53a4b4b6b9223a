"""ci/nix: the nix that is there, or one installed where the system's own packages can be, or a refusal that says how to get one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from interlock.environments import ROOT


def ci_nix(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script with nothing on PATH but what `folder` holds."""
    environment = {"PATH": str(folder), "TMPDIR": str(folder)}
    return subprocess.run(["/bin/sh", ROOT / "ci" / "nix"], env=environment, capture_output=True, text=True, check=False)


def tool(folder: Path, name: str, script: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def test_a_nix_on_path_is_taken(tmp_path: Path) -> None:
    found = tool(tmp_path, "nix", "exit 0")
    said = ci_nix(tmp_path)
    assert said.returncode == 0 and said.stdout.split() == [str(found)]


def test_without_one_and_without_the_right_to_install_it_says_how(tmp_path: Path) -> None:
    tool(tmp_path, "id", "echo 1000")
    (tmp_path / "cat").symlink_to(str(shutil.which("cat")))
    said = ci_nix(tmp_path)
    assert said.returncode == 4 and said.stdout == "" and "hint: install it" in said.stderr and "apt-get install nix-bin" in said.stderr


def test_root_on_debian_installs_it_once(tmp_path: Path) -> None:
    tool(tmp_path, "id", "echo 0")
    for name in ("flock", "chmod", "cat"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    making = f'printf "#!/bin/sh\\n" > {tmp_path}/nix; chmod +x {tmp_path}/nix; echo ran >> {tmp_path}/log'
    tool(tmp_path, "apt-get", f'case "$1" in install) {making} ;; esac')
    for _ in range(2):
        said = ci_nix(tmp_path)
        assert said.returncode == 0 and said.stdout.split() == [str(tmp_path / "nix")], said.stderr
    assert (tmp_path / "log").read_text() == "ran\n"
