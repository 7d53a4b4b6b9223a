"""Derived lengths have the bytes of converted ones; what cannot be derived is converted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.converted_students import converted

from pipeline.coreml import functions
from pipeline.coreml.export_lane import convert_stateful_exported
from pipeline.coreml.lengths import convert_plans, derive
from pipeline.coreml.merge import WEIGHTS, merge_functions
from pipeline.coreml.messages import load_converter
from pipeline.coreml.normal import MODEL, normalise, tree_digest

pytestmark = [pytest.mark.export, pytest.mark.long]

# 80 is a width of this student: nothing tells a number of tokens from it.
LENGTHS, SLOTS, WIDTH = (8, 24, 56, 80, 88), 96, 80


def recorded(convert: Callable[..., Any], calls: list[list[int]], *given: Any, into: Path) -> Callable[..., Any]:
    def run(plans: Sequence[functions.FunctionPlan]) -> Any:
        calls.append([plan.tokens for plan in plans])
        return convert(*given, plans, SLOTS, into, lambda _: None)

    return run


@pytest.mark.parametrize("lane", ["trace", "export"])
def test_bytes_are_those_of_converted_lengths(lane: str, tmp_path: Path) -> None:
    exported, calls = converted().exported, list[list[int]]()
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    convert, first = (functions.convert_stateful, exported.files) if lane == "trace" else (convert_stateful_exported, exported.student)
    plans = functions.plan_functions(LENGTHS)
    packages, _ = convert_plans(plans, recorded(convert, calls, first, exported.signatures, into=ours), ours, lambda _: None)
    expected, _ = recorded(convert, [], first, exported.signatures, into=theirs)(plans)  # type: ignore[misc]
    for parts, folder in ((packages, ours), (expected, theirs)):
        merge_functions(parts, "decode", folder / "merged.mlpackage", lambda _: None)
    assert tree_digest(ours / "merged.mlpackage") == tree_digest(theirs / "merged.mlpackage")
    assert calls == [[8, 88, 1], [WIDTH]]


@pytest.fixture
def ends(tmp_path: Path) -> list[tuple[int, Path]]:
    """Copies of `prefill_32` and `prefill_64`, to be changed."""
    packages = {length: converted().packages[f"prefill_{length}"] for length in (32, 64)}
    return [(length, Path(shutil.copytree(package, tmp_path / f"{length}.mlpackage"))) for length, package in packages.items()]


def test_an_untouched_pair_is_derived(ends: list[tuple[int, Path]], tmp_path: Path) -> None:
    made = derive(ends, {40: tmp_path / "prefill_40.mlpackage"})
    before = tree_digest(made["prefill_40"])
    normalise(made["prefill_40"])
    assert tree_digest(made["prefill_40"]) == before


def change_weights(package: Path) -> None:
    content = bytearray((package / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (package / WEIGHTS).write_bytes(content)


def change_model(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def run(package: Path) -> None:
        load_converter()
        from coremltools.proto import Model_pb2

        model = Model_pb2.Model.FromString((package / MODEL).read_bytes())
        change(next(iter(model.mlProgram.functions["main"].block_specializations.values())).operations)
        (package / MODEL).write_bytes(model.SerializeToString(deterministic=True))

    return run


def drop(operations: Any) -> None:
    del operations[-1]


def rename(operations: Any) -> None:
    operations[-1].outputs[0].name += "_"


def twice_the_tokens(operations: Any) -> None:
    size = next(size for op in operations for size in op.outputs[0].type.tensorType.dimensions if size.constant.size == 64)
    size.constant.size = 128


@pytest.mark.parametrize(
    "change",
    [change_weights, change_model(drop), change_model(rename), change_model(twice_the_tokens)],
    ids=["weights", "operation", "name", "other multiple"],
)
def test_a_pair_that_differs_in_anything_else_derives_nothing(change: Callable[[Path], None], ends: list[tuple[int, Path]], tmp_path: Path) -> None:
    change(ends[1][1])
    assert derive(ends, {40: tmp_path / "prefill_40.mlpackage"}) == {}
    assert not (tmp_path / "prefill_40.mlpackage").exists()
