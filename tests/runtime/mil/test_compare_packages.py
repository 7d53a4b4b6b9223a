"""Two programs in memory: the changed operation is named, whatever the values are called."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes.programs import constant, operation, program, tensor

from runtime.mil import Program
from runtime.mil.compare import Options, compare_packages
from runtime.mil.compare.report import Difference

KIND = tensor("fp16", 1, 64)


def chain(prefix: str = "v", *, function: str = "silu", factor: float = 0.5, extra: bool = False) -> Program:
    names = [f"{prefix}{at}" for at in range(4)]
    steps = [operation("mul", {names[0]: KIND}, x="x", y=constant(factor))]
    steps.append(operation(function, {names[1]: KIND}, x=names[0]))
    if extra:
        steps.append(operation("clip", {names[2]: KIND}, x=names[1], alpha=constant(-0.1), beta=constant(0.1)))
    steps.append(operation("add", {names[3]: KIND}, x=names[2] if extra else names[1], y="x"))
    return program(steps, {"x": KIND}, (names[3],))


def test_equal_programs_are_equal() -> None:
    report = compare_packages(chain(), chain(), Options())
    assert not report.diverges and report.first is None and report.compared_values == 3


def test_other_names_are_no_difference() -> None:
    report = compare_packages(chain("left"), chain("right"), Options())
    assert not report.diverges and report.compared_values == 3


def test_another_operation_is_named() -> None:
    first = compare_packages(chain(function="tanh"), chain(), Options()).first
    assert isinstance(first, Difference) and (first.kind, first.value) == ("operation", "v1")


def test_another_constant_is_named() -> None:
    first = compare_packages(chain(factor=0.25), chain(), Options()).first
    assert isinstance(first, Difference) and (first.kind, first.value) == ("constant", "v0")


def test_an_inserted_operation_is_named() -> None:
    first = compare_packages(chain(extra=True), chain(), Options()).first
    assert isinstance(first, Difference) and (first.kind, first.value) == ("added", "v2")


def test_overflow_has_an_origin() -> None:
    wide = program([operation("mul", {"a": KIND}, x="x", y=constant(6e4)), operation("add", {"b": KIND}, x="a", y="a")], {"x": KIND}, ("b",))
    found = compare_packages(wide, wide, Options(mode="fp16")).origins
    assert [(item.kind, item.value, item.mode) for item in found] == [("overflow", "a", "fp16")]


def test_a_threshold_in_db_replaces_the_error_model() -> None:
    """A factor that is off by 1 % is 40 dB away from the value, and some more from its peak."""
    near = compare_packages(chain(factor=0.505), chain(), Options())
    assert near.measured is not None and near.measured.value == "v0" and abs(near.measured.psnr_db - 50) < 5
    assert not compare_packages(chain(factor=0.505), chain(), Options(tolerance_db=30)).diverges
    assert compare_packages(chain(factor=0.505), chain(), Options(tolerance_db=80)).diverges


def test_the_worst_values_come_first_and_outputs_are_listed() -> None:
    report = compare_packages(chain(factor=0.25), chain(), Options(top=2))
    assert [item.value for item in report.worst] == ["v0", "v1"] or [item.value for item in report.worst] == ["v1", "v0"]
    assert report.worst[0].psnr_db <= report.worst[1].psnr_db
    assert [(item.function, item.value) for item in report.outputs] == [("main", "v3")]
    assert compare_packages(chain(), chain(), Options()).worst == ()


def test_a_damaged_weight_diverges_though_no_value_shows_it() -> None:
    """One element of 4096, one rounding apart and then damaged."""

    def product(weights: np.ndarray[Any, Any]) -> Program:
        step = operation("linear", {"y": tensor("fp16", 1, 64)}, x="x", weight=constant(weights), bias=constant(np.zeros(64, np.float16)))
        return program([step], {"x": KIND}, ("y",))

    sound = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float16)
    rounded, damaged = sound.copy(), sound.copy()
    rounded[3, 4] = np.nextafter(sound[3, 4], np.float16(9))
    damaged[3, 4] += np.float16(0.002)
    assert not compare_packages(product(rounded), product(sound), Options()).diverges
    report = compare_packages(product(damaged), product(sound), Options())
    assert report.measured is None and report.diverges
    assert isinstance(report.first, Difference) and (report.first.kind, report.first.value) == ("weight", "y")
    assert "1 of 4096 elements" in report.first.found and "flat index 196" in report.first.expected
