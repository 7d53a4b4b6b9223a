"""Faults planted one after another, each judged by the gate and by both comparisons. Environment `export` only.

A fault that nobody can observe is excluded and counted: one that moves no output of any call of the comparison, without rounding, by more than
rounding moves the sound package's own output (PSNR of faulty against sound in mode fp32 at least that of fp16 against fp32 of the sound package).
"""

from __future__ import annotations

import functools
import gc
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from fakes.fault_bases import Base, base
from fakes.faults import KINDS, Place, plant

from interlock.errors import ContractError, InterlockError
from interlock.voice import SilentVoice
from pipeline.coreml.facts import read_package
from pipeline.gates.package import failures, measure
from runtime.mil import Program, open_package
from runtime.mil.compare import Options, Report, compare_packages, compare_student
from runtime.mil.compare.chain import plan_calls
from runtime.mil.compare.values import measured, record

MODES: tuple[Literal["fp32"], Literal["fp16"]] = ("fp32", "fp16")


class Case(NamedTuple):
    base: str
    kind: str
    seed: int


@dataclass(frozen=True)
class Trial:
    """What became of one fault. carriers: what may be named; against_*: what was named, None for nothing."""

    kind: str
    base: str
    seed: int
    observable: bool
    refused: bool
    carriers: frozenset[Place]
    against_package: Place | None
    against_student: Place | None

    def named(self, found: Place | None) -> bool:
        return found in self.carriers


def cases(bases: Iterable[str], seeds: Iterable[int], kinds: Iterable[str] = tuple(KINDS)) -> list[Case]:
    """Every kind in every base by every seed."""
    chosen, named = tuple(seeds), tuple(kinds)
    return [Case(name, kind, seed) for name in bases for kind in named for seed in chosen]


def trials(wanted: Iterable[Case], folder: Path, students: Sequence[str]) -> Iterator[Trial]:
    """What becomes of each fault that has a place in its base. students: bases that are compared with their student too."""
    for case in wanted:
        sound = base(case.base)
        into = folder / "faulty.mlpackage"
        shutil.rmtree(into, ignore_errors=True)
        carriers = plant(sound.package, into, case.kind, case.seed)
        if carriers is not None:
            with _without_collection():
                found = _trial(case.kind, sound, case.seed, into, frozenset(carriers), case.base in students)
            yield found


@contextmanager
def _without_collection() -> Iterator[None]:
    """Looking for garbage among everything that is imported takes half of a trial's time: afterwards is soon enough, and among what it made."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def gate(sound: Base, package: Path) -> list[str]:
    """What the gate says; a package that cannot even be run is a finding, too."""
    try:
        with SilentVoice().task("") as task:
            found = measure(package, read_package(package), sound.stored, sound.prompt, task)
    except InterlockError as error:
        return [str(error)]
    return [*failures(found.evidence, found.repeatable), *found.refused]


def _trial(kind: str, sound: Base, seed: int, package: Path, carriers: frozenset[Place], with_student: bool) -> Trial:
    refused = bool(gate(sound, package))
    try:
        program = open_package(package)
        report = compare_packages(program, _opened(sound.name), Options())
        observable = any(not item.psnr_db >= _floors(sound.name)[item.function, item.value] for item in report.outputs)
        against_package = _named(report)
        against_student = _named(compare_student(program, sound.student, "student", Options())) if with_student else None
    except ContractError as error:
        # refused by name before or while it runs: the message says where
        said = " ".join(violation.where for violation in error.violations)
        place = next((item for item in carriers if f"`{item[1]}`" in said), ("", said))
        return Trial(kind, sound.name, seed, True, refused, carriers, place, place)
    return Trial(kind, sound.name, seed, observable, refused, carriers, against_package, against_student)


def _named(report: Report) -> Place | None:
    return (report.first.function, report.first.value) if report.first is not None else None


@functools.cache
def _floors(name: str) -> dict[Place, float]:
    """By output, how far rounding moves it at most: the lowest PSNR over the calls."""
    found: dict[Place, float] = {}
    program = _opened(name)
    calls = plan_calls(program, None, None)
    runs = [record(program, mode, calls, lambda text: None) for mode in MODES]
    for plain, rounded in zip(*runs, strict=True):
        if plain.name in program.functions[plain.function].block.outputs:
            key = (plain.function, plain.name)
            found[key] = min(found.get(key, math.inf), measured(rounded, "", plain.sketch, "", 0.0).psnr_db)
    return found


@functools.cache
def _opened(name: str) -> Program:
    return open_package(base(name).package)
