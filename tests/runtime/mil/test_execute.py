"""Compiled functions equal the plain way of running them (fakes/plain_mil.py), bit for bit: values, states, branches, loops, whole students."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes.plain_mil import run_plainly
from fakes.programs import constant, operation, program, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.mil import Program, Runner
from runtime.mil.attention import BLOCK, KIND
from runtime.mil.execute import Mode
from runtime.mil.plan import plan_function
from runtime.mil.program import Block, NamedType, Operation, StateType
from runtime.mil.views import KIND as VIEW

MODES: tuple[Mode, ...] = ("fp32", "fp16")
VERIFYING = pytest.mark.parametrize("mode", MODES)


def assert_equals_plain(
    made: Program, inputs: dict[str, Any], mode: Mode, states: dict[str, Tensor] | None = None, runner: Runner | None = None
) -> None:
    """Outputs and states of one call, from states that are zero or as given."""
    runner = runner or Runner(made, mode)
    function = made.functions["main"]
    state = runner.new_state("main") if function.states else None
    if state is not None and states is not None:
        for name, value in states.items():
            state.tensors[name].copy_(value)
    held = {name: runner._given(function, value, inputs) for name, value in ((value.name, value) for value in function.inputs)}
    expected, after = run_plainly(made, "main", held, {} if state is None else state.tensors, half=mode == "fp16")
    found = runner.run("main", inputs, state)
    for name, wanted in expected.items():
        np.testing.assert_array_equal(found[name], wanted.numpy().astype(found[name].dtype), err_msg=name)
    for name, wanted in after.items():
        assert state is not None
        np.testing.assert_array_equal(state.array(name), wanted.numpy(), err_msg=name)


SIZE = 4
WHOLE, ROW = tensor("fp16", SIZE, 3), tensor("fp16", 1, 3)


@st.composite
def stateful_programs(draw: Any) -> Program:
    """Reads, slices, views, updates, writes and sums of two states in any order, with any of the values as outputs."""
    operations: list[Operation] = []
    values: dict[str, Any] = {"x": ROW}
    for at in range(draw(st.integers(2, 14))):
        name = f"v{at}"
        wholes, rows = ([key for key, kind in values.items() if kind == wanted] for wanted in (WHOLE, ROW))
        kind = draw(st.sampled_from(["read", "read", "update", "update", "write", "write", "slice", "sum", "same", "turn"]))
        state = draw(st.sampled_from(["a", "b"]))
        row = draw(st.integers(0, SIZE - 1))
        if kind == "read" or not wholes:
            operations.append(operation("read_state", {name: WHOLE}, input=state))
            values[name] = WHOLE
        elif kind == "update":
            x, by = draw(st.sampled_from(wholes)), draw(st.sampled_from(rows))
            operations.append(operation("slice_update", {name: WHOLE}, x=x, update=by, begin=constant((row, 0)), end=constant((row + 1, 3))))
            values[name] = WHOLE
        elif kind == "write":
            operations.append(operation("write_state", {}, input=state, data=draw(st.sampled_from(wholes[-2:]))))
        elif kind == "slice":
            part = operation("slice_by_index", {name: ROW}, x=draw(st.sampled_from(wholes)), begin=constant((row, 0)), end=constant((row + 1, 3)))
            operations.append(part)
            values[name] = ROW
        elif kind == "sum":
            operations.append(operation("add", {name: WHOLE}, x=draw(st.sampled_from(wholes)), y=draw(st.sampled_from(wholes + rows))))
            values[name] = WHOLE
        elif kind == "same":
            operations.append(operation("identity", {name: WHOLE}, x=draw(st.sampled_from(wholes))))
            values[name] = WHOLE
        else:
            turned = operation("transpose", {f"{name}t": tensor("fp16", 3, SIZE)}, x=draw(st.sampled_from(wholes)), perm=constant((1, 0)))
            operations += [turned, operation("transpose", {name: WHOLE}, x=f"{name}t", perm=constant((1, 0)))]
            values[name] = WHOLE
    outputs = draw(st.lists(st.sampled_from([key for key in values if key != "x"]), min_size=1, max_size=3, unique=True))
    return program(operations, {"x": ROW}, tuple(outputs), {"a": StateType(WHOLE), "b": StateType(WHOLE)})


@VERIFYING
@settings(deadline=None, max_examples=150)
@given(made=stateful_programs())
def test_states_are_as_if_every_update_were_a_copy(mode: Mode, made: Program) -> None:
    start = {"a": torch.arange(12.0).reshape(4, 3), "b": -torch.arange(12.0).reshape(4, 3)}
    assert_equals_plain(made, {"x": np.array([[0.1, 70.0, 0.3]], np.float32)}, mode, start)


@st.composite
def chains_of_views(draw: Any) -> tuple[Program, tuple[int, ...]]:
    """Views of views, with sums in between that make new values."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=2, max_size=4))
    shape, operations, name = tuple(sizes), list[Operation](), "x"
    names = []
    for at in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["reshape", "transpose", "expand_dims", "slice_by_index", "add"]))
        out = f"v{at}"
        if kind == "reshape":
            wanted = draw(st.permutations(shape))
            bound: dict[str, Any] = {"shape": constant(tuple(wanted))}
            after = tuple(wanted)
        elif kind == "transpose":
            order = tuple(draw(st.permutations(range(len(shape)))))
            bound, after = {"perm": constant(order)}, tuple(shape[axis] for axis in order)
        elif kind == "expand_dims" and len(shape) < 6:
            axis = draw(st.integers(0, len(shape)))
            bound, after = {"axes": constant((axis,))}, (*shape[:axis], 1, *shape[axis:])
        elif kind == "slice_by_index":
            axis = draw(st.integers(0, len(shape) - 1))
            first = draw(st.integers(0, shape[axis] - 1))
            last = draw(st.integers(first + 1, shape[axis]))
            begin, end = ([0] * len(shape), list(shape))
            begin[axis], end[axis] = first, last
            bound, after = {"begin": constant(tuple(begin)), "end": constant(tuple(end))}, (*shape[:axis], last - first, *shape[axis + 1 :])
        else:
            kind, bound, after = "add", {"y": name}, shape
        operations.append(operation(kind, {out: tensor("fp16", *after)}, x=name, **bound))
        shape, name = after, out
        names.append(out)
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    return program(operations, {"x": tensor("fp16", *sizes)}, tuple({*outputs, name}), None), tuple(sizes)


