"""Moving a lock, on a small project with an index of its own: real resolving and real files, a trial that reads the proposed lock."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fakes.package_index import add_wheel, served

from interlock.environments import ROOT, environments
from interlock.errors import StageFailed, UsageError
from interlock.voice import SilentVoice, Voice
from pipeline.compat.results import Column, Result, Versions
from pipeline.updating.proposal import Wish
from pipeline.updating.trial import Toy, Trial
from pipeline.updating.update import Update, refusal, updated

pytestmark = pytest.mark.e2e

DEFINITION = """[project]
name = "env-{name}"
version = "0"
requires-python = "{python}"
dependencies = [
    "torch=={torch}",
    "harmless>=1.0,<2",
]

[project.optional-dependencies]
dev = ["tester"]

[tool.uv]
package = false

[tool.interlock]
systems = ["x86_64-linux"]
"""
PYTHON = {"export": ">=3.10,<3.12", "train": ">=3.13"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project locked when the index had less than it has now."""
    root, index = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("index")
    leave = shutil.ignore_patterns("__pycache__", ".venv", "*.lock", "wheels-*.json")
    for room in ("ci", "interlock"):
        shutil.copytree(ROOT / room, root / room, ignore=leave)
    for room in ("eval", "pipeline", "runtime"):
        (root / room).mkdir()
    for file in ("LICENSE", "README.md", "flake.nix", "pyproject.toml", "tox.ini"):
        shutil.copy2(ROOT / file, root / file)
    for tool in (".uv", ".venv"):
        (root / tool).symlink_to(ROOT / tool)
    for name, python in PYTHON.items():
        folder = root / "envs" / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(DEFINITION.format(name=name, python=python, torch="2.0"))
    for name, version in (("torch", "2.0"), ("harmless", "1.0"), ("tester", "1.0")):
        add_wheel(index, name, version)
    with served(index) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_DEFAULT_INDEX", address)
        patch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        subprocess.run([root / "ci" / "lock", "export", "train"], check=True, cwd=root)
        for name, version in (("torch", "2.1"), ("harmless", "1.1"), ("harmless", "2.0")):
            add_wheel(index, name, version)
        yield root


@pytest.fixture
def project(locked: Path, tmp_path: Path) -> Path:
    root = tmp_path / "project"
    shutil.copytree(locked, root, symlinks=True)
    return root


VERSIONS = Versions("2.0", "3.11", "9.0", "2.3.5", "linux-x86_64")


def trying(db: dict[str, float]) -> Callable[[Path, str, Path, Sequence[str], Voice], Trial]:
    """A trial whose figure hangs on the version of `harmless` that the tree has locked."""

    def tried(tree: Path, label: str, folder: Path, cases: Sequence[str], voice: Voice) -> Trial:
        figure = db[environments(tree)["export"].locked()["harmless"]]
        return Trial(
            Column(VERSIONS, {"trace_fixed": Result("ok", figure, {"linear": 1})}), Toy({"decode logits": figure}), {"probe": 1.0, "toy": 1.0}
        )

    return tried


def never(tree: Path, label: str, folder: Path, cases: Sequence[str], voice: Voice) -> Trial:
    raise AssertionError("nothing was to be tried")


def update(project: Path, wish: Wish, try_: Callable[..., Trial], accept: bool = True) -> Update:
    return updated(wish, project, project / "home", lambda _: accept, SilentVoice(), try_)


def state(project: Path) -> dict[str, bytes]:
    return {str(file.relative_to(project)): file.read_bytes() for file in sorted((project / "envs").rglob("*")) if file.is_file()}


def versions(project: Path, name: str) -> dict[str, str]:
    return environments(project)[name].locked()


