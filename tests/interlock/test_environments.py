"""Admission: an environment is what its folder says, and nothing else may do its work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from interlock import environments
from interlock.errors import EnvironmentRefused


def test_this_interpreter_is_admitted_by_its_own_environment_and_refused_by_the_other() -> None:
    running = ".".join(map(str, sys.version_info[:3]))
    for env in environments.environments().values():
        if SpecifierSet(env.requires_python).contains(running):
            environments.admit(env, "export")
        else:
            with pytest.raises(EnvironmentRefused) as refused:
                environments.admit(env, "export", ["--checkpoint", "latest.pt"])
            text = "\n".join([*refused.value.lines(), refused.value.remedy])
            assert env.requires_python in text and running in text
            for way in ("interlock export --checkpoint latest.pt", "tox -e export -- --checkpoint latest.pt", f"nix develop .#{env.name} -c"):
                assert way in text


def copied(tmp_path: Path, name: str, *, lock: str | None = None, definition: str | None = None) -> environments.Environment:
    """An environment of the project, changed."""
    real = environments.environment(name)
    folder = tmp_path / "envs" / name
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(definition or (real.folder / "pyproject.toml").read_text())
    (folder / "requirements.lock").write_text(lock or real.lock_file.read_text())
    return environments.environments(tmp_path)[name]


def here() -> str:
    running = ".".join(map(str, sys.version_info[:3]))
    return next(env.name for env in environments.environments().values() if SpecifierSet(env.requires_python).contains(running))


def test_a_package_that_is_not_the_locked_one_is_refused_by_name(tmp_path: Path) -> None:
    real = environments.environment(here())
    env = copied(tmp_path, here(), lock=real.lock_file.read_text().replace("torch==2.13.0", "torch==2.12.1"))
    with pytest.raises(EnvironmentRefused) as refused:
        environments.admit(env, "export")
    assert "torch 2.13.0 instead of 2.12.1" in refused.value.running


def test_requires_python_alone_decides(tmp_path: Path) -> None:
    real = environments.environment(here())
    env = copied(tmp_path, here(), definition=(real.folder / "pyproject.toml").read_text().replace(real.requires_python, ">=3.99"))
    with pytest.raises(EnvironmentRefused, match="belongs to environment"):
        environments.admit(env, "export")


def test_the_record_holds_measured_versions() -> None:
    import torch

    made = environments.record(environments.environment(here()))
    assert made.packages["torch"] == torch.__version__.partition("+")[0]
    assert len(made.lock_digest) == 64


def test_a_verb_run_with_the_wrong_interpreter_stops_before_any_work(tmp_path: Path) -> None:
    """`python -m` never launches: it refuses with exit 4, the requirement, what runs, and the ways that work."""
    verb, module = ("convert", "pipeline.convert_coreml") if here() == "train" else ("infer", "runtime.inference_production")
    words = ["--in", "nothing", "--out", str(tmp_path / "out")] if verb == "convert" else ["--model", "nothing", "--prompt", "x"]
    child = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    assert child.returncode == 4, child.stderr
    assert "required Python" in child.stderr and "running  Python" in child.stderr and "tox -e" in child.stderr
    assert "Traceback" not in child.stderr and list(tmp_path.iterdir()) == []
