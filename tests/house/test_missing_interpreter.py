"""An interpreter that is not there ends what needs it, with the ways to get it; nothing is skipped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from interlock.environments import ROOT, environments

pytestmark = pytest.mark.train


@pytest.fixture
def without_python(tmp_path: Path) -> dict[str, str]:
    """A machine on which uv finds the running project's own interpreters, by their folders, and no other."""
    return {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")} | {
        "PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin",
        "UV_PYTHON_SEARCH_PATH": str(tmp_path),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON_PREFERENCE": "only-system",
    }


def test_tox_fails_and_names_it(without_python: dict[str, str], tmp_path: Path) -> None:
    command = ["tox", "run", "-e", "py310", "--workdir", str(tmp_path / "tox")]
    said = subprocess.run(command, cwd=ROOT, env=without_python, capture_output=True, text=True, check=False)
    assert said.returncode != 0 and "No interpreter found for CPython 3.10" in said.stdout + said.stderr
    assert "SKIP" not in said.stdout and "congratulations" not in said.stdout


def test_ci_fails_before_any_work_and_says_what_to_install(without_python: dict[str, str]) -> None:
    said = subprocess.run([ROOT / "ci" / "python", "3.10"], env=without_python, capture_output=True, text=True, check=False)
    assert said.returncode == 4 and "environment: Python 3.10 not found" in said.stderr
    for way in ("apt-get install python3.10", "brew install python@3.10", "pyenv install 3.10", "nixpkgs#python310", "uv python install 3.10"):
        assert way in said.stderr


def test_what_is_there_is_no_word_said_about(without_python: dict[str, str]) -> None:
    there = without_python | {"UV_PYTHON_SEARCH_PATH": str(environments()["train"].python.resolve().parent)}
    said = subprocess.run([ROOT / "ci" / "python", "3.13"], env=there, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
