"""What a power cut may leave of a recorded sequence of file system calls, in the manner of ALICE (Pillai et al., OSDI 2014).

Here: `TracingFs`, and the crash states of what it recorded. Not here: what is published, what a reader must see (test_power_loss.py).

The model is weaker than any journaling file system. Until its directory is flushed, a change of an entry may be lost, in any combination with
others, except that two changes of one entry keep their order; a rename or an exchange is atomic, over two directories as well. Until a file is
flushed, its data may be whole, torn in the middle, zeros of the right size, or nothing. Flushing a file does not flush the entry that names it.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.filesystems import Watching

Entry = tuple[int, str]  # directory's inode, name
Tree = dict[str, bytes | str | None]  # relative path: a file's bytes, a link's text, None for a directory


class TracingFs(Watching):
    """Remembers every mutating call with its arguments, and the bytes of copies as they were."""

    def __init__(self) -> None:
        self.trace: list[tuple[str, tuple[Any, ...]]] = []

    def after(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "copy":
            name, args = "write", (args[1], Path(args[0]).read_bytes())
        assert name != "call"
        self.trace.append((name, args))


def snapshot(root: Path) -> Tree:
    """Everything under `root` as it lies there."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        found[name] = str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


def materialise(tree: Tree, root: Path) -> None:
    """Make `tree` in the missing folder `root`; every file has the time of the epoch, as `settle` gives it."""
    root.mkdir(parents=True)
    for name, content in tree.items():
        path = root / name
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
            os.utime(path, (0, 0))


