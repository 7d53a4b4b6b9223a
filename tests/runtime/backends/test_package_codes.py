"""The codes of a package's weights are found by their numbers, and stand for what the runner makes of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fakes.programs import constant, operation, program, tensor
from numpy.typing import NDArray

from interlock.errors import UsageError
from runtime.backends.package_codes import package_codes
from runtime.mil import Program, Runner
from runtime.mil.program import BY_NAME, Constant, NamedType, Operation, TensorType

RANDOM = np.random.default_rng(6)
N, K = 24, 32
# type, columns of a block, type of the offset
FORMS = [("int8", K, None), ("int4", 16, None), ("int4", 8, "fp16"), ("uint4", K, "fp16"), ("uint8", 16, "fp16"), ("int4", 16, "int8")]


def blocks(name: str, dtype: str, width: int, offset: str | None) -> Operation:
    """scale · (code - offset), packed by the format's own rule."""
    bits = BY_NAME[dtype].bits
    raw = RANDOM.integers(0, 1 << bits, N * K).astype(np.uint8)
    packed = raw if bits == 8 else (raw[::2] | raw[1::2] << 4).astype(np.uint8)
    given = {
        "data": Constant(TensorType(BY_NAME[dtype], (N, K)), memoryview(packed.tobytes())),
        "scale": constant(RANDOM.uniform(0.01, 0.02, (N, K // width)).astype(np.float16)),
    }
    if offset is not None:
        given["offset"] = constant(RANDOM.integers(0, 5, (N, K // width)).astype(np.int8 if offset == "int8" else np.float16))
    return Operation(
        "constexpr_blockwise_shift_scale", {key: (value,) for key, value in given.items()}, {}, (NamedType(name, tensor("fp16", N, K)),), ()
    )


def package(made: list[Operation], names: list[str]) -> tuple[Program, dict[str, NDArray[np.float32]]]:
    """A program of these constants, and what the runner says they are."""
    steps = [operation("add", {f"y_{name}": tensor("fp16", N, K)}, x="x", y=name) for name in names]
    whole = program([*made, *steps], {"x": tensor("fp16", N, K)}, tuple(f"y_{name}" for name in names))
    found = Runner(whole, "fp32").run("main", {"x": np.zeros((N, K), np.float32)})
    return whole, {name: found[f"y_{name}"].astype(np.float32) for name in names}


def test_every_form_is_found_by_its_numbers() -> None:
    """Beside weights of the same shape in every other form, and one in fp16. The values of the runner are rounded to fp16: 2^-11 of each."""
    names = [f"w{at}" for at in range(2 * len(FORMS))]
    made = [blocks(name, *form) for name, form in zip(names, itertools.cycle(FORMS), strict=False)]
    whole, weights = package(made, names)
    weights["dense"] = RANDOM.standard_normal((N, K), np.float32)
    weights["norm"] = RANDOM.standard_normal(K, np.float32)
    codes = package_codes(whole, weights.__getitem__)
    for name in names:
        found = codes(name)
        assert found is not None
        np.testing.assert_allclose(found.values(), weights[name], rtol=2**-10, atol=1e-4)
    assert codes("dense") is None and codes("norm") is None


def test_a_package_without_codes_is_refused() -> None:
    whole = program([operation("add", {"y": tensor("fp16", N, K)}, x="x", y="x")], {"x": tensor("fp16", N, K)}, ("y",))
    with pytest.raises(UsageError, match="no weight in codes"):
        package_codes(whole, {}.__getitem__)


def test_scales_of_another_axis_are_left_to_the_runner() -> None:
    """A scale for several rows is no form of the kernels."""
    made = blocks("w", "int8", K, None)
    shared = Operation(made.type, {**made.inputs, "scale": (constant(np.full((N // 2, 1), 0.1, np.float16)),)}, {}, made.outputs, ())
    other = blocks("v", "int8", K, None)
    whole, weights = package([shared, other], ["w", "v"])
    codes = package_codes(whole, weights.__getitem__)
    assert codes("w") is None and codes("v") is not None