@VERIFYING
@settings(deadline=None, max_examples=150)
@given(drawn=chains_of_views())
def test_views_of_views_are_the_same_elements(mode: Mode, drawn: tuple[Program, tuple[int, ...]]) -> None:
    made, shape = drawn
    assert_equals_plain(made, {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}, mode)


HEADS, GROUP, DEPTH, SLOTS = 2, 3, 16, 2 * BLOCK + 8


def attending(length: int, mask_value: float) -> Program:
    """A cache of keys that are their own values: written at `at`, repeated for groups of query heads, attended to below a mask."""
    whole, part = tensor("fp16", 1, HEADS, SLOTS, DEPTH), tensor("fp16", 1, HEADS, length, DEPTH)
    heads, count = HEADS * GROUP, tensor("int32", 1)
    zero, depth = constant(np.array([0], np.int32)), constant(np.array([DEPTH], np.int32))
    every, slots = constant(np.array([HEADS], np.int32)), constant(np.array([1], np.int32))
    steps = [
        operation("read_state", {"before": whole}, input="cache"),
        operation("add", {"last": count}, x="at", y=constant(np.array([length], np.int32))),
        operation("concat", {"begin": tensor("int32", 4)}, values=(zero, zero, "at", zero), axis=constant(0)),
        operation("concat", {"end": tensor("int32", 4)}, values=(slots, every, "last", depth), axis=constant(0)),
        operation("slice_update", {"now": whole}, x="before", update="new", begin="begin", end="end"),
        operation("write_state", {}, input="cache", data="now"),
        operation("read_state", {"keys": whole}, input="cache"),
        operation("greater", {"later": tensor("bool", 1, 1, length, SLOTS)}, x=constant(np.arange(SLOTS, dtype=np.int32)), y="positions"),
        operation("cast", {"hidden": tensor("fp16", 1, 1, length, SLOTS)}, x="later", dtype=constant("fp16")),
        operation("mul", {"mask": tensor("fp16", 1, 1, length, SLOTS)}, x="hidden", y=constant(np.float16(mask_value))),
    ]
    for name in ("k", "v"):
        wide = tensor("fp16", 1, HEADS, GROUP, SLOTS, DEPTH)
        steps += [
            operation("expand_dims", {f"{name}1": tensor("fp16", 1, HEADS, 1, SLOTS, DEPTH)}, x="keys", axes=constant((2,))),
            operation("tile", {f"{name}2": wide}, x=f"{name}1", reps=constant((1, 1, GROUP, 1, 1))),
            operation("reshape", {f"{name}3": tensor("fp16", 1, heads, SLOTS, DEPTH)}, x=f"{name}2", shape=constant((1, heads, SLOTS, DEPTH))),
        ]
    kind = tensor("fp16", 1, heads, length, DEPTH)
    steps.append(operation("scaled_dot_product_attention", {"y": kind}, query="query", key="k3", value="v3", attn_mask="mask"))
    inputs = {"new": part, "query": kind, "at": count, "positions": tensor("int32", 1, 1, length, 1)}
    return program(steps, dict(inputs), ("y",), {"cache": StateType(whole)})


