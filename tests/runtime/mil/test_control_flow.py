"""Branches and loops: programs of coremltools' own builder, run from saved packages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.programs import opened

from runtime.mil import Runner

pytestmark = pytest.mark.export


def built() -> tuple[Any, Any]:
    from coremltools.converters.mil.mil import Builder, types

    return Builder, types


def test_cond_runs_one_branch() -> None:
    mb, types = built()

    @mb.program(input_specs=[mb.TensorSpec(shape=(3,), dtype=types.fp32), mb.TensorSpec(shape=(1,), dtype=types.int32)])  # type: ignore[untyped-decorator]
    def model(x: Any, which: Any) -> Any:
        chosen = mb.cast(x=mb.squeeze(x=which), dtype="bool")
        return mb.cond(pred=chosen, _true_fn=lambda: mb.add(x=x, y=1.0), _false_fn=lambda: mb.mul(x=x, y=2.0))

    runner = Runner(opened(model, compute_precision=precision("FLOAT32")))
    x = np.array([1, 2, 3], np.float32)
    for which, expected in ((1, x + 1), (0, x * 2)):
        (found,) = runner.run("main", {"x": x, "which": np.array([which], np.int32)}).values()
        np.testing.assert_array_equal(found, expected)


def test_while_loop_counts() -> None:
    mb, types = built()

    @mb.program(input_specs=[mb.TensorSpec(shape=(2,), dtype=types.fp32), mb.TensorSpec(shape=(1,), dtype=types.int32)])  # type: ignore[untyped-decorator]
    def model(x: Any, times: Any) -> Any:
        def going(count: Any, value: Any) -> Any:
            return mb.squeeze(x=mb.less(x=count, y=times))

        def step(count: Any, value: Any) -> Any:
            return mb.add(x=count, y=1), mb.mul(x=value, y=2.0)

        return mb.while_loop(_cond=going, _body=step, loop_vars=(np.array([0], np.int32), x))[1]

    runner = Runner(opened(model, compute_precision=precision("FLOAT32")))
    for times in (0, 1, 5):
        (found,) = runner.run("main", {"x": np.array([1, 3], np.float32), "times": np.array([times], np.int32)}).values()
        assert found.tolist() == [2**times, 3 * 2**times]


def precision(name: str) -> Any:
    import coremltools as ct

    return ct.precision[name]
