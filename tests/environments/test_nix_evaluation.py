"""The flake, evaluated by a real nix with a stand-in for nixpkgs: what there is on each system, and what is refused before anything is built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.nix import NixProject, nix_project
from packaging.specifiers import SpecifierSet

from pipeline.launchers.nix import system_name

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NixProject]:
    made = nix_project(tmp_path_factory.mktemp("nix"))
    made.lock_stand_in()
    yield made
    made.remove()


def test_what_the_flake_offers_on_each_system(project: NixProject) -> None:
    shown = json.loads(project.flake("show", "--json").out)
    offered = {kind: {system: set(found) for system, found in systems.items()} for kind, systems in shown.items()}
    both, images, command = {"export", "train"}, {"image-export", "image-train"}, {"default", "interlock"}
    assert offered == {
        # coremltools has no wheel for aarch64 Linux, and images are made on Linux.
        "packages": {
            "x86_64-linux": both | images | command,
            "aarch64-linux": {"train", "image-train"} | command,
            "aarch64-darwin": both | command,
        },
        "devShells": {"x86_64-linux": both | {"default"}, "aarch64-linux": {"train", "default"}, "aarch64-darwin": both | {"default"}},
        "apps": dict.fromkeys(("x86_64-linux", "aarch64-linux", "aarch64-darwin"), command),
        "checks": {"x86_64-linux": both | {"toy"}, "aarch64-linux": {"train"}, "aarch64-darwin": both | {"toy"}},
    }


def test_everything_evaluates_on_every_system(project: NixProject) -> None:
    said = project.flake("check", "--no-build")
    assert said.code == 0, said.err


def test_a_working_tree_gives_the_packages_that_the_flake_gives(project: NixProject) -> None:
    name = f"packages.{system_name()}.train.drvPath"
    tree, flake = project.nix("eval", "--file", str(project.root), name), project.nix("eval", f".#{name}")
    assert tree.code == flake.code == 0, (tree.err, flake.err)
    assert tree.out == flake.out != ""


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("flake.nix", 'export = "python311"', 'export = "python313"', "envs/export needs Python >=3.10,<3.12, flake.nix gives it 3.13"),
        ("flake.nix", 'train = "python313"', 'train = "python311"', "envs/train needs Python >=3.13, flake.nix gives it 3.11"),
        ("envs/train/requirements.lock", "\njinja2==3", "\njinja2==9", "was made from another requirements.lock: run ci/lock"),
        ("envs/train/pyproject.toml", '">=3.13"', '"~=3.13"', "requires-python: cannot read '~=3.13'"),
        ("envs/export/pyproject.toml", '">=3.10,<3.12"', '"==3.11.*,!=3.11.*"', "envs/export needs Python ==3.11.*,!=3.11.*"),
        (f"envs/train/wheels-{system_name()}.json", '"python": "3.13"', '"python": "3.14"', "is for Python 3.14, flake.nix gives it 3.13"),
    ],
)
def test_what_does_not_fit_fails_evaluation(project: NixProject, file: str, old: str, new: str, message: str) -> None:
    path = project.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        said = project.flake("check", "--no-build")
        assert said.code != 0 and message in said.err
    finally:
        path.write_text(text)


def test_requires_python_means_what_it_means_to_packaging(project: NixProject, tmp_path: Path) -> None:
    versions = ["3.9.25", "3.10.0", "3.10.13", "3.11", "3.11.0", "3.11.7", "3.12.0", "3.13.0", "3.14.2", "4.0"]
    specifiers = [">=3.10,<3.12", ">=3.13", ">3.10.0", "<=3.11.7", "==3.11.*", "!=3.11.*", "==3.13.0", "!=3.10.13,>=3.10", " >= 3.9 , < 4 "]
    (tmp_path / "pairs.json").write_text(json.dumps([(version, specifier) for version in versions for specifier in specifiers]))
    script = f"""
    let satisfies = import {project.root}/nix/requires.nix {{ lib = import {project.base}/nixpkgs/lib.nix; }}; in
    map (pair: satisfies (builtins.elemAt pair 0) (builtins.elemAt pair 1)) (builtins.fromJSON (builtins.readFile {tmp_path}/pairs.json))
    """
    said = project.nix("eval", "--impure", "--json", "--expr", script)
    assert said.code == 0, said.err
    assert json.loads(said.out) == [SpecifierSet(specifier).contains(version) for version in versions for specifier in specifiers]
