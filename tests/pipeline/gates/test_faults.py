"""No planted fault passes the gate, and the comparison names the operation that carries it.

What cannot be observed is excluded by the rule in fakes/fault_trials.py. The whole table is printed by `python -m benchmarks.faults`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]
# Faults of each kind by package: more than 200 in all; against the student, which takes as long as the rest, on one package.
SEEDS = {"untied": 2, "tied": 2, "single": 2, "int8": 1, "table": 1}
STUDENT = "untied"


@cache
def results() -> tuple[object, ...]:
    from fakes.fault_trials import trials

    with tempfile.TemporaryDirectory() as folder:
        return tuple(trials(SEEDS, Path(folder), (STUDENT,)))


@pytest.mark.parametrize("name", ["untied", "tied", "single", "int8", "table"])
def test_a_sound_package_passes_and_nothing_is_named(name: str) -> None:
    from fakes.fault_bases import base
    from fakes.fault_trials import gate

    from runtime.mil import open_package
    from runtime.mil.compare import Options, compare_packages, compare_student

    sound = base(name)
    program = open_package(sound.package)
    assert gate(sound, sound.package) == []
    for mode in ("fp32", "fp16"):
        assert compare_packages(program, program, Options(mode=mode)).first is None  # type: ignore[arg-type]
        assert compare_student(program, sound.student, "student", Options(mode=mode)).first is None  # type: ignore[arg-type]


def test_there_are_two_hundred_faults_of_more_than_thirty_kinds() -> None:
    from fakes.fault_trials import Trial

    observed = [item for item in results() if isinstance(item, Trial) and item.observable]
    assert len(observed) >= 200
    assert len({item.kind for item in observed}) >= 30


def test_none_passes_the_gate() -> None:
    from fakes.fault_trials import Trial

    passed = [(item.kind, item.base, item.seed) for item in results() if isinstance(item, Trial) and item.observable and not item.refused]
    assert passed == []


def test_the_operation_that_carries_a_fault_is_named_against_a_sound_package() -> None:
    from fakes.fault_trials import Trial

    observed = [item for item in results() if isinstance(item, Trial) and item.observable]
    missed = Counter(item.kind for item in observed if not item.named(item.against_package))
    assert missed.total() <= 0.05 * len(observed), missed


def test_most_are_named_against_the_student_alone() -> None:
    from fakes.fault_trials import Trial

    observed = [item for item in results() if isinstance(item, Trial) and item.observable and item.base == STUDENT]
    missed = Counter(item.kind for item in observed if not item.named(item.against_student))
    assert missed.total() <= 0.20 * len(observed), missed