def test_a_lock_that_loses_nothing_is_written_with_its_lists(project: Path) -> None:
    before = state(project)
    done = update(project, Wish(("export",), "harmless"), trying({"1.0": 70.0, "1.1": 69.5}))
    assert done.accepted and done.proposal.moved == {"export": {"harmless": ("1.0", "1.1")}}
    assert versions(project, "export") == {"harmless": "1.1", "torch": "2.0"}
    changed = {file for file, data in state(project).items() if data != before[file]}
    assert changed == {f"envs/export/{file}" for file in ("requirements.lock", "dev.lock", "wheels-x86_64-linux.json")}
    assert "harmless==1.1" in (project / "envs/export/dev.lock").read_text()
    checked = subprocess.run(
        [ROOT / "envs/train/.venv/bin/python", "ci/wheels.py", "check"], cwd=project, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert done.evidence and json.loads((done.evidence / "report.json").read_text())["outcome"] == "accepted"
    assert [path.name for path in (project / "home" / "updates").iterdir()] == [done.evidence.name]  # the copy of the project is gone


def test_a_lock_that_loses_numbers_is_refused_and_leaves_its_evidence(project: Path) -> None:
    before = state(project)
    done = update(project, Wish(("export",), "harmless"), trying({"1.0": 70.0, "1.1": 60.0}))
    refused = refusal(done)
    assert refused.exit_code == 6 and refused.measured == "60.0 dB" and "and 1 more" in refused.problem
    assert state(project) == before
    (evidence,) = (project / "home" / "updates").iterdir()
    assert str(evidence) in refused.remedy and not done.accepted
    report = json.loads((evidence / "report.json").read_text())
    assert report["outcome"] == "refused" and report["db"]["case trace_fixed"] == [70.0, 60.0] and len(report["refusals"]) == 2
    assert "harmless==1.1" in (evidence / "export" / "requirements.lock").read_text()


def test_one_environment_may_not_have_a_torch_of_its_own(project: Path) -> None:
    before = state(project)
    refused = refusal(update(project, Wish(("export",), "torch", "2.1"), never))
    assert "mix versions of torch" in refused.problem and refused.measured == "2.1 in `export`, 2.0 in `train`"
    assert state(project) == before


def test_both_move_together_and_their_definitions_with_them(project: Path) -> None:
    done = update(project, Wish(("export", "train"), "torch", "2.1"), trying({"1.0": 70.0}))
    assert done.accepted and all(versions(project, name) == {"harmless": "1.0", "torch": "2.1"} for name in PYTHON)
    for name, python in PYTHON.items():
        assert (project / "envs" / name / "pyproject.toml").read_text() == DEFINITION.format(name=name, python=python, torch="2.1")


def test_a_version_that_the_definition_excludes_is_tried_under_a_changed_one(project: Path) -> None:
    done = update(project, Wish(("train",), "harmless", "2.0"), trying({"1.0": 70.0}), accept=False)
    assert not done.accepted and done.as_dict()["outcome"] == "proposed"
    assert done.evidence and '"harmless==2.0"' in (done.evidence / "train" / "pyproject.toml").read_text()
    assert versions(project, "train")["harmless"] == "1.0"


def test_all_moves_as_far_as_the_definition_allows_and_then_nothing_is_left(project: Path) -> None:
    wish = Wish(("train",))
    assert update(project, wish, trying({"1.0": 70.0})).proposal.moved == {"train": {"harmless": ("1.0", "1.1")}}
    again = update(project, wish, never)
    assert again.evidence is None and again.as_dict()["outcome"] == "nothing to move"


def test_what_the_resolver_refuses_is_told_in_its_words(project: Path) -> None:
    before = state(project)
    with pytest.raises(StageFailed, match=r"(?s)no lock of `export`.*harmless.*9\.9"):
        update(project, Wish(("export",), "harmless", "9.9"), never)
    assert state(project) == before and not any((project / "home" / "updates").iterdir())


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(("exprt",)), "no environment `exprt`"),
        (Wish(("export",), "numpy"), "has no package `numpy`"),
        (Wish(("export",), None, "1.0"), "`--to` names the version of one package"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_work(project: Path, wish: Wish, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        update(project, wish, never)
    assert not (project / "home").exists()
