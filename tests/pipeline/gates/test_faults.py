"""No planted fault passes the gate, and the comparison names the operation that carries it.

One of every kind in two packages (of several functions with a cache; of one function for older systems), and of every kind of compression: what
takes a minute. `python -m benchmarks.faults` plants more than 200 in five packages and prints the table. What cannot be observed is excluded by the
rule in fakes/fault_trials.py.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fakes.fault_trials import Trial

pytestmark = [pytest.mark.export, pytest.mark.long, pytest.mark.filterwarnings("ignore")]
# Neither those that the faults were made with nor those of the benchmark.
SEEDS = (2000,)
STUDENT = "untied"


@cache
def observed() -> tuple[Trial, ...]:
    from fakes.fault_trials import cases, trials

    wanted = [
        *cases(("untied", "single"), SEEDS),
        *cases(("int8",), SEEDS, ("scale_wrong", "offset_wrong")),
        *cases(("table",), SEEDS, ("lut_wrong",)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        return tuple(trial for trial in trials(wanted, Path(folder), (STUDENT,)) if trial.observable)


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


def test_there_are_more_than_thirty_kinds() -> None:
    assert len({trial.kind for trial in observed()}) >= 30


def test_none_passes_the_gate() -> None:
    assert [(trial.kind, trial.base, trial.seed) for trial in observed() if not trial.refused] == []


def test_the_operation_that_carries_a_fault_is_named_against_a_sound_package() -> None:
    missed = Counter(trial.kind for trial in observed() if not trial.named(trial.against_package))
    assert missed.total() <= 0.05 * len(observed()), missed


def test_it_is_named_against_the_student_alone() -> None:
    among = [trial for trial in observed() if trial.base == STUDENT]
    missed = Counter(trial.kind for trial in among if not trial.named(trial.against_student))
    assert missed.total() <= 0.05 * len(among), missed
