"""Judges that run something: a JSON Schema in a child, a command within its limits."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from interlock.errors import ContractError, UsageError
from runtime.orchestration.judges.command import Command, command
from runtime.orchestration.judges.opening import opened, read
from runtime.orchestration.judges.schema import schema
from runtime.orchestration.judges.verdict import Judge, Verdict

pytestmark = pytest.mark.train
SLEEPS = "import time; time.sleep(60)"
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}, "required": ["name"]}


@pytest.fixture(scope="module")
def person() -> Judge:
    return schema(PERSON, "here")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"name": "Ada", "age": 36}', None),
        ('```json\n{"name": "Ada"}\n```', None),
        ('{"name": 1, "age": -1}', "$.age: -1 is less than the minimum of 0"),
        ("[]", "[] is not of type 'object'"),
        ('{"name": "Ada"} and more', "it is no JSON"),
        ("[" * 100000, "it is no JSON"),
    ],
)
def test_json_that_a_schema_allows(person: Judge, answer: str, told: str | None) -> None:
    made = person("", answer)
    assert made.score == (0.0 if told else 1.0)
    assert told is None or (told in made.feedback and told in str(made.record["violations"]))


def test_a_schema_reaches_nothing_outside_it_and_its_patterns_end() -> None:
    remote = schema({"$ref": "http://127.0.0.1:9/schema.json"}, "here")("", "{}")
    assert remote.score == 0 and "could not be checked" in remote.feedback
    slow = schema({"type": "string", "pattern": "^(a+)+$"}, "here")("", json.dumps("a" * 60 + "!"))
    assert slow.score == 0 and "no end after" in slow.feedback


def test_a_schema_that_is_none_is_refused_before_any_answer(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"type": "strange"}')
    with pytest.raises(ContractError, match=r"s\.json.*strange"):
        opened(read([f"schema:{file}"]))


def checked(script: str, answer: str = "an answer", folder: Path = Path("/"), **fields: Any) -> Verdict:
    asked = Command.model_validate({"kind": "command", "argv": (sys.executable, "-c", script, "{answer}", "{request}"), **fields})
    return command(asked, folder)("the request", answer)


def test_a_program_gets_the_answer_and_its_exit_code_is_the_verdict() -> None:
    script = "import sys; a = sys.stdin.read(); assert a == open(sys.argv[1]).read() == 'naïve\\n'; assert open(sys.argv[2]).read() == 'the request'"
    assert checked(script, "naïve\n").score == 1
    failed = checked("raise SystemExit('no such word')")
    assert (failed.score, failed.failing, failed.feedback) == (0, 1, "A check failed: no such word")
    assert failed.record["exit"] == 1


def test_a_program_may_grade() -> None:
    grade = "import json, sys; print('working'); print(json.dumps({'score': 0.5, 'feedback': 'half of it', 'failing': 3})); sys.exit(1)"
    made = checked(grade)
    assert (made.score, made.feedback, made.failing) == (0.5, "half of it", 3)
    for line in ("{'score': 7}", '{"score": 2}', "[]", '{"score": "nan"}', "{"):
        assert checked(f"print({line!r})").score == 1  # no grade: the exit code counts


def test_a_program_is_no_shell_and_lives_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hidden")
    monkeypatch.chdir(tmp_path)
    made = checked("import os; open('left', 'w'); print(sorted(os.listdir('.')), os.environ.get('SECRET_KEY'), os.environ['HOME'] == os.getcwd())")
    assert made.record["output"].strip() == "['answer.txt', 'left', 'request.txt'] None True" and list(tmp_path.iterdir()) == []
    word = command(Command(kind="command", argv=("echo", "$HOME; touch x")), tmp_path)("", "")
    assert word.record["output"] == "$HOME; touch x\n" and list(tmp_path.iterdir()) == []


def test_a_program_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    starts = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]); open({str(pid)!r}, 'w').write(str(p.pid))"
    started = time.monotonic()
    made = checked(f"{starts}; {SLEEPS}", time_s=2.0)
    assert time.monotonic() - started < 10 and made.score == 0 and made.feedback == "Checking it took more than 2 s."
    deadline = time.monotonic() + 5
    while alive(int(pid.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(pid.read_text()))


def alive(pid: int) -> bool:
    """A process that was killed and waits for its parent counts as gone."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("script", ["x = 'a' * (600 << 20)", "while True: pass", "open('f', 'wb').write(b'a' * (8 << 20))"])
def test_memory_processor_time_and_disk_are_limited(script: str) -> None:
    made = checked(script, time_s=1.0, memory_mb=300)
    assert made.score == 0 and made.record["exit"] != 0


def test_a_program_that_is_not_there_is_refused_before_any_answer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no program `no-such-program`"):
        opened(read(["command:no-such-program x"]))
    (tmp_path / "check.sh").write_text("#!/bin/sh\ngrep -q yes\n")
    (tmp_path / "check.sh").chmod(0o755)
    (tmp_path / "judge.toml").write_text('[[judge]]\nkind = "command"\nargv = ["./check.sh"]\n')
    judge = opened(read([str(tmp_path / "judge.toml")]))
    assert judge("", "yes").score == 1 and judge("", "no").score == 0
