"""The two modes, and inputs as the model describes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes.programs import constant, operation, program, tensor

from interlock.errors import UsageError
from runtime.mil import Program, Runner
from runtime.mil.program import Feature

X = {"x": tensor("fp16", None)}


def described(made: Program, feature: Feature) -> Program:
    function = replace(made.functions["main"], features={feature.name: feature})
    return replace(made, functions={"main": function})


def test_fp16_rounds_every_computed_value_and_fp32_none() -> None:
    half = {name: tensor("fp16", None) for name in "abc"}
    steps = [
        operation("add", {"a": half["a"]}, x="x", y=constant(np.float16(1 / 3))),
        operation("mul", {"b": half["b"]}, x="a", y="a"),
        operation("transpose", {"c": half["c"]}, x="b", perm=constant((0,))),
    ]
    made, x = program(steps, dict(X), ("c",)), np.array([0.1, 300.0, 1e-3], np.float32)
    wide, narrow = (Runner(made, mode).run("main", {"x": x})["c"] for mode in ("fp32", "fp16"))
    third = np.float32(np.float16(1 / 3))
    np.testing.assert_array_equal(wide, (x + third) * (x + third))
    # by numpy's own fp16: it too computes one operation in fp32 and rounds
    total = x.astype(np.float16) + np.float16(1 / 3)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(narrow, total * total)
    assert (wide.dtype, narrow.dtype) == (np.float32, np.float16)
    assert np.isinf(narrow[1]) and np.isfinite(wide).all()


def test_a_value_declared_fp32_is_not_rounded() -> None:
    made = program([operation("mul", {"b": tensor("fp32", None)}, x="x", y="x")], {"x": tensor("fp32", None)}, ("b",))
    x = np.array([300.1], np.float32)
    np.testing.assert_array_equal(Runner(made, "fp16").run("main", {"x": x})["b"], x * x)


def test_only_described_shapes_are_taken() -> None:
    made = program([operation("abs", {"y": tensor("fp16", None)}, x="x")], dict(X), ("y",))
    enumerated, ranged = (described(made, feature) for feature in (Feature("x", enumerated=((2,), (4,))), Feature("x", ranges=((2, 3),))))
    for size, first, second in ((2, True, True), (3, False, True), (4, True, False)):
        for limited, taken in ((enumerated, first), (ranged, second)):
            runner, given = Runner(limited), {"x": np.zeros(size, np.float32)}
            if taken:
                assert runner.run("main", given)["y"].shape == (size,)
            else:
                with pytest.raises(UsageError, match="given shape"):
                    runner.run("main", given)


def test_an_optional_input_has_its_default() -> None:
    made = program([operation("abs", {"y": tensor("fp16", 2)}, x="x")], {"x": tensor("fp16", 2)}, ("y",))
    assert Runner(described(made, Feature("x", optional=True, default=-2.0))).run("main", {})["y"].tolist() == [2, 2]


def test_an_output_may_be_a_constant_and_is_the_callers_own() -> None:
    made = program([operation("identity", {"y": tensor("fp32", 2)}, x=constant(np.ones(2, np.float32)))], {}, ("y",))
    runner = Runner(made)
    runner.run("main", {})["y"][:] = 5
    assert runner.run("main", {})["y"].tolist() == [1, 1]
