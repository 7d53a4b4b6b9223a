"""Stages and gates of other packages, installed for real into the environments of a clone: what works, and how each thing that can be wrong ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import unruly
from fakes.clones import Clone, clone
from fakes.shell import Said, run

import interlock
from interlock.contracts import io
from interlock.environments import ROOT

pytestmark = pytest.mark.e2e
RECIPE = "examples/interlock-smoke/recipe.toml"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = clone(tmp_path_factory.mktemp("smoke") / "a clone")
    made.install(made.root / "examples" / "interlock-smoke", "train", "export")
    return made


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in whose train environment the unruly package is installed."""
    folder = tmp_path_factory.mktemp("unruly")
    made = clone(folder / "clone")
    extra = {
        "absent": "import no_such_package\n",
        "typo": "def f(:\n",
        "no-stage": "STAGE = 3\n",
        "elsewhere": 'from .common import *\nfrom .common import stage\nSTAGE = stage("elsewhere", lambda p, w, v: 0, environment="export")\n',
        "nowhere": 'from .common import *\nfrom .common import stage\nSTAGE = stage("nowhere", lambda p, w, v: 0, environment="mars")\n',
        "import": 'from .common import *\nfrom .common import stage\nSTAGE = stage("import", lambda p, w, v: 0)\n',
    }
    made.install(unruly.write(folder / "package", **extra), "train")
    return made


def build(where: Clone, text: str, *words: str) -> Said:
    """Build a recipe of these tables, an output of its own each time."""
    file = where.root / "r.toml"
    file.write_text(f'output = "out"\ntoy = true\n{text}')
    return where.interlock("build", "r.toml", *words)


def steps(said: Said) -> dict[str, dict[str, Any]]:
    return {step["step"]: step for step in json.loads(said.out)["steps"]}


def published(where: Clone) -> list[str]:
    store = where.root / ".interlock" / "store"
    return sorted(str(path) for path in [*(where.root / "out").glob("*"), *store.glob("objects/*/*")])


def test_the_example_builds_cold_then_has_nothing_to_do(smoke: Clone) -> None:
    cold = smoke.interlock("build", RECIPE, "--json")
    assert cold.code == 0, cold.err
    assert {name: step["state"] for name, step in steps(cold).items()} == dict.fromkeys(("import", "export", "convert", "deploy", "smoke"), "made")

    evaluation = interlock.open(smoke.root / "models/smoke/smoke").verify()
    deployed = interlock.open(smoke.root / "models/smoke/deployed").verify()
    rows = [json.loads(line) for line in evaluation.files["results.jsonl"].read_text().splitlines()]
    assert len(rows) == 3 and all(1 <= len(row["tokens"]) <= 8 for row in rows)
    assert [(ref.kind, ref.digest) for ref in evaluation.inputs] == [("deployment", deployed.digest)]
    assert evaluation.contract.toy
    (gate,) = deployed.parts["package"].gates_passed
    assert (gate.gate, gate.distribution) == ("size-budget", "interlock-smoke")
    assert gate.findings[0].threshold == 1e6
    assert gate.findings[0].value == deployed.parts["package"].facts.weight_bytes

    warm = smoke.interlock("build", RECIPE, "--json")
    assert {step["state"] for step in steps(warm).values()} == {"kept"}
    assert smoke.interlock("verify", "models/smoke/deployed").code == 0


def test_a_gate_that_refuses_ends_with_6_keeps_the_candidate_and_is_remembered(smoke: Clone) -> None:
    tight = 'gates.extra=[{gate = "size-budget", params = {max_weight_bytes = 1000}}]'
    said = smoke.interlock("build", RECIPE, "--set", tight, "--set", "output=models/tight")
    said.refused(6, "gate `size-budget` refuses the package", "threshold 1000", "rejected")
    assert not (smoke.root / "models/tight").exists()
    (evidence,) = smoke.root.glob(".interlock/store/rejected/*/evidence.json")
    told = json.loads(evidence.read_text())
    assert "size-budget" in told["asked"] and "of weights" in told["findings"][0] and ": 220992" in told["findings"][0]
    assert told["command"].startswith(f"interlock build {RECIPE} --set ") and "--only convert" in told["command"]
    assert io.kind_of(evidence.parent) == "package"
    again = smoke.interlock("build", RECIPE, "--set", tight, "--set", "output=models/tight")
    again.refused(6, "it was not run again")
    shown = smoke.interlock("lineage", "models/smoke/deployed")
    assert str(evidence.parent.name)[:12] in shown.out.replace("\n", ""), shown.out


