"""Builds that run out of something: a documented exit code, cause and remedy, nothing lost, and success once there is enough again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.shell import Said
from reliability import namespaces
from reliability.projects import Project, told

Score = Callable[[str, int, int], None]
needs_namespaces = pytest.mark.needs("namespaces")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, stub_python: Path) -> str:
    """The digest of what a build with enough of everything makes."""
    project = Project(tmp_path_factory.mktemp("undisturbed") / "project", stub_python)
    project.write()
    project.build()
    return project.digest()


def evenly(values: Sequence[Any], most: int) -> list[Any]:
    return [values[n * len(values) // most] for n in range(min(most, len(values)))]


def trial(project: Project, starve: Callable[[], Said], feed: Callable[[], None]) -> dict[str, Any]:
    """One starved build and a plain one after it."""
    before = project.inputs()
    starved = starve()
    wrong = project.wrong()
    left = project.left_over() if starved.code else []
    feed()
    fed = project.plain()
    return {
        "code": starved.code,
        "said": starved.err[-2000:],
        "told": told(starved) and starved.code in (0, 5),
        "fine": not wrong and project.inputs() == before and fed.code == 0 and not project.left_over() and not project.wrong(),
        "left": left,
        "fed": fed.err[-500:] if fed.code else "",
        "digest": project.digest() if fed.code == 0 else "",
    }


def judged(results: Mapping[Any, dict[str, Any]], undisturbed: str, score: Score) -> None:
    bad = {at: r for at, r in results.items() if not (r["told"] and r["fine"] and r["digest"] == undisturbed)}
    score("faults", len(results) - len(bad), len(results))
    assert not bad
    assert any(result["code"] == 5 for result in results.values()), "nothing was ever lacking"


def on_a_small_disk(folder: Path, python: Path, place: str, option: str) -> dict[str, Any]:
    """A build with a tmpfs at `place` that is too small; it grows before the second one."""
    project = Project(folder, python)
    project.write()
    if place != ".interlock":
        project.asked_before()
    at = folder / place
    at.mkdir()
    namespaces.mount("-t", "tmpfs", "-o", option, "tmpfs", at)
    environ = {"TMPDIR": str(at)} if place == "tmp" else {}
    return trial(
        project,
        lambda: project.run_behind((), environ=environ),
        lambda: namespaces.mount("-o", "remount,size=64m,nr_inodes=10000", at),
    )


@needs_namespaces
@pytest.mark.parametrize("place", [".interlock", "out", "tmp"])
def test_disk_full(place: str, memory: Path, stub_python: Path, undisturbed: str, extent: bool, score: Score) -> None:
    """At 60 sizes from nothing to more than is needed. The temporary folder is used by nobody here, and may be as full as it likes."""
    sizes = [4096 * n for n in range(1, 61)]
    if place == ".interlock":
        sizes = [4096 * 2 * n for n in range(1, 61)]
    results = {
        size: namespaces.inside(on_a_small_disk, memory / f"disk-{size}", stub_python, place, f"size={size}")
        for size in evenly(sizes, 60 if extent else 4 if place == ".interlock" else 2)
    }
    if place == "tmp":
        assert all(result["code"] == 0 for result in results.values())
        score("faults", len(results), len(results))
        return
    judged(results, undisturbed, score)
    failed = [result["said"] for result in results.values() if result["code"]]
    assert all("no space is left" in said or "are needed" in said for said in failed), failed


@needs_namespaces
def test_inodes_used_up(memory: Path, stub_python: Path, undisturbed: str, extent: bool, score: Score) -> None:
    numbers = evenly([2, 4, 8, 12, 16, 20, 25, 30, 40, 60], 10 if extent else 2)
    results = {n: namespaces.inside(on_a_small_disk, memory / f"inodes-{n}", stub_python, ".interlock", f"size=64m,nr_inodes={n}") for n in numbers}
    judged(results, undisturbed, score)


def limited(memory: Path, python: Path, limit: str, values: Sequence[int]) -> dict[int, dict[str, Any]]:
    results: dict[int, dict[str, Any]] = {}
    for value in values:
        project = Project(memory / f"{limit}-{value}", python)
        project.write()
        starve = lambda project=project, value=value: project.run_behind(("prlimit", f"--{limit}={value}"))  # noqa: E731
        results[value] = trial(project, starve, lambda: None)
    return results


def test_limit_on_file_size(memory: Path, stub_python: Path, undisturbed: str, extent: bool, score: Score) -> None:
    values = [0, 1, *(100 * n for n in range(1, 29))]
    results = limited(memory, stub_python, "fsize", evenly(values, 30 if extent else 3))
    judged(results, undisturbed, score)
    assert all("limit on file size" in result["said"] for result in results.values() if result["code"])


def test_limit_on_open_files(memory: Path, stub_python: Path, undisturbed: str, extent: bool, score: Score) -> None:
    values = [*range(10, 30), 32, 40, 64, 128, 256]
    judged(limited(memory, stub_python, "nofile", evenly(values, 25 if extent else 4)), undisturbed, score)


def unprivileged() -> tuple[str, ...]:
    """Words before a command that take root's right to ignore modes away: a test of modes that runs as root proves nothing."""
    return () if os.geteuid() else ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def locked(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def unlocked(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("place", [".interlock", ".interlock/store", "out", "."])
def test_folders_that_may_not_be_written(place: str, project: Project, undisturbed: str, score: Score) -> None:
    project.build()
    project.write(rows=4)
    folder = project.folder / place
    before = project.inputs()
    locked(folder)
    refused = project.run_behind(unprivileged())
    unlocked(folder)
    plain = project.plain()
    fine = (
        told(refused)
        and refused.code == 5
        and f"{place if place != '.' else 'project'}/" in refused.err
        and project.inputs() == before
        and plain.code == 0
    )
    score("faults", int(fine and not project.wrong()), 1)
    assert fine, (refused, plain)


VERBS = [
    ("status",),
    ("plan", "chain.toml", "--launcher", "current"),
    ("why", "louder", "--launcher", "current"),
    ("verify", "out/loudest"),
    ("lineage", "out/loudest"),
    ("fsck",),
]


def _read_only(folder: Path, python: Path) -> dict[str, Said]:
    namespaces.mount("--bind", folder, folder)
    namespaces.mount("-o", "remount,bind,ro", folder)
    project = Project(folder, python)
    return {words[0]: project.run_behind((), *words) for words in VERBS}


@needs_namespaces
def test_reading_verbs_work_where_nothing_can_be_written(project: Project, score: Score) -> None:
    project.build()
    said = namespaces.inside(_read_only, project.folder, project.python)
    bad = {verb: one for verb, one in said.items() if one.code != 0 or "Traceback" in one.err}
    locked(project.folder)
    for words in VERBS:
        one = project.run_behind(unprivileged(), *words)
        if one.code or "Traceback" in one.err:
            bad[f"{words[0]} as a user"] = one
    unlocked(project.folder)
    score("faults", 2 * len(VERBS) - len(bad), 2 * len(VERBS))
    assert not bad


SURROUNDINGS: dict[str, dict[str, str | None]] = {
    "no HOME": {"HOME": None},
    "HOME is not there": {"HOME": "/no/such/folder"},
    "TMPDIR is not there": {"TMPDIR": "/no/such/folder"},
    "LANG=C": {"LANG": "C", "LC_ALL": "C"},
    "another zone": {"TZ": "Asia/Kathmandu"},
    "no PATH": {"PATH": None},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_do_not_change_a_byte(name: str, project: Project, undisturbed: str, score: Score) -> None:
    left = {key: value for key, value in {**os.environ, **project.environ, **SURROUNDINGS[name]}.items() if value is not None}
    argv = project.argv("build", "chain.toml", "--launcher", "current")
    ended = subprocess.run(argv, cwd=project.folder, env=left, capture_output=True, text=True, check=False)
    fine = ended.returncode == 0 and project.digest() == undisturbed
    score("faults", int(fine), 1)
    assert fine, ended.stderr


@pytest.mark.parametrize("mask", ["000", "077"])
def test_the_umask_decides_no_mode(mask: str, project: Project, undisturbed: str, score: Score) -> None:
    said = project.run_behind(("sh", "-c", f'umask {mask}; exec "$@"', "sh"))
    modes = {path.stat().st_mode & 0o777 for path in project.folder.glob("out/loudest/*")}
    fine = said.code == 0 and project.digest() == undisturbed and modes == {0o644}
    score("faults", int(fine), 1)
    assert fine, (said, modes)
