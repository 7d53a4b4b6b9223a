"""Which calls a comparison makes: everything short, what is asked for, steps on what was filled."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from fakes.programs import constant, operation, program, tensor

from interlock.errors import UsageError
from runtime.mil import Program
from runtime.mil.compare.chain import LONG, STEPS, not_run, plan_calls, reach
from runtime.mil.program import BY_NAME, Feature, StateType, TensorType

SLOTS = 4352


def package(*lengths: int, enumerated: tuple[tuple[int, ...], ...] = ()) -> Program:
    """Functions f<length> with a cache of SLOTS slots; with enumerated sizes one without."""
    functions = {}
    for length in lengths:
        inputs = {"input_ids": tensor("int32", 1, length), "position_ids": tensor("int32", length)}
        cache = StateType(TensorType(BY_NAME["fp16"], (1, 1, SLOTS, 4)))
        cast = operation("cast", {"out": tensor("fp16", length)}, x="position_ids", dtype=constant("fp16"))
        (function,) = program([cast], dict(inputs), ("out",), None if enumerated else {"k_cache": cache}).functions.values()
        features = {"input_ids": Feature("input_ids", enumerated)} if enumerated else {}
        functions[f"f{length}"] = replace(function, name=f"f{length}", features=MappingProxyType(features))
    return replace(program([], {}, ()), functions=functions)


def test_steps_follow_every_function_of_several_tokens() -> None:
    calls = plan_calls(package(1, 8, 16), None, None)
    assert [call.function for call in calls] == ["f8", *["f1"] * STEPS, "f16", *["f1"] * STEPS]
    assert [call.fresh for call in calls] == [True, False, False] * 2
    assert [int(call.inputs["position_ids"][0]) for call in calls] == [0, 8, 9, 0, 16, 17]


def test_long_functions_are_called_only_if_asked_for() -> None:
    made = package(1, LONG, 2 * LONG)
    calls = plan_calls(made, None, None)
    assert {call.function for call in calls} == {"f1", f"f{LONG}"} and not_run(made, calls) == (f"f{2 * LONG}",)
    assert {call.function for call in plan_calls(made, f"f{2 * LONG}", None)} == {f"f{2 * LONG}"}


def test_of_what_is_only_long_the_shortest_is_called() -> None:
    assert {call.function for call in plan_calls(package(1, 2 * LONG, 4 * LONG), None, None)} == {"f1", f"f{2 * LONG}"}
    sizes = ((1, 2 * LONG), (1, 4 * LONG))
    assert [call.inputs["input_ids"].shape for call in plan_calls(package(8, enumerated=sizes), None, None)] == [sizes[0]]
    assert len(plan_calls(package(8, enumerated=sizes), "f8", None)) == 2


def test_a_step_alone_follows_the_shortest_that_fills_its_cache() -> None:
    assert [call.function for call in plan_calls(package(1, 8, 16), "f1", None)] == ["f8", *["f1"] * STEPS]


def test_tokens_are_repeated_to_the_length() -> None:
    (call, *_) = plan_calls(package(1, 8), None, (5, 6, 7))
    assert call.inputs["input_ids"].tolist() == [[5, 6, 7, 5, 6, 7, 5, 6]]


def test_the_reach_of_calls_ends_far_before_the_cache() -> None:
    end = reach(plan_calls(package(1, 8), None, None))
    assert end is not None and 8 + STEPS < end < SLOTS


def test_an_unknown_function_is_refused() -> None:
    with pytest.raises(UsageError, match="no function"):
        plan_calls(package(1, 8), "f4", None)
