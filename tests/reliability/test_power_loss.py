"""After a power cut at any moment of a publication a reader sees the old artifact or the new one, and the same command works.

The one exception is the turn of a plain directory into a link on a file system without exchange (interlock/generations.py): there a reader may also
find nothing or refuse what it finds, and the next command finishes the turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.artifacts import describe, weights
from fakes.filesystems import LowerLayer, WithoutExchange
from fakes.publications import NEW, OLD, forget, is_ours, left_over, state
from reliability.power_loss import TracingFs, Tree, crash_states, materialise, settle, snapshot

from interlock import fs
from interlock.contracts import checkpoint, io
from interlock.errors import ContractError

SHORT, FULL = 100, 1500  # states of each case, taken evenly: in `make test`, in `make test-reliability`


class Unflushed(fs.Fs):
    """Does not wait for a disk: what is tested is the state that a crash left, not this run's own durability."""

    def fsync(self, path: Path) -> None:
        pass


class UnflushedWithoutExchange(Unflushed, WithoutExchange):
    """The same on a file system that cannot exchange."""


class TracingWithoutExchange(TracingFs, WithoutExchange):
    """Records on a file system that cannot exchange."""


class TracingLowerLayer(TracingFs, LowerLayer):
    """Records on an overlay."""


@dataclass(frozen=True)
class Case:
    """One publication: what stood there, the file system, and the artifact's extra files."""

    name: str
    start: str  # nothing, directory, link
    system: str  # exchange, none, overlay
    extra: tuple[str, ...] = ()

    def tracing(self, out: Path) -> TracingFs:
        if self.system == "exchange":
            return TracingFs()
        if self.system == "none":
            return TracingWithoutExchange()
        overlay = TracingLowerLayer()
        overlay.lower = (out,)
        return overlay

    def again(self) -> fs.Fs:
        return Unflushed() if self.system == "exchange" else UnflushedWithoutExchange()

    @property
    def has_moment(self) -> bool:
        return self.start == "directory" and self.system != "exchange"


SHAPES = {"plain": (), "nested": ("sub/a", "sub/deep/b"), "flat": ("a", "b")}
CASES = [
    Case(f"{start}-{system}-{shape}", start, system, extra)
    for (start, system), (shape, extra) in itertools.product(
        [
            ("nothing", "exchange"),
            ("directory", "exchange"),
            ("link", "exchange"),
            ("nothing", "none"),
            ("link", "none"),
            ("directory", "none"),
            ("directory", "overlay"),
        ],
        SHAPES.items(),
    )
]


def publish(out: Path, fill: int, extra: tuple[str, ...], system: fs.Fs) -> None:
    """The plain command over an artifact of tiny files."""
    fs.check_replaceable(out, is_ours)
    with fs.workspace(out, system) as work:
        work.write(checkpoint.WEIGHTS, weights(fill))
        work.write(checkpoint.TOKENIZER, b"{}")
        for name in extra:
            fs.make_parents(system, (work.path / name).parent)
            work.write(name, bytes([fill]) * 8)
        work.write(checkpoint.FILE, io.pretty(describe(work.path)))
        fs.publish(work, out)


def begin(case: Case, out: Path) -> None:
    out.parent.mkdir()
    if case.start != "nothing":
        publish(out, OLD, case.extra, WithoutExchange() if case.start == "link" else fs.Fs())
        assert out.is_symlink() == (case.start == "link")
    settle(out.parent)


def recorded(case: Case, folder: Path, system: TracingFs | None = None) -> tuple[Tree, TracingFs, Path]:
    """What stood before, and the calls of one publication."""
    out = folder / "recorded" / "out"
    begin(case, out)
    before = snapshot(out.parent)
    tracing = system or case.tracing(out)
    publish(out, NEW, case.extra, tracing)
    return before, tracing, out


def seen(out: Path) -> int | str | None:
    try:
        return state(out)
    except ContractError:
        return "refused"


def distinct(states: Iterator[tuple[int, Tree]], committed: int) -> list[tuple[bool, Tree]]:
    """The states without repetitions, each with whether the publication had returned."""
    found: dict[tuple[bool, tuple[tuple[str, object], ...]], Tree] = {}
    for done, tree in states:
        found.setdefault((done >= committed, tuple(tree.items())), tree)
    return [(key[0], tree) for key, tree in found.items()]


def evenly(states: list[tuple[bool, Tree]], most: int) -> list[tuple[bool, Tree]]:
    """At most that many of them, over the whole list."""
    return states if len(states) <= most else [states[n * len(states) // most] for n in range(most)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_reader_sees_old_or_new_after_a_power_cut(case: Case, memory: Path, extent: bool, score: Callable[[str, int, int], None]) -> None:
    before, tracing, out = recorded(case, memory)
    committed = commit_point(tracing, out)
    states = distinct(crash_states(before, tracing.trace, out.parent), committed)
    states = evenly(states, FULL if extent else SHORT)
    old = None if case.start == "nothing" else OLD
    bad = []
    for number, (after, tree) in enumerate(states):
        place = memory / f"state-{number}" / "out"
        materialise(tree, place.parent)
        found = seen(place)
        fine = found == NEW or (not after and (found == old or (case.has_moment and found in (None, "refused"))))
        publish(place, NEW, case.extra, case.again())
        fine = fine and state(place) == NEW and left_over(place) == []
        if not fine:
            bad.append((number, found, left_over(place)))
        forget(place.parent)
    score("power loss", len(states) - len(bad), len(states))
    assert not bad


def commit_point(tracing: TracingFs, out: Path) -> int:
    """How many calls had returned when the publication was durable: with the flush of the parent after `out` came to be what it is."""
    moved = max(n for n, (name, args) in enumerate(tracing.trace) if name in ("rename", "exchange") and args[1] == out)
    return next(n for n, (name, args) in enumerate(tracing.trace) if n > moved and name == "fsync" and args[0] == out.parent) + 1


class Forgetful(TracingFs):
    """A publisher with one kind of flush left out: of files, of directories inside the artifact, or of the parent."""

    def __init__(self, left_out: str) -> None:
        super().__init__()
        self.left_out = left_out

    def after(self, name: str, args: tuple[object, ...]) -> None:
        path = args[0]
        kind = "none" if not isinstance(path, Path) else "file" if path.is_file() else "parent" if fs.PARTIAL not in str(path) else "directory"
        if not (name == "fsync" and kind == self.left_out):
            super().after(name, args)


@pytest.mark.parametrize("left_out", ["file", "directory", "parent"])
def test_a_publisher_that_forgets_a_flush_is_found_out(left_out: str, memory: Path) -> None:
    """The model has teeth: without any one kind of flush some state breaks the promise."""
    case = Case("forgetful", "directory", "exchange", ("sub/a",))
    before, tracing, out = recorded(case, memory, Forgetful(left_out))
    found = set()
    committed = len(tracing.trace)
    states = evenly(distinct(crash_states(before, tracing.trace, out.parent), committed), FULL)
    for number, (after, tree) in enumerate(states):
        place = memory / f"state-{number}" / "out"
        materialise(tree, place.parent)
        found.add((after, seen(place)))
        forget(place.parent)
    assert (True, OLD) in found if left_out == "parent" else (False, "refused") in found
