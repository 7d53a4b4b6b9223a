"""`pipeline.build` and `pipeline.plan`: scripts run for real, in an interpreter of their own, with stub stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.shell import Said, run
from fakes.stub_builds import StubProject, interpreter

from interlock.errors import UsageError
from pipeline import api, recipe

COMMON = "import asyncio, json, signal, sys, threading\nimport pipeline\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interpreter(tmp_path_factory.mktemp("api") / "venv")


@pytest.fixture
def project(tmp_path: Path, python: Path) -> StubProject:
    return StubProject(tmp_path / "project", python)


def script(project: StubProject, text: str, *, toy: bool = True) -> Said:
    """A Python script in the project's folder, with its chain of three stages as a recipe."""
    project.write(more="")
    recipe_file = project.folder / "chain.toml"
    recipe_file.write_text(f"toy = {str(toy).lower()}\n{recipe_file.read_text()}")
    file = project.folder / "script.py"
    file.write_text(COMMON + text)
    return run([str(project.python), "-I", str(file)], cwd=project.folder, environ=project.environ)


BUILD = 'report = pipeline.build("chain.toml", launcher="current"{})\n'
TELL = "print(json.dumps([report.recipe, {name: step.state for name, step in report.steps.items()}, list(report.outputs)]))\n"
MADE = ["chain", {"words": "made", "louder": "made", "loudest": "made"}, ["loudest"]]


def told(said: Said) -> Any:
    assert said.code == 0, said.err
    return json.loads(said.out.splitlines()[-1])


def test_importing_pipeline_loads_neither_the_driver_nor_pydantic() -> None:
    text = "import pipeline, sys; print(sorted(set(sys.modules) & {'pipeline.api', 'pipeline.driver', 'pydantic', 'msgspec', 'asyncio', 'rich'}))"
    assert run([sys.executable, "-c", text]).out == "[]\n"


def test_there_is_nothing_else_in_the_package() -> None:
    said = run([sys.executable, "-c", "import pipeline\npipeline.biuld"])
    assert "module 'pipeline' has no attribute 'biuld'" in said.err


@pytest.mark.train
def test_a_build_reports_its_steps_and_opens_its_outputs(project: StubProject) -> None:
    text = BUILD.format("") + TELL + 'made = report.outputs["loudest"].open()\nassert made.verify().digest == report.outputs["loudest"].digest\n'
    text += 'print(json.dumps([made.kind, report.steps["words"].wall_s > 0, report.steps["words"].log.is_file(), report.error, repr(report)]))\n'
    said = script(project, text)
    assert json.loads(said.out.splitlines()[0]) == MADE, said.err
    assert told(said) == ["dataset", True, True, None, "<build of chain: done; 3 of 3 steps made, loudest>"]
    assert said.err == ""  # nothing is shown where nobody asked


@pytest.mark.train
@pytest.mark.parametrize(
    "around",
    [
        "async def main():\n    return {call}\nreport = asyncio.run(main())\n",
        "found = []\nthread = threading.Thread(target=lambda: found.append({call}))\nthread.start()\nthread.join()\nreport = found[0]\n",
    ],
    ids=["in a running event loop", "in a thread"],
)
def test_it_works_wherever_it_is_called(project: StubProject, around: str) -> None:
    call = BUILD.format("").removeprefix("report = ").strip()
    assert told(script(project, around.format(call=call) + TELL)) == MADE


@pytest.mark.train
def test_signal_handlers_and_the_callers_loop_stay_as_they_were(project: StubProject) -> None:
    text = "def mine(*_): ...\nfor n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(n, mine)\n"
    text += BUILD.format("") + "print(json.dumps([signal.getsignal(n) is mine for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]))\n"
    assert told(script(project, text)) == [True] * 3


@pytest.mark.train
def test_a_second_build_keeps_what_is_there_and_a_plan_says_so_before(project: StubProject) -> None:
    text = 'plan = lambda **more: {item.name: item.state for item in pipeline.plan("chain.toml", launcher="current", **more)}\nplans = [plan()]\n'
    text += BUILD.format("") + 'plans += [plan(), plan(set={"description": "other"}), plan(first="louder"), plan(only="words", force=True)]\n'
    text += BUILD.format("") + TELL + "print(json.dumps(plans))\n"
    said = script(project, text)
    cold, warm, described, first, only = told(said)
    assert cold == {"words": "run", "louder": "waits", "loudest": "waits"}
    assert warm == described == dict.fromkeys(cold, "kept")
    assert first["words"] == "kept" and first["louder"] == "run"
    assert only["words"] == "run"
    assert json.loads(said.out.splitlines()[0])[1] == dict.fromkeys(cold, "kept")


