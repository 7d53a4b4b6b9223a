"""Every stage in every wrong environment, through every door: a real process each, exit code 4, what is required, what runs, and what would be right.

Nothing here has a tensor library: what is refused is refused before one is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from fakes.makers import PYTHONS, maker
from fakes.shell import Said, run

from interlock.contracts import io
from interlock.environments import ROOT, environment, environments
from interlock.producers import HOMES
from pipeline.driver.registry import OURS
from pipeline.driver.request import Request
from pipeline.installed.distributions import site_packages

pytestmark = pytest.mark.e2e

STAGES = {name: entry.environment for name, entry in OURS.items()}
WRONG = ("the other environment", "another torch", "no packages", "an old Python")
# The words of each stage's verb, and the guide's entry for it. Nothing that they name is there: nothing of it is looked at.
VERBS = {
    "data": ["data", "make", "permutation-automaton", "--out", "made"],
    "data-record": ["data", "record", "nothing", "nothing.jsonl", "--out", "made"],
    "data-import": ["data", "import", "nothing.jsonl", "--out", "made"],
    "import": ["import", "random:0", "--out", "made"],
    "export": ["export", "--checkpoint", "nothing", "--out", "made"],
    "convert": ["convert", "--in", "nothing", "--out", "made"],
    "compress": ["convert", "--in", "nothing", "--checkpoint", "nothing", "--compress", "int8", "--out", "made"],
    "deploy": ["deploy", "--export", "nothing", "--out-dir", "made"],
    "eval": ["eval", "nothing", "nothing", "--out", "made"],
    "infer": ["infer", "nothing", "--prompt", "x"],
}
GUIDE = {
    "export": ["pipeline.export_pytorch", *VERBS["export"][1:]],
    "convert": ["pipeline.convert_coreml", *VERBS["convert"][1:]],
    "compress": ["pipeline.convert_coreml", *VERBS["compress"][1:]],
    "deploy": ["pipeline.deploy_model", *VERBS["deploy"][1:]],
    "infer": ["runtime.inference_production", "--model", "nothing", "--prompt", "x"],
}
HOME = STAGES | {"infer": "train"}


def bare(python: str, folder: Path, *lines: object) -> Path:
    """A new virtual environment that has the project and nothing else; `lines` are further folders that it has modules from."""
    subprocess.run([ROOT / ".venv/bin/uv", "venv", "--quiet", "--no-project", "--python", python, folder], check=True, env=clean())
    site = site_packages(folder)
    assert site is not None
    (site / "project.pth").write_text("".join(f"{line}\n" for line in (ROOT, *lines)))
    return folder / "bin" / "python"


def clean() -> dict[str, str]:
    left_out = ("INTERLOCK_", "VIRTUAL_ENV", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The interpreter that is wrong for an environment, by the way in which it is."""
    subprocess.run([ROOT / "ci" / "sync", *environments()], check=True)
    folder = tmp_path_factory.mktemp("wrong")
    found = {}
    for name, other in (("export", "train"), ("train", "export")):
        real, theirs = environment(name), environment(other)
        found[name, "the other environment"] = theirs.python
        found[name, "no packages"] = bare(str(real.python.resolve()), folder / f"{name}-bare")
        # The right interpreter and all the right packages, and a torch before them that says it is another.
        python = bare(str(real.python.resolve()), folder / f"{name}-torch", site_packages(real.python.parent.parent))
        found[name, "another torch"] = python
        site = site_packages(python.parent.parent)
        assert site is not None
        (site / "torch-2.12.1.dist-info").mkdir()
        (site / "torch-2.12.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.12.1\n")
        # Older than the environment allows and there on every machine that has both environments: export's for train. For export a bare newer one.
        found[name, "an old Python"] = bare(str(theirs.python.resolve()), folder / f"{name}-old")
    return found


def words_of(name: str, wrong: str) -> list[str]:
    env = environment(name)
    if wrong == "another torch":
        return ["the versions of", "torch 2.12.1 instead of 2.13.0", f"ci/sync {name}"]
    return [f"required Python {env.requires_python}", "running  Python 3."]


def refused(said: Said, name: str, wrong: str, *texts: str) -> None:
    if "this interpreter has no package" in said.err:  # a verb of no environment of its own needs the driver's packages before it knows its stage
        said.refused(4, "environment: this interpreter has no package `pydantic`", "running  Python 3.", ".venv/bin/interlock")
        assert wrong in ("no packages", "an old Python")
        return
    said.refused(4, "environment: ", *words_of(name, wrong), *texts)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("stage", VERBS)
def test_a_verb_in_a_wrong_interpreter(pythons: dict[tuple[str, str], Path], tmp_path: Path, stage: str, wrong: str) -> None:
    """`pipeline.here` is what launchers start."""
    name, verb = HOME[stage], VERBS[stage][0]
    said = ended([pythons[name, wrong], "-m", "pipeline.here", *VERBS[stage]], clean(), tmp_path)
    refused(said, name, wrong, f"interlock {verb}", f"nix develop .#{name} -c interlock {verb}", "tox -e")


@pytest.mark.parametrize("wrong", ["the other environment", "no packages"])
@pytest.mark.parametrize("stage", VERBS)
def test_interlock_verb_under_launcher_current(pythons: dict[tuple[str, str], Path], tmp_path: Path, stage: str, wrong: str) -> None:
    """The launcher leaves the interpreter as it is, so it is refused; launcher `uv` would have started the verb where it belongs."""
    words = [pythons[HOME[stage], wrong], "-m", "pipeline.cli", *VERBS[stage]]
    refused(ended(words, clean() | {"INTERLOCK_LAUNCHER": "current"}, tmp_path), HOME[stage], wrong, f"interlock {VERBS[stage][0]}")


