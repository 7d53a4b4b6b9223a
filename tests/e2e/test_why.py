"""What a change re-runs, and what `why` says of it, in a clone of the project with environments of its own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes.clones import clone
from fakes.shell import Said, interlock, run
from fakes.toys import write_latest, write_tokenizer

from interlock.contracts import deployment, io

pytestmark = pytest.mark.e2e

RECIPE = """
output = "out"
toy = true
[source]
checkpoint = "pt:latest.pt"
tokenizer = "tokenizer"
[export]
lengths = [32]
[deploy]
halt_head = true
"""
STEPS = ("import", "export", "convert", "deploy")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clone, and a project folder in which it has built a toy."""
    code = clone(tmp_path_factory.mktemp("clone") / "interlock").root
    folder = tmp_path_factory.mktemp("project")
    (folder / "mine.toml").write_text(RECIPE)
    write_latest(folder / "latest.pt")
    write_tokenizer(folder / "tokenizer")
    said = say(code, folder, "build", "mine.toml", "--json")
    assert said["exit_code"] == 0
    return code, folder


def interlock_in(code: Path, *words: object, cwd: Path, environ: dict[str, str]) -> Said:
    """`interlock WORDS` of a clone."""
    python = code / "envs" / "train" / ".venv" / "bin" / "python"
    return run([str(python), "-I", "-m", "pipeline.cli", *map(str, words)], cwd=cwd, environ=environ)


def say(code: Path, folder: Path, *words: object, **environ: str) -> dict[str, Any]:
    said = interlock_in(code, *words, cwd=folder, environ={"INTERLOCK_HOME": str(folder / ".interlock"), **environ})
    assert said.code == 0, said.err
    document: dict[str, Any] = json.loads(said.out)
    return document


def to_run(code: Path, folder: Path, *words: object, **environ: str) -> list[str]:
    """The steps whose own key is another: those after them are looked at when they have run."""
    document = say(code, folder, "plan", "mine.toml", "--json", *words, **environ)
    return [step["step"] for step in document["steps"] if step["state"] == "run"]


class Edited:
    """A file of the clone with one text replaced, and as it was afterwards, times included."""

    def __init__(self, file: Path, old: str, new: str) -> None:
        self.file, self.text, self.stat = file, file.read_text(), file.stat()
        assert old in self.text, (file, old)
        self.new = self.text.replace(old, new, 1)

    def __enter__(self) -> None:
        self.file.write_text(self.new)

    def __exit__(self, *_: object) -> None:
        self.file.write_text(self.text)
        os.utime(self.file, ns=(self.stat.st_atime_ns, self.stat.st_mtime_ns))


