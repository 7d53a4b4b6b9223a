"""An output on the lower layer of a real overlay, as a container's image has it: it cannot be renamed or exchanged, and is replaced anyway."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.filesystems import KillingFs, RecordingFs
from fakes.publications import NEW, OLD, build, command, left_over, state
from reliability import namespaces

from interlock.errors import ContractError

pytestmark = pytest.mark.needs("namespaces")
Score = Callable[[str, int, int], None]


def overlay(folder: Path) -> Path:
    """The place of an output that the lower layer has."""
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir(parents=True)
    build(folder / "lower" / "out", OLD)
    layers = f"lowerdir={folder / 'lower'},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    namespaces.mount("-t", "overlay", "-o", layers, "overlay", folder / "merged")
    return folder / "merged" / "out"


def replace_twice(folder: Path) -> list[Any]:
    out = overlay(folder)
    command(out, NEW)
    first = [state(out), out.is_symlink(), left_over(out)]
    command(out, OLD)
    return [*first, state(out), left_over(out)]


def test_it_is_replaced_and_replaced_again(memory: Path, score: Score) -> None:
    assert namespaces.inside(replace_twice, memory / "overlay") == [NEW, True, [], OLD, []]


def kill_at_every_call(folder: Path) -> tuple[int, list[Any], dict[str, int]]:
    """How many points there were, those after which something was wrong, and what a reader found."""
    recorder = RecordingFs()
    command(overlay(folder / "count"), NEW, recorder)
    bad: list[Any] = []
    seen: Counter[str] = Counter()
    for n in range(1, len(recorder.calls) + 1):
        out = overlay(folder / str(n))
        child = os.fork()
        if child == 0:
            command(out, NEW, KillingFs(n))
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        try:
            found = str(state(out))
        except ContractError:
            found = "refused"
        seen[found] += 1
        command(out, NEW)
        if not killed or state(out) != NEW or left_over(out):
            bad.append((n, killed, found, left_over(out)))
    return len(recorder.calls), bad, dict(seen)


def test_killed_before_every_call(memory: Path, score: Score) -> None:
    """A reader sees the old artifact until it is emptied, refuses it or finds nothing for those few calls, and then sees the new one."""
    total, bad, seen = namespaces.inside(kill_at_every_call, memory / "overlay")
    score("kills", total - len(bad), total)
    assert not bad
    assert set(seen) == {str(OLD), "refused", "None", str(NEW)} and seen["refused"] + seen["None"] <= 5
