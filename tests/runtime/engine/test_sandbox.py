"""The child is limited, ends whatever happens, and says why, whether it is a fresh interpreter or the fork of one that is kept.

`builtins:eval` stands for any function: it lets a test choose what the child does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runtime.engine import forks, sandbox
from runtime.engine.sandbox import ChildFailed, Limits

pytestmark = pytest.mark.train  # what is tried does not depend on the interpreter

Evaluate = Callable[..., Any]


@pytest.fixture(params=["sandbox", "forks"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def evaluate(way: str) -> Evaluate:
    call = {"sandbox": sandbox.call, "forks": forks.call}[way]
    return lambda expression, **limits: call("builtins:eval", expression, limits=Limits(**limits))


@pytest.fixture
def failure(evaluate: Evaluate) -> Callable[..., ChildFailed]:
    def failed(expression: str, **limits: float) -> ChildFailed:
        with pytest.raises(ChildFailed) as caught:
            evaluate(expression, **limits)
        return caught.value

    return failed


def leaves_no_child(way: str, call_that_fails: str, failure: str) -> bool:
    """Whether a process that makes this call, and sees it fail so, has no child afterwards. It is a new one: a library may keep a child here."""
    script = f"""
import os, signal, threading
from runtime.engine.sandbox import ChildFailed, Limits
from runtime.engine.{way} import call
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs behind it without
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


def test_a_value_comes_back(evaluate: Evaluate) -> None:
    assert evaluate("{'text': 'a\\ud83d', 'numbers': [1, 2.5, None]}") == {"text": "a\ud83d", "numbers": [1, 2.5, None]}


def test_time_is_limited_and_the_child_is_gone(way: str, failure: Callable[..., ChildFailed]) -> None:
    began = time.monotonic()
    assert failure("__import__('time').sleep(60)", wall_s=1).reason == "time"
    assert time.monotonic() - began < 3
    assert leaves_no_child(way, """call("builtins:eval", "__import__('time').sleep(60)", limits=Limits(wall_s=1))""", "ChildFailed")


def test_a_computation_that_never_returns_to_the_interpreter_is_killed(failure: Callable[..., ChildFailed]) -> None:
    assert str(failure("10 ** 10 ** 8", cpu_s=1)) == "no end after 1 s of computing"


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="macOS does not enforce RLIMIT_AS")
def test_memory_is_limited(failure: Callable[..., ChildFailed]) -> None:
    failed = failure("len('a' * 2_000_000_000)", memory_bytes=256 << 20)
    assert (failed.reason, str(failed)) == ("memory", "more than 256 MB of memory")


def test_output_is_limited(failure: Callable[..., ChildFailed]) -> None:
    assert failure("'a' * 100_000", output_bytes=50_000).reason == "output"


def test_output_beside_the_answer_is_limited_too(failure: Callable[..., ChildFailed]) -> None:
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
def test_every_end_has_a_reason(failure: Callable[..., ChildFailed], expression: str, reason: str, words: str) -> None:
    failed = failure(expression)
    assert failed.reason == reason
    assert words in str(failed)


def test_a_foreign_message_is_short_and_has_no_control_characters(failure: Callable[..., ChildFailed]) -> None:
    message = str(failure("(_ for _ in ()).throw(ValueError('\\x1b[31m\\u202e' + 'a' * 10_000))"))
    assert message.isprintable()
    assert len(message) <= 400


def test_the_child_sees_neither_our_environment_nor_the_working_directory(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "1")
    seen = evaluate("[dict(__import__('os').environ), __import__('sys').flags.isolated, '' in __import__('sys').path]")
    assert isinstance(seen, list)
    assert "A_SECRET" not in seen[0]
    assert seen[1:] == [1, False]


def test_an_interrupt_leaves_no_child(way: str) -> None:
    interrupted = "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start(); "
    interrupted += """call("builtins:eval", "__import__('time').sleep(60)", limits=Limits(wall_s=30))"""
    assert leaves_no_child(way, interrupted, "KeyboardInterrupt")


def test_each_call_has_a_child_of_its_own_and_finds_nothing_of_another() -> None:
    def asked() -> Any:
        left = "__import__('builtins').__dict__.setdefault('left', []).append(1) or len(__import__('builtins').left)"
        return forks.call("builtins:eval", f"[{left}, __import__('os').getpid(), __import__('os').getppid()]")

    (first, one, kept), (second, other, same) = asked(), asked()
    assert (first, second) == (1, 1)
    assert one != other and kept == same


def test_calls_at_the_same_time_get_their_own_answers() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: forks.call("builtins:eval", f"__import__('time').sleep(0.05) or {number}"), range(24)))
    assert found == list(range(24))


def test_after_a_limit_or_a_crash_the_next_call_is_answered() -> None:
    for expression in ("__import__('time').sleep(60)", "__import__('os').kill(__import__('os').getppid(), 9)", "__import__('os').abort()"):
        with pytest.raises(ChildFailed):
            forks.call("builtins:eval", expression, limits=Limits(wall_s=0.5))
        assert forks.call("builtins:eval", "1") == 1


def test_one_that_was_ended_while_it_idled_is_replaced() -> None:
    kept = forks.call("builtins:eval", "__import__('os').getppid()")
    assert isinstance(kept, int)
    os.kill(kept, signal.SIGKILL)
    while alive(kept):
        time.sleep(0.01)
    assert forks.call("builtins:eval", "1") == 1


def test_what_is_kept_ends_with_its_owner_however_that_ends() -> None:
    script = """
import os, signal
from runtime.engine.forks import call
print(call("builtins:eval", "__import__('os').getppid()"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while alive(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A process that ended and that nobody waited for is not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_a_copy_of_the_owner_keeps_its_own() -> None:
    script = """
import os
from runtime.engine.forks import call
parent = "__import__('os').getppid()"
kept = call("builtins:eval", parent)
child = os.fork()
if not child:
    os._exit(call("builtins:eval", parent) == kept)
assert os.waitpid(child, 0)[1] == 0
assert call("builtins:eval", parent) == kept
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=120)
