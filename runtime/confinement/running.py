"""Run a program that a model wrote, and answer what it asks for: no network, no other process, no file but its own, within limits.

Here: starting it, the pipe, ending it, what its end means. Not here: what it does to itself (jail.py), what tools are (whoever answers).
The code has an interpreter of its own with the standard library and nothing else, in an empty folder of its own. It asks over one pipe, a JSON object
per line; everything that comes from there is treated as an attacker's. What is refused twice is better refused: bubblewrap's name spaces where it is
installed and allowed, Landlock where the kernel has it, one of them at least, and always limits and the filter of system calls.
"""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from interlock.errors import EnvironmentRefused
from runtime.confinement import jail, syscalls
from runtime.engine.sandbox import plain

How = Literal["done", "error", "time", "memory", "output", "files", "requests", "crashed"]
Answer = Callable[[str, dict[str, Any]], Any]
"""The result of a tool for its arguments, as JSON. Raises LookupError with a sentence that the code is told."""

_LAYERS = ("bubblewrap", "landlock", "seccomp")
_POLL_S = 0.05  # how long a program may outgrow its folder before anybody looks
_LINE = 1 << 16  # bytes of one request
_MESSAGE = 400  # characters of an error that go on


@dataclass(frozen=True)
class Limits:
    """What a program may use. memory_bytes: its address space, of which the interpreter takes 30 MB; output_bytes: of what it prints; folder_bytes,
    entries: of all its files. The processor's seconds decide; the clock is for a program that waits."""

    cpu_s: int = 5
    wall_s: float = 15.0
    memory_bytes: int = 256 << 20
    output_bytes: int = 16 << 10
    folder_bytes: int = 4 << 20
    entries: int = 256
    requests: int = 64


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Ended:
    """how: why it ended; printed: its standard output, nothing where that was too much; message: one clause on any end but `done`; held: what it was
    confined by, as it proved before it ran."""

    how: How
    printed: str
    message: str
    held: tuple[str, ...]


