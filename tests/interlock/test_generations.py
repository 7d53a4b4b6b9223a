"""Publication without exchange: `out` becomes a link to generations, every crash is mended by the plain command, nobody's files are lost."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import forks
from fakes.filesystems import (
    FailingWithoutExchange,
    KillingLowerLayer,
    KillingWithoutExchange,
    LowerLayer,
    RecordingLowerLayer,
    RecordingWithoutExchange,
    WithoutExchange,
)
from fakes.publications import NEW, OLD, build, command, left_over, state

from interlock import fs, generations
from interlock.contracts.checkpoint import TOKENIZER, WEIGHTS
from interlock.errors import ContractError, StageFailed, UsageError


def nothing(_: Path) -> None:
    """The first publication."""


def a_link(out: Path) -> None:
    """What an earlier publication of ours left on such a file system."""
    build(out, OLD, WithoutExchange())
    assert out.is_symlink()


def a_directory(out: Path) -> None:
    """What was copied there, or published before the folder was moved to such a file system."""
    build(out, OLD)


Start = Callable[[Path], None]
STARTS = [nothing, a_link, a_directory]


@pytest.mark.parametrize("start", STARTS)
def test_the_output_is_a_link_that_readers_follow(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "out"
    start(out)
    command(out, NEW, WithoutExchange())
    assert state(out) == NEW and left_over(out) == []
    assert not out.readlink().is_absolute() and generations.current(out)
    tmp_path.joinpath("elsewhere").mkdir()
    for name in ("out", ".out.generations"):
        tmp_path.joinpath(name).rename(tmp_path / "elsewhere" / name)
    assert state(tmp_path / "elsewhere" / "out") == NEW


def test_a_file_system_that_exchanges_makes_it_a_directory_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    a_link(out)
    command(out, NEW)
    assert state(out) == NEW and not out.is_symlink() and left_over(out) == []


@pytest.mark.parametrize("overlay", [False, True], ids=["no exchange", "overlay"])
@pytest.mark.parametrize("start", STARTS)
def test_killed_before_every_mutating_call(tmp_path: Path, start: Start, overlay: bool) -> None:
    """Old, new, or, in the one turn of a directory into a link, nothing or what a reader refuses; then the plain command works and leaves nothing."""
    lower = overlay and start is a_directory
    counted = tmp_path / "count" / "out"
    start(counted)
    recorder = RecordingLowerLayer() if overlay else RecordingWithoutExchange()
    if isinstance(recorder, LowerLayer):
        recorder.lower = (counted,)
    command(counted, NEW, recorder)
    seen: dict[object, int] = {}
    for n in range(1, len(recorder.calls) + 1):
        out = tmp_path / f"kill-{n}" / "out"
        start(out)
        system = KillingLowerLayer(n) if overlay else KillingWithoutExchange(n)
        if isinstance(system, LowerLayer):
            system.lower = (out,)
        before = state(out)
        assert forks.exit_code(command, out, NEW, system) == -9, n
        after = found(out)
        seen[after] = seen.get(after, 0) + 1
        assert after in (before, NEW) or start is a_directory, n
        again = LowerLayer() if overlay else WithoutExchange()
        if isinstance(again, LowerLayer):
            again.lower = (out,)
        command(out, NEW, again)
        assert state(out) == NEW and left_over(out) == [], n
    moments = sum(count for what, count in seen.items() if start is a_directory and what not in (OLD, NEW))
    assert moments == (4 if lower else 1 if start is a_directory and not overlay else 0), seen
    assert {NEW, None if start is nothing else OLD} <= set(seen)


def found(out: Path) -> object:
    try:
        return state(out)
    except ContractError:
        return "refused"


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_refused_call_leaves_old_or_new_and_nothing_beside_it(tmp_path: Path, start: Start, code: int) -> None:
    counted = tmp_path / "count" / "out"
    start(counted)
    recorder = RecordingWithoutExchange()
    command(counted, NEW, recorder)
    for n in range(1, len(recorder.calls) + 1):
        out = tmp_path / f"fail-{n}" / "out"
        start(out)
        before = state(out)
        try:
            command(out, NEW, FailingWithoutExchange(n, code))
        except StageFailed:
            assert state(out) in (before, NEW), n
        else:
            assert state(out) == NEW  # what failed was only tidying up
        command(out, NEW, WithoutExchange())
        assert state(out) == NEW and left_over(out) == [], n


def test_an_interrupted_turn_is_finished_even_when_the_next_build_fails(tmp_path: Path) -> None:
    """The new generation was whole on disk: it is what stands there, although the command that found it did not get far."""
    out = tmp_path / "out"
    for n in range(1, 60):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        a_directory(out)
        assert forks.exit_code(command, out, NEW, KillingWithoutExchange(n)) == -9
        if not out.exists():
            break
    assert state(out) is None
    with pytest.raises(StageFailed), fs.workspace(out, WithoutExchange()):
        raise OSError(errno.EIO, "the disk is ill")
    assert state(out) == NEW and left_over(out) == []


def test_files_put_into_a_torn_output_are_never_removed(tmp_path: Path) -> None:
    """A turn on an overlay was interrupted while it emptied the directory; then a person put something there."""
    out = tmp_path / "out"
    for n in range(1, 60):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        a_directory(out)
        system = KillingLowerLayer(n)
        system.lower = (out,)
        forks.exit_code(command, out, NEW, system)
        if out.is_dir() and not out.is_symlink() and len(list(out.iterdir())) == 1:
            break
    (left,) = out.iterdir()
    (out / "thesis.txt").write_text("mine")
    if left.name not in (WEIGHTS, TOKENIZER):
        left.unlink()
    with pytest.raises(UsageError, match="did not write"):
        command(out, NEW, WithoutExchange())
    with fs.workspace(out, WithoutExchange()):
        pass
    assert (out / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["elsewhere", "../.out.generations/0123abcd", ".out.generations/../x", ".out.generations/0123ABCD", "/etc"])
def test_a_link_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    out.symlink_to(text)
    with pytest.raises(UsageError, match="not a directory"):
        fs.check_replaceable(out, lambda _: True)


def test_a_dangling_link_of_ours_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    a_link(out)
    shutil.rmtree(tmp_path / ".out.generations")
    command(out, NEW, WithoutExchange())
    assert state(out) == NEW


def test_what_a_library_or_a_person_put_among_generations_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    a_link(out)
    (tmp_path / ".out.generations" / "notes").write_text("mine")
    command(out, NEW, WithoutExchange())
    assert (tmp_path / ".out.generations" / "notes").read_text() == "mine" and state(out) == NEW
