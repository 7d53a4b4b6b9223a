"""The conformance kit: interlock's own stages pass it, and for each check there is a stage that it catches."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fakes import unruly
from fakes.shell import run
from fakes.small_exports import write_export
from fakes.toys import write_tokenizer

from interlock.environments import ROOT
from interlock.errors import UsageError
from pipeline.conformance import Candidate, Result, check
from pipeline.conformance.__main__ import main

DEPLOY = {"latent_mode": False, "halt_head": False, "caws_tier": "tier_1", "package": None}
HOLDS = [
    "it is a stage",
    "it makes an artifact",
    "it makes the same bytes anywhere",
    "it writes nowhere else and changes no input",
    "killed at any call, it leaves nothing or all of it",
    "killed while replacing, it leaves the old or the new",
    "a full disk ends it in words",
    "a failing disk ends it in words",
    "an output that cannot be written ends it in words",
]
LIES = "it refuses inputs that lie"


def failing(results: list[Result]) -> dict[str, tuple[str, ...]]:
    return {result.name: result.reasons for result in results if result.reasons}


@pytest.mark.train
def test_deploy_conforms(tmp_path: Path, extent: bool) -> None:
    export = write_export(tmp_path / "export")
    results = list(check(Candidate("pipeline.stages.deploy", "STAGE", {"export": export}, DEPLOY, toy=True, points=None if extent else 6)))
    assert failing(results) == {}
    assert [result.name for result in results] == [*HOLDS, LIES]
    assert all(result.trials for result in results[1:])


@pytest.mark.train
def test_import_conforms(tmp_path: Path, extent: bool) -> None:
    """In a process of its own: what its trials are forked from has torch loaded, once for all."""
    params = ["--param", "source=random:0", "--param", f"tokenizer={write_tokenizer(tmp_path / 'tokenizer')}"]
    code, found = conformance(Path(sys.executable), "pipeline.stages.import_:STAGE", *params, *([] if extent else ["--points", "2"]))
    assert (code, found) == (0, {})


STAGES = {
    "wandering": 'def work(params, work, voice):\n    return results(work, f"{Path.cwd()} {os.umask(0o22)}")',
    "by-time": 'def work(params, work, voice):\n    import time\n    return results(work, f"{time.tzname} {hash(params.text)}")',
    "messy": (
        'def work(params, work, voice):\n    import tempfile\n    tempfile.mkstemp()\n    (Path.home() / ".cache").write_text("mine")\n'
        '    Path("/var/tmp/interlock-messy").write_text("")\n    os.unlink("/var/tmp/interlock-messy")\n    return results(work)'
    ),
    "stubborn": (
        "def work(params, work, voice):\n    try:\n        return results(work)\n    except OSError:\n        raise RuntimeError('no luck')"
    ),
    "careless": (
        "def work(params, work, voice):\n    try:\n        work.write('notes.txt', b'notes')\n    except OSError:\n        pass\n"
        "    return results(work)"
    ),
    "trusting": (
        'def work(params, work, voice):\n    import json\n    found = json.loads((params.given / "evaluation_contract.json").read_bytes())\n'
        '    results(work)\n    return Outcome(BODY, (InputRef(kind="evaluation", digest=found["digest"]),))\n\n'
        "class Given(Params):\n    given: Path\n"
    ),
    "lost": "def work(params, work, voice):\n    raise KeyError('never')",
}
MORE = {"trusting": ", params=Given"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stages that each fail one check, and the well-behaved one of the unruly package, importable by whoever has the folder on its path."""
    texts = {
        name: f'from .common import *\nfrom .common import stage\n\n{work}\n\nSTAGE = stage("{name}", work{MORE.get(name, "")})\n'
        for name, work in STAGES.items()
    }
    return unruly.write(tmp_path_factory.mktemp("conformance"), **texts)


@pytest.fixture
def importable(package: Path, tmp_path: Path) -> Path:
    """An interpreter that has the package, also isolated."""
    import venv

    venv.create(tmp_path / "venv", symlinks=True)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site / "here.pth").write_text("\n".join([str(ROOT), str(package), *paths]) + "\n")
    return tmp_path / "venv" / "bin" / "python"


def conformance(python: Path, stage: str, *words: str) -> tuple[int, dict[str, list[str]]]:
    said = run([str(python), "-I", "-m", "pipeline.conformance", stage, "--toy", "--json", *words])
    assert "Traceback" not in said.err, said.err
    document = json.loads(said.out)
    assert document["conforms"] == (said.code == 0)
    return said.code, {entry["name"]: entry["reasons"] for entry in document["checks"] if entry["reasons"]}


@pytest.mark.train
def test_a_stage_that_behaves_passes_at_every_call(importable: Path) -> None:
    assert conformance(importable, "unruly.right:STAGE") == (0, {})


@pytest.mark.train
@pytest.mark.parametrize(
    ("stage", "checks", "reason"),
    [
        ("lost", ["it makes an artifact"], "it did not: KeyError: 'never'"),
        ("wandering", ["it makes the same bytes anywhere"], "other bytes in results.jsonl"),
        ("by-time", ["it makes the same bytes anywhere"], "other bytes in results.jsonl"),
        ("messy", ["it writes nowhere else and changes no input"], "it wrote `/var/tmp/interlock-messy`"),
        ("stubborn", ["a full disk ends it in words"], "RuntimeError: no luck"),
        ("careless", ["a full disk ends it in words"], "it published another artifact than without the fault"),
    ],
)
def test_each_check_catches_a_stage(importable: Path, stage: str, checks: list[str], reason: str) -> None:
    points = [] if stage in ("stubborn", "careless") else ["--points", "1"]
    code, found = conformance(importable, f"unruly.{stage.replace('-', '_')}:STAGE", *points)
    assert code == 6
    assert set(checks) <= set(found), found
    assert any(reason in text for name in checks for text in found[name]), found


@pytest.mark.train
def test_a_stage_that_trusts_its_input_is_caught(importable: Path, tmp_path: Path) -> None:
    from fakes.artifacts import write_evaluation

    write_evaluation(tmp_path / "evaluation")
    code, found = conformance(importable, "unruly.trusting:STAGE", "--input", f"given={tmp_path / 'evaluation'}", "--points", "1")
    assert code == 6
    assert set(found) == {LIES}
    assert {"input `given` with one bit of a file flipped was taken", "input `given` with a file missing was taken"} <= set(found[LIES])


def test_what_is_no_stage_is_told() -> None:
    (only,) = check(Candidate("pipeline.conformance", "check"))
    assert only.reasons == ("it is a function and no pipeline.driver.stage.Stage",)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nonsense"], "names no stage"),
        (["pipeline.no_such:STAGE"], "cannot be imported"),
        (["pipeline.stages.deploy:NOTHING"], "cannot be imported"),
        (["pipeline.stages.deploy:STAGE", "--input", "export"], "is no assignment"),
        (["pipeline.stages.deploy:STAGE", "--points", "0"], "at least one"),
    ],
)
def test_a_wrong_command_is_refused_in_words(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == UsageError.exit_code
    said = capsys.readouterr().err
    assert text in said and "hint: " in said