def test_a_changed_gate_judges_again_and_why_names_the_line(smoke: Clone) -> None:
    assert smoke.interlock("build", RECIPE).code == 0
    source = smoke.root / "examples/interlock-smoke/src/interlock_smoke/budget.py"
    text = source.read_text()
    try:
        source.write_text(text.replace("size <= most", "size < most"))
        said = smoke.interlock("build", RECIPE, "--json")
    finally:
        source.write_text(text)
    assert {name: step["state"] for name, step in steps(said).items()} | {"convert": "made"} == {
        "import": "kept", "export": "kept", "convert": "made", "deploy": "kept", "smoke": "kept",
    }  # fmt: skip
    assert steps(said)["convert"]["why"] == ["gate size-budget, source interlock_smoke/budget.py: `look` changed"]


@pytest.mark.parametrize(
    ("file", "old", "new", "ran", "leaf"),
    [
        (
            "runtime/engine/turn.py",
            "the prompt has no tokens",
            "the prompt is empty",
            ["smoke"],
            "source runtime/engine/turn.py: `_check` changed",
        ),
        (
            "examples/interlock-smoke/src/interlock_smoke/smoke.py",
            '"suite": "smoke"',
            '"suite": "smoking"',
            ["smoke"],
            "source interlock_smoke/smoke.py: `_body` changed",
        ),
        ("examples/interlock-smoke/src/interlock_smoke/smoke.py", "# No times:", "# No clock:", [], ""),
        ("examples/interlock-smoke/src/interlock_smoke/smoke.py", '"""Stage `smoke`:', '"""The stage:', [], ""),
    ],
)
def test_a_stages_source_is_its_packages_and_what_that_imports_of_interlock(
    smoke: Clone, file: str, old: str, new: str, ran: list[str], leaf: str
) -> None:
    assert smoke.interlock("build", RECIPE).code == 0
    source = smoke.root / file
    text = source.read_text()
    assert old in text
    try:
        source.write_text(text.replace(old, new))
        said = smoke.interlock("build", RECIPE, "--json")
    finally:
        source.write_text(text)
    assert said.code == 0, said.err
    assert [name for name, step in steps(said).items() if step["state"] == "made"] == ran
    assert not ran or leaf in steps(said)["smoke"]["why"]


def test_a_helper_and_a_version_of_another_package_count(rough: Clone) -> None:
    tables = STAGE.format("right") + 'params = { text = "keyed" }\n'
    assert steps(build(rough, tables, "--json"))["right"]["state"] == "made"
    package = rough.root.parent / "package"
    for file, old, new, why in (
        (package / "unruly" / "common.py", '"suite": "none"', '"suite": "some"', "source unruly/common.py: `BODY` changed"),
        (package / "pyproject.toml", 'version = "1.0"', 'version = "1.1"', "package unruly: 1.0 → 1.1"),
    ):
        text = file.read_text()
        try:
            file.write_text(text.replace(old, new))
            rough.install(package, "train")
            found = steps(build(rough, tables, "--json"))["right"]
        finally:
            file.write_text(text)
            rough.install(package, "train")
        assert (found["state"], found["why"]) == ("made", [why])
        assert steps(build(rough, tables, "--json"))["right"]["state"] == "kept"


def test_a_gate_is_asked_where_the_package_is_made(smoke: Clone) -> None:
    smoke.uninstall("interlock-smoke", "export")
    try:
        said = smoke.interlock("build", RECIPE)
    finally:
        smoke.install(smoke.root / "examples" / "interlock-smoke", "export")
    said.refused(4, "`size-budget` runs in environment `export`, and interlock-smoke is not installed there", "uv pip install")