def run(
    program: str, tools: Mapping[str, Sequence[str]], answer: Answer, limits: Limits = DEFAULT_LIMITS, layers: Sequence[str] | None = None
) -> Ended:
    """tools: by name, the names of their arguments in order. layers: those of `available` to use, all of them by default.

    Raises EnvironmentRefused where no layer keeps it from the network, other processes or foreign files: then nothing of it was run.
    """
    layers = available() if layers is None else layers
    with (
        tempfile.TemporaryDirectory(prefix="code-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        place = os.path.realpath(folder)
        asks, theirs = os.pipe()
        try:
            child = _started(place, theirs, output, errors, layers)
        except BaseException:
            os.close(asks)
            raise
        finally:
            os.close(theirs)
        talk = _Talk(child, asks, answer, limits)
        try:
            talk.say(_told(program, tools, place, limits, layers))
            forced = _watched(talk, place, output, limits)
        finally:  # also for an interrupt, and for what `answer` raises: no program outlives its caller
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
            talk.close()
        return _ended(talk, forced, code, output, errors, limits, layers)


@cache
def available() -> tuple[str, ...]:
    """The layers of this machine: what is not here is not tried. Raises EnvironmentRefused where nothing can hold a program."""
    if sys.platform != "linux" or platform.machine() not in syscalls.MACHINES:
        raise _refused("the filter of system calls is written for Linux on x86_64 and aarch64", f"{platform.system()} on {platform.machine()}")
    return tuple(layer for layer in _LAYERS if layer != "bubblewrap" or _bubblewrap_works())


def _bubblewrap_works() -> bool:
    """It may be installed where name spaces are not allowed, as in most containers."""
    if shutil.which("bwrap") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([*_bubblewrap(folder), _interpreter(), "-S", "-c", ""], capture_output=True, check=False).returncode == 0


def _refused(required: str, running: str) -> EnvironmentRefused:
    remedy = "run it on Linux with Landlock (kernel 5.13, not switched off), or install bubblewrap where user name spaces are allowed"
    return EnvironmentRefused("generated code is not run here: nothing would confine it", required=required, running=running, remedy=remedy)


def _started(folder: str, requests: int, output: IO[bytes], errors: IO[bytes], layers: Sequence[str]) -> subprocess.Popen[bytes]:
    words = [_interpreter(), "-s", "-S", "-B", "-c", Path(jail.__file__).read_text(encoding="utf-8"), str(requests)]
    words = [*_bubblewrap(folder), *words] if "bubblewrap" in layers else words
    # A set prints in one order; nothing of ours is in its environment.
    environ = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8"}
    environ |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return subprocess.Popen(
        words, cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=errors, env=environ, pass_fds=[requests], start_new_session=True
    )


def _interpreter() -> str:
    """The one below a virtual environment: no package of ours is on its path."""
    return os.path.realpath(str(getattr(sys, "_base_executable", sys.executable)))


def _readable() -> list[str]:
    """The standard library, and what the loader and the time zones need."""
    own = ["/nix/store"] if sys.base_prefix.startswith("/nix/store") else [f"{sys.base_prefix}/{part}" for part in ("lib", "lib64")]
    shared = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom"]
    return [path for path in (*own, *shared) if Path(path).exists()]


def _bubblewrap(folder: str) -> list[str]:
    """Name spaces of its own: a root with what is readable and the folder, no network, no process but its own, no capabilities."""
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    for path in (*_readable(), str(Path(_interpreter()).parent), "/etc/ld.so.cache"):
        words += ["--dev-bind-try" if path.startswith("/dev/") else "--ro-bind-try", path, path]
    return [*words, "--bind", folder, folder, "--remount-ro", "/"]


def _told(program: str, tools: Mapping[str, Sequence[str]], folder: str, limits: Limits, layers: Sequence[str]) -> dict[str, Any]:
    biggest = max(limits.folder_bytes, limits.output_bytes + 1)
    return {
        "program": program,
        "tools": {name: list(parameters) for name, parameters in tools.items()},
        "folder": folder,
        "layers": list(layers),
        "filter": syscalls.program(platform.machine()).hex(),
        "readable": _readable(),
        # Files that everybody may read, and places where this process may write: if they are closed, so is the rest.
        "hidden": ["/etc/passwd", __file__],
        "outside": [str(Path(folder).parent), str(Path("~").expanduser())],
        "limits": {
            "RLIMIT_CPU": limits.cpu_s, "RLIMIT_AS": limits.memory_bytes, "RLIMIT_FSIZE": biggest, "RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
        },
    }  # fmt: skip


@dataclass
class _Talk:
    """The pipe: what was asked and what goes back. Nothing here waits for the program."""

    child: subprocess.Popen[bytes]
    asks: int
    answer: Answer
    limits: Limits
    said: bytes = b""
    to_say: bytes = b""
    asked: int = 0
    opened: bool = True
    first: dict[str, Any] | None = field(default=None)

    def say(self, document: Any) -> None:
        self.to_say += json.dumps(document).encode() + b"\n"

    def step(self) -> bool:
        """Take and give what can be taken and given now. False where a request is none, or one too many."""
        assert self.child.stdin
        stdin = self.child.stdin.fileno()
        os.set_blocking(stdin, False)
        ready, free, _ = select.select([self.asks] if self.opened else [], [stdin] if self.to_say else [], [], _POLL_S if self.opened else 0.005)
        if free:
            try:
                self.to_say = self.to_say[os.write(stdin, self.to_say) :]
            except BrokenPipeError:
                self.to_say = b""
        if ready:
            part = os.read(self.asks, _LINE)
            self.opened = bool(part)
            self.said += part
        while b"\n" in self.said:
            line, _, self.said = self.said.partition(b"\n")
            if not self._took(line):
                return False
        return len(self.said) <= _LINE

    def _took(self, line: bytes) -> bool:
        try:
            document = json.loads(line)
            if self.first is None:
                self.first = {"held": [str(one) for one in document["held"]], "open": [str(one) for one in document["open"]]}
                return True
            name, arguments = document["name"], document["arguments"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        self.asked += 1
        if not isinstance(name, str) or not isinstance(arguments, dict) or self.asked > self.limits.requests:
            return False
        try:
            self.say({"result": self.answer(name, arguments)})
        except LookupError as error:
            self.say({"error": str(error.args[0] if error.args else error)})
        return True

    def close(self) -> None:
        os.close(self.asks)
        assert self.child.stdin
        with suppress(OSError):
            self.child.stdin.close()


def _watched(talk: _Talk, folder: str, output: IO[bytes], limits: Limits) -> How | None:
    """Until the program ends: None; or until it has to be ended: why."""
    end = time.monotonic() + limits.wall_s
    while True:
        if not talk.step():
            return "requests"
        if os.fstat(output.fileno()).st_size > limits.output_bytes:
            return "output"
        if _outgrown(folder, limits):
            return "files"
        if talk.child.poll() is not None and not talk.opened:
            return None
        if time.monotonic() > end:
            return "time"


def _outgrown(folder: str, limits: Limits) -> bool:
    """Whether all files together are too many or too much. Links are not followed."""
    entries = size = 0
    waiting = [folder]
    while waiting and entries <= limits.entries and size <= limits.folder_bytes:
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for one in found:
                entries += 1
                size += one.stat(follow_symlinks=False).st_size
                if one.is_dir(follow_symlinks=False):
                    waiting.append(one.path)
    return entries > limits.entries or size > limits.folder_bytes


def _ended(talk: _Talk, forced: How | None, code: int, output: IO[bytes], errors: IO[bytes], limits: Limits, layers: Sequence[str]) -> Ended:
    told = plain(_begin(errors, _MESSAGE).decode("utf-8", "replace").strip())
    if talk.first is None or talk.first["open"]:
        running = f"open: {', '.join(talk.first['open'])}" if talk.first else f"the interpreter did not start: {told or f'exit {code}'}"
        raise _refused("no network, no process, no file but its own", running)
    held = ("bubblewrap", *talk.first["held"]) if "bubblewrap" in layers else tuple(talk.first["held"])
    printed = _begin(output, limits.output_bytes + 1)
    how = forced or ("output" if len(printed) > limits.output_bytes else _by_code(code))
    words = {
        "done": "",
        "error": told or "it ended with an error",
        "time": f"it took more than {limits.cpu_s} s of computing, or {limits.wall_s:g} s",
        "memory": f"it needs more than {limits.memory_bytes >> 20} MB of memory",
        "output": f"it printed more than {limits.output_bytes} bytes",
        "files": f"its files took more than {limits.folder_bytes >> 20} MB, or were more than {limits.entries}",
        "requests": f"it asked for what is no tool, or more than {limits.requests} times",
        "crashed": "it ended without a word",
    }
    return Ended(how, "" if how == "output" else printed.decode("utf-8", "replace"), words[how], held)


def _by_code(code: int) -> How:
    """bubblewrap tells a signal as 128 and its number."""
    number = 128 - code if code > 128 else code
    if number in (-signal.SIGXCPU, -signal.SIGKILL):
        return "time"
    found: dict[int, How] = {0: "done", 1: "error", 2: "memory"}
    return found.get(number, "crashed")


def _begin(file: IO[bytes], most: int) -> bytes:
    file.seek(0)
    return file.read(most)
