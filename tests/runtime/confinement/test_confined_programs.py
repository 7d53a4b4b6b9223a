"""Programs that a model wrote, hostile ones among them, under each confinement that this machine has.

The oracle is the machine: files that were there before, a listening socket, and a clock.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.errors import EnvironmentRefused
from runtime.confinement import running, syscalls
from runtime.confinement.running import Ended, Limits

FAST = Limits(cpu_s=1, wall_s=3.0)


def _layers() -> list[tuple[str, ...]]:
    """Each layer for files by itself."""
    try:
        found = running.available()
    except EnvironmentRefused:
        return []
    return [(one, "seccomp") for one in ("landlock", "bubblewrap") if one in found]


pytestmark = [pytest.mark.train, pytest.mark.skipif(not _layers(), reason="nothing confines a program on this system")]


@pytest.fixture(params=_layers(), ids=lambda layers: layers[0])
def layers(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


def nothing(name: str, arguments: dict[str, Any]) -> Any:
    raise LookupError(f"nothing is recorded for {name}")


def ended(program: str, layers: tuple[str, ...], limits: Limits = FAST) -> Ended:
    return running.run(program, {}, nothing, limits, layers)


def test_a_program_computes_asks_and_prints(layers: tuple[str, ...]) -> None:
    asked = []

    def answer(name: str, arguments: dict[str, Any]) -> Any:
        asked.append((name, arguments))
        if name == "gone":
            raise LookupError("nothing is recorded")
        return {"temperature": 12, "in": arguments["place"]}

    program = """
import json, math, datetime, re, decimal, collections
first = weather.lookup("Oslo", unit="celsius")
second = weather.lookup(place="Rome")
try:
    gone()
except LookupError as error:
    print(error)
open("own.txt", "w").write("mine")
print(open("own.txt").read(), first["temperature"] + second["temperature"], {"b", "a", "c"})
"""
    found = running.run(program, {"weather.lookup": ["place", "unit"], "gone": []}, answer, FAST, layers)
    assert found.how == "done", found
    assert asked == [("weather.lookup", {"place": "Oslo", "unit": "celsius"}), ("weather.lookup", {"place": "Rome"}), ("gone", {})]
    assert found.printed.startswith("nothing is recorded\nmine 24 {") and found.message == ""
    assert (
        set(found.held) == {"limits", *layers}
        and running.run(program, {"weather.lookup": ["place", "unit"], "gone": []}, answer, FAST, layers) == found
    )


@pytest.mark.parametrize(
    ("program", "how", "words"),
    [
        ("print('a'); x = 1 / 0", "error", "ZeroDivisionError: division by zero (line 1)"),
        ("def f(:\n", "error", "SyntaxError"),
        ("import sys; sys.exit(0)", "done", ""),
        ("import torch", "error", "ModuleNotFoundError"),
        ("import interlock", "error", "ModuleNotFoundError"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "time", "computing"),
        ("import time; time.sleep(1000)", "time", "3 s"),
        ("x = bytearray(1 << 30)", "memory", "256 MB"),
        ("x = [0]\nwhile True: x += x", "memory", "256 MB"),
        ("while True: print('x' * 1000)", "output", "16384 bytes"),
        ("print('x' * 20000)", "output", "16384 bytes"),
        ("import os\nwhile True: os.write(2, b'y' * 4096)", "error", "yyy"),
        ("n = 0\nwhile True:\n    open(f'{n}', 'w').write('x' * 100000); n += 1", "files", "4 MB"),
        ("import os\nfor n in range(400): os.mkdir(f'{n}')\nimport time; time.sleep(9)", "files", "256"),
        ("import os\nfor n in range(900):\n    os.mkdir('d'); os.chdir('d')", "error", "PermissionError"),
        ("f = open('x', 'wb')\nwhile True: f.write(b'0' * (1 << 20))", "error", "File too large"),
        ("import ctypes; ctypes.string_at(0)", "crashed", ""),
        ("import os; os._exit(77)", "crashed", ""),
    ],
)  # fmt: skip
def test_what_a_program_may_use_is_limited(program: str, how: str, words: str, layers: tuple[str, ...]) -> None:
    began = time.monotonic()
    found = ended(program, layers)
    assert (found.how, words in found.message) == (how, True), found
    assert time.monotonic() - began < 10


ATTEMPTS = [
    "import os; os.fork()",
    "import subprocess; subprocess.run(['/bin/sh', '-c', 'true'])",
    "import os; os.execv('/bin/sh', ['sh'])",
    "import threading; threading.Thread(target=print).start()",
    "import multiprocessing; multiprocessing.Process(target=print).start()",
    "import socket; socket.socket()",
    "import socket; socket.create_connection(('127.0.0.1', PORT))",
    "import socket; socket.socketpair()",
    "import socket; socket.socket(socket.AF_UNIX).connect('\\0abstract')",
    "open('/etc/passwd').read()",
    "open('/proc/self/environ').read()",
    "open('/proc/PARENT/cmdline').read()",
    "open('SECRET').read()",
    "import os; os.listdir('OUTSIDE')",
    "open('SECRET', 'a').write('x')",
    "open('OUTSIDE/new', 'w').write('x')",
    "import os; os.unlink('SECRET')",
    "import os; os.rename('SECRET', 'mine')",
    "import os; os.symlink('SECRET', 'link'); open('link').read()",
    "import os; os.symlink('OUTSIDE', 'link'); open('link/new', 'w').write('x')",
    "import os; os.symlink('/etc', 'link'); print(os.listdir('link'))",
    "import os; os.link('SECRET', 'link')",
    "import os; os.chmod('SECRET', 0o777)",
    "import os; os.utime('SECRET', (0, 0))",
    "import os; os.truncate('SECRET', 0)",
    "import os; os.mkfifo('pipe')",
    "import os; os.kill(PARENT, 9)",
    "import os; os.killpg(0, 9)",
    "import os, signal; os.kill(os.getppid(), signal.SIGTERM)",
    "import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, PARENT)",
    "import resource; resource.prlimit(PARENT, resource.RLIMIT_CPU, (0, 0))",
    "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "import os; os.memfd_create('x')",
    "import os; os.setsid()",
    "import os; os.unshare(os.CLONE_NEWUSER)",
    "import mmap, ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nfor call in (101, 425, 165, 321, 169, 272, 298, 56, 435, 41):\n"
    "    assert libc.syscall(call, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1, call\nraise PermissionError('every one')",
]  # fmt: skip


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the attempts aim at: a file, a folder, this process, a socket that listens."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "secret").write_text("secret")
    os.utime(tmp_path / "secret", (1000, 1000))
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {
            "SECRET": str(tmp_path / "secret"),
            "OUTSIDE": str(tmp_path / "outside"),
            "PARENT": str(os.getpid()),
            "PORT": str(server.getsockname()[1]),
        }


def test_everything_else_is_refused(layers: tuple[str, ...], bait: dict[str, str], tmp_path: Path) -> None:
    """All attempts in one program: each has to end in an error of its own, and nothing outside has changed."""
    programs = [re.sub("|".join(bait), lambda found: bait[found[0]], one) for one in ATTEMPTS]
    program = f"""