def test_installed_and_editable_packages_give_one_key(smoke: Clone) -> None:
    """The same source, once on the import path by a link and once copied into site-packages."""
    assert smoke.interlock("build", RECIPE).code == 0
    folder = smoke.root / "examples" / "interlock-smoke"
    smoke.uninstall("interlock-smoke", "train", "export")
    smoke.install(folder, "train", "export", editable=False)
    try:
        said = smoke.interlock("build", RECIPE, "--json")
    finally:
        smoke.uninstall("interlock-smoke", "train", "export")
        smoke.install(folder, "train", "export")
    assert {step["state"] for step in steps(said).values()} == {"kept"}


STAGE = '[[stages]]\nstage = "{}"\n'


@pytest.mark.parametrize(
    ("stage", "texts"),
    [
        ("raises", ["failed: KeyError: 'a bug of its author' (raises.py line 5)"]),
        ("exits", ["failed: SystemExit: 0 (exits.py line 5)"]),
        ("vanishes", ["ended with code 0"]),
        ("empty", ["made no evaluation", "at least 1 item"]),
        ("illegal", ["made no evaluation", "a relative path of plain names"]),
        ("twins", ["`Notes.txt` and `notes.txt`, which are one file where case does not count"]),
        ("impostor", ["left `package_contract.json`, a contract that belongs to another kind"]),
        ("wrong-body", ["made no evaluation: ", "items: ", "colour: "]),
        ("wrong-answer", ["returned dict", "Outcome"]),
        ("littering", ["left `notes.txt` outside its workspace"]),
        ("beside", ["left `notes.txt` outside its workspace"]),
        ("into-out", ["files came into", "while stage `into-out` ran"]),
    ],
)
def test_a_stage_that_does_wrong_ends_in_one_message_and_publishes_nothing(rough: Clone, stage: str, texts: list[str]) -> None:
    before = published(rough)
    said = build(rough, STAGE.format(stage))
    said.refused(5, stage, *texts)
    assert published(rough) == before
    assert not (rough.root / "notes.txt").exists()


def test_a_link_in_a_workspace_is_refused(rough: Clone) -> None:
    build(rough, STAGE.format("linked")).refused(3, "expected a regular file, found a symbolic link")


def test_what_a_stage_prints_does_not_spoil_its_report(rough: Clone) -> None:
    said = build(rough, STAGE.format("talkative"), "--json")
    assert said.code == 0, said.err
    assert steps(said)["talkative"]["state"] == "made"


def test_a_stage_that_changes_its_input_is_refused_and_the_input_is_made_again(rough: Clone) -> None:
    tables = STAGE.format("right") + STAGE.format("meddling") + 'inputs = { given = "right" }\n'
    build(rough, tables).refused(5, "stage `meddling` changed its input `given`")
    said = build(rough, STAGE.format("right"), "--set", "output=again", "--json")
    assert said.code == 0, said.err
    assert (rough.root / "again/right/results.jsonl").read_text() == "right"


def test_a_file_from_outside_counts_by_its_bytes(rough: Clone) -> None:
    tables = STAGE.format("reading") + 'params = { file = "words.txt" }\n'
    build(rough, tables).refused(2, "there is no `words.txt` to read (parameter `file`)")
    (rough.root / "words.txt").write_text("one")
    assert steps(build(rough, tables, "--json"))["reading"]["state"] == "made"
    assert steps(build(rough, tables, "--json"))["reading"]["state"] == "kept"
    (rough.root / "words.txt").write_text("two")
    changed = steps(build(rough, tables, "--json"))["reading"]
    assert changed["state"] == "made" and changed["why"][0].startswith("input file/words.txt: ")
    assert (rough.root / "out/reading/results.jsonl").read_text() == "two"


