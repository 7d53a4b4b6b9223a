"""ci/wheels.py: the lists that Nix fetches by say what the locks say, and nothing else. No network, no nix."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from interlock.environments import ROOT, environments
from pipeline import ci
from pipeline.launchers.nix import system_name

pytestmark = pytest.mark.train


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """ci/wheels.py on a copy of what it reads."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns(".venv"))
    shutil.copy(ROOT / "flake.nix", tmp_path)
    spec = importlib.util.spec_from_file_location("wheels", ROOT / "ci" / "wheels.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "wheels", made)  # its dataclasses look it up
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "ROOT", tmp_path)
    return made


def test_the_lists_cover_their_locks(wheels: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert wheels.main(["check"]) == 0, capsys.readouterr().out
    assert {path.name for path in ROOT.glob("envs/*/wheels-*.json")} == {
        f"wheels-{system}.json" for env in environments().values() for system in env.definition["tool"]["interlock"]["systems"]
    }


def test_a_list_names_what_the_installer_put_here(wheels: ModuleType) -> None:
    """uv chose by itself, from the lock, for this machine: the same packages in the same versions, with the tags that uv noted as installed."""
    env = environments()["train"]
    document = json.loads((env.folder / f"wheels-{system_name()}.json").read_bytes())
    (site,) = (env.folder / ".venv").glob("lib/python3*/site-packages")
    noted = {}
    for info in site.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        noted[name.lower().replace("_", "-")] = (version, set(re.findall(r"^Tag: (\S+)", (info / "WHEEL").read_text(), re.MULTILINE)))
    noted.pop("interlock")
    assert set(document["wheels"]) == set(noted)
    for name, wheel in document["wheels"].items():
        _, version, _, tags = parse_wheel_filename(wheel["file"])
        assert str(version) == noted[name][0], name
        assert tags & set(sys_tags()), f"{wheel['file']} does not fit this interpreter"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("envs/train/requirements.lock", "\njinja2==3", "\njinja2==9", "was made from another lock"),
        ("envs/train/wheels-x86_64-linux.json", '"jinja2": {', '"jinja3": {', "has `jinja2`, or the lock has it"),
        ("envs/train/wheels-x86_64-linux.json", '"jinja2-3', '"jinja2-4', "names jinja2-4"),
        ("envs/export/wheels-x86_64-linux.json", "coremltools-9.0-cp311-none-manylinux1", "coremltools-9.0-cp310-none-manylinux1", "coremltools"),
        ("envs/export/wheels-aarch64-darwin.json", '"python": "3.11"', '"python": "3.10"', "is for Python 3.10, and flake.nix gives"),
    ],
)
def test_a_list_that_is_not_its_lock_is_named(
    wheels: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, told: str
) -> None:
    path = tmp_path / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert wheels.main(["check"]) == 1
    assert told in capsys.readouterr().out


def test_a_hash_that_the_lock_has_not_is_named(wheels: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "envs" / "export" / "wheels-x86_64-linux.json"
    document = json.loads(path.read_bytes())
    document["wheels"]["numpy"]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    assert wheels.main(["check"]) == 1 and "names numpy-" in capsys.readouterr().out


def test_a_wheel_with_a_build_tag_is_not_chosen(wheels: ModuleType) -> None:
    entry = wheels.Locked("one", "1", None, frozenset(["a", "b"]))
    accepted = wheels.Target("train", "x86_64-linux", "3.13").tags()
    files = {"one-1-2-cp313-cp313-manylinux_2_17_x86_64.whl": "a", "one-1-py3-none-any.whl": "b", "one-1-cp313-none-any.whl": "c"}
    assert wheels.choose(entry, files, accepted) == {"file": "one-1-py3-none-any.whl", "sha256": "b"}
    with pytest.raises(SystemExit, match="one==1: no file of the lock"):
        wheels.choose(entry, {"one-1-cp312-cp312-manylinux_2_17_x86_64.whl": "a"}, accepted)


def test_the_flake_pins_nixpkgs_and_nothing_else(root: Path) -> None:
    lock = json.loads((root / "flake.lock").read_text())
    assert (lock["version"], lock["root"], set(lock["nodes"])) == (7, "root", {"root", "nixpkgs"})
    locked, original = lock["nodes"]["nixpkgs"]["locked"], lock["nodes"]["nixpkgs"]["original"]
    assert re.fullmatch("[0-9a-f]{40}", locked["rev"])
    assert locked["narHash"].startswith("sha256-") and len(base64.b64decode(locked["narHash"][7:], validate=True)) == 32
    url = "{type}:{owner}/{repo}/{ref}".format(**original)
    assert f'inputs.nixpkgs.url = "{url}";' in (root / "flake.nix").read_text()
    assert {key: locked[key] for key in ("type", "owner", "repo")} == {key: original[key] for key in ("type", "owner", "repo")}


def test_tox_and_the_flake_use_the_same_interpreters(wheels: ModuleType) -> None:
    for name in environments():
        assert {target.python for target in wheels.targets(name)} == {ci.works()[name].python} == {ci.works()[f"test-{name}"].python}
