"""Environments built by a real nix, shrunken to what runs in seconds, and stages run in them: by the launcher, and by the flake's own command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.nix import NixProject, nix_project
from fakes.shell import Said, run
from fakes.stub_builds import CHAIN, SMALL, stub_wheel

from interlock.environments import Environment, environments
from interlock.errors import EnvironmentRefused
from pipeline.launchers import nix
from pipeline.launchers.nix import system_name

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NixProject]:
    made = nix_project(tmp_path_factory.mktemp("nix"))
    for name in ("export", "train"):
        made.shrink(name, SMALL)
        made.fetch(name)
    made.add("train", stub_wheel(made.base / "wheels"))
    made.lock_stand_in()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def train(project: NixProject) -> Path:
    """The package of environment `train`."""
    link = project.base / "train"
    said = project.nix("build", ".#train", "--out-link", str(link))
    assert said.code == 0, said.err
    return link


@pytest.fixture
def env(project: NixProject, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Environment `train` of the copy, and the launcher as it is in the copy."""
    monkeypatch.setattr(nix, "ROOT", project.root)
    for name, value in project.environ.items():
        monkeypatch.setenv(name, value)
    return environments(project.root)["train"]


def chain(folder: Path) -> Path:
    folder.mkdir()
    (folder / "chain.toml").write_text(CHAIN.format(text="word", rows=3, sleep_s=0.0))
    return folder


def digests(said: Said) -> dict[str, str]:
    assert said.code == 0, said.err
    return {step["step"]: step["digest"] for step in json.loads(said.out)["steps"]}


def environment_of(folder: Path) -> dict[str, str]:
    (contract,) = folder.glob("*_contract.json")
    found: dict[str, str] = json.loads(contract.read_bytes())["created_by"]["environment"]
    return found


def test_a_package_runs_its_own_copy_of_the_project(project: NixProject, train: Path) -> None:
    assert run([str(train / "bin" / "interlock"), "--version"], cwd=project.base, environ=project.environ).out.startswith("interlock ")
    assert "smollm2" in run([str(train / "bin" / "interlock"), "recipes"], cwd=project.base, environ=project.environ).out
    script = "import json, sys, pydantic, pipeline; from pipeline.driver.keys import source_digest; print(json.dumps(["
    script += "sys.version_info[:2], pydantic.__file__, pipeline.__file__, pipeline.__cached__, source_digest('pipeline.stages.export')]))"
    said = run([str(train / "bin" / "python"), "-I", "-c", script], cwd=project.base, environ=project.environ)
    assert said.code == 0, said.err
    version, *files, digest = json.loads(said.out)
    assert version == [3, 13] and all(file.startswith(f"{project.store}/") for file in files)
    assert Path(files[-1]).exists(), "the copy is not compiled: every process would compile what it imports"
    tree = "import sys; sys.path.insert(0, sys.argv[1]); from pipeline.driver import keys; print(keys.source_digest('pipeline.stages.export'))"
    assert digest == run([str(train / "bin" / "python"), "-I", "-c", tree, project.root], environ=project.environ).out.strip()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="macOS wheels need no library of the system")