@pytest.mark.parametrize(
    ("code", "tables", "texts"),
    [
        (2, STAGE.format("rihgt"), ["there is no stage `rihgt`", "installed are", "right"]),
        (
            2,
            STAGE.format("right") + "params = { text = 3, colour = true }\n",
            ["r.toml at /stages/0/params/text: ", "params/colour: ", "text: str"],
        ),
        (2, STAGE.format("right") + 'params = { out = "/" }\n', ["/stages/0/params/out: is set by the build"]),
        (2, STAGE.format("right") + "params = { text = 2026-01-01 }\n", ["dates, times"]),
        (2, STAGE.format("deploy"), ["`deploy` is a stage of interlock"]),
        (2, STAGE.format("meddling"), ["takes other inputs than given: it takes given (evaluation)"]),
        (2, STAGE.format("right") + STAGE.format("right"), ["two steps are called `right`"]),
        (2, STAGE.format("right") + '[[gates.extra]]\ngate = "nobody"\n', ["there is no gate `nobody`", "agrees"]),
        (2, STAGE.format("right") + '[[gates.extra]]\ngate = "agrees"\nsteps = ["left"]\n', ["there is no step `left`"]),
        (
            2,
            STAGE.format("right") + '[[gates.extra]]\ngate = "agrees"\nparams = { bound = "x" }\n',
            ["extra/0/params/bound: ", "bound: float"],
        ),
        (4, STAGE.format("absent"), ["cannot be used", "No module named 'no_such_package'"]),
        (4, STAGE.format("typo"), ["cannot be used", "SyntaxError"]),
        (4, STAGE.format("no-stage"), ["it is a int and no pipeline.driver.stage.Stage"]),
        (4, STAGE.format("nowhere"), ["there is no environment `mars`"]),
        (4, STAGE.format("elsewhere"), ["`elsewhere` runs in environment `export`, and unruly is not installed there"]),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(rough: Clone, code: int, tables: str, texts: list[str]) -> None:
    build(rough, tables).refused(code, *texts)


@pytest.mark.parametrize(
    ("code", "gate", "texts"),
    [
        (6, "refuses", ["gate `refuses` refuses the evaluation of stage `right`", "measured too big: 3, threshold 2"]),
        (5, "silent", ["found nothing"]),
        (5, "broken", ["ZeroDivisionError"]),
        (5, "nan", ["found what cannot be written down"]),
        (5, "changing", ["changed the evaluation that it was asked about"]),
    ],
)
def test_a_gate_that_refuses_or_is_broken_lets_nothing_through(rough: Clone, code: int, gate: str, texts: list[str]) -> None:
    before = published(rough)
    tables = STAGE.format("right") + f'params = {{ text = "{gate}" }}\n[[gates.extra]]\ngate = "{gate}"\n'
    build(rough, tables).refused(code, f"gate `{gate}`", *texts)
    assert published(rough) == before


def test_every_gate_is_asked_before_one_refuses(rough: Clone) -> None:
    tables = STAGE.format("right") + 'params = { text = "both" }\n[[gates.extra]]\ngate = "refuses"\n[[gates.extra]]\ngate = "agrees"\n'
    build(rough, tables).refused(6, "`refuses`")
    found = [json.loads(file.read_text())["asked"] for file in rough.root.glob(".interlock/store/rejected/*/evidence.json")]
    assert any(set(asked) == {"refuses", "agrees"} for asked in found)


def test_the_list_of_stages_says_what_is_wrong_with_each(rough: Clone) -> None:
    said = rough.interlock("stages")
    lines = {line.split()[0]: line for line in said.out.splitlines()[5:]}
    assert "evaluation; parameters text: str = 'right'" in lines["right"]
    assert "the name `import` is interlock's own" in lines["import"]
    assert "cannot be used: `unruly.absent:STAGE` cannot be imported" in lines["absent"]
    assert "asked about a evaluation" in lines["agrees"]


def test_two_packages_that_offer_one_name_are_both_told(rough: Clone, tmp_path: Path) -> None:
    other = unruly.write(tmp_path / "other")
    project = (other / "pyproject.toml").read_text().replace('name = "unruly"', 'name = "rival"')
    (other / "pyproject.toml").write_text(project)
    rough.install(other, "train")
    try:
        build(rough, STAGE.format("right")).refused(4, "both", "unruly", "rival", "uninstall one")
    finally:
        rough.uninstall("rival", "train")


def test_the_examples_own_tests_pass() -> None:
    folder = ROOT / "examples" / "interlock-smoke"
    said = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)], cwd=folder, environ={"PYTHONPATH": f"src:{ROOT}"})
    assert said.code == 0 and " passed" in said.out, said


def test_the_project_of_the_tests_is_untouched() -> None:
    assert "unruly" not in {path.name.partition("-")[0] for path in (ROOT / "envs/train/.venv").glob("lib/python*/site-packages/*")}