def settle(root: Path) -> None:
    """Give every file the time of the epoch: the model has no times, and a file that survives a crash keeps its own."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (0, 0))


@dataclass
class _Disk:
    """Inodes and entries while a trace is replayed; `pending` are the changes of entries that no flush has reached."""

    content: dict[int, bytes | str | None] = field(default_factory=lambda: {0: None})
    entries: dict[Entry, int] = field(default_factory=dict)
    durable: dict[Entry, int] = field(default_factory=dict)
    pending: list[dict[Entry, int | None]] = field(default_factory=list)
    unflushed: set[int] = field(default_factory=set)

    def find(self, name: str) -> int:
        inode = 0
        for part in Path(name).parts:
            inode = self.entries[inode, part]
        return inode

    def entry(self, name: str) -> Entry:
        path = Path(name)
        return self.find(path.parent.as_posix()), path.name

    def make(self, name: str, content: bytes | str | None) -> int:
        inode = len(self.content)
        self.content[inode] = content
        self.change({self.entry(name): inode})
        return inode

    def change(self, change: dict[Entry, int | None]) -> None:
        _apply(self.entries, change)
        self.pending.append(change)

    def flush(self, inode: int) -> None:
        self.unflushed.discard(inode)
        reached: set[Entry] = set()
        for change in reversed(self.pending):  # a change takes earlier ones of the same entries with it
            if any(entry[0] == inode or entry in reached for entry in change):
                reached |= set(change)
        kept = []
        for change in self.pending:
            if any(entry in reached for entry in change):
                _apply(self.durable, change)
            else:
                kept.append(change)
        self.pending = kept

    def do(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "mkdir":
            self.make(args[0], None)
        elif name == "write":
            self.unflushed.add(self.make(args[0], args[1]))
        elif name == "symlink":
            self.make(args[1], args[0])
        elif name == "rename":
            source, target = self.entry(args[0]), self.entry(args[1])
            self.change({source: None, target: self.entries[source]})
        elif name == "exchange":
            one, other = self.entry(args[0]), self.entry(args[1])
            self.change({one: self.entries[other], other: self.entries[one]})
        elif name in ("unlink", "rmdir"):
            self.change({self.entry(args[0]): None})
        elif name == "fsync":
            self.flush(self.find(args[0]))
        else:
            assert name == "chmod", name


def _apply(entries: dict[Entry, int], change: dict[Entry, int | None]) -> None:
    for entry, inode in change.items():
        if inode is None:
            entries.pop(entry, None)
        else:
            entries[entry] = inode


Trace = list[tuple[str, tuple[Any, ...]]]


def crash_states(before: Tree, trace: Trace, root: Path) -> Iterator[tuple[int, Tree]]:
    """Every state that a power cut may leave, with the number of calls that had returned. `before` is durable, `trace` is of calls under `root`."""
    for done, disk in enumerate(_disks(before, trace, root)):
        yield from ((done, tree) for tree in _states(disk))


def random_states(before: Tree, trace: Trace, root: Path, number: int) -> Iterator[Tree]:
    """That many of them, for a trace that has too many: moments spread evenly, what is lost drawn for each with a fixed seed."""
    draw = random.Random(0)
    moments = sorted(draw.randrange(len(trace) + 1) for _ in range(number))
    for done, disk in enumerate(_disks(before, trace, root)):
        for _ in range(moments.count(done)):
            keep = draw.choice((0.1, 0.5, 0.9))
            lost: set[Entry] = set()
            kept = []
            for change in disk.pending:
                if lost & change.keys() or draw.random() > keep:
                    lost |= change.keys()
                else:
                    kept.append(change)
            places = _after(disk, kept)
            yield {
                name: draw.choice(_fates(disk.content[inode])) if inode in disk.unflushed else disk.content[inode] for name, inode in places.items()
            }


def _disks(before: Tree, trace: Trace, root: Path) -> Iterator[_Disk]:
    """The disk before the first call, and after each."""
    disk = _Disk()
    for name, content in before.items():
        disk.make(name, content)
    for inode in [0, *disk.content]:
        disk.flush(inode)
    yield disk
    for name, args in trace:
        disk.do(name, tuple(arg.relative_to(root).as_posix() if isinstance(arg, Path) else arg for arg in args))
        yield disk


def _states(disk: _Disk) -> Iterator[Tree]:
    for kept in _subsets(disk.pending):
        places = _after(disk, kept)
        torn = [name for name, inode in places.items() if inode in disk.unflushed]
        for fates in itertools.product(*(_fates(disk.content[places[name]]) for name in torn)):
            yield {name: disk.content[inode] for name, inode in places.items()} | dict(zip(torn, fates, strict=True))


def _after(disk: _Disk, kept: list[dict[Entry, int | None]]) -> dict[str, int]:
    """Path to inode of all that is there when of the unflushed changes only `kept` have reached the disk."""
    entries = dict(disk.durable)
    for change in kept:
        _apply(entries, change)
    return _walk(disk, entries)


def _fates(data: Any) -> list[bytes]:
    return list(dict.fromkeys((data, b"", data[: len(data) // 2], bytes(len(data)))))


def _subsets(pending: list[dict[Entry, int | None]]) -> Iterator[list[dict[Entry, int | None]]]:
    """Every choice of changes in which a kept change of an entry has all earlier ones of that entry."""

    def choose(index: int, lost: frozenset[Entry]) -> Iterator[list[dict[Entry, int | None]]]:
        if index == len(pending):
            yield []
            return
        change = pending[index]
        if not lost & change.keys():
            yield from ([change, *rest] for rest in choose(index + 1, lost))
        yield from choose(index + 1, lost | change.keys())

    return choose(0, frozenset())


def _walk(disk: _Disk, entries: dict[Entry, int]) -> dict[str, int]:
    """Relative path to inode of all that can be reached, parents first."""
    children: dict[int, list[tuple[str, int]]] = {}
    for (folder, name), inode in entries.items():
        children.setdefault(folder, []).append((name, inode))
    found: dict[str, int] = {}
    waiting = [(0, "")]
    while waiting:
        folder, prefix = waiting.pop()
        for name, inode in sorted(children.get(folder, ())):
            found[prefix + name] = inode
            if disk.content[inode] is None:
                waiting.append((inode, f"{prefix}{name}/"))
    return dict(sorted(found.items()))