for number, attempt in enumerate({programs!r}):
    try:
        exec(attempt, {{}})
    except (OSError, RuntimeError, ValueError):
        continue
    print(number)
"""
    found = ended(program, layers, Limits())
    assert found.how == "done", found
    assert [ATTEMPTS[int(number)] for number in found.printed.split()] == []
    assert (tmp_path / "secret").read_text() == "secret" and (tmp_path / "secret").stat().st_mtime == 1000
    assert (tmp_path / "secret").stat().st_nlink == 1 and list((tmp_path / "outside").iterdir()) == []


def test_a_fork_bomb_is_one_process(layers: tuple[str, ...]) -> None:
    """Each process that came of it would print a number."""
    program = """
import os
made = 0
for _ in range(10000):
    try:
        os.fork()
        made += 1
    except OSError:
        pass
print(made, flush=True)
while True: pass
"""
    found = ended(program, layers)
    assert (found.how, found.printed) == ("time", "0\n")


@pytest.mark.parametrize(
    "said",
    [b"\\n", b"[]\\n", b'{"name": 1, "arguments": {}}\\n', b'{"name": "a", "arguments": []}\\n', b"[" * 60000 + b"\\n", b"x" * 100000, b"\\xff\\n"],
    ids=range(7),
)
def test_what_comes_over_the_pipe_is_an_attackers(said: bytes, layers: tuple[str, ...]) -> None:
    program = f"import os, time\nsaid = b'{said.decode('latin-1')}'\nwhile said: said = said[os.write(REQUESTS, said):]\ntime.sleep(9)"
    program = "import sys\nREQUESTS = int(sys.argv[1])\n" + program
    assert ended(program, layers).how == "requests"


def test_requests_come_to_an_end(layers: tuple[str, ...]) -> None:
    found = running.run("while True: ask()", {"ask": []}, lambda name, arguments: {"x": "y" * 1000}, FAST, layers)
    assert found.how == "requests"


def test_what_cannot_be_confined_is_not_run(tmp_path: Path) -> None:
    """Without a layer for files, and without the filter; the file that the program would write shows that it was not run."""
    for layers in (("seccomp",), ("landlock",), ()):
        with pytest.raises(EnvironmentRefused) as refused:
            ended(f"open({str(tmp_path / 'ran')!r}, 'w')", layers)
        assert refused.value.running.startswith("open: ") and "Landlock" in refused.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("machine", "file"), [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")])
def test_numbers_are_those_of_the_kernels_headers(machine: str, file: str) -> None:
    header = Path("/usr/include") / file
    if not header.is_file():
        pytest.skip("the kernel's headers are not installed")
    found = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())}
    if machine == "aarch64":
        found |= {"newfstatat": found["fstatat"]}
    column = list(syscalls.MACHINES).index(machine)
    ours = {name: numbers[column] for name, numbers in syscalls.ALLOWED.items()} | {n: v[0][column] for n, v in syscalls.BY_ARGUMENT.items()}
    assert {name: number for name, number in ours.items() if number is not None and found.get(name) != number} == {}
