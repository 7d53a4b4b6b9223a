"""One way to run a small function over hostile input: a child process that is limited in time, memory and output, and killed when it exceeds them.

Here: the mechanism, for functions of this project that take and return JSON, in a fresh interpreter. Not here: what runs in it (chat.py renders,
tokenizer.py probes), children that are forked because they are needed often (forks.py).
The child holds no secret of ours (its environment is an allow-list) and a file that it wrote could not outgrow the output limit, but it is
not a jail against machine code: nothing that the project loads as code is given to it.

macOS accepts RLIMIT_AS without enforcing it, so there the wall clock alone bounds the memory that a child can take.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

Reason = Literal["time", "memory", "output", "refused", "crashed"]
Files = tuple[IO[bytes], IO[bytes], IO[bytes]]  # standard input, output and error

_DETAIL_CHARS = 400  # of a foreign message: a screenful, and no more than that of an attacker's words
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")  # what an interpreter may need to find its own libraries
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from runtime.engine.sandbox import serve; serve(*sys.argv[2:])"


@dataclass(frozen=True)
class Limits:
    """What a child may use. Memory is its whole address space: 105 MB with the SmolLM2 tokenizer loaded, 400 MB with one of 260,000 ids.

    The processor's seconds decide, so that a busy machine refuses nothing that an idle one takes; the clock is for a child that waits.
    """

    cpu_s: int = 5
    wall_s: float = 20.0
    memory_bytes: int = 512 << 20
    output_bytes: int = 8 << 20


DEFAULT_LIMITS = Limits()


class ChildFailed(Exception):
    """The child gave no result. The message is one clause without control characters, fit for the `found` of a ContractError.

    `refused`: the function raised ValueError, its message is meant for the user. `crashed`: any other exception, a panic or a signal.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def call(function: str, argument: object, *, limits: Limits = DEFAULT_LIMITS) -> object:
    """Run `package.module:name` of this project over one JSON value in a fresh child and return its JSON value.

    Raises ChildFailed. Costs an interpreter start (about 0.1 s), so it is for a file, never for a request or a token.
    """
    return answered(argument, limits, lambda *files: _run(function, limits, files))


def answered(argument: object, limits: Limits, run: Callable[[IO[bytes], IO[bytes], IO[bytes]], int]) -> object:
    """What a child answers over standard input and output. run: the child over its three files, to its end: the exit code, or minus the signal.

    Files, not pipes: no reader thread, no deadlock, and the kernel caps their size.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(json.dumps(argument).encode())
        stdin.seek(0)
        code = run(stdin, stdout, stderr)
        stdout.seek(0)
        answer = stdout.read(limits.output_bytes + 1)
    return _result(answer, code, limits)


def _run(function: str, limits: Limits, files: Files) -> int:
    argv = [sys.executable, "-I", "-c", _BOOT, json.dumps(import_path()), function]
    argv += [str(number) for number in (limits.memory_bytes, limits.output_bytes, limits.cpu_s)]
    stdin, stdout, stderr = files
    child = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env=environment(), close_fds=True)
    try:
        return child.wait(timeout=limits.wall_s)
    except subprocess.TimeoutExpired:
        raise too_long(limits) from None
    finally:  # also for an interrupt while waiting: no child outlives its caller
        child.kill()
        child.wait()


def too_long(limits: Limits) -> ChildFailed:
    return ChildFailed("time", f"no end after {limits.wall_s:g} s of waiting")


def environment() -> dict[str, str]:
    """All that a child sees of ours."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    # One thread: each of a thread pool's stacks counts against the address space.
    return {**kept, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}


def import_path() -> list[str]:
    """This project first, then where the parent found its packages: the child imports what we would, whatever started us."""
    project = str(Path(__file__).resolve().parents[2])
    return [project, *(entry for entry in sys.path if entry and Path(entry).is_absolute() and entry != project)]


def _result(answer: bytes, code: int, limits: Limits) -> object:
    if code == -signal.SIGXCPU:
        raise ChildFailed("time", f"no end after {limits.cpu_s} s of computing")
    if code < 0:
        raise ChildFailed("crashed", f"ended by signal {-code}")
    try:
        reply = json.loads(answer)
        reason, value = reply["reason"], reply["value"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ChildFailed("crashed", f"ended with code {code} and no answer") from None
    if reason == "memory":
        raise ChildFailed("memory", f"more than {limits.memory_bytes >> 20} MB of memory")
    if reason == "output":
        raise ChildFailed("output", f"more than {limits.output_bytes} bytes of output")
    if reason != "done":
        raise ChildFailed("refused" if reason == "refused" else "crashed", str(value))
    return value


def serve(function: str, memory: str, output: str, cpu_s: str) -> None:
    """The child's side: take the limits, run the function over stdin, answer `{"reason", "value"}` on stdout."""
    output_bytes = int(output)
    take_limits(int(memory), output_bytes, int(cpu_s))
    try:
        module, _, name = function.partition(":")
        value = getattr(importlib.import_module(module), name)(json.load(sys.stdin.buffer))
        answer = json.dumps({"reason": "done", "value": value}).encode()
        if len(answer) > output_bytes:
            answer = _failure("output")
    except MemoryError:
        answer = _failure("memory")
    except ValueError as error:
        answer = _failure("refused", str(error))
    except BaseException as error:  # a panic of a Rust library is a BaseException, and here every end must become an answer
        answer = _failure("crashed", f"{type(error).__name__}: {error}")
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)  # no destructor of a foreign object runs


def _failure(reason: str, message: str = "") -> bytes:
    return json.dumps({"reason": reason, "value": plain(message)}).encode()


def plain(message: str) -> str:
    """The beginning of a foreign message, without control characters."""
    return "".join(char if char.isprintable() else " " for char in message[:_DETAIL_CHARS])


def take_limits(memory_bytes: int, output_bytes: int, cpu_s: int) -> None:
    import resource  # POSIX only: imported in the child, so that this module can be imported anywhere

    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, output_bytes),
        (resource.RLIMIT_AS, memory_bytes),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some; the clocks still hold
            resource.setrlimit(limit, (value, value))
    # Soft below hard: the soft one ends in SIGXCPU, which says why; at the hard one some systems send SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