REFUSE = ', set={"stages": [{"stage": "words", "params": {"refuse": True}}, {"stage": "louder", "inputs": {"source": "words"}}]}, check='


@pytest.mark.train
def test_a_failure_is_raised_as_what_it_is(project: StubProject) -> None:
    text = "from interlock.errors import GateFailed\n"
    text += "try:\n    " + BUILD.format(REFUSE.replace("]}", '], "outputs": ["louder"]}') + "True")
    text += "except GateFailed as error:\n    print(json.dumps([error.problem, error.measured, error.exit_code]))\n"
    assert told(script(project, text)) == ["the words are not good enough", "1", 6]


@pytest.mark.train
def test_or_it_is_in_the_report(project: StubProject) -> None:
    text = BUILD.format(REFUSE.replace("]}", '], "outputs": ["louder"]}') + "False")
    text += "print(json.dumps([report.error.exit_code, report.outputs, {step.name: step.state for step in report.steps.values()}]))\n"
    assert told(script(project, text)) == [6, {}, {"words": "rejected", "louder": "skipped"}]


@pytest.mark.train
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ('pipeline.build("nothing-of-this-name")', "UsageError"),
        ('pipeline.build("chain.toml", launcher="current", set={"colour": "red"})', "ContractError"),
        ('pipeline.build("chain.toml", launcher="current", set={"description": None})', "UsageError"),
        ('pipeline.build("chain.toml", launcher="current", jobs=0)', "UsageError"),
        ('pipeline.build("chain.toml", launcher="current", only="words", first="louder")', "UsageError"),
        ('pipeline.build("chain.toml", launcher="current", only="wrods")', "UsageError"),
        ('pipeline.build("chain.toml", launcher="a rocket")', "UsageError"),
        ('pipeline.plan("chain.toml", launcher="current", first="wrods")', "UsageError"),
    ],
)
def test_a_bad_call_is_refused_whether_it_checks_or_not(project: StubProject, call: str, error: str) -> None:
    text = f"from interlock import errors\ntry:\n    {call}\nexcept errors.{error} as error:\n    print(json.dumps(bool(error.remedy)))\n"
    assert told(script(project, text)) is True


@pytest.mark.train
@pytest.mark.parametrize("wrap", ["{}", "async def main():\n    {}\nasyncio.run(main())"], ids=["plainly", "in a running event loop"])
def test_ctrl_c_ends_the_stages_and_raises_keyboard_interrupt(project: StubProject, wrap: str) -> None:
    project.write(sleep_s=60)
    file = project.folder / "script.py"
    call = 'pipeline.build("chain.toml", launcher="current", set={"toy": True})'
    body = f"try:\n    {call}\nexcept KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    # A shell lets what it starts in the background ignore the signal, and this may be run there.
    sound = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    file.write_text(COMMON + sound + wrap.format(body.replace("\n", "\n    ") if "async" in wrap else body))
    child = subprocess.Popen(
        [project.python, "-I", file], cwd=project.folder, env={**os.environ, **project.environ}, stdout=subprocess.PIPE, start_new_session=True
    )
    log = project.folder / ".interlock" / "logs"
    while not any("request.json" in found.read_text() for found in log.rglob("*.log")):
        assert child.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    try:
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert out == b"interrupted\n"
    assert time.monotonic() - started < 12
    assert subprocess.run(["pgrep", "-f", str(project.folder)], capture_output=True, check=False).stdout == b""


@pytest.mark.train
def test_an_interactive_session_gets_a_line_for_each_step(project: StubProject) -> None:
    said = script(project, 'sys.ps1 = ">>> "\n' + BUILD.format(""))
    assert [line.partition(" (")[0] for line in said.out.splitlines()] == [
        "words: running", "words: made", "louder: running", "louder: made", "loudest: running", "loudest: made", "place out/loudest",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        "int8",
        "",
        'quoted "text" and \\ and \n and \x7f and é',
        "NaN",
        True,
        False,
        3,
        -2.5,
        1e300,
        [64, 128],
        ["a", ["b"]],
        {"gate": "x", "params": {"n": 1}},
    ],
)
def test_a_python_value_reaches_the_recipe_as_it_is(value: object) -> None:
    document: dict[str, Any] = {}
    name, found = recipe._assignment(f"field={api._toml('field', value)}")
    document[name] = found
    assert document == {"field": value}
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [None, object(), {"a b": 1}, {1: 2}, [None]])
def test_what_no_recipe_can_say_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="no recipe can say"):
        api._toml("field", value)
