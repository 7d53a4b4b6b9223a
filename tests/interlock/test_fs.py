"""Publication: whatever happens, a reader sees the old artifact or the new one, and the plain command works again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.artifacts import describe, write_checkpoint
from fakes.filesystems import FailingFs, RecordingFs

from interlock import fs
from interlock.contracts import checkpoint, io
from interlock.errors import StageFailed, UsageError

OLD, NEW = 1, 2


def build(out: Path, fill: int, system: fs.Fs | None = None) -> None:
    """Publish a checkpoint whose weights are `fill`, as a stage does."""
    with fs.workspace(out, system) as work:
        source = out.parent / f"source-{fill}"
        write_checkpoint(source, fill)
        work.copy(source / checkpoint.WEIGHTS, checkpoint.WEIGHTS)
        work.write(checkpoint.TOKENIZER, b"{}")
        (work.scratch / "waste").touch()
        work.write(checkpoint.FILE, io.pretty(describe_without_scratch(work)))
        fs.publish(work, out)


def describe_without_scratch(work: fs.Workspace) -> checkpoint.CheckpointContract:
    fs.remove_tree(work.fs, work.path / fs.SCRATCH)
    return describe(work.path)


def state(out: Path) -> int | None:
    """Which artifact stands at `out`, proven; None when there is none."""
    if not out.exists():
        return None
    io.read_artifact(out, checkpoint.CheckpointContract)
    return (out / checkpoint.WEIGHTS).read_bytes()[-1]


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if fs.PARTIAL in path.name]


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
    assert state(tmp_path / "out") == NEW and left_over(tmp_path) == []


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
        imports = "from fakes.filesystems import KillingFs; from test_fs import build; from pathlib import Path"
        script = f"{imports}; build(Path({str(out)!r}), {NEW}, KillingFs({n}))"
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
        child = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths}, check=False)
        assert child.returncode == -9, n
        seen.add(state(out))
        assert state(out) in (before, NEW), n
        build(out, NEW)
        assert state(out) == NEW and left_over(out.parent) == [], n
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
        assert state(out) == NEW and left_over(out.parent) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="no space is left"):
        build(tmp_path / "out", NEW, FailingFs(4, errno.ENOSPC))
    assert left_over(tmp_path) == [] and not (tmp_path / "out").exists()


def test_a_living_builder_is_not_robbed_of_its_workspace(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with fs.workspace(out) as mine:
        mine.write("a", b"a")
        build(out, NEW)
        assert (mine.path / "a").read_bytes() == b"a"
    assert state(out) == NEW and left_over(tmp_path) == []


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
        assert file.read_bytes() == b"old" and left_over(tmp_path) == []
    fs.save_file(file, b"new")
    assert file.read_bytes() == b"new"