def attention_inputs(length: int, at: int, scale: float = 1.0) -> dict[str, Any]:
    random = np.random.default_rng(at)
    new, query = (scale * random.normal(size=(1, heads, length, DEPTH)).astype(np.float32) for heads in (HEADS, HEADS * GROUP))
    return {"new": new, "query": query, "at": np.array([at], np.int32), "positions": np.arange(at, at + length, dtype=np.int32).reshape(1, 1, -1, 1)}


@VERIFYING
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("mask", [-1e4, -60.0, -1.0])
def test_unused_slots_and_repeated_heads_change_no_bit(mode: Mode, length: int, mask: float) -> None:
    """From an empty cache, block by block, where the mask hides (-1e4) and where it hides too little for anything to be left out."""
    made = attending(length, mask)
    runner = Runner(made, mode)
    kinds = [instruction.step.kind for instruction in runner._plan(made.functions["main"]).compiled.code.instructions]
    assert kinds.count(KIND) == 1 and not {"tile", "concat"} & set(kinds)
    for at in (0, 7, BLOCK - length, BLOCK, SLOTS - length):
        for scale in (1.0, 20.0):
            assert_equals_plain(made, attention_inputs(length, at, scale), mode, runner=runner)


@VERIFYING
def test_a_state_that_others_wrote_to_is_read_whole(mode: Mode) -> None:
    """Values far behind what the runner wrote, huge ones among them: nothing about them is assumed."""
    made = attending(1, -60.0)
    filled = {"cache": torch.randn(1, HEADS, SLOTS, DEPTH, generator=torch.Generator().manual_seed(1)).half().float() * 30}
    assert_equals_plain(made, attention_inputs(1, 3), mode, filled)


def test_slots_are_left_out_after_runs_and_not_after_changes_from_outside() -> None:
    made = attending(1, -1e4)
    runner = Runner(made)
    state = runner.new_state("main")
    runner.run("main", attention_inputs(1, 5), state)
    assert state.used() == {"cache": 6}
    state.tensors["cache"][0, 0, 900] = 1.0
    assert state.used() == {}
    runner.run("main", attention_inputs(1, 6), state)
    assert state.used() == {}


