"""Publication: whatever happens, a reader sees the old artifact or the new one, and the plain command works again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from fakes import forks
from fakes.filesystems import FailingFs, KillingFs, RecordingFs, Watching
from fakes.publications import NEW, OLD, build, command, left_over, state

from interlock import fs
from interlock.contracts import checkpoint
from interlock.errors import StageFailed, UsageError


def calls(tmp_path: Path, *, replacing: bool) -> int:
    """How many mutating calls one publication makes."""
    out = tmp_path / "count" / "out"
    if replacing:
        build(out, OLD)
    recorder = RecordingFs()
    build(out, NEW, recorder)
    return len(recorder.calls)


def test_publication_flushes_everything_before_it_becomes_visible(tmp_path: Path) -> None:
    recorder = RecordingFs()
    build(tmp_path / "out", NEW, recorder)
    names = [name for name, _ in recorder.calls]
    visible = names.index("rename")
    flushed = {path.name for name, path in recorder.calls[:visible] if name == "fsync"}
    assert {checkpoint.WEIGHTS, checkpoint.TOKENIZER, checkpoint.FILE} <= flushed
    assert recorder.calls[visible - 1][0] == "fsync" and recorder.calls[visible - 1][1].name.startswith("out.partial-")
    assert recorder.calls[visible + 1] == ("fsync", tmp_path)
    assert state(tmp_path / "out") == NEW and left_over(tmp_path / "out") == []


@pytest.mark.parametrize("replacing", [False, True], ids=["first", "replacing"])
def test_killed_before_every_mutating_call(tmp_path: Path, replacing: bool) -> None:
    """A child is killed before its n-th mutating call, for every n: the reader sees old or new, and the same call then works and leaves nothing."""
    total = calls(tmp_path, replacing=replacing)
    assert total > 15
    before = OLD if replacing else None
    seen = set()
    for n in range(1, total + 1):
        out = tmp_path / f"kill-{n}" / "out"
        if replacing:
            build(out, OLD)
        assert forks.exit_code(command, out, NEW, KillingFs(n)) == -9, n
        seen.add(state(out))
        assert state(out) in (before, NEW), n
        command(out, NEW)
        assert state(out) == NEW and left_over(out) == [], n
    assert seen == {before, NEW}  # both sides of the moment of publication were met


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES, errno.EDQUOT])
def test_a_refused_call_publishes_nothing_and_says_why(tmp_path: Path, code: int) -> None:
    total = calls(tmp_path, replacing=True)
    visible = total - 8
    for n in range(1, visible):
        out = tmp_path / f"fail-{code}-{n}" / "out"
        build(out, OLD)
        with pytest.raises(StageFailed) as refused:
            build(out, NEW, FailingFs(n, code))
        assert state(out) == OLD and refused.value.remedy
        build(out, NEW)
        assert state(out) == NEW and left_over(out) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="no space is left"):
        build(tmp_path / "out", NEW, FailingFs(4, errno.ENOSPC))
    assert left_over(tmp_path / "out") == [] and not (tmp_path / "out").exists()


def test_a_living_builder_is_not_robbed_of_its_workspace(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with fs.workspace(out) as mine:
        mine.write("a", b"a")
        build(out, NEW)
        assert (mine.path / "a").read_bytes() == b"a"
    assert state(out) == NEW and left_over(tmp_path / "out") == []


@pytest.mark.parametrize("trap", ["file", "link", "foreign"])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, trap: str) -> None:
    out = tmp_path / "out"
    if trap == "file":
        out.write_text("mine")
    elif trap == "link":
        out.symlink_to(tmp_path)
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError):
        fs.check_replaceable(out, lambda _: False)


def test_too_little_space_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="are needed on the file system"):
        fs.require_space(tmp_path / "not" / "there", 1 << 60)


def test_save_file_replaces_whole_files_only(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    fs.save_file(file, b"old")
    for n in (1, 2, 3):
        with pytest.raises(StageFailed):
            fs.save_file(file, b"new", FailingFs(n, errno.ENOSPC))
        assert file.read_bytes() == b"old" and left_over(file) == []
    fs.save_file(file, b"new")
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("name", [".", "..", "/", "a/.."])
def test_a_folder_without_a_name_of_its_own_is_not_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot be replaced"):
        fs.check_replaceable(Path(name), lambda _: True)


def test_two_builders_of_one_output_both_succeed(tmp_path: Path) -> None:
    """What stands at `out` comes and goes between the look and the move: the publisher looks again."""

    class Rival(fs.Fs):
        moves = 0

        def rename(self, source: Path, target: Path) -> None:
            if target.name == "out" and not self.moves:
                self.moves += 1
                build(out, OLD)  # the other one was first
            super().rename(source, target)

        def exchange(self, one: Path, other: Path) -> None:
            if other.name == "out" and self.moves == 1:
                self.moves += 1
                fs.remove_tree(fs.Fs(), out)  # and a person took it away
            super().exchange(one, other)

    out = tmp_path / "out"
    rival = Rival()
    build(out, NEW, rival)
    assert rival.moves == 2 and state(out) == NEW and left_over(out) == []


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_a_copy_between_file_systems_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The kernel may refuse to copy between two file systems, at once or in the middle."""
    data = bytes(range(256)) * 40
    (tmp_path / "source").write_bytes(data)
    real, calls = os.copy_file_range, []

    def refusing(source: int, target: int, count: int) -> int:
        calls.append(count)
        if len(calls) > 1:
            raise OSError(code, os.strerror(code))
        return real(source, target, 1000)

    monkeypatch.setattr(os, "copy_file_range", refusing)
    fs.Fs().copy(tmp_path / "source", tmp_path / "middle")
    fs.Fs().copy(tmp_path / "source", tmp_path / "start")
    assert (tmp_path / "middle").read_bytes() == (tmp_path / "start").read_bytes() == data


def test_a_workspace_that_a_sweeper_took_before_it_was_held_is_made_again(tmp_path: Path) -> None:
    class Swept(Watching):
        times = 0

        def after(self, name: str, args: tuple[Any, ...]) -> None:
            if name == "mkdir" and fs.PARTIAL in args[0].name and self.times < 3:
                self.times += 1
                fs.sweep(fs.Fs(), tmp_path / "out")

    files = Swept()
    with fs.workspace(tmp_path / "out", files) as work:
        assert files.times == 3 and work.path.is_dir()
    assert left_over(tmp_path / "out") == []