# What changes, where, and the first step that it reaches by its own key (later ones wait for its result), and the leaf that `why` names.
SOURCES = [
    ("a constant", "pipeline/stages/export.py", "OTHER_STEPS = 128, 16", "OTHER_STEPS = 128, 17", ["export"], "stages/export.py: `(module level)`"),
    ("a helper", "pipeline/export/torchscript.py", "def methods(", "def _unused() -> None: ...\n\n\ndef methods(", ["export"], "`_unused` is new"),
    ("a helper of a helper", "runtime/numerics.py", "return ", "return None or ", ["export"], "runtime/numerics.py"),
    ("a file of data", "pipeline/export/prompt.txt", "the", "The", ["export"], "pipeline/export/prompt.txt"),
    ("a kernel in C", "runtime/kernels/csrc/kernels.h", "#", "\n#", ["convert"], "runtime/kernels/csrc/kernels.h"),
    ("the shell of all stages", "pipeline/driver/stage.py", "def is_ours(", "def is_ours(*, _more=0, ", ["import"], "`is_ours`"),
    ("a locked package", "envs/export/requirements.lock", "numpy==", "numpy==0", ["export"], "numpy"),
    ("a locked file of the other side", "envs/train/requirements.lock", "gguf==", "gguf==0", ["import", "deploy"], "gguf"),
    ("the interpreter", "envs/export/.venv/pyvenv.cfg", "version_info = 3", "version_info = 3.99", ["export"], "Python"),
    ("its allowed range", "envs/train/pyproject.toml", '">=3.13"', '">=3.12"', ["import", "deploy"], "requires-python"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "file", "old", "new", "first", "leaf"), SOURCES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_change_is_found_where_it_matters_and_named(
    built: tuple[Path, Path], what: str, file: str, old: str, new: str, first: list[str], leaf: str
) -> None:
    code, folder = built
    with Edited(code / file, old, new):
        assert to_run(code, folder)[:1] == first[:1]
        for step in first[:1]:
            answer = say(code, folder, "why", step, "--json")["steps"][0]
            assert answer["now"]["state"] == "run" and leaf in answer["now"]["why"][0], answer
    assert to_run(code, folder) == []


PARAMETERS = [
    (("--set", "export.lengths=[32, 48]"), ["export"], "parameter lengths: [32] → [32, 48]"),
    (("--set", "gates.psnr_db=51"), ["convert"], "parameter gates"),
    (("--set", "deploy.tier=tier_1"), ["deploy"], "parameter caws_tier: tier_2 → tier_1"),
    (("--set", "toy=false"), ["import"], "toy: True → False"),
    (("--set", "convert.layout=single"), ["convert"], "parameter layout: multifunction → single"),
]


@pytest.mark.parametrize(("words", "steps", "leaf"), PARAMETERS, ids=lambda value: value[1] if isinstance(value, tuple) else "")
def test_a_parameter_reaches_what_takes_it(built: tuple[Path, Path], words: tuple[str, ...], steps: list[str], leaf: str) -> None:
    code, folder = built
    assert to_run(code, folder, *words) == steps
    answer = say(code, folder, "why", steps[0], "--recipe", "mine.toml", *words, "--json")["steps"][0]
    assert leaf in answer["now"]["why"][0], answer


def test_a_byte_of_the_source_is_named(built: tuple[Path, Path]) -> None:
    code, folder = built
    file = folder / "tokenizer" / "tokenizer_config.json"
    with Edited(file, "chat_template", "chat_templatf"):
        assert to_run(code, folder) == ["import"]
        answer = say(code, folder, "why", "import", "--json")["steps"][0]
        assert answer["now"]["why"][0].startswith("input tokenizer/tokenizer_config.json: ")
    write_latest(folder / "latest.pt", seed=1)
    assert to_run(code, folder) == ["import"]
    write_latest(folder / "latest.pt", seed=0)
    assert to_run(code, folder) == []


def test_what_does_not_matter_re_runs_nothing(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Touch, comment, blank lines, docstring, another place, another user's surroundings, another time."""
    code, folder = built
    for path in code.rglob("*.py"):
        if ".venv" not in path.parts:
            os.utime(path, (0, 0))
    assert to_run(code, folder) == []
    file = "pipeline/stages/export.py"
    with Edited(code / file, "STAGE = ", "# another word\n\n\nSTAGE = "):
        assert to_run(code, folder) == []
    with Edited(code / file, '"""Stage `export`:', '"""The stage `export`:'):
        assert to_run(code, folder) == []
    assert to_run(code, folder, HOME=str(tmp_path), USER="somebody", TZ="Asia/Tokyo", LANG="C", PYTHONHASHSEED="7") == []
    elsewhere = tmp_path / "moved"
    shutil.copytree(folder, elsewhere)
    assert to_run(code, elsewhere) == []
    before = (elsewhere / "out" / "deployed" / "deployment_manifest.json").stat().st_mtime_ns
    assert {step["state"] for step in say(code, elsewhere, "build", "mine.toml", "--json")["steps"]} == {"kept"}
    assert (elsewhere / "out" / "deployed" / "deployment_manifest.json").stat().st_mtime_ns == before


def test_equal_results_cut_the_build_off_early(built: tuple[Path, Path]) -> None:
    """A change that makes no difference to what the import writes re-runs it and nothing after it."""
    code, folder = built
    with Edited(code / "pipeline/stages/import_.py", "def _count(", "def _unused() -> None: ...\n\n\ndef _count("):
        document = say(code, folder, "build", "mine.toml", "--json")
        assert [(step["step"], step["state"]) for step in document["steps"]] == [("import", "made"), *((step, "kept") for step in STEPS[1:])]
        assert document["steps"][0]["why"] == ["source pipeline/stages/import_.py: `_unused` is new"]


def test_only_from_and_force_choose_what_is_made_again(built: tuple[Path, Path]) -> None:
    code, folder = built

    def made(*words: object) -> list[str]:
        steps = say(code, folder, "build", "mine.toml", "--json", *words)["steps"]
        return [step["step"] for step in steps if step["state"] == "made"]

    assert made("--only", "import", "--force") == ["import"]
    assert made("--from", "convert") == ["convert", "deploy"]
    assert made() == []
    said = interlock_in(code, "build", "mine.toml", "--only", "exprot", cwd=folder, environ={"INTERLOCK_HOME": str(folder / ".interlock")})
    said.refused(2, "exprot", "export")


def test_where_the_source_lies_does_not_matter(built: tuple[Path, Path], tmp_path: Path) -> None:
    code, folder = built
    for name in ("latest.pt", "tokenizer"):
        (shutil.copytree if (folder / name).is_dir() else shutil.copy)(folder / name, tmp_path / name)
    assert (
        to_run(code, folder, "--set", f"source.checkpoint=pt:{tmp_path / 'latest.pt'}", "--set", f"source.tokenizer={tmp_path / 'tokenizer'}") == []
    )


def test_another_clone_place_and_surroundings_give_the_same_deployment(built: tuple[Path, Path], tmp_path: Path) -> None:
    """The clone built in its folder; the project itself builds in another, as somebody else would."""
    _, folder = built
    here = tmp_path / "elsewhere with spaces"
    here.mkdir()
    (here / "mine.toml").write_text(RECIPE)
    write_latest(here / "latest.pt")
    write_tokenizer(here / "tokenizer")
    environ = {"INTERLOCK_HOME": str(here / ".interlock"), "HOME": str(tmp_path), "USER": "somebody", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    mask = os.umask(0o077)
    try:
        said = interlock("build", "mine.toml", "--json", cwd=here, environ=environ)
    finally:
        os.umask(mask)
    assert said.code == 0, said.err
    assert {step["state"] for step in json.loads(said.out)["steps"]} == {"made"}
    mine, theirs = (io.read_contract(one / "out" / "deployed" / deployment.FILE, deployment.DeploymentContract) for one in (folder, here))
    assert mine.digest == theirs.digest
    assert [(entry.path, entry.sha256) for entry in mine.files] == [(entry.path, entry.sha256) for entry in theirs.files]
