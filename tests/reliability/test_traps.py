"""Things in a build's way that are not what they should be: nothing of a person's is touched, nothing blocks, and the message says what is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from reliability import namespaces
from reliability.projects import BUILD, Project, told

Score = Callable[[str, int, int], None]


def a_file(at: Path) -> None:
    at.write_text("mine")


def a_full_folder(at: Path) -> None:
    at.mkdir()
    (at / "thesis.txt").write_text("mine")


def a_link_to_a_folder(at: Path) -> None:
    (at.parent / "elsewhere").mkdir()
    (at.parent / "elsewhere" / "thesis.txt").write_text("mine")
    at.symlink_to("elsewhere")


def a_dangling_link(at: Path) -> None:
    at.symlink_to("nowhere")


def a_link_to_itself(at: Path) -> None:
    at.symlink_to(at.name)


def a_fifo(at: Path) -> None:
    os.mkfifo(at)


def a_folder_with_a_fifo(at: Path) -> None:
    at.mkdir()
    os.mkfifo(at / "train.jsonl")


def an_artifact_and_a_file(at: Path) -> None:
    """Ours, but a person put something beside it."""
    shutil.copytree(at.parent.parent / "made", at)
    (at / "thesis.txt").write_text("mine")


def an_artifact_with_a_link(at: Path) -> None:
    """A file of ours that was replaced by a link to a person's."""
    shutil.copytree(at.parent.parent / "made", at)
    (at.parent.parent / "precious.txt").write_text("mine")
    (at / "train.jsonl").unlink()
    (at / "train.jsonl").symlink_to("../../precious.txt")


def an_artifact_with_a_hard_link(at: Path) -> None:
    shutil.copytree(at.parent.parent / "made", at)
    (at.parent.parent / "precious.txt").write_text("mine")
    (at / "train.jsonl").unlink()
    os.link(at.parent.parent / "precious.txt", at / "train.jsonl")


REFUSED = [a_file, a_full_folder, a_link_to_a_folder, a_dangling_link, a_link_to_itself, a_fifo, a_folder_with_a_fifo, an_artifact_and_a_file]
REPLACED = [an_artifact_with_a_link, an_artifact_with_a_hard_link]


def contents(folder: Path) -> dict[str, object]:
    """Everything of a person's: names, links and bytes, nothing opened that could block."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if ".interlock" in path.parts:
            continue
        name = path.relative_to(folder).as_posix()
        found[name] = _content(path)
    return found


def _content(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return path.read_bytes() if path.is_file() else "folder" if path.is_dir() else "special"


@pytest.mark.parametrize("trap", [*REFUSED, *REPLACED])
def test_what_stands_where_an_output_goes(project: Project, trap: Callable[[Path], None], score: Score) -> None:
    project.build()
    (project.folder / "out" / "loudest").rename(project.folder / "made")
    trap(project.folder / "out" / "loudest")
    before = contents(project.folder)
    said = project.run_behind((), *BUILD, timeout_s=300)
    after = contents(project.folder)
    if trap in REFUSED:
        fine = told(said) and said.code == 2 and after == before and "loudest" in said.err
    else:
        fine = said.code == 0 and not project.wrong() and all(after[name] == data for name, data in before.items() if not name.startswith("out/"))
    score("faults", int(fine), 1)
    assert fine, (said, before, after)


@pytest.mark.parametrize("output", [".interlock/store", ".interlock/store/objects", "", "chain.toml", "x" * 300, "x/" * 3000])
def test_folders_that_can_be_no_output(project: Project, output: str, score: Score) -> None:
    before = project.inputs()
    said = project.run_behind((), *BUILD, "--set", f"output={output}")
    fine = told(said) and said.code in (2, 3, 5) and project.inputs() == before
    score("faults", int(fine), 1)
    assert fine, said


def test_a_path_with_a_nul_is_refused_before_any_work(project: Project, score: Score) -> None:
    recipe = project.folder / "chain.toml"
    recipe.write_text(recipe.read_text().replace('"out"', '"a\\u0000b"'))
    said = project.run_behind((), *BUILD)
    fine = told(said) and said.code == 3 and "/output" in said.err
    score("faults", int(fine), 1)
    assert fine, said


@pytest.mark.needs("namespaces")
def test_a_mount_point_is_no_output(project: Project, score: Score) -> None:
    said = namespaces.inside(_on_a_mount, project.folder, project.python)
    fine = told(said) and said.code == 2 and "mount point" in said.err
    score("faults", int(fine), 1)
    assert fine, said


def _on_a_mount(folder: Path, python: Path) -> object:
    (folder / "out" / "loudest").mkdir(parents=True)
    namespaces.mount("-t", "tmpfs", "tmpfs", folder / "out" / "loudest")
    return Project(folder, python).run_behind((), *BUILD)


NAMES = [
    "with a space",
    "a\nnewline",
    "-leading",
    "~",
    "$HOME",
    "a:b",
    "a'b\"c",
    "naïve",
    "nai\u0308ve",
    "日本語",
    "🦊",
    "\u202egnp",
    "CON",
    "trailing.",
    "x" * 200,
    "deep/" * 20 + "er",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_project_may_have_any_name(name: str, memory: Path, stub_python: Path, extent: bool, score: Score) -> None:
    """Built, looked at, kept: whatever the folder is called."""
    project = Project(memory / "in" / name, stub_python)
    project.write()
    project.asked_before()
    first = project.run_behind((), *BUILD)
    said = [project.run_behind((), *words) for words in (BUILD, ("status",), ("verify", "out/loudest"), ("fsck",))] if extent else []
    fine = first.code == 0 and not project.wrong() and all(one.code == 0 and "Traceback" not in one.err for one in said)
    score("faults", int(fine), 1)
    assert fine, (first, said)


def test_a_project_whose_name_is_no_text_is_refused_in_words(memory: Path, stub_python: Path, score: Score) -> None:
    project = Project(memory / os.fsdecode(b"not-utf8-\xff"), stub_python)
    project.write()
    said = project.run_behind((), *BUILD)
    score("faults", int(told(said) and said.code == 2), 1)
    assert told(said) and said.code == 2, said


PLACES = ["store", "store/locks", "store/objects", "outputs", "index.json", "builds", "logs"]


def test_what_stands_where_the_store_goes(memory: Path, stub_python: Path, extent: bool, score: Score) -> None:
    """Refused in words or passed by; nothing blocks, and without the trap the plain command works."""
    traps = [(place, trap) for trap in (a_fifo, a_dangling_link, a_file, a_link_to_itself) for place in PLACES]
    bad = {}
    for n, (place, trap) in enumerate(traps if extent else traps[4::6]):
        project = Project(memory / f"project-{n}", stub_python)
        project.write()
        at = project.folder / ".interlock" / place
        at.parent.mkdir(parents=True)
        trap(at)
        said = project.run_behind((), *BUILD, timeout_s=300)
        if not at.is_dir():
            at.unlink(missing_ok=True)
        plain = project.plain()
        if not told(said) or plain.code or project.wrong():
            bad[place, trap.__name__] = (said, plain)
    score("faults", (n + 1) - len(bad), n + 1)
    assert not bad