def test_an_interpreter_has_the_libraries_of_wheels_and_what_it_starts_has_not(project: NixProject, train: Path) -> None:
    maps = "print(open('/proc/self/maps').read())"
    loaded = run([str(train / "bin" / "python"), "-I", "-c", maps], cwd=project.base, environ=project.environ).out
    assert [name for name in ("libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "libuuid.so.1") if f"/{name.partition('.so')[0]}" not in loaded] == []
    started = "import subprocess, sys; subprocess.run(['cat', '/proc/self/maps'])"
    assert "libuuid" not in run([str(train / "bin" / "python"), "-I", "-c", started], cwd=project.base, environ=project.environ).out


def test_a_shell_runs_the_working_tree_and_its_builds_run_in_the_package(project: NixProject, tmp_path: Path) -> None:
    folder = chain(tmp_path / "work")
    said = project.nix("develop", ".#train", "-c", "sh", "-c", f"cd {folder} && interlock build chain.toml --json")
    made = digests(said)
    found = environment_of(folder / "out" / "loudest")
    link = project.base / "home" / "nix" / "train"
    assert (found["launcher"], found["image"]) == ("nix", str(link.resolve())) and found["image"].startswith(f"{project.store}/")
    roots = project.nix("store", "delete", found["image"])
    assert roots.code != 0 and "still alive" in roots.err, "nothing keeps the package from garbage collection"

    # The same command by itself, from a store that has both environments.
    own = {"INTERLOCK_HOME": str(tmp_path / "home")}
    command = ["nix", "run", f"path:{project.root}#interlock", "--", "build", "chain.toml", "--json", "--force"]
    again = run(command, cwd=chain(tmp_path / "run"), environ=project.environ | own)
    assert digests(again) == made
    assert environment_of(tmp_path / "run" / "out" / "loudest")["image"] == found["image"]


def test_the_wrong_shell_ends_in_the_message_that_names_the_right_one(project: NixProject) -> None:
    entry = ["python", "-m", "pipeline.export_pytorch", "--checkpoint", "a.pt", "--out", "b"]
    said = project.nix("develop", ".#train", "-c", *entry)
    said.refused(4, "`export` belongs to environment `export`", "required Python >=3.10,<3.12", "nix develop .#export -c interlock export")


def test_interlock_in_the_wrong_shell_moves_to_the_right_environment(project: NixProject) -> None:
    """What is missing then is missing there: the stage's tensor library, which the shrunken environment has not."""
    said = project.nix("develop", ".#train", "-c", "interlock", "export", "--checkpoint", "a", "--out", "b")
    said.refused(4, "no package `torch`", f"Python {env_python(project, 'python311')}", str(project.base / "nix" / "store"))


def test_env_check_lets_nix_prove_what_it_built(project: NixProject, train: Path) -> None:
    check = ["develop", ".#train", "-c", "interlock", "env", "check", "train", "--launcher", "nix"]
    built = project.nix("develop", ".#train", "-c", "interlock", "env", "shell", "--launcher", "nix", "train", "--", "true")
    assert built.code == 0 and project.nix(*check).code == 0, built.err
    (file,) = project.store.glob("*-interlock-train-locked/lib/python*/site-packages/rich/box.py")
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(whole + b"# edited\n")
    try:
        told = project.nix(*check)
        told.refused(4, "not what the lock says: train", "nix store repair")
        assert "interlock-train-locked" in told.out and "modified" in told.out
    finally:
        file.write_bytes(whole)
        file.chmod(0o444)


def test_a_shell_outside_a_working_tree_says_so_and_one_inside_finds_its_top(project: NixProject) -> None:
    shell = ["nix", "develop", f"path:{project.root}#train", "-c", "python", "-c", "import pipeline; print(pipeline.__file__)"]
    run(shell, cwd=project.base, environ=project.environ).refused(4, "this shell runs a working tree", "nix run")
    assert run(shell, cwd=project.root / "pipeline" / "driver", environ=project.environ).out == f"{project.root}/pipeline/__init__.py\n"


def test_a_check_imports_the_environment(project: NixProject) -> None:
    link = project.base / "check"
    said = project.nix("build", f".#checks.{system_name()}.export", "--out-link", str(link))
    assert said.code == 0, said.err
    imported = {line.split()[0] for line in link.read_text().splitlines()}
    assert imported == {"jinja2", "msgspec", "packaging", "pydantic", "rich"}  # what is left of the definition's own dependencies


def test_an_image_starts_interlock_without_rights_and_names_its_lock(project: NixProject) -> None:
    link = project.base / "image"
    said = project.nix("build", ".#image-train", "--out-link", str(link))
    assert said.code == 0, said.err
    image = json.loads(run([str(link)]).out)["config"]
    assert image["User"] == "1000:1000" and run([*image["Entrypoint"], "--version"], environ=project.environ).out.startswith("interlock ")
    lock = (project.root / "envs" / "train" / "requirements.lock").read_bytes()
    assert image["Labels"] == {"interlock.environment": "train", "interlock.lock": hashlib.sha256(lock).hexdigest()}


def test_the_launcher_knows_whether_its_package_is_that_of_the_tree(project: NixProject, env: Environment) -> None:
    nix.prepare(env)
    assert nix.ready(env) and nix.python_version(env) == env_python(project)
    command = nix.command(env, ["--version"])
    assert run(command, cwd=project.base, environ={"PATH": "/nowhere"}).out.startswith("interlock ")
    for file, more in (("pipeline/here.py", b"\n#"), ("nix/requires.nix", b"\n#"), ("pipeline/added.py", b""), ("docs/added.md", b"")):
        path = project.root / file
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((before or b"") + more)
        assert nix.ready(env) == file.startswith("docs/"), file
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
    assert nix.ready(env)


def test_a_new_source_is_built_into_the_package_without_the_locked_files(project: NixProject, env: Environment) -> None:
    nix.prepare(env)
    before = nix.image(env)
    file = project.root / "pipeline" / "here.py"
    text = file.read_text()
    file.write_text(text.replace('"""Run a verb', '"""Here, run a verb'))
    try:
        assert not nix.ready(env)
        nix.prepare(env)
        assert nix.ready(env) and nix.image(env) != before
        assert len(list(project.store.glob("*-interlock-train-locked"))) == 1
    finally:
        file.write_text(text)


def env_python(project: NixProject, name: str = "python313") -> str:
    host = json.loads((project.base / "nixpkgs" / "host.json").read_bytes())
    return str(host[name]["version"])


def test_what_cannot_be_built_is_refused_with_what_to_do(project: NixProject, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = project.root / "envs" / "train" / "requirements.lock"
    text = lock.read_text()
    lock.write_text(text.replace("jinja2==3", "jinja2==9"))
    try:
        with pytest.raises(EnvironmentRefused, match="could not be built by nix"):
            nix.prepare(env)
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(EnvironmentRefused, match="there is no `nix` on PATH") as refused:
            nix.prepare(env)
        assert "--launcher uv" in str(refused.value.remedy)
        monkeypatch.setenv("INTERLOCK_NIX_ENVIRONMENTS", "/nowhere")
        with pytest.raises(EnvironmentRefused, match="have no environment `train`"):
            nix.prepare(env)
        elsewhere = Environment("train", env.folder)
        elsewhere.definition["tool"]["interlock"]["systems"] = ["riscv64-linux"]
        with pytest.raises(EnvironmentRefused, match=f"does not exist on {system_name()}"):
            nix.prepare(elsewhere)
    finally:
        lock.write_text(text)