@VERIFYING
def test_branches_and_loops_equal_the_plain_way(mode: Mode) -> None:
    """A loop that reads and writes a state, a branch on what it found, and a value from before both."""
    kind, one = tensor("fp16", 2), tensor("int32", 1)
    going = Block((NamedType("i", one),), ("more",), (
        operation("less", {"less": tensor("bool", 1)}, x="i", y="times"),
        operation("squeeze", {"more": tensor("bool")}, x="less"),
    ))  # fmt: skip
    body = Block((NamedType("j", one),), ("next",), (
        operation("read_state", {"r": kind}, input="s"),
        operation("mul", {"w": kind}, x="r", y=constant(np.float16(1.1))),
        operation("write_state", {}, input="s", data="w"),
        operation("add", {"next": one}, x="j", y=constant(np.array([1], np.int32))),
    ))  # fmt: skip
    loop = Operation("while_loop", {"loop_vars": (constant(np.array([0], np.int32)),)}, {}, (NamedType("count", one),), (going, body))
    branches = tuple(Block((), (name,), (operation(name, {name: kind}, x="after", y="before"),)) for name in ("add", "sub"))
    steps = [operation("read_state", {"before": kind}, input="s"), loop, operation("read_state", {"after": kind}, input="s"),
             operation("greater", {"many": tensor("bool", 1)}, x="count", y=constant(np.array([2], np.int32))),
             operation("squeeze", {"pred": tensor("bool")}, x="many"),
             Operation("cond", {"pred": ("pred",)}, {}, (NamedType("y", kind),), branches)]  # fmt: skip
    made = program(steps, {"times": one}, ("y", "before"), {"s": StateType(kind)})
    for times in (0, 1, 4):
        assert_equals_plain(made, {"times": np.array([times], np.int32)}, mode, {"s": torch.tensor([1.5, -3.0])})


def test_a_view_of_a_long_chain_is_one_step() -> None:
    steps = [operation("transpose", {"a": tensor("fp16", 3, 2)}, x="s", perm=constant((1, 0))),
             operation("expand_dims", {"b": tensor("fp16", 1, 3, 2)}, x="a", axes=constant((0,))),
             operation("slice_by_index", {"c": tensor("fp16", 1, 2, 2)}, x="b", begin=constant((0, 1, 0)), end=constant((1, 3, 2)))]  # fmt: skip
    made = program([operation("add", {"s": tensor("fp16", 2, 3)}, x="x", y="x"), *steps], {"x": tensor("fp16", 2, 3)}, ("c",))
    code = Runner(made)._plan(made.functions["main"]).compiled.code
    assert [instruction.step.kind for instruction in code.instructions] == ["add", VIEW]
    assert plan_function(made, made.functions["main"], Runner(made)._weights).steps[-1].kind == "slice_by_index"


@VERIFYING
def test_products_of_constant_matrices_are_within_the_bound_of_their_sums(mode: Mode) -> None:
    """|error| ≤ (K + 8)·2^-24·Σ|w·x|, the bound for any order of fp32 sums (Higham, Accuracy and Stability, §3.1); in fp16 mode one rounding more."""
    random = np.random.default_rng(3)
    weight, x = random.normal(size=(70, 96)).astype(np.float16), random.normal(size=(5, 96)).astype(np.float32)
    made = program([operation("linear", {"y": tensor("fp16", 5, 70)}, x="x", weight=constant(weight), bias=constant(np.ones(70, np.float16)))],
                   {"x": tensor("fp16", 5, 96)}, ("y",))  # fmt: skip
    found = Runner(made, mode).run("main", {"x": x})["y"].astype(np.float64)
    given_x = x.astype(np.float16).astype(np.float64) if mode == "fp16" else x.astype(np.float64)
    exact, size = given_x @ weight.astype(np.float64).T + 1, np.abs(given_x) @ np.abs(weight.astype(np.float64)).T + 1
    bound = (96 + 8) * 2.0**-24 * size + (2.0**-11 * np.abs(exact) if mode == "fp16" else 0)
    assert (np.abs(found - exact) <= bound).all()
