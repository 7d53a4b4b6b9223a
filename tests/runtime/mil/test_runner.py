"""The two modes, and inputs as the model describes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes.programs import constant, operation, program, tensor

from interlock.errors import UsageError
from runtime.mil import Program, Runner, State
from runtime.mil.program import Feature, Operation, StateType

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


def test_an_observer_is_told_of_every_result_as_it_is_settled() -> None:
    """In order, rounded as the mode rounds; views and results that nobody uses included."""
    half = tensor("fp16", None)
    steps = [
        operation("add", {"a": half}, x="x", y=constant(np.float16(1 / 3))),
        operation("split", {"p": half, "q": half}, x="a", axis=constant(0), split_sizes=constant((1, 2))),
        operation("abs", {"y": half}, x="p"),
    ]
    seen: dict[str, Any] = {}
    places: list[str] = []

    def observe(place: str, name: str, value: torch.Tensor) -> None:
        places.append(place)
        seen[name] = value.numpy().copy()

    x = np.array([0.1, 3.0, -1e-3], np.float32)
    outputs = Runner(program(steps, dict(X), ("y",)), "fp16").run("main", {"x": x}, observe=observe)
    total = (x.astype(np.float16) + np.float16(1 / 3)).astype(np.float32)
    for name, expected in {"a": total, "p": total[:1], "q": total[1:], "y": np.abs(total[:1])}.items():
        np.testing.assert_array_equal(seen[name], expected)
    np.testing.assert_array_equal(outputs["y"], seen["y"])
    assert places == [f"functions/main/{where}" for where in ("add `a`", "split `p`", "split `p`", "abs `y`")]


KIND = tensor("fp32", 3, 2)
INDEX = {"x": tensor("fp32", 1, 2), "at": tensor("int32", 1), "z": tensor("fp32", 1, 2)}


def gathering(*more: Operation) -> Program:
    """A state gets a row; an output picks one of its rows by `at`, another does not depend on `at`."""
    steps = [
        operation("read_state", {"r": KIND}, input="cache"),
        operation("slice_update", {"u": KIND}, x="r", update="x", begin=constant((1, 0)), end=constant((2, 2))),
        operation("write_state", {}, input="cache", data="u"),
        operation("read_state", {"s": KIND}, input="cache"),
        operation("gather", {"row": tensor("fp32", 1, 2)}, x="r", indices="at", axis=constant(0)),
        operation("add", {"sum": tensor("fp32", 1, 2)}, x="row", y="z"),
        operation("mul", {"all": KIND}, x="s", y="s"),
    ]
    return program([*steps, *more], dict(INDEX), ("sum", "all", "s"), {"cache": StateType(KIND)})


def test_a_sweep_equals_separate_runs() -> None:
    """Also where a value from before the state's update is used, and where outputs depend on nothing that changes."""
    runner, places = Runner(gathering()), [np.array([at], np.int32) for at in range(3)]
    given = {"x": np.array([[5, 6]], np.float32), "z": np.array([[1, 1]], np.float32)}

    def filled() -> State:
        state = runner.new_state("main")
        state.tensors["cache"].copy_(torch.arange(6).reshape(3, 2))
        return state

    swept = filled()
    results = runner.sweep("main", given, "at", places, swept)
    for at, found in zip(places, results, strict=True):
        state = filled()
        expected = runner.run("main", {**given, "at": at}, state)
        assert list(found) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
            found[name][:] = -1  # the caller's own
        np.testing.assert_array_equal(swept.array("cache"), state.array("cache"))


def test_a_sweep_over_what_a_state_keeps_is_refused() -> None:
    kept = [operation("add", {"w": KIND}, x="s", y="sum"), operation("write_state", {}, input="cache", data="w")]
    for made, name, message in (
        (gathering(*kept), "at", "depends on `at`"),
        (gathering(), "x", "depends on `x`"),
        (gathering(), "y", "no input `y`"),
    ):
        runner = Runner(made)
        with pytest.raises(UsageError, match=message):
            runner.sweep("main", {}, name, [], runner.new_state("main"))
