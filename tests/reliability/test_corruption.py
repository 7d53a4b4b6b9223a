"""Any damage to any byte of any artifact is found by `verify` and named by its file, and nothing honest is taken for damage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.artifacts import write_checkpoint, write_dataset, write_evaluation
from fakes.damage import Damage, damages
from fakes.shell import interlock
from fakes.toys import write_latest, write_tokenizer

from interlock.contracts import io
from interlock.errors import ContractError
from interlock.voice import SilentVoice
from pipeline.verify import verify

KINDS = ("dataset", "checkpoint", "export", "package", "deployment", "evaluation")
# Damages of each kind in `make test`, at least: a second of work each. The full run has all of them.
SHORT = 300


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One artifact of each kind: what the stages make of a toy with a halt head, and sets of rows by hand."""
    folder = tmp_path_factory.mktemp("artifacts")
    write_latest(folder / "latest.pt")
    write_tokenizer(folder / "tokenizer")
    said = interlock(
        "deploy", "--checkpoint", folder / "latest.pt", "--tokenizer", folder / "tokenizer", "--out-dir", folder / "deployed",
        "--export-pytorch", "--export-coreml", "--halt-head", "--toy",
    )  # fmt: skip
    assert said.code == 0, said.err
    write_dataset(folder / "dataset")
    write_evaluation(folder / "evaluation")
    names = {"export": "exported", "deployment": "deployed"}
    return {kind: folder / names.get(kind, kind) for kind in KINDS}


@contextmanager
def damaged(directory: Path, damage: Damage) -> Iterator[Path]:
    """The directory with one damaged file, of the same size where that is the damage, and of the same times always."""
    file = directory / damage.file
    whole, status = file.read_bytes(), file.stat()
    try:
        file.write_bytes(damage.of(whole))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (file.stat().st_mtime_ns, file.stat().st_ino) == (status.st_mtime_ns, status.st_ino)
        yield file
    finally:
        file.write_bytes(whole)


def catalogue(directory: Path, extent: bool) -> list[Damage]:
    """All of it with two masks in the full run; evenly sampled with one in the short one."""
    if extent:
        return list(damages(directory, masks=(0x01, 0x80)))
    found = list(damages(directory))
    return found[:: max(1, len(found) // SHORT)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_found_and_its_file_named(
    artifacts: dict[str, Path], memory: Path, kind: str, extent: bool, score: Callable[[str, int, int], None]
) -> None:
    directory = Path(shutil.copytree(artifacts[kind], memory / kind, copy_function=shutil.copyfile))
    verify(directory, SilentVoice())
    trials, missed = catalogue(directory, extent), []
    for damage in trials:
        with damaged(directory, damage) as file:
            try:
                verify(directory, SilentVoice())
                missed.append((damage, "nothing"))
            except ContractError as error:
                if {violation.file for violation in error.violations} != {str(file)}:
                    missed.append((damage, str(error)))
    verify(directory, SilentVoice())
    score("flips", len(trials) - len(missed), len(trials))
    assert missed == []


def test_the_catalogue_has_every_kind_and_every_class_of_offset(artifacts: dict[str, Path]) -> None:
    found = {kind: list(damages(directory)) for kind, directory in artifacts.items()}
    assert sum(map(len, found.values())) >= 1600 and all(len(listed) >= 120 for listed in found.values())
    classes = {damage.offset_class for listed in found.values() for damage in listed}
    assert classes == {
        "part", "byte", "length field", "index", "header", "tensor", "padding", "trailer", "field", "layout", "cut", "extended"
    }  # fmt: skip


def test_damage_to_what_it_was_made_from_is_found_in_the_store(
    artifacts: dict[str, Path], memory: Path, extent: bool, score: Callable[[str, int, int], None]
) -> None:
    """Here the store is a folder of the three artifacts by digest."""
    parents = ("checkpoint", "export", "package")
    held = {io.read_any(artifacts[kind]).digest: shutil.copytree(artifacts[kind], memory / kind, copy_function=shutil.copyfile) for kind in parents}
    deployed = artifacts["deployment"]
    assert [one.contract.kind for one in verify(deployed, SilentVoice(), held.get).reached] == ["deployment", "export", "package", "checkpoint"]
    trials, missed = catalogue(memory / "checkpoint", extent), []
    for damage in trials:
        with damaged(memory / "checkpoint", damage) as file:
            try:
                verify(artifacts["export"], SilentVoice(), held.get)
                missed.append((damage, "nothing"))
            except ContractError as error:
                if {violation.file for violation in error.violations} != {str(file)}:
                    missed.append((damage, str(error)))
    score("flips", len(trials) - len(missed), len(trials))
    assert missed == []


def copied(source: Path, into: Path) -> Path:
    return Path(shutil.copytree(source, into))


def touched(source: Path, into: Path) -> Path:
    made = copied(source, into)
    for number, path in enumerate(sorted(made.rglob("*"))):
        os.utime(path, (number, 2**31 + number))
    return made


def read_only(source: Path, into: Path) -> Path:
    made = copied(source, into)
    for path in made.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return made


def under_umask(mask: int) -> Callable[[Path, Path], Path]:
    def make(source: Path, into: Path) -> Path:
        before = os.umask(mask)
        try:
            return Path(shutil.copytree(source, into, copy_function=shutil.copyfile))
        finally:
            os.umask(before)

    return make


def under_another_name(source: Path, into: Path) -> Path:
    return copied(source, into.parent / "a name with spaces, ünïcode and 'quotes'")


def through_a_link(source: Path, into: Path) -> Path:
    made = copied(source, into)
    into.with_name("link").symlink_to(made)
    return into.with_name("link")


def renamed_twice(source: Path, into: Path) -> Path:
    copied(source, into).rename(into.with_name("once"))
    return into.with_name("once").rename(into.with_name("twice"))


def hard_linked(source: Path, into: Path) -> Path:
    return Path(shutil.copytree(copied(source, into.with_name("origin")), into, copy_function=os.link))


HONEST = (copied, touched, read_only, under_umask(0o077), under_umask(0), under_another_name, through_a_link, renamed_twice, hard_linked)
WRITERS: tuple[Callable[[Path], Any], ...] = (write_dataset, write_evaluation)


def test_nothing_honest_is_taken_for_damage(artifacts: dict[str, Path], memory: Path) -> None:
    """200 directories: each kind copied, moved, linked, touched under other names, masks and modes, and checkpoints of all contents made anew."""
    proven = 0
    for kind, source in artifacts.items():
        digest = verify(source, SilentVoice()).contract.digest
        for number, honest in enumerate(HONEST):
            folder = memory / f"{kind}-{number}"
            folder.mkdir()
            assert verify(honest(source, folder / "made"), SilentVoice()).contract.digest == digest
            proven += 1
    for fill in range(200 - proven - len(WRITERS)):
        write_checkpoint(memory / f"checkpoint-of-{fill}", fill)
        verify(memory / f"checkpoint-of-{fill}", SilentVoice())
        proven += 1
    for number, write in enumerate(WRITERS):
        write(memory / f"rows-{number}")
        verify(memory / f"rows-{number}", SilentVoice())
        proven += 1
    assert proven == 200
