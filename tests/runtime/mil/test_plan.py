"""What is decided before a run: constants, refusals by name, freed values."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.programs import constant, operation, program, tensor

from interlock.errors import ContractError, UsageError
from runtime.mil import Runner
from runtime.mil.code import freed
from runtime.mil.ops.registry import CONSTANT_OPERATIONS, OPERATIONS
from runtime.mil.plan import STRUCTURE, plan_function, unsupported
from runtime.mil.program import NamedType, Operation
from runtime.mil.weights import Weights

X = {"x": tensor("fp32", 2)}


def test_constants_are_bound_once() -> None:
    """Two constants of one content are one tensor."""
    bias = [Operation("const", {}, {"val": constant(np.ones(2, np.float32))}, (NamedType(name, tensor("fp32", 2)),), ()) for name in ("a", "b")]
    sums = [operation("add", {"s": tensor("fp32", 2)}, x="x", y="a"), operation("add", {"t": tensor("fp32", 2)}, x="s", y="b")]
    made = program([*bias, *sums], dict(X), ("t",))
    plan = plan_function(made, made.functions["main"], Weights())
    first, second = (step.fixed["y"] for step in plan.steps)
    assert first is second
    assert Runner(made).run("main", {"x": np.zeros(2, np.float32)})["t"].tolist() == [2, 2]


def test_values_are_freed_at_their_last_use() -> None:
    steps = [operation("add", {"a": tensor("fp32", 2)}, x="x", y="x"), operation("abs", {"b": tensor("fp32", 2)}, x="a"),
             operation("abs", {"unused": tensor("fp32", 2)}, x="b"), operation("add", {"c": tensor("fp32", 2)}, x="b", y="b")]  # fmt: skip
    made = program(steps, dict(X), ("c",))
    plan = plan_function(made, made.functions["main"], Weights())
    assert freed(plan) == {1: ("a",), 2: ("unused",), 3: ("b",)}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (operation("flux", {"y": tensor("fp32", 2)}, x="x"), "found `flux`"),
        (operation("gelu", {"y": tensor("fp32", 2)}, x="x", mode=constant("ODD")), "found `ODD`"),
        (operation("abs", {"y": tensor("fp32", 2)}, x="x", speed=constant(2)), r"\['speed', 'x'\]"),
        (operation("add", {"y": tensor("fp32", 2)}, x="x"), r"found \['x'\]"),
        (operation("abs", {"y": tensor("bf16", 2)}, x="x"), r"bf16\[2\]"),
    ],
    ids=["operation", "choice", "parameter", "missing", "type"],
)
def test_what_is_not_supported_is_refused_by_name_before_it_runs(bad: Operation, message: str) -> None:
    failing = operation("reshape", {"z": tensor("fp32", 9)}, x="x", shape=constant((9,)))
    with pytest.raises(ContractError, match=message):
        Runner(program([failing, bad], dict(X), ("y",))).run("main", {"x": np.zeros(2, np.float32)})


def test_every_unsupported_operation_is_reported_once() -> None:
    made = program(
        [operation(kind, {name: tensor("fp32", 2)}, x="x") for kind, name in (("flux", "a"), ("flux", "b"), ("warp", "c"))], dict(X), ("c",)
    )
    assert [found for _, _, found in unsupported(made.functions["main"])] == ["`flux`", "`warp`"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs an input `x`"),
        ({"x": np.zeros(3, np.float32)}, r"given shape \[3\]"),
        ({"x": np.zeros(2, np.int32)}, "given int32"),
        ({"x": np.zeros(2, np.float32), "y": np.zeros(2, np.float32)}, r"no input \['y'\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Runner(program([operation("abs", {"y": tensor("fp32", 2)}, x="x")], dict(X), ("y",))).run("main", given)


def test_a_result_of_another_shape_than_declared_is_refused() -> None:
    with pytest.raises(ContractError, match=r"`y` as fp32\[3\], found shape \[2\]"):
        Runner(program([operation("abs", {"y": tensor("fp32", 3)}, x="x")], dict(X), ("y",))).run("main", {"x": np.zeros(2, np.float32)})


def test_every_operation_names_the_test_that_proves_it(root: object) -> None:
    from pathlib import Path

    folder = Path(str(root)) / "tests/runtime/mil"
    proofs = {entry.name: entry.proof for entry in (*OPERATIONS.values(), *CONSTANT_OPERATIONS.values())} | STRUCTURE
    for name, proof in proofs.items():
        file, test = proof.split("::")
        text = (folder / file).read_text()
        assert f"def {test}(" in text and (f'"{name}"' in text or f"_{name}_" in text or name in ("const", "cond", "while_loop")), (name, proof)
