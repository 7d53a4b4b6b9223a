"""The child is limited, ends whatever happens, and says why. `builtins:eval` stands for any function: it lets a test choose what the child does."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from runtime.engine.sandbox import ChildFailed, Limits, call


def evaluate(expression: str, **limits: float) -> object:
    return call("builtins:eval", expression, limits=Limits(**limits))  # type: ignore[arg-type]


def failure(expression: str, **limits: float) -> ChildFailed:
    with pytest.raises(ChildFailed) as caught:
        evaluate(expression, **limits)
    return caught.value


def leaves_no_child(call_that_fails: str, failure: str) -> bool:
    """Whether a process that makes this call, and sees it fail so, has no child afterwards. It is a new one: a library may keep a child here."""
    script = f"""
import os, signal, threading
from runtime.engine.sandbox import ChildFailed, Limits, call
try:
    {call_that_fails}
except {failure}:
    pass
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("alone")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout == "alone\n"


def test_a_value_comes_back() -> None:
    assert evaluate("{'text': 'a\\ud83d', 'numbers': [1, 2.5, None]}") == {"text": "a\ud83d", "numbers": [1, 2.5, None]}


def test_time_is_limited_and_the_child_is_gone() -> None:
    began = time.monotonic()
    assert failure("__import__('time').sleep(60)", wall_s=1).reason == "time"
    assert time.monotonic() - began < 3
    assert leaves_no_child("""call("builtins:eval", "__import__('time').sleep(60)", limits=Limits(wall_s=1))""", "ChildFailed")


def test_a_computation_that_never_returns_to_the_interpreter_is_killed() -> None:
    assert str(failure("10 ** 10 ** 8", cpu_s=1)) == "no end after 1 s of computing"


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="macOS does not enforce RLIMIT_AS")
def test_memory_is_limited() -> None:
    failed = failure("len('a' * 2_000_000_000)", memory_bytes=256 << 20)
    assert (failed.reason, str(failed)) == ("memory", "more than 256 MB of memory")


def test_output_is_limited() -> None:
    assert failure("'a' * 100_000", output_bytes=50_000).reason == "output"


def test_output_beside_the_answer_is_limited_too() -> None:
    assert failure("__import__('os').write(1, b'x' * 100_000) and 1", output_bytes=50_000).reason == "crashed"


@pytest.mark.parametrize(
    ("expression", "reason", "words"),
    [
        ("int('x')", "refused", "invalid literal"),
        ("1 / 0", "crashed", "ZeroDivisionError"),
        ("__import__('sys').exit(3)", "crashed", "SystemExit"),
        ("__import__('os')._exit(9)", "crashed", "code 9"),
        ("__import__('os').kill(__import__('os').getpid(), 11)", "crashed", "signal 11"),
        ("object()", "crashed", "not JSON serializable"),
    ],
)
def test_every_end_has_a_reason(expression: str, reason: str, words: str) -> None:
    failed = failure(expression)
    assert failed.reason == reason
    assert words in str(failed)


def test_a_foreign_message_is_short_and_has_no_control_characters() -> None:
    message = str(failure("(_ for _ in ()).throw(ValueError('\\x1b[31m\\u202e' + 'a' * 10_000))"))
    assert message.isprintable()
    assert len(message) <= 400


def test_the_child_sees_neither_our_environment_nor_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "1")
    seen = evaluate("[dict(__import__('os').environ), __import__('sys').flags.isolated, '' in __import__('sys').path]")
    assert isinstance(seen, list)
    assert "A_SECRET" not in seen[0]
    assert seen[1:] == [1, False]


def test_an_interrupt_leaves_no_child() -> None:
    interrupted = "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start(); "
    interrupted += """call("builtins:eval", "__import__('time').sleep(60)", limits=Limits(wall_s=30))"""
    assert leaves_no_child(interrupted, "KeyboardInterrupt")
