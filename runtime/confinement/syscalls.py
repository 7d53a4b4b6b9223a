"""The system calls of an interpreter that computes, reads its library and writes into its own folder; every other one is refused.

Here: the list, and the filter (seccomp, classic BPF) made of it. Not here: putting it on (jail.py).
A list of what is allowed, because one of what is forbidden is out of date with the next kernel. So there is no network (`socket`, and `io_uring`,
which makes one without it), no process or thread (`clone`), no signal to anybody (`kill`, `fcntl(F_SETOWN)`), no change of owners and modes, which
Landlock does not see, no limit of another process, no memory that RLIMIT_AS does not count (`memfd_create`).
Numbers are those of the kernel's headers (asm/unistd_64.h; asm-generic/unistd.h); tests compare them where these are installed.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

# Name: number on x86_64 and on aarch64, None where it has no such call.
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "lseek": (8, 62), "mmap": (9, 222), "munmap": (11, 215), "brk": (12, 214),
    "fstat": (5, 80), "newfstatat": (262, 79), "stat": (4, None), "lstat": (6, None), "statx": (332, 291), "openat": (257, 56), "open": (2, None),
    "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "pwrite64": (18, 68), "mprotect": (10, 226), "mremap": (25, 216),
    "madvise": (28, 233),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132), "restart_syscall": (219, 128),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "getdents64": (217, 61), "getcwd": (79, 17), "fadvise64": (221, 223),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169),
    "time": (201, None), "times": (100, 153), "getrandom": (318, 278), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "uname": (63, 160), "sysinfo": (99, 179),
    "futex": (202, 98), "rseq": (334, 293), "set_robust_list": (273, 99), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "exit": (60, 93), "exit_group": (231, 94), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "symlink": (88, None), "symlinkat": (266, 36), "readlink": (89, None), "readlinkat": (267, 78),
    "ftruncate": (77, 46), "fsync": (74, 82), "fdatasync": (75, 83), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None),
    "pipe2": (293, 59), "umask": (95, 166), "getrusage": (98, 165), "getrlimit": (97, 163), "close_range": (436, 436),
}  # fmt: skip
# Name: numbers, which argument (from 0), and the values that it may have.
BY_ARGUMENT: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
    "ioctl": ((16, 29), 1, (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)),  # TCGETS, TIOCGWINSZ, FIONREAD, FIONCLEX, FIOCLEX
    "prlimit64": ((302, 261), 2, (0,)),  # reads a limit: the new one is no address
}
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*: the number of a call means nothing without it

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


def program(machine: str) -> bytes:
    """The filter as an array of `struct sock_filter`. Raises KeyError for a machine whose numbers are not here."""
    column = list(MACHINES).index(machine)
    lines = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, MACHINES[machine]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    for numbers in ALLOWED.values():
        if (number := numbers[column]) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for numbers, argument, values in BY_ARGUMENT.values():
        body = _checked(_ARGUMENTS + 8 * argument, values)
        lines += [(_EQUAL, 0, len(body), numbers[column]), *body]
    lines.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def _checked(place: int, values: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """An argument of 64 bits that has one of some values of 32 bits; its upper half is zero."""
    found = [(_LOAD, 0, 0, place + 4), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, place)]
    for value in values:
        found += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*found, (_RETURN, 0, 0, _REFUSE)]