@pytest.mark.parametrize("wrong", ["the other environment", "no packages"])
def test_interlock_verb_moves_to_its_own_environment(pythons: dict[tuple[str, str], Path], tmp_path: Path, wrong: str) -> None:
    """In the wrong shell too: what is refused then is the input, by the interpreter of the right environment."""
    said = ended([pythons["export", wrong], "-m", "pipeline.cli", *VERBS["export"]], clean(), tmp_path)
    said.refused(3, "nothing/checkpoint_contract.json", "expected the contract of kind `checkpoint`")


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("stage", GUIDE)
def test_an_entry_of_the_guide_in_a_wrong_interpreter(pythons: dict[tuple[str, str], Path], tmp_path: Path, stage: str, wrong: str) -> None:
    refused(ended([pythons[HOME[stage], wrong], "-m", *GUIDE[stage]], clean(), tmp_path), HOME[stage], wrong, f"interlock {VERBS[stage][0]}")


def held(argv: list[object], folder: Path) -> Said:
    """How a stage ended whose driver held its standard input open: the end of that is the driver's, and the stage's."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*map(str, argv)], cwd=folder, env=clean(), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout and child.stderr
        out, err = child.stdout.read(), child.stderr.read()
    return Said(child.returncode, out, err)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("stage", STAGES)
def test_a_request_of_the_driver_in_a_wrong_interpreter(pythons: dict[tuple[str, str], Path], tmp_path: Path, stage: str, wrong: str) -> None:
    name = STAGES[stage]
    asked = Request(stage=stage, module=OURS[stage].module, environment=name, params={"out": str(tmp_path / "made")})
    (tmp_path / "request.json").write_bytes(asked.to_json())
    said = held([pythons[name, wrong], "-m", "pipeline.here", "stage", tmp_path / "request.json", "--json"], tmp_path)
    told = json.loads(said.out)
    assert (said.code, told["exit_code"], said.err) == (4, 4, "")
    message = f"required {told['required']}, running  {told['running']}, {told['remedy']}"
    assert [text for text in [*words_of(name, wrong), "--launcher uv"] if text not in message] == []


@pytest.mark.parametrize("wrong", ["the other environment", "another torch"])
def test_a_build_by_launcher_current_in_a_wrong_interpreter(pythons: dict[tuple[str, str], Path], tmp_path: Path, wrong: str) -> None:
    """Its first stage is of `train`; the others are never reached."""
    words = ["build", "random", "--set", "toy=false", "--set", f"output={tmp_path / 'made'}", "--launcher", "current"]
    said = ended([pythons["train", wrong], "-m", "pipeline.cli", *words], clean() | {"INTERLOCK_HOME": str(tmp_path / "home")}, tmp_path)
    refused(said, "train", wrong)
    assert not (tmp_path / "made").exists()


def test_a_build_by_launcher_current_stops_where_the_environment_ends(pythons: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """In the right environment of the first stage, the second one is refused, and what the first made stays in the store."""
    words = ["build", "random", "--set", "toy=false", "--set", f"output={tmp_path / 'made'}", "--launcher", "current", "--json"]
    environ = clean() | {"INTERLOCK_HOME": str(tmp_path / "home")}
    said = ended([pythons["export", "the other environment"], "-m", "pipeline.cli", *words], environ, tmp_path)
    assert said.code == 4 and "`export` belongs to environment `export`" in said.err
    assert {step["step"]: step["state"] for step in json.loads(said.out)["steps"]}["import"] == "made"


def ended(command: list[object], environ: dict[str, str], folder: Path) -> Said:
    """A process in a folder in which it makes nothing."""
    child = subprocess.run([*map(str, command)], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert not (folder / "made").exists()
    return Said(child.returncode, child.stdout, child.stderr)


GOLDEN = ROOT / "tests" / "interlock" / "contracts" / "golden" / "v2" / "toy"
CONSUMERS = {
    "checkpoint": ("export", ["export", "--checkpoint", "{}", "--out", "{}/made"]),
    "export": ("train", ["deploy", "--export", "{}", "--out-dir", "{}/made"]),
    "package": ("export", ["convert", "--in", "{}", "--checkpoint", "{}", "--compress", "int8", "--out", "{}/made"]),
    "deployment": ("train", ["infer", "{}", "--prompt", "x"]),
}


@pytest.mark.parametrize("kind", CONSUMERS)
def test_a_stage_refuses_what_a_wrong_environment_made(pythons: dict[tuple[str, str], Path], tmp_path: Path, kind: str) -> None:
    """The reader's side: the contract is true and whole, and says that the other environment's interpreter made it."""
    home, words = CONSUMERS[kind]
    producer = {"checkpoint": "import", "export": "export", "package": "convert", "deployment": "deploy"}[kind]
    (other,) = set(PYTHONS) - {HOMES[producer]}
    file, model = io.KINDS[kind]
    for part in GOLDEN.iterdir() if kind == "deployment" else ():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    document = json.loads((GOLDEN / file).read_bytes()) | {"toy": False, "created_by": maker(producer, python=PYTHONS[other]).model_dump()}
    (tmp_path / file).write_bytes(io.pretty(model.model_validate(document, strict=False).sealed()))
    python = environment(home).python
    said = run([str(python), "-I", "-m", "pipeline.here", *(word.replace("{}", str(tmp_path)) for word in words)])
    said.refused(4, f"what stage `{producer}` made", f"required Python {environment(HOMES[producer]).requires_python}", f"Python {PYTHONS[other]}",
                 "make it again", "--toy")  # fmt: skip
