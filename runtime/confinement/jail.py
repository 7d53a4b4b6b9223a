"""The confined side: takes its limits, shows that they hold, then runs the code. A bare interpreter gets it as text, so it imports nothing of ours.

Here: what the process does to itself. Not here: who starts it, what its requests are answered with, which calls the filter lets pass.
Everything is proven where it matters, in the process that will run the code: a socket, a process, a file outside and a write outside are tried, and
if one of them works no code is run. Whatever the code does to this module afterwards changes nothing: the kernel holds it, and it can only take
more away. `os.path` and not `pathlib`, whose import takes longer than most programs.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys

TYPE_CHECKING = False  # importing `typing` costs each program milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PDEATHSIG, NO_NEW_PRIVS, SECCOMP = 1, 38, 22
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CAPSET, CAPABILITIES = {"x86_64": 126, "aarch64": 91}, 0x20080522
READ_FILE, READ_DIR = 1 << 2, 1 << 3
# Write, read, list, remove folder and file, make folder, file and link, move between folders, truncate: no device, socket or pipe with a name.
OWN = sum(1 << bit for bit in (1, 2, 3, 4, 5, 7, 8, 12, 13, 14))
NONE = ctypes.c_ulong(0)
FILE = "<code>"


def main() -> None:
    requests = int(sys.argv[1])
    replies = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    told = json.loads(replies.readline())
    held = confine(told)
    found = still_open(told)
    os.write(requests, json.dumps({"held": held, "open": found}).encode() + b"\n")
    if found:
        os._exit(3)

    def ask(name: str, arguments: dict[str, Any]) -> Any:
        line = json.dumps({"name": name, "arguments": arguments}).encode() + b"\n"
        while line:
            line = line[os.write(requests, line) :]
        answer = json.loads(replies.readline())
        if "error" in answer:
            raise LookupError(answer["error"])
        return answer["result"]

    code = run(told["program"], {"__name__": "__main__", **tools(ask, told["tools"])})
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # nothing that the code left behind for the end of the interpreter runs


def confine(told: dict[str, Any]) -> list[str]:
    """Every layer of `told["layers"]` that this kernel has. Returns their names."""
    LIBC.prctl(PDEATHSIG, ctypes.c_ulong(9), NONE, NONE, NONE)
    for name, value in told["limits"].items():
        # Soft below hard: the soft one ends in a signal that says why.
        resource.setrlimit(getattr(resource, name), (value, value + 1 if name == "RLIMIT_CPU" else value))
    held = ["limits"]
    LIBC.prctl(NO_NEW_PRIVS, ctypes.c_ulong(1), NONE, NONE, NONE)
    # Root is left without its capabilities.
    number = ctypes.c_long(CAPSET[os.uname().machine])
    LIBC.syscall(number, (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)())
    if "landlock" in told["layers"] and landlock(told["readable"], told["folder"]):
        held.append("landlock")
    if "seccomp" in told["layers"] and seccomp(bytes.fromhex(told["filter"])):
        held.append("seccomp")
    return held


def landlock(readable: list[str], folder: str) -> bool:
    """Files: some to read, one folder to write in. Source: linux/landlock.h; Documentation/userspace-api/landlock.rst has the versions."""
    version = LIBC.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    rights = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    asked = (ctypes.c_uint64 * 3)(rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)  # files; TCP; signals and abstract sockets
    size = ctypes.c_size_t(24 if version >= 6 else 16 if version >= 4 else 8)
    rules = LIBC.syscall(ctypes.c_long(CREATE_RULESET), asked, size, ctypes.c_uint32(0))
    if rules < 0:
        return False
    for path, granted in [*((path, READ_FILE | READ_DIR) for path in readable), (folder, OWN)]:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        mask = granted & rights if os.path.isdir(path) else granted & READ_FILE
        # struct landlock_path_beneath_attr is packed: 12 bytes.
        rule = ctypes.create_string_buffer(mask.to_bytes(8, "little") + place.to_bytes(4, "little"), 12)
        LIBC.syscall(ctypes.c_long(ADD_RULE), ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(place)
    done = LIBC.syscall(ctypes.c_long(RESTRICT_SELF), ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)
    return bool(done == 0)


class Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("count", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def seccomp(program: bytes) -> bool:
    made = Filter(len(program) // 8, program)
    return bool(LIBC.prctl(SECCOMP, ctypes.c_ulong(2), ctypes.byref(made), NONE, NONE) == 0)


def still_open(told: dict[str, Any]) -> list[str]:
    """What the code could still do, by trying it."""
    found = []
    if LIBC.socket(2, 1, 0) >= 0:
        found.append("the network")
    try:
        if os.fork() == 0:
            os._exit(0)
        found.append("other processes")
    except OSError:
        pass
    if any(opens(path, os.O_RDONLY) for path in told["hidden"]):
        found.append("files of others")
    name = os.path.basename(told["folder"]) + ".probe"
    for probe in (os.path.join(folder, name) for folder in told["outside"]):
        if opens(probe, os.O_CREAT | os.O_WRONLY):
            os.unlink(probe)
            found.append("writing outside")
    return found


def opens(path: str, how: int) -> bool:
    try:
        os.close(os.open(path, how, 0o600))
    except OSError:
        return False
    return True


class Tool:
    """A tool; or what tools with dots in their names begin with: `weather.lookup(place="Oslo")`."""

    def __init__(self, ask: Callable[[str, dict[str, Any]], Any], name: str, parameters: list[str] | None) -> None:
        self._ask, self._name, self._parameters = ask, name, parameters

    def __call__(self, *values: Any, **arguments: Any) -> Any:
        if self._parameters is None:
            raise TypeError(f"{self._name} is no tool")
        if len(values) > len(self._parameters):
            raise TypeError(f"{self._name} takes {', '.join(self._parameters)}")
        return self._ask(self._name, {**dict(zip(self._parameters, values, strict=False)), **arguments})


def tools(ask: Callable[[str, dict[str, Any]], Any], offered: dict[str, list[str]]) -> dict[str, Any]:
    """Tools by the names that code calls them by."""
    found: dict[str, Any] = {}
    for name, parameters in offered.items():
        parts, place = name.split("."), found
        for depth, part in enumerate(parts[:-1], 1):
            place = vars(place.setdefault(part, Tool(ask, ".".join(parts[:depth]), None)))
        place[parts[-1]] = Tool(ask, name, parameters)
    return found


def run(program: str, given: dict[str, Any]) -> int:
    """The exit code: 0, 1 for an error that is told on stderr with its line, 2 where memory was not enough."""
    try:
        exec(compile(program, FILE, "exec", dont_inherit=True), given)  # noqa: S102 what this process is for
    except SystemExit as end:
        return 0 if end.code in (None, 0) else 1
    except MemoryError:
        return 2
    except BaseException as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        place = error.__traceback__
        while place:
            line = place.tb_lineno if place.tb_frame.f_code.co_filename == FILE else line
            place = place.tb_next
        sys.stderr.write(f"{type(error).__name__}: {error}" + (f" (line {line})" if line else ""))
        return 1
    return 0


if __name__ == "__main__":
    main()
