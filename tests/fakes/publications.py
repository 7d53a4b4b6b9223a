"""A small real artifact published as a stage does it, and what a reader then finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fakes.artifacts import describe, weights

from interlock import fs
from interlock.contracts import checkpoint, io

OLD, NEW = 1, 2


def build(out: Path, fill: int, system: fs.Fs | None = None) -> None:
    """Publish a checkpoint whose weights are `fill`."""
    with fs.workspace(out, system) as work:
        work.fs.write(work.scratch / "source", weights(fill))
        work.copy(work.scratch / "source", checkpoint.WEIGHTS)
        work.write(checkpoint.TOKENIZER, b"{}")
        fs.remove_tree(work.fs, work.path / fs.SCRATCH)
        work.write(checkpoint.FILE, io.pretty(describe(work.path)))
        fs.publish(work, out)


def command(out: Path, fill: int, system: fs.Fs | None = None) -> None:
    """The plain command: the output is checked first, as `pipeline.driver.stage.run` does."""
    fs.check_replaceable(out, is_ours)
    build(out, fill, system)


def is_ours(out: Path) -> bool:
    """Whether `out` is known as an artifact by its contract alone, whatever became of the files that it lists."""
    try:
        listed = {entry["path"] for entry in json.loads((out / checkpoint.FILE).read_bytes())["files"]}
    except (OSError, ValueError, KeyError):
        return False
    return set(io.walk(out)) - {checkpoint.FILE} <= listed


def state(out: Path) -> int | None:
    """Which artifact stands at `out`, proven; None when there is none. Raises ContractError for anything else."""
    if not out.exists():
        return None
    io.read_artifact(out, checkpoint.CheckpointContract)
    return (out / checkpoint.WEIGHTS).read_bytes()[-1]


def left_over(out: Path) -> list[str]:
    """What a publication left behind beside `out`: workspaces, temporary files, all generations but the one that `out` names."""
    found = [path.name for path in out.parent.iterdir() if fs.PARTIAL in path.name]
    generations = out.with_name(f".{out.name}.generations")
    if generations.exists():
        found += [path.name for path in generations.iterdir() if path.resolve() != out.resolve()]
        found += [] if out.is_symlink() else [generations.name]
    return found


def forget(folder: Path) -> None:
    """Remove a case's folder, so that thousands of them do not fill the disk."""
    shutil.rmtree(folder)
